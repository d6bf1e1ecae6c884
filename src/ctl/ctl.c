/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/ctl.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "ctl/client.h"
#include "ctl/rule.h"
#include "ctl/show.h"

/* What getopt_long() returns for an option: its place in option_names. */
#define OPTION_BASE 0x100

enum option_id { OPTION_HELP, OPTION_JSON, OPTION_PATH, OPTION_LAZY, OPTION_CLOSE, N_OPTIONS };

static const char *const option_names[N_OPTIONS] = {"help", "json", "path", "lazy", "close"};

#define BIT(option) (1U << (option))

/* What the words say. */
struct ctl {
	const char *socket;
	const struct command *command;
	const char *path; /* NULL: the server's default */
	bool lazy, json, close;
	char **words; /* rules and ids */
	size_t n_words;
};

struct command {
	const char *name;
	unsigned int options; /* bits of those it takes, besides --help and --json */
	bool takes_words;     /* at least one; else none */
	bool (*run)(const struct ctl *ctl);
};

/* --- one request */

static void explain(const char *socket, int error)
{
	switch (error) {
	case -ENOENT:
		log_error("%s: there is no such socket; does netns-helper run with --api-socket?",
			socket);
		break;
	case -ECONNREFUSED:
		log_error("%s: nobody listens there, netns-helper has ended", socket);
		break;
	case -ENOTSOCK:
		log_error("%s: not a socket", socket);
		break;
	case -ETIMEDOUT:
		log_error("%s: no answer within %d s", socket, CLIENT_SILENCE_SEC);
		break;
	case -EBADMSG:
		log_error("%s: closed without an answer", socket);
		break;
	default:
		log_errno(LOG_LEVEL_ERROR, error, "%s", socket);
	}
}

/* What the server says, as JSON; with --json it is printed as it came. NULL: the reason was logged.
 */
static json_t *ask(const struct ctl *ctl, const json_t *request, const struct passed_fds *passed)
{
	char *text = json_dumps(request, JSON_COMPACT), *answer = NULL;
	json_t *reply = NULL;
	size_t len;
	int r = -ENOMEM;

	if (text)
		r = client_ask(ctl->socket, text, passed ? passed->fds : NULL,
			passed ? passed->n : 0, &answer, &len);
	if (r < 0)
		explain(ctl->socket, r);
	else if (!(reply = json_loadb(answer, len, 0, NULL)) || !json_is_object(reply))
		log_error("%s: the answer is no JSON object", ctl->socket);
	else if (ctl->json)
		printf("%s\n", answer);
	free(answer);
	free(text);
	if (json_is_object(reply))
		return reply;
	json_decref(reply);
	return NULL;
}

/* `arguments` is taken over. The reply to it, unless it is an error: that was logged. */
static json_t *execute(const struct ctl *ctl, const char *command, json_t *arguments,
	const struct passed_fds *passed, char **rules, size_t n_rules)
{
	json_auto_t *request = json_pack("{s:s, s:o}", "execute", command, "arguments", arguments);
	json_t *reply;

	if (!request) {
		log_errno(LOG_LEVEL_ERROR, -ENOMEM, "%s", command);
		return NULL;
	}
	reply = ask(ctl, request, passed);
	if (!reply || !show_error(reply, rules, n_rules))
		return reply;
	json_decref(reply);
	return NULL;
}

static bool complain(const struct ctl *ctl, bool understood)
{
	if (!understood)
		log_error("%s: an answer that says nothing", ctl->socket);
	return understood;
}

/* --- the commands */

static bool set_wishes(const struct ctl *ctl, json_t *rule)
{
	return (!ctl->path || json_object_set_new(rule, "path", json_string(ctl->path)) == 0) &&
		(!ctl->lazy || json_object_set_new(rule, "lazy", json_true()) == 0);
}

/* All rules in one request. One alone goes the way that slirp4netns knows, too. NULL: the reason
 * was logged. */
static json_t *arguments_of_add(const struct ctl *ctl, struct passed_fds *passed)
{
	json_t *rules = json_array(), *arguments;

	for (size_t i = 0; i < ctl->n_words; i++) {
		json_t *rule = rule_to_add(ctl->words[i], passed);

		if (!rule || !set_wishes(ctl, rule) || json_array_append_new(rules, rule) < 0) {
			json_decref(rules);
			return NULL;
		}
	}
	if (ctl->n_words > 1)
		return json_pack("{s:o}", "rules", rules);
	arguments = json_incref(json_array_get(rules, 0));
	json_decref(rules);
	return arguments;
}

static bool run_add(const struct ctl *ctl)
{
	struct passed_fds passed = {0};
	json_t *arguments = arguments_of_add(ctl, &passed);
	json_auto_t *reply = arguments
		? execute(ctl, "add_hostfwd", arguments, &passed, ctl->words, ctl->n_words)
		: NULL;

	passed_fds_done(&passed);
	return reply && (ctl->json || complain(ctl, show_ids(stdout, reply)));
}

static bool run_list(const struct ctl *ctl)
{
	json_auto_t *reply = execute(ctl, "list_hostfwd", json_object(), NULL, NULL, 0);

	return reply && (ctl->json || complain(ctl, show_list(stdout, reply)));
}

