/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The completion scripts, from option_table, and for `netns-helper ctl` from CTL_COMMANDS.
 * Deprecated options are left out. Nothing is used in them that a shell does not bring along.
 */
#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/util.h"
#include "setup/options.h"

#define HEADER                                         \
	"# SPDX-License-Identifier: Apache-2.0\n"      \
	"# Made from the option table of the program " \
	"when it was built.\n"

/* Of ctl/ctl.c, which this layer does not know; its test compares. */
#define CTL_COMMANDS       "add list remove"
#define CTL_ADD_OPTIONS    "--path=auto --path=splice --path=tap --lazy --json"
#define CTL_LIST_OPTIONS   "--json"
#define CTL_REMOVE_OPTIONS "--close --json"

static bool is_shown(const struct option_row *row)
{
	return row->help;
}

static bool takes(const struct option_row *row, const char *words)
{
	return row->words && strcmp(row->words, words) == 0;
}

static void bash_print_names(FILE *out)
{
	for (size_t i = 0; i < n_option_rows; i++) {
		const struct option_row *row = &option_table[i];

		if (is_shown(row))
			fprintf(out, "--%s%s ", row->name, row->argument ? "=" : "");
	}
}

static void bash_print_argument(FILE *out, const struct option_row *row)
{
	fprintf(out, "\t--%s", row->name);
	if (row->letter)
		fprintf(out, " | -%c", row->letter);
	fputs(")\n", out);
	if (takes(row, FILE_WORDS))
		fputs("\t\t_netns_helper_files \"$cur\"\n", out);
	else if (takes(row, INTERFACE_WORDS))
		fputs("\t\tCOMPREPLY=($(compgen -W \"$(command ls /sys/class/net)\" -- "
		      "\"$cur\"))\n",
			out);
	else if (row->words && row->repeatable)
		fprintf(out,
			"\t\t[[ $cur == *,* ]] && list=${cur%%,*},\n"
			"\t\tCOMPREPLY=($(compgen -P \"$list\" -W \"%s\" -- \"${cur##*,}\"))\n",
			row->words);
	else if (row->words)
		fprintf(out, "\t\tCOMPREPLY=($(compgen -W \"%s\" -- \"$cur\"))\n", row->words);
	fputs("\t\treturn\n\t\t;;\n", out);
}

/* Colons and equal signs stay in one word here: readline's list of word breaks is undone. */
static void bash_print_ctl(FILE *out)
{
	fputs("_netns_helper_ctl() {\n"
	      "\tlocal cur=${COMP_WORDS[COMP_CWORD]} offer=\n\n"
	      "\tcase $COMP_CWORD,${COMP_WORDS[3]} in\n"
	      "\t2,*)\n"
	      "\t\t[[ $cur != -* ]] && _netns_helper_files \"$cur\" && return\n"
	      "\t\toffer=--help\n"
	      "\t\t;;\n"
	      "\t3,*) offer='" CTL_COMMANDS "' ;;\n"
	      "\t*,add)\n"
	      "\t\tif [[ $cur == = || ${COMP_WORDS[COMP_CWORD - 1]} == = ]]; then\n"
	      "\t\t\toffer='auto splice tap'\n"
	      "\t\t\tcur=${cur#=}\n"
	      "\t\telse\n"
	      "\t\t\toffer='" CTL_ADD_OPTIONS "'\n"
	      "\t\tfi\n"
	      "\t\t;;\n"
	      "\t*,list) offer='" CTL_LIST_OPTIONS "' ;;\n"
	      "\t*,remove) offer='" CTL_REMOVE_OPTIONS "' ;;\n"
	      "\tesac\n"
	      "\tCOMPREPLY=($(compgen -W \"$offer\" -- \"$cur\"))\n"
	      "}\n\n",
		out);
}

/* Readline splits `--name=value` into three words. */
static void print_bash(FILE *out)
{
	fputs(HEADER "_netns_helper_files() {\n"
		     "\tcompopt -o filenames 2>/dev/null\n"
		     "\tmapfile -t COMPREPLY < <(compgen -f -- \"$1\")\n"
		     "}\n\n",
		out);
	bash_print_ctl(out);
	fputs("_netns_helper() {\n"
	      "\tlocal cur=${COMP_WORDS[COMP_CWORD]} list=\n"
	      "\tlocal prev=${COMP_WORDS[COMP_CWORD - 1]}\n\n"
	      "\tCOMPREPLY=()\n"
	      "\tif [[ ${COMP_WORDS[1]} == ctl ]] && ((COMP_CWORD > 1)); then\n"
	      "\t\t_netns_helper_ctl\n"
	      "\t\treturn\n"
	      "\tfi\n"
	      "\tif [[ $cur == = ]]; then\n"
	      "\t\tcur=\n"
	      "\telif [[ $prev == = ]] && ((COMP_CWORD > 1)); then\n"
	      "\t\tprev=${COMP_WORDS[COMP_CWORD - 2]}\n"
	      "\tfi\n"
	      "\tcase $prev in\n",
		out);
	for (size_t i = 0; i < n_option_rows; i++)
		if (is_shown(&option_table[i]) && option_table[i].argument)
			bash_print_argument(out, &option_table[i]);
	fputs("\tesac\n"
	      "\tif [[ $cur != -* ]]; then\n"
	      "\t\t_netns_helper_files \"$cur\"\n"
	      "\t\treturn\n"
	      "\tfi\n"
	      "\tCOMPREPLY=($(compgen -W \"",
		out);
	bash_print_names(out);
	fputs("\" -- \"$cur\"))\n"
	      "\t[[ ${COMPREPLY[0]-} == *= ]] && compopt -o nospace 2>/dev/null\n"
	      "}\n"
	      "complete -F _netns_helper netns-helper\n",
		out);
}

