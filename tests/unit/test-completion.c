/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "setup/options.h"

static char *script_of(const char *shell)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	g_assert_cmpint(options_print_completion(out, shell), ==, 0);
	fclose(out);
	return text;
}

static void test_no_such_shell(void)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	g_assert_cmpint(options_print_completion(out, "csh"), ==, -EINVAL);
	fclose(out);
	g_assert_cmpuint(len, ==, 0);
	free(text);
}

/* Every option that --help shows is in each script, the deprecated ones are in none. */
static void test_all_options(void)
{
	static const struct {
		const char *shell, *format;
	} shells[] = {{"bash", "--%s[= ]"}, {"zsh", "--%s[=}]?[^a-z0-9-]"}, {"fish", " -l %s "}};

	for (size_t s = 0; s < ARRAY_SIZE(shells); s++) {
		char *script = script_of(shells[s].shell);

		for (size_t i = 0; i < n_option_rows; i++) {
			const char *name = option_table[i].name;
			char **around = g_strsplit(shells[s].format, "%s", 2);
			char *pattern = g_strconcat(around[0], name, around[1], NULL);

			g_assert_cmpint(g_regex_match_simple(pattern, script, 0, 0), ==,
				option_table[i].help != NULL);
			g_free(pattern);
			g_strfreev(around);
		}
		free(script);
	}
}

/* Skips the test when there is none. */
static bool has_program(const char *name)
{
	char *path = g_find_program_in_path(name), *why = g_strdup_printf("no %s", name);
	bool found = path;

	if (!found)
		g_test_skip(why);
	g_free(why);
	g_free(path);
	return found;
}

/* What bash offers for the words, one a line, sorted; the cursor is at the last of them. */
static char *complete_in_bash(const char *words)
{
	char *completion = script_of("bash"), *out = NULL, *err = NULL;
	char *script = g_strdup_printf(
		"%s\nCOMP_WORDS=(%s)\nCOMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n"
		"_netns_helper\nprintf '%%s\\n' \"${COMPREPLY[@]}\" | LC_ALL=C sort",
		completion, words);
	const char *argv[] = {"bash", "--noprofile", "--norc", "-c", script, NULL};
	int status;

	g_assert_true(g_spawn_sync(NULL, (char **)(uintptr_t)argv, NULL, G_SPAWN_SEARCH_PATH, NULL,
		NULL, &out, &err, &status, NULL));
	g_assert_cmpstr(err, ==, "");
	g_assert_cmpint(status, ==, 0);
	g_free(script);
	g_free(err);
	free(completion);
	return g_strchomp(out);
}

static void test_bash(void)
{
	static const struct {
		const char *words, *offered;
	} cases[] = {
		{"netns-helper --enable-", "--enable-ipv6\n--enable-sandbox\n--enable-seccomp"},
		{"netns-helper -c 1 --mac", "--macaddress="},
		{"netns-helper --no-host", ""},
		{"netns-helper --sandbox =", "auto\noff\nrequire"},
		{"netns-helper --sandbox = r", "require"},
		{"netns-helper --netns-type p", "path\npid"},
		{"netns-helper --disable-feature = pi", "pidfd\nping-socket"},
		{"netns-helper --disable-feature = agent,land", "agent,landlock"},
		{"netns-helper --disable-feature agent,ipv6,sec", "agent,ipv6,seccomp"},
		{"netns-helper --outbound-addr = l", "lo"},
		{"netns-helper -m ''", ""},
		{"netns-helper -p ''", ""},
		{"netns-helper --forward-path = t", "tap"},
		{"netns-helper ctl --h", "--help"},
		{"netns-helper ctl /proc/self/stat",
			"/proc/self/stat\n/proc/self/statm\n/proc/self/status"},
		{"netns-helper ctl s ''", "add\nlist\nremove"},
		{"netns-helper ctl s l", "list"},
		{"netns-helper ctl s add 80 --l", "--lazy"},
		{"netns-helper ctl s add 80 --path = s", "splice"},
		{"netns-helper ctl s list --", "--json"},
		{"netns-helper ctl s remove 1 --c", "--close"},
		{"netns-helper ctl s what ''", ""},
		{"netns-helper --api-socket = ctl", ""},
		{"netns-helper -a /proc/self/stat",
			"/proc/self/stat\n/proc/self/statm\n/proc/self/status"},
		{"netns-helper /proc/self/mountst", "/proc/self/mountstats"},
	};

	if (!has_program("bash"))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char *offered = complete_in_bash(cases[i].words);

		g_assert_cmpstr(offered, ==, cases[i].offered);
		g_free(offered);
	}
}

static void check_syntax(const char *shell)
{
	const char *argv[] = {shell, "-n", NULL, NULL};
	char *path, *script;
	int status, fd;

	if (!has_program(shell))
		return;
	script = script_of(shell);
	fd = g_file_open_tmp("completion-XXXXXX", &path, NULL);
	g_assert_cmpint(fd, >=, 0);
	g_assert_true(g_file_set_contents(path, script, -1, NULL));
	argv[2] = path;
	g_assert_true(g_spawn_sync(NULL, (char **)(uintptr_t)argv, NULL, G_SPAWN_SEARCH_PATH, NULL,
		NULL, NULL, NULL, &status, NULL));
	g_assert_cmpint(status, ==, 0);
	g_unlink(path);
	g_close(fd, NULL);
	g_free(path);
	free(script);
}

static void test_zsh(void)
{
	check_syntax("zsh");
}

static void test_fish(void)
{
	check_syntax("fish");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/completion/no-such-shell", test_no_such_shell);
	g_test_add_func("/completion/all-options", test_all_options);
	g_test_add_func("/completion/bash", test_bash);
	g_test_add_func("/completion/zsh", test_zsh);
	g_test_add_func("/completion/fish", test_fish);
	return g_test_run();
}