static bool remove_one(const struct ctl *ctl, char **rule)
{
	json_t *arguments = rule_to_remove(*rule), *reply;

	if (!arguments)
		return false;
	if (ctl->close)
		json_object_set_new(arguments, "close_connections", json_true());
	reply = execute(ctl, "remove_hostfwd", arguments, NULL, rule, 1);
	json_decref(reply);
	return reply;
}

/* Each by a request of its own: those that can be removed are. */
static bool run_remove(const struct ctl *ctl)
{
	bool removed = true;

	for (size_t i = 0; i < ctl->n_words; i++)
		removed &= remove_one(ctl, &ctl->words[i]);
	return removed;
}

static const struct command commands[] = {
	{"add", BIT(OPTION_PATH) | BIT(OPTION_LAZY), true, run_add},
	{"list", 0, false, run_list},
	{"remove", BIT(OPTION_CLOSE), true, run_remove},
};

/* --- the words */

void ctl_print_usage(FILE *out)
{
	fputs("Usage: netns-helper ctl SOCKET add RULE... [--path=auto|splice|tap] [--lazy]\n"
	      "       netns-helper ctl SOCKET list\n"
	      "       netns-helper ctl SOCKET remove ID|RULE... [--close]\n"
	      "Publishes ports of a container by the API socket of its netns-helper.\n\n"
	      "RULE is [ADDR:]PORT[-PORT][:[ADDR:]PORT[-PORT]][/PROTO]: of the host, of the\n"
	      "container; or fd:N:[ADDR:]PORT[/PROTO], a socket that is passed on.\n\n"
	      "add       publish these ports, all of them or none, and print the ids\n"
	      "--path    how clients get into the container; with tap it sees their address\n"
	      "--lazy    listen only while something in the container does (TCP)\n"
	      "list      what is published, and how it fares\n"
	      "remove    publish it no longer; connections go on\n"
	      "--close   reset its connections\n"
	      "--json    print the server's replies as they are\n"
	      "--help    show this and exit\n",
		out);
}

/* Named outcomes of reading the words. */
enum reading { READ, READ_HELP, READ_WRONG };

static enum reading take_option(struct ctl *ctl, enum option_id option, const char *argument)
{
	enum forward_path path;

	if (option == OPTION_HELP)
		return READ_HELP;
	if (option != OPTION_JSON && !(ctl->command->options & BIT(option))) {
		log_error("%s takes no --%s", ctl->command->name, option_names[option]);
		return READ_WRONG;
	}
	ctl->json |= option == OPTION_JSON;
	ctl->lazy |= option == OPTION_LAZY;
	ctl->close |= option == OPTION_CLOSE;
	if (option != OPTION_PATH)
		return READ;
	ctl->path = argument;
	if (forward_path_parse(argument, &path))
		return READ;
	log_error("--path=%s: not one of: auto splice tap", argument);
	return READ_WRONG;
}

/* `argv` begins with the command's name. getopt_long() prints what it does not understand. */
static enum reading read_options(struct ctl *ctl, int argc, char **argv)
{
	static char program[] = "netns-helper ctl"; /* how its messages begin */
	struct option longs[N_OPTIONS + 1] = {0};
	int value;

	for (int i = 0; i < N_OPTIONS; i++)
		longs[i] = (struct option){
			.name = option_names[i],
			.has_arg = i == OPTION_PATH ? required_argument : no_argument,
			.val = OPTION_BASE + i,
		};
	argv[0] = program;
	optind = 0; /* glibc, musl: begins anew */
	while ((value = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
		enum reading reading = READ_WRONG;

		if (value != '?')
			reading = take_option(ctl,
				value == 'h' ? OPTION_HELP : (enum option_id)(value - OPTION_BASE),
				optarg);
		if (reading != READ)
			return reading;
	}
	ctl->words = argv + optind;
	ctl->n_words = (size_t)(argc - optind);
	return READ;
}

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

static bool is_help(const char *word)
{
	return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

/* `argv` is "ctl", the socket, the command and its words. */
static enum reading read_words(struct ctl *ctl, int argc, char **argv)
{
	enum reading reading;

	for (int i = 1; i < argc && i <= 2; i++)
		if (is_help(argv[i]))
			return READ_HELP;
	if (argc < 3) {
		log_error(argc < 2 ? "a socket and a command are missing" : "a command is missing");
		return READ_WRONG;
	}
	ctl->socket = argv[1];
	ctl->command = find_command(argv[2]);
	if (!ctl->command) {
		log_error("%s: not one of: add list remove", argv[2]);
		return READ_WRONG;
	}
	reading = read_options(ctl, argc - 2, argv + 2);
	if (reading != READ || ctl->command->takes_words == (ctl->n_words > 0))
		return reading;
	log_error(ctl->n_words ? "%s takes no rules" : "%s: which rules?", ctl->command->name);
	return READ_WRONG;
}

/* What was printed is on its way, or the exit status says that it is not. */
static int finish(bool done)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return done ? EXIT_SUCCESS : EXIT_FAILURE;
	log_errno(LOG_LEVEL_ERROR, -errno, "standard output");
	return EXIT_FAILURE;
}

int ctl_main(int argc, char **argv)
{
	struct ctl ctl = {0};

	log_init("netns-helper ctl", LOG_LEVEL_INFO);
	switch (read_words(&ctl, argc, argv)) {
	case READ:
		return finish(ctl.command->run(&ctl));
	case READ_HELP:
		ctl_print_usage(stdout);
		return finish(true);
	default:
		ctl_print_usage(stderr);
		return 2;
	}
}