/* Within single quotes and square brackets. */
static void zsh_print_help(FILE *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '\'')
			fputs("'\\''", out);
		else if (*text == '[' || *text == ']')
			fprintf(out, "\\%c", *text);
		else
			fputc(*text, out);
	}
}

static void zsh_print_argument(FILE *out, const struct option_row *row)
{
	fputc(':', out);
	for (const char *at = row->argument; isalnum((unsigned char)*at); at++)
		fputc(*at, out);
	if (takes(row, FILE_WORDS))
		fputs(":_files", out);
	else if (takes(row, INTERFACE_WORDS))
		fputs(":_net_interfaces", out);
	else if (row->words && row->repeatable)
		fprintf(out, ":_sequence compadd - %s", row->words);
	else if (row->words)
		fprintf(out, ":(%s)", row->words);
	else
		fputs(": ", out);
}

static void zsh_print_row(FILE *out, const struct option_row *row)
{
	const char *equals = row->argument ? "=" : "";

	fputs(" \\\n\t", out);
	if (row->letter && row->repeatable)
		fprintf(out, "'*'{-%c%s,--%s%s}'[", row->letter, row->argument ? "+" : "",
			row->name, equals);
	else if (row->letter)
		fprintf(out, "'(-%c --%s)'{-%c%s,--%s%s}'[", row->letter, row->name, row->letter,
			row->argument ? "+" : "", row->name, equals);
	else
		fprintf(out, "'%s--%s%s[", row->repeatable ? "*" : "", row->name, equals);
	zsh_print_help(out, row->help);
	fputc(']', out);
	if (row->argument)
		zsh_print_argument(out, row);
	fputc('\'', out);
}

static void print_zsh(FILE *out)
{
	fputs("#compdef netns-helper\n" HEADER
	      "if [[ $words[2] == ctl ]] && ((CURRENT > 2)); then\n"
	      "\tcase $CURRENT,$words[4] in\n"
	      "\t3,*) _files ;;\n"
	      "\t4,*) compadd - " CTL_COMMANDS " ;;\n"
	      "\t*,add) compadd - " CTL_ADD_OPTIONS " ;;\n"
	      "\t*,list) compadd - " CTL_LIST_OPTIONS " ;;\n"
	      "\t*,remove) compadd - " CTL_REMOVE_OPTIONS " ;;\n"
	      "\tesac\n"
	      "\treturn\n"
	      "fi\n"
	      "_arguments -s -S",
		out);
	for (size_t i = 0; i < n_option_rows; i++)
		if (is_shown(&option_table[i]))
			zsh_print_row(out, &option_table[i]);
	fputs(" \\\n\t'1:target:_files' '2:name of the tap: '\n", out);
}

/* Within single quotes. */
static void fish_print_help(FILE *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '\'' || *text == '\\')
			fputc('\\', out);
		fputc(*text, out);
	}
}

/* A condition on the words of the command line before the cursor. */
#define FISH_ARE_WORDS(test) " -n 'set -l w (commandline -opc); " test "' -a '"

static void fish_print_ctl(FILE *out)
{
	fputs("complete -c netns-helper -n 'test (count (commandline -opc)) -eq 1' -a ctl\n"
	      "complete -c netns-helper -f" FISH_ARE_WORDS(
		      "test (count $w) -eq 3 -a \"$w[2]\" = ctl") CTL_COMMANDS
		"'\ncomplete -c netns-helper -f" FISH_ARE_WORDS(
			"test (count $w) -gt 3 -a \"$w[2] $w[4]\" = \"ctl add\"") CTL_ADD_OPTIONS
		"'\ncomplete -c netns-helper -f" FISH_ARE_WORDS(
			"test (count $w) -gt 3 -a \"$w[2] $w[4]\" = \"ctl list\"") CTL_LIST_OPTIONS
		"'\ncomplete -c netns-helper -f" FISH_ARE_WORDS(
			"test (count $w) -gt 3 -a \"$w[2] $w[4]\" = \"ctl remove\"")
			CTL_REMOVE_OPTIONS "'\n",
		out);
}

static void fish_print_row(FILE *out, const struct option_row *row)
{
	fputs("complete -c netns-helper -n 'not __fish_seen_subcommand_from ctl'", out);
	fprintf(out, " -l %s", row->name);
	if (row->letter)
		fprintf(out, " -s %c", row->letter);
	if (takes(row, FILE_WORDS))
		fputs(" -r", out);
	else if (row->argument)
		fputs(" -x", out);
	if (takes(row, INTERFACE_WORDS))
		fputs(" -a '(command ls /sys/class/net)'", out);
	else if (row->words && row->repeatable)
		fprintf(out, " -a '(__fish_append , %s)'", row->words);
	else if (row->words && !takes(row, FILE_WORDS))
		fprintf(out, " -a '%s'", row->words);
	fputs(" -d '", out);
	fish_print_help(out, row->help);
	fputs("'\n", out);
}

static void print_fish(FILE *out)
{
	fputs(HEADER, out);
	fish_print_ctl(out);
	for (size_t i = 0; i < n_option_rows; i++)
		if (is_shown(&option_table[i]))
			fish_print_row(out, &option_table[i]);
}

int options_print_completion(FILE *out, const char *shell)
{
	static const struct {
		const char *shell;
		void (*print)(FILE *out);
	} printers[] = {{"bash", print_bash}, {"zsh", print_zsh}, {"fish", print_fish}};

	for (size_t i = 0; i < ARRAY_SIZE(printers); i++) {
		if (strcmp(printers[i].shell, shell) == 0) {
			printers[i].print(out);
			return 0;
		}
	}
	return -EINVAL;
}
