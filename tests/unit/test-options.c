/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <glib.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <string.h>

#include "base/counter.h"
#include "base/util.h"
#include "capture.h"
#include "config.h"
#include "setup/options.h"

#define WORDS_MAX 16

/* One run of options_parse() and what it printed. */
struct run {
	char *words[WORDS_MAX + 1];
	int n_words;
	struct options options;
	enum options_outcome outcome;
	struct capture text;
};

static void run_words(struct run *run)
{
	char *argv[WORDS_MAX + 1];

	memcpy(argv, run->words, sizeof(argv)); /* getopt_long() reorders it */
	memset(&run->options, 0xa5, sizeof(run->options));
	capture_begin(&run->text);
	run->outcome = options_parse(&run->options, run->n_words, argv);
	capture_end(&run->text);
}

/* Words are separated by single spaces; '' is the empty one. */
static struct run run_line(const char *line)
{
	char **words = g_strsplit(line, " ", -1);
	struct run run = {0};

	for (char **word = words; *word; word++) {
		char *quotes = strstr(*word, "''");

		g_assert_cmpint(run.n_words, <, WORDS_MAX);
		if (quotes)
			*quotes = '\0';
		run.words[run.n_words++] = *word;
	}
	g_free(words);
	run_words(&run);
	return run;
}

static void run_free(struct run *run)
{
	for (int i = 0; i < run->n_words; i++)
		g_free(run->words[i]);
	options_done(&run->options);
	capture_free(&run->text);
}

/* Every field, so that two command lines can be compared. */
static char *describe(const struct options *o)
{
	GString *text = g_string_new(NULL);
	char v4[INET_ADDRSTRLEN] = "", v6[INET6_ADDRSTRLEN] = "";

	if (o->has_outbound)
		inet_ntop(AF_INET, &o->outbound.sin_addr, v4, sizeof(v4));
	if (o->has_outbound6)
		inet_ntop(AF_INET6, &o->outbound6.sin6_addr, v6, sizeof(v6));
	g_string_append_printf(text,
		"%s role=%d target=%d pid=%d path=%s tapfd=%d tap=%s userns=%s quit=%d", o->program,
		(int)o->personality, (int)o->target, o->pid, o->target_path, o->tapfd, o->tap_name,
		o->userns_path, o->quit_with_target);
	g_string_append_printf(text,
		" -c=%d exit=%d ready=%d mtu=%u mac=%d:%02x-%02x net=%08x/%08x guest=%08x",
		o->configure, o->exit_fd, o->ready_fd, o->mtu, o->has_mac,
		o->mac.ether_addr_octet[0], o->mac.ether_addr_octet[5], ntohl(o->network.s_addr),
		ntohl(o->netmask.s_addr), ntohl(o->guest.s_addr));
	g_string_append_printf(text, " v6=%d loopback=%d dns=%d out=%s out6=%s api=%s stack=%d",
		o->ipv6, o->host_loopback, o->dns_enabled, v4, v6, o->api_socket, (int)o->stack);
	g_string_append_printf(
		text, " forward=%s lazy=%d publish=", o->forward_path, o->lazy_listen);
	for (size_t i = 0; i < o->n_publish; i++)
		g_string_append_printf(text, "%s;", o->publish[i]);
	g_string_append_printf(text, " buffers=%llu busy-poll=%u", (unsigned long long)o->buffers,
		o->busy_poll_us);
	g_string_append_printf(text, " pcap=%s:%llu", o->pcap, (unsigned long long)o->pcap_size);
	g_string_append_printf(text,
		" sandbox=%d seccomp=%d/%d mode=%d off=%x features=%d level=%d types=%s/%s",
		o->enable_sandbox, o->enable_seccomp, o->disable_seccomp, (int)o->sandbox,
		o->disabled_features.bits, o->show_features, (int)o->log_level, o->netns_type_arg,
		o->target_type_arg);
	return g_string_free(text, FALSE);
}

static void assert_contains(const char *text, const char *fragment)
{
	if (!strstr(text, fragment))
		g_error("\"%s\" is not in \"%s\"", fragment, text);
}

/* An in_addr as text, in a buffer that the next call but three overwrites. */
static const char *text_of(struct in_addr address)
{
	static char texts[4][INET_ADDRSTRLEN];
	static unsigned int next;

	return inet_ntop(AF_INET, &address, texts[next++ % 4], INET_ADDRSTRLEN);
}

static void test_defaults(void)
{
	struct run run = run_line("/usr/bin/netns-helper 4711 tap0");
	const struct options *o = &run.options;

	g_assert_cmpint(run.outcome, ==, OPTIONS_OK);
	g_assert_cmpstr(run.text.out, ==, "");
	g_assert_cmpstr(run.text.err, ==, "");
	g_assert_cmpstr(o->program, ==, "netns-helper");
	g_assert_cmpint(o->personality, ==, PERSONALITY_NETNS_HELPER);
	g_assert_cmpint(o->target, ==, TARGET_PID);
	g_assert_cmpint(o->pid, ==, 4711);
	g_assert_cmpstr(o->tap_name, ==, "tap0");
	g_assert_null(o->target_path);
	g_assert_null(o->userns_path);
	g_assert_null(o->api_socket);
	g_assert_cmpuint(o->n_publish, ==, 0);
	g_assert_cmpstr(o->forward_path, ==, "auto");
	g_assert_false(o->lazy_listen);
	g_assert_cmpint(o->tapfd, ==, -1);
	g_assert_cmpint(o->exit_fd, ==, -1);
	g_assert_cmpint(o->ready_fd, ==, -1);
	g_assert_cmpuint(o->mtu, ==, 1500);
	g_assert_true(o->host_loopback && o->dns_enabled);
	g_assert_false(o->configure || o->ipv6 || o->has_mac || o->quit_with_target);
	g_assert_false(o->has_outbound || o->has_outbound6);
	g_assert_false(o->enable_sandbox || o->enable_seccomp || o->disable_seccomp);
	g_assert_cmpint(o->sandbox, ==, SANDBOX_UNSET);
	g_assert_cmpint(o->stack, ==, STACK_AUTO);
	g_assert_cmpint(o->log_level, ==, LOG_LEVEL_INFO);
	g_assert_cmpuint(o->disabled_features.bits, ==, 0);
	g_assert_cmpstr(text_of(o->network), ==, "10.0.2.0");
	g_assert_cmpstr(text_of(o->netmask), ==, "255.255.255.0");
	g_assert_cmpstr(text_of(o->gateway), ==, "10.0.2.2");
	g_assert_cmpstr(text_of(o->dns), ==, "10.0.2.3");
	g_assert_cmpstr(text_of(o->dhcp_start), ==, "10.0.2.15");
	g_assert_cmpstr(text_of(o->dhcp_end), ==, "10.0.2.30");
	g_assert_cmpstr(text_of(o->guest), ==, "10.0.2.100");
	run_free(&run);
}

/* Command lines that are right, and what of describe() they bring about. */
static const struct {
	const char *line, *fragment;
} right[] = {
	{"p -c 1 t", " -c=1 "},
	{"p --configure 1 t", " -c=1 "},
	{"p -e 7 1 t", " exit=7 "},
	{"p -e7 1 t", " exit=7 "},
	{"p --exit-fd=7 1 t", " exit=7 "},
	{"p --exit-fd= 1 t", " exit=0 "},
	{"p --exit-fd=2147483647 1 t", " exit=2147483647 "},
	{"p -r 8 1 t", " ready=8 "},
	{"p --ready-fd 0 1 t", " ready=0 "},
	{"p -m 68 1 t", " mtu=68 "},
	{"p --mtu=65521 1 t", " mtu=65521 "},
	{"p --mtu=0001500 1 t", " mtu=1500 "},
	{"p -6 1 t", " v6=1 "},
	{"p --enable-ipv6 1 t", " v6=1 "},
	{"p -a /s/k 1 t", " api=/s/k "},
	{"p --api-socket=/s/k 1 t", " api=/s/k "},
	{"p --cidr=10.0.135.128/25 1 t", " net=0a008780/ffffff80 guest=0a0087e4"},
	{"p --disable-host-loopback 1 t", " loopback=0 "},
	{"p --no-host-loopback 1 t", " loopback=0 "},
	{"p --disable-dns 1 t", " dns=0 "},
	{"p --outbound-addr=192.0.2.1 1 t", " out=192.0.2.1 out6= "},
	{"p --outbound-addr6=2001:db8::1 1 t", " out= out6=2001:db8::1 "},
	{"p --outbound-addr=lo 1 t", " out=127.0.0.1 "},
	{"p -c --macaddress=0a:1:2:3:4:Ff 1 t", " mac=1:0a-ff "},
	{"p --macaddress=0a:1:2:3:4:5 -c 1 t", " mac=1:0a-05 "},
	{"p --netns-type=pid 12 t", " target=0 pid=12 "},
	{"p --netns-type=path / t", " target=1 pid=0 path=/ "},
	{"p --netns-type=whatever / t", " target=1 pid=0 path=/ "},
	{"p --netns-type= / t", " target=1 pid=0 path=/ "},
	{"p --netns-type=path /proc/self/ns/net t", " target=1 pid=0 path=/proc/self/ns/net "},
	{"p --netns-type=path /proc/1/ns t", " target=1 pid=1 path=/proc/1/ns "},
	{"p --netns-type=tapfd 9", " target=2 pid=0 path=(null) tapfd=9 tap= "},
	{"p --netns-type=tapfd -e 3 0", " tapfd=0 "},
	{"p --target-type=netns 12 t", " target=0 pid=12 "},
	{"p --target-type=bess /tmp/sock", " target=3 pid=0 path=/tmp/sock "},
	{"p --userns-path=/proc/self/ns/user 12 t", " userns=/proc/self/ns/user "},
	{"p --quit-with-target 12 t", " quit=1 "},
	{"p --quit-with-target --netns-type=path /proc/1/ns t", " pid=1 "},
	{"p --stack=auto 1 t", " stack=0 "},
	{"p --stack=libslirp 1 t", " stack=1 "},
	{"p 1 t", " buffers=67108864 busy-poll=40 pcap=(null):67108864 "},
	{"p 1 t", " forward=auto lazy=0 publish= "},
	{"p -p 8080:80 1 t", " publish=8080:80; "},
	{"p -p8080 1 -p [::1]:53:[fd00::5]:53/udp t --pub=a,b --publish 7",
		" publish=8080;[::1]:53:[fd00::5]:53/udp;a,b;7; "},
	{"p --publish= 1 t", " publish=; "},
	{"p --forward-path=tap 1 t", " forward=tap "},
	{"p --forward-path=splice 1 t", " forward=splice "},
	{"p --forward-path=splice --forward-path=auto 1 t", " forward=auto "},
	{"p --forward-path=tap --stack=libslirp 1 t", " forward=tap "},
	{"p --stack=libslirp -p 80 1 t", " publish=80; "},
	{"p --netns-type=tapfd --forward-path=tap 9 -p 80", " forward=tap "},
	{"p --lazy-listen 1 t", " lazy=1 "},
	{"p --lazy 1 t", " lazy=1 "},
	{"p --buffers=256k 1 t", " buffers=262144 "},
	{"p --busy-poll=0 1 t", " busy-poll=0 "},
	{"p --busy-poll=1000 1 t", " busy-poll=1000 "},
	{"p --buffers=16G 1 t", " buffers=17179869184 "},
	{"p --pcap=/f 1 t", " pcap=/f:67108864 "},
	{"p --pcap=/f --pcap-size=0 1 t", " pcap=/f:0 "},
	{"p --pcap-size=131072 --pcap=/f 1 t", " pcap=/f:131072 "},
	{"p --pcap=/f --pcap-size=128k 1 t", " pcap=/f:131072 "},
	{"p --pcap=/f --pcap-size=5M 1 t", " pcap=/f:5242880 "},
	{"p --pcap=/f --pcap-size=3g 1 t", " pcap=/f:3221225472 "},
	{"p --pcap=/f --pcap-size=8589934591G 1 t", " pcap=/f:9223372035781033984 "},
	{"p --enable-sandbox 1 t", " sandbox=1 seccomp=0/0 "},
	{"p --create-sandbox 1 t", " sandbox=1 seccomp=0/0 "},
	{"p --enable-seccomp 1 t", " sandbox=0 seccomp=1/0 "},
	{"p --disable-seccomp 1 t", " sandbox=0 seccomp=0/1 "},
	{"p --enable-seccomp --disable-seccomp 1 t", " seccomp=0/1 "},
	{"p --disable-seccomp --enable-seccomp 1 t", " seccomp=0/1 "},
	{"p --enable-sandbox --sandbox=off 1 t", " sandbox=0 "},
	{"p --enable-sandbox --sandbox=require 1 t", " sandbox=1 "},
	{"p --sandbox=auto 1 t", " mode=1 "},
	{"p --sandbox=require 1 t", " mode=2 "},
	{"p --sandbox=off 1 t", " mode=3 "},
	{"p --disable-feature=close-range 1 t", " off=1 "},
	{"p --disable-feature=close-range,pidfd 1 t", " off=3 "},
	{"p --disable-feature=close-range --disable-feature=vnet-hdr,pidfd 1 t", " off=7 "},
	{"p --log-level=error 1 t", " level=0 "},
	{"p --log-level=warning 1 t", " level=1 "},
	{"p --log-level=info 1 t", " level=2 "},
	{"p --log-level=debug 1 t", " level=3 "},
	{"p --personality=slirp4netns 1 t", "p role=1 "},
	{"slirp4netns 1 t", "slirp4netns role=1 "},
	{"/opt/bin/slirp4netns 1 t", "slirp4netns role=1 "},
	{"./slirp4netns --personality=netns-helper 1 t", "slirp4netns role=0 "},
	{"slirp4netns-2 1 t", "slirp4netns-2 role=0 "},
	{"'' 1 t", "netns-helper role=0 "},
	/* grammar: permutation, clusters, the end of options, the last one wins */
	{"p 1 -c t -e 5", " -c=1 exit=5 "},
	{"p 1 t --ready=3", " ready=3 "},
	{"p -c6e 4 1 t", " -c=1 exit=4 "},
	{"p -ce4 1 t", " -c=1 exit=4 "},
	{"p -m 1400 --mtu=1300 -m1200 1 t", " mtu=1200 "},
	{"p --exit-fd=3 -e 4 1 t", " exit=4 "},
	{"p --cidr=junk --cidr=10.9.0.0/16 1 t", " net=0a090000/ffff0000 guest=0a090064"},
	{"p --netns-type=path --netns-type=pid 1 t", " target=0 pid=1 "},
	{"p --sandbox=off --sandbox=auto 1 t", " mode=1 "},
	{"p -- 1 -c", " pid=1 path=(null) tapfd=-1 tap=-c "},
	{"p -c -- 1 t", " -c=1 "},
	{"p +12 t", " pid=12 "},
	{"p 1 abcdefghijklmnopq", " tap=abcdefghijklmno "},
};

static void test_right(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(right); i++) {
		struct run run = run_line(right[i].line);
		char *got = describe(&run.options);

		g_test_message("%s: %s%s", right[i].line, run.text.err, got);
		g_assert_cmpint(run.outcome, ==, OPTIONS_OK);
		assert_contains(got, right[i].fragment);
		g_free(got);
		run_free(&run);
	}
}

enum shown { USAGE, NO_USAGE };

/* Command lines that are wrong: how the one line on standard error begins after "p: "; NULL: there
 * is none. */
static const struct {
	const char *line, *message;
	enum shown shown;
} wrong[] = {
	{"p", NULL, USAGE},
	{"p -c", NULL, USAGE},
	{"p 1", NULL, USAGE},
	{"p abc", NULL, USAGE},
	{"p --netns-type=path /nonexistent", NULL, USAGE},
	{"p --netns-type=tapfd", NULL, USAGE},
	{"p --target-type=bess", NULL, USAGE},
	{"p --target-type=bess -c", NULL, USAGE},
	{"p --cidr=24 1", NULL, USAGE},
	{"p --foo 1 t", "unrecognized option '--foo'", USAGE},
	{"p -x 1 t", "invalid option -- 'x'", USAGE},
	{"p -1 t", "invalid option -- '1'", USAGE},
	{"p -e", "option requires an argument -- 'e'", USAGE},
	{"p 1 t --mtu", "option '--mtu' requires an argument", USAGE},
	{"p --configure=yes 1 t", "option '--configure' doesn't allow an argument", USAGE},
	{"p --e=3 1 t", "option '--e=3' is ambiguous", USAGE},
	{"p --exit-fd=-1 1 t", "--exit-fd=-1: not a non-negative integer", USAGE},
	{"p -e 4x 1 t", "--exit-fd=4x: not a non-negative integer", USAGE},
	{"p -e 2147483648 1 t", "--exit-fd=2147483648: not a non-negative integer", USAGE},
	{"p -e 99999999999999999999 1 t",
		"--exit-fd=99999999999999999999: not a non-negative integer", USAGE},
	{"p --ready-fd=0x4 1 t", "--ready-fd=0x4: not a non-negative integer", USAGE},
	{"p --mtu= 1 t", "--mtu=: not a positive integer up to 65521", USAGE},
	{"p -m 0 1 t", "--mtu=0: not a positive integer up to 65521", USAGE},
	{"p -m -5 1 t", "--mtu=-5: not a positive integer up to 65521", USAGE},
	{"p -m 65522 1 t", "--mtu=65522: not a positive integer up to 65521", USAGE},
	{"p -m 1500k 1 t", "--mtu=1500k: not a positive integer up to 65521", USAGE},
	{"p -m 67 1 t", "cannot set MTU to 67: the least is 68", NO_USAGE},
	{"p -m 1 1 t", "cannot set MTU to 1: the least is 68", NO_USAGE},
	{"p --userns-path=/nonexistent 1 t",
		"--userns-path=/nonexistent: No such file or directory", USAGE},
	{"p --macaddress=1:2:3:4:5:6 1 t", "--macaddress needs --configure", USAGE},
	{"p --target-type=x", "--target-type=x: neither netns nor bess", USAGE},
	{"p --cidr=24 --target-type=x 1 t", "--target-type=x: neither netns nor bess", USAGE},
	{"p --target-type=bess s -c", "--configure conflicts with --target-type=bess", USAGE},
	{"p --target-type=bess s --netns-type=pid",
		"--netns-type conflicts with --target-type=bess", USAGE},
	{"p --target-type=bess s --userns-path=/",
		"--userns-path conflicts with --target-type=bess", USAGE},
	{"p --target-type=bess s t", "too many arguments for --target-type=bess: t", USAGE},
	{"p abc t", "the PID must be a positive integer, not \"abc\"", USAGE},
	{"p 0 t", "the PID must be a positive integer, not \"0\"", USAGE},
	{"p '' t", "the PID must be a positive integer, not \"\"", USAGE},
	{"p 12x t", "the PID must be a positive integer, not \"12x\"", USAGE},
	{"p -- -3 t", "the PID must be a positive integer, not \"-3\"", USAGE},
	{"p 4294967297 t", "the PID must be a positive integer, not \"4294967297\"", USAGE},
	{"p --netns-type=path /nonexistent t",
		"an existing path is expected as target: /nonexistent: No such file or directory",
		USAGE},
	{"p --netns-type=tapfd x", "the tap's descriptor must be a non-negative integer, not \"x\"",
		USAGE},
	{"p --netns-type=tapfd -- -3",
		"the tap's descriptor must be a non-negative integer, not \"-3\"", USAGE},
	{"p --stack=own 1 t", "--stack=own: not one of: auto libslirp", USAGE},
	{"p --stack=libslir 1 t", "--stack=libslir: not one of: auto libslirp", USAGE},
	{"p --sandbox=on 1 t", "--sandbox=on: not one of: auto require off", USAGE},
	{"p --sandbox= 1 t", "--sandbox=: not one of: auto require off", USAGE},
	{"p --log-level=loud 1 t", "--log-level=loud: not one of: error warning info debug", USAGE},
	{"p --personality=pasta 1 t", "--personality=pasta: not one of: netns-helper slirp4netns",
		USAGE},
	{"p --disable-feature=pidfd,nope 1 t", "--disable-feature: no such feature: \"nope\"",
		USAGE},
	{"p --disable-feature= 1 t", "--disable-feature: no such feature: \"\"", USAGE},
	{"p -p", "option requires an argument -- 'p'", USAGE},
	{"p 1 t -p 80 -p 81 --publish", "option '--publish' requires an argument", USAGE},
	{"p -p 80 --mtu=0 1 t", "--mtu=0: not a positive integer up to 65521", USAGE},
	{"p --forward-path=fast 1 t", "--forward-path=fast: not one of: auto splice tap", USAGE},
	{"p --forward-path= 1 t", "--forward-path=: not one of: auto splice tap", USAGE},
	{"p --lazy-listen=1 1 t", "option '--lazy-listen' doesn't allow an argument", USAGE},
	{"p --forward-path=splice --stack=libslirp 1 t",
		"--forward-path=splice conflicts with --stack=libslirp", NO_USAGE},
	{"p --lazy-listen --stack=libslirp 1 t", "--lazy-listen conflicts with --stack=libslirp",
		NO_USAGE},
	{"p --forward-path=splice --netns-type=tapfd 9",
		"--forward-path=splice conflicts with --netns-type=tapfd", NO_USAGE},
	{"p --lazy-listen --netns-type=tapfd 9", "--lazy-listen conflicts with --netns-type=tapfd",
		NO_USAGE},
	{"p --forward-path=splice --target-type=bess s",
		"--forward-path=splice conflicts with --target-type=bess", NO_USAGE},
	{"p --forward-path=splice --disable-feature=agent 1 t",
		"--forward-path=splice needs the feature agent, which is disabled", NO_USAGE},
	{"p --lazy-listen --disable-feature=agent 1 t",
		"--lazy-listen needs the feature agent, which is disabled", NO_USAGE},
	{"p --cidr=24 1 t", "invalid CIDR: 24", NO_USAGE},
	{"p --cidr=foo 1 t", "invalid CIDR: foo", NO_USAGE},
	{"p --cidr=300.0.0.0/24 1 t", "invalid network address: 300.0.0.0/24", NO_USAGE},
	{"p --cidr=10.0.2.0/26 1 t", "prefix length needs to be 1-25: 10.0.2.0/26", NO_USAGE},
	{"p --cidr=10.0.2.100/26 1 t", "prefix length needs to be 1-25: 10.0.2.100/26", NO_USAGE},
	{"p --cidr=10.0.2.100/24 1 t",
		"CIDR needs to be a network address like 10.0.2.0/24, not like 10.0.2.100/24: "
		"10.0.2.100/24",
		NO_USAGE},
	{"p --outbound-addr=nope0 1 t",
		"--outbound-addr=nope0: no IPv4 address, nor an interface that has one", NO_USAGE},
	{"p --outbound-addr= 1 t",
		"--outbound-addr=: no IPv4 address, nor an interface that has one", NO_USAGE},
	{"p --outbound-addr=::1 1 t",
		"--outbound-addr=::1: no IPv4 address, nor an interface that has one", NO_USAGE},
	{"p --outbound-addr6=nope0 1 t",
		"--outbound-addr6=nope0: no IPv6 address, nor an interface that has one", NO_USAGE},
	{"p --outbound-addr=lo --outbound-addr6=127.0.0.1 1 t",
		"--outbound-addr6=127.0.0.1: no IPv6 address, nor an interface that has one",
		NO_USAGE},
	{"p -c --macaddress=aa 1 t",
		"--macaddress=aa: not six hexadecimal bytes with colons between", NO_USAGE},
	{"p -c --macaddress=1:2:3:4:5 1 t",
		"--macaddress=1:2:3:4:5: not six hexadecimal bytes with colons between", NO_USAGE},
	{"p -c --macaddress=1:2:3:4:5: 1 t",
		"--macaddress=1:2:3:4:5:: not six hexadecimal bytes with colons between", NO_USAGE},
	{"p -c --macaddress=1:2:3:4:5:6:7 1 t",
		"--macaddress=1:2:3:4:5:6:7: not six hexadecimal bytes with colons between",
		NO_USAGE},
	{"p -c --macaddress=zz:2:3:4:5:6 1 t",
		"--macaddress=zz:2:3:4:5:6: not six hexadecimal bytes with colons between",
		NO_USAGE},
	{"p -c --macaddress=1:2:3:4:5:123 1 t",
		"--macaddress=1:2:3:4:5:123: not six hexadecimal bytes with colons between",
		NO_USAGE},
	{"p --buffers=255k 1 t", "--buffers=255k: not a size", NO_USAGE},
	{"p --buffers=0 1 t", "--buffers=0: not a size", NO_USAGE},
	{"p --buffers=17G 1 t", "--buffers=17G: not a size", NO_USAGE},
	{"p --busy-poll=1001 1 t", "--busy-poll=1001: not a number of microseconds", USAGE},
	{"p --busy-poll=-1 1 t", "--busy-poll=-1: not a number of microseconds", USAGE},
	{"p --busy-poll=x 1 t", "--busy-poll=x: not a number of microseconds", USAGE},
	{"p --buffers=lots 1 t", "--buffers=lots: not a size", NO_USAGE},
	{"p --pcap=- 1 t", "--pcap=-: a file is needed", NO_USAGE},
	{"p --pcap-size=1M 1 t", "--pcap-size needs --pcap", NO_USAGE},
	{"p --pcap=/f --pcap-size= 1 t", "--pcap-size=: neither 0 nor a size", NO_USAGE},
	{"p --pcap=/f --pcap-size=100 1 t", "--pcap-size=100: neither 0 nor a size", NO_USAGE},
	{"p --pcap=/f --pcap-size=131071 1 t", "--pcap-size=131071: neither", NO_USAGE},
	{"p --pcap=/f --pcap-size=-1 1 t", "--pcap-size=-1: neither 0 nor a size", NO_USAGE},
	{"p --pcap=/f --pcap-size=+1M 1 t", "--pcap-size=+1M: neither 0 nor a size", NO_USAGE},
	{"p --pcap=/f --pcap-size=1MB 1 t", "--pcap-size=1MB: neither 0 nor a size", NO_USAGE},
	{"p --pcap=/f --pcap-size=1T 1 t", "--pcap-size=1T: neither 0 nor a size", NO_USAGE},
	{"p --pcap=/f --pcap-size=M 1 t", "--pcap-size=M: neither 0 nor a size", NO_USAGE},
	{"p --pcap=/f --pcap-size=8589934592G 1 t", "--pcap-size=8589934592G: neither", NO_USAGE},
	{"p --pcap=/f --pcap-size=99999999999999999999 1 t",
		"--pcap-size=99999999999999999999: neither", NO_USAGE},
	{"p --quit-with-target --netns-type=path / t",
		"--quit-with-target needs a PID or a path below /proc/PID as target", NO_USAGE},
	{"p --quit-with-target --netns-type=path /proc/self/ns/net t",
		"--quit-with-target needs a PID or a path below /proc/PID as target", NO_USAGE},
	{"p --quit-with-target --netns-type=tapfd 5",
		"--quit-with-target needs a PID or a path below /proc/PID as target", NO_USAGE},
	{"p --quit-with-target --target-type=bess s",
		"--quit-with-target needs a PID or a path below /proc/PID as target", NO_USAGE},
	{"p --quit-with-target --disable-feature=pidfd 1 t",
		"--quit-with-target needs the feature pidfd, which is disabled", NO_USAGE},
};

static void test_wrong(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct run run = run_line(wrong[i].line);
		char *expected = g_strconcat("p: ", wrong[i].message, NULL);

		g_test_message("%s: %s", wrong[i].line, run.text.err);
		g_assert_cmpint(run.outcome, ==, OPTIONS_EXIT_ERROR);
		if (wrong[i].message) {
			g_assert_true(g_str_has_prefix(run.text.err, expected));
			g_assert_true(strchr(run.text.err, '\n') == strrchr(run.text.err, '\n'));
		} else {
			g_assert_cmpstr(run.text.err, ==, "");
		}
		if (wrong[i].shown == USAGE)
			g_assert_true(g_str_has_prefix(run.text.out, "Usage: "));
		else
			g_assert_cmpstr(run.text.out, ==, "");
		g_free(expected);
		run_free(&run);
	}
}

/* Right, but with a word of warning: on which of the two outputs, and which. */
static const struct {
	const char *line, *out, *err;
} warned[] = {
	{"p -6 1 t", "WARNING: --enable-ipv6 is experimental\n", ""},
	{"p --enable-seccomp 1 t", "WARNING: --enable-seccomp is experimental\n", ""},
	{"p --no-host-loopback 1 t",
		"WARNING: --no-host-loopback is deprecated, use --disable-host-loopback\n", ""},
	{"p --create-sandbox 1 t",
		"WARNING: --create-sandbox is deprecated, use --enable-sandbox\n", ""},
	{"p 1 t u v", "",
		"p: warning: too many arguments, ignored: u\np: warning: too many arguments, "
		"ignored: v\n"},
	{"p --netns-type=tapfd 5 tap0", "", "p: warning: too many arguments, ignored: tap0\n"},
	{"p --netns-type=tapfd -c 5", "",
		"p: warning: --configure does nothing with --netns-type=tapfd\n"},
	{"p 1 abcdefghijklmno", "", ""},
	{"p 1 abcdefghijklmnopq", "",
		"p: warning: the tap's name is cut to 15 bytes: abcdefghijklmno\n"},
	{"p --disable-seccomp --log-level=warning --enable-seccomp 1 t",
		"WARNING: --enable-seccomp is experimental\n",
		"p: warning: --disable-seccomp overrules --enable-seccomp\n"},
	{"p --enable-sandbox --sandbox=off 1 t", "",
		"p: warning: --sandbox=off overrules --enable-sandbox\n"},
	{"p --log-level=error 1 t u", "", ""},
};

static void test_warned(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(warned); i++) {
		struct run run = run_line(warned[i].line);

		g_assert_cmpint(run.outcome, ==, OPTIONS_OK);
		g_assert_cmpstr(run.text.out, ==, warned[i].out);
		g_assert_cmpstr(run.text.err, ==, warned[i].err);
		run_free(&run);
	}
}

static void test_no_argv(void)
{
	struct run run = {0};

	run_words(&run);
	g_assert_cmpint(run.outcome, ==, OPTIONS_EXIT_ERROR);
	g_assert_true(g_str_has_prefix(run.text.out, "Usage: netns-helper "));
	run_free(&run);
}

/* Any interface's address of the family that is not link-local will do for the test. */
static bool find_interface6(char name[IF_NAMESIZE])
{
	bool found = false;
	struct ifaddrs *all;

	g_assert_cmpint(getifaddrs(&all), ==, 0);
	for (struct ifaddrs *at = all; at && !found; at = at->ifa_next) {
		const struct sockaddr_in6 *in6 = (const void *)at->ifa_addr;

		if (in6 && in6->sin6_family == AF_INET6 &&
			!IN6_IS_ADDR_LINKLOCAL(&in6->sin6_addr)) {
			g_strlcpy(name, at->ifa_name, IF_NAMESIZE);
			found = true;
		}
	}
	freeifaddrs(all);
	return found;
}

/* slirp4netns looked for the interface of the other option. */
static void test_outbound6_interface(void)
{
	char name[IF_NAMESIZE], *line;
	struct run run;

	if (!find_interface6(name)) {
		g_test_skip("no interface has an IPv6 address");
		return;
	}
	line = g_strdup_printf("p --outbound-addr6=%s 1 t", name);
	run = run_line(line);
	g_assert_cmpint(run.outcome, ==, OPTIONS_OK);
	g_assert_true(run.options.has_outbound6);
	g_assert_false(run.options.has_outbound);
	g_assert_cmpint(run.options.outbound6.sin6_family, ==, AF_INET6);
	g_assert_false(IN6_IS_ADDR_UNSPECIFIED(&run.options.outbound6.sin6_addr));
	g_assert_false(IN6_IS_ADDR_LINKLOCAL(&run.options.outbound6.sin6_addr));
	g_assert_cmpint(run.options.outbound6.sin6_port, ==, 0);
	g_free(line);
	run_free(&run);
}

/* The options of slirp4netns 1.3.2, each with an argument that shows. */
static const struct {
	const char *name, *argument;
} contract[] = {
	{"configure", NULL},
	{"exit-fd", "3"},
	{"ready-fd", "4"},
	{"mtu", "1400"},
	{"cidr", "10.9.0.0/16"},
	{"disable-host-loopback", NULL},
	{"no-host-loopback", NULL},
	{"netns-type", "tapfd"},
	{"userns-path", "/"},
	{"api-socket", "/s"},
	{"enable-ipv6", NULL},
	{"enable-sandbox", NULL},
	{"create-sandbox", NULL},
	{"enable-seccomp", NULL},
	{"help", NULL},
	{"version", NULL},
	{"outbound-addr", "192.0.2.1"},
	{"outbound-addr6", "2001:db8::1"},
	{"disable-dns", NULL},
	{"macaddress", "1:2:3:4:5:6"},
	{"target-type", "bess"},
};

static bool is_unique_in_contract(const char *prefix, size_t of)
{
	for (size_t i = 0; i < ARRAY_SIZE(contract); i++)
		if (i != of && g_str_has_prefix(contract[i].name, prefix))
			return strcmp(contract[of].name, prefix) == 0;
	return true;
}

static char *outcome_of(const char *name, const char *argument)
{
	char *option = g_strconcat("--", name, argument ? "=" : "", argument, NULL);
	char *line = g_strconcat("p ", option, " 1 t", NULL), *fields, *all;
	struct run run = run_line(line);

	fields = describe(&run.options);
	all = g_strdup_printf("%d\n%s\n%s\n%s", run.outcome, fields, run.text.out, run.text.err);
	g_free(fields);
	g_free(line);
	g_free(option);
	run_free(&run);
	return all;
}

static void test_prefixes(void)
{
	char *nothing = outcome_of("log-level", "info");
	int n_tried = 0;

	for (size_t i = 0; i < ARRAY_SIZE(contract); i++) {
		char *full = outcome_of(contract[i].name, contract[i].argument);

		g_assert_cmpstr(full, !=, nothing);
		for (size_t len = 1; len < strlen(contract[i].name); len++) {
			char *prefix = g_strndup(contract[i].name, len);

			if (is_unique_in_contract(prefix, i)) {
				char *got = outcome_of(prefix, contract[i].argument);

				g_test_message("--%s", prefix);
				g_assert_cmpstr(got, ==, full);
				n_tried++;
				g_free(got);
			}
			g_free(prefix);
		}
		g_free(full);
	}
	g_free(nothing);
	g_assert_cmpint(n_tried, >, 100);
}

/* What callers look for in it (COMPATIBLE). */
static void check_help(const char *help)
{
	static const char *const words[] = {"--netns-type", "--enable-ipv6", "--cidr",
		"--disable-host-loopback", "--api-socket", "--enable-sandbox", "--enable-seccomp",
		"--mtu", "--outbound-addr"};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		char *pattern = g_strdup_printf("\\W%s\\W", words[i]);

		g_assert_true(g_regex_match_simple(pattern, help, 0, 0));
		g_free(pattern);
	}
	assert_contains(help, "127.0.0.1");
}

static void check_table_is_shown(const char *help)
{
	char **lines = g_strsplit(help, "\n", -1);

	for (size_t i = 0; i < n_option_rows; i++) {
		char *pattern = g_strdup_printf("(?m)^(-., )?--%s\\b[^-]", option_table[i].name);

		g_assert_cmpint(g_regex_match_simple(pattern, help, 0, 0), ==,
			option_table[i].help != NULL);
		g_free(pattern);
	}
	for (char **line = lines; *line; line++)
		g_assert_cmpuint(strlen(*line), <=, 100);
	g_strfreev(lines);
}

static const char *after_first_line(const char *text)
{
	return strchr(text, '\n') + 1;
}

static void test_help(void)
{
	struct run ours = run_line("/x/netns-helper -h --bogus");
	struct run theirs = run_line("/x/netns-helper --personality=slirp4netns --help");

	g_assert_cmpint(ours.outcome, ==, OPTIONS_EXIT_OK);
	g_assert_cmpint(theirs.outcome, ==, OPTIONS_EXIT_OK);
	g_assert_cmpstr(ours.text.err, ==, "");
	g_assert_true(
		g_str_has_prefix(ours.text.out, "Usage: netns-helper [OPTION]... PID|PATH|FD ["));
	g_assert_true(
		g_str_has_prefix(theirs.text.out, "Usage: slirp4netns [OPTION]... PID|PATH|FD ["));
	g_assert_cmpstr(after_first_line(ours.text.out), ==, after_first_line(theirs.text.out));
	check_help(ours.text.out);
	check_table_is_shown(ours.text.out);
	run_free(&ours);
	run_free(&theirs);
}

static void test_version(void)
{
	struct run ours = run_line("netns-helper --version");
	struct run theirs = run_line("/usr/local/bin/slirp4netns -vh");

	g_assert_cmpint(ours.outcome, ==, OPTIONS_EXIT_OK);
	g_assert_cmpint(theirs.outcome, ==, OPTIONS_EXIT_OK);
	g_assert_cmpstr(theirs.text.err, ==, "");
	g_assert_true(g_str_has_prefix(
		ours.text.out, "netns-helper version " NETNS_HELPER_VERSION "\ncommit: "));
	g_assert_true(g_str_has_prefix(theirs.text.out, "slirp4netns version 1.3.2\ncommit: "));
	g_assert_cmpstr(after_first_line(ours.text.out), ==, after_first_line(theirs.text.out));
	g_assert_true(g_regex_match_simple("(?m)^libslirp: 4\\.\\d+\\.\\d+", ours.text.out, 0, 0));
	g_assert_true(g_regex_match_simple(
		"(?m)^SLIRP_CONFIG_VERSION_MAX: ([4-9]|\\d\\d+)$", ours.text.out, 0, 0));
	g_assert_true(
		g_regex_match_simple("(?m)^libseccomp: \\d+\\.\\d+\\.\\d+$", ours.text.out, 0, 0));
	assert_contains(ours.text.out, "\nnetns-helper: " NETNS_HELPER_VERSION "\n");
	run_free(&ours);
	run_free(&theirs);
}

/* --help and --version act where they stand: what is before them was judged, the rest is not. */
static void test_help_after_error(void)
{
	struct run run = run_line("p --mtu=0 --help");

	g_assert_cmpint(run.outcome, ==, OPTIONS_EXIT_ERROR);
	g_assert_cmpstr(run.text.err, !=, "");
	run_free(&run);
	run = run_line("p --help --mtu=0");
	g_assert_cmpint(run.outcome, ==, OPTIONS_EXIT_OK);
	g_assert_cmpstr(run.text.err, ==, "");
	run_free(&run);
}

static void test_features(void)
{
	struct run run = run_line("p --features --disable-feature=agent");

	g_assert_cmpint(run.outcome, ==, OPTIONS_EXIT_OK);
	assert_contains(run.text.out, "\nagent: no (disabled on the command line");
	g_assert_cmpstr(run.text.err, ==, "");
	run_free(&run);
	run = run_line("p --features --mtu=0");
	g_assert_cmpint(run.outcome, ==, OPTIONS_EXIT_ERROR);
	run_free(&run);
}

static char *banner_of(const char *line)
{
	struct run run = run_line(line);
	struct capture capture;

	g_assert_cmpint(run.outcome, ==, OPTIONS_OK);
	capture_begin(&capture);
	options_print_banner(&run.options);
	capture_end(&capture);
	g_assert_cmpstr(capture.err, ==, "");
	g_free(capture.err);
	run_free(&run);
	return capture.out;
}

static void test_banner(void)
{
	char *text = banner_of("p 1 t");

	g_assert_cmpstr(text, ==,
		"Starting slirp\n"
		"* MTU:             1500\n"
		"* Network:         10.0.2.0\n"
		"* Netmask:         255.255.255.0\n"
		"* Gateway:         10.0.2.2\n"
		"* DNS:             10.0.2.3\n"
		"* DHCP begin:      10.0.2.15\n"
		"* DHCP end:        10.0.2.30\n"
		"* Recommended IP:  10.0.2.100\n"
		"WARNING: the container reaches the host's 127.0.0.1 as 10.0.2.2 "
		"(--disable-host-loopback prevents it)\n");
	g_free(text);
}

static void test_full_banner(void)
{
	char *text = banner_of("p -c --disable-host-loopback --disable-dns -a /s/k -m 65520 "
			       "--outbound-addr=192.0.2.1 --outbound-addr6=2001:db8::1 "
			       "--macaddress=2:0:5e:0:0:1 --cidr=10.9.0.0/16 1 t");

	g_assert_cmpstr(text, ==,
		"Starting slirp\n"
		"* MTU:             65520\n"
		"* Network:         10.9.0.0\n"
		"* Netmask:         255.255.0.0\n"
		"* Gateway:         10.9.0.2\n"
		"* DHCP begin:      10.9.0.15\n"
		"* DHCP end:        10.9.0.30\n"
		"* Recommended IP:  10.9.0.100\n"
		"* API Socket:      /s/k\n"
		"* Outbound IPv4:   192.0.2.1\n"
		"* Outbound IPv6:   2001:db8::1\n"
		"* MAC:             02:00:5e:00:00:01\n");
	g_free(text);
}

static void test_table(void)
{
	for (size_t i = 0; i < n_option_rows; i++) {
		const struct option_row *row = &option_table[i];

		g_assert_nonnull(row->parse);
		g_assert_true(!row->words || row->argument);
		for (size_t k = 0; k < i; k++) {
			g_assert_cmpstr(row->name, !=, option_table[k].name);
			g_assert_true(!row->letter || row->letter != option_table[k].letter);
		}
	}
}

static const struct option_row *find_in_table(const char *name)
{
	for (size_t i = 0; i < n_option_rows; i++)
		if (strcmp(option_table[i].name, name) == 0)
			return &option_table[i];
	return NULL;
}

/* `.It Fl c , Fl Fl configure` or `.It Fl Fl mtu Ns = Ns Ar MTU`: the row of the long name, whose
 * letter and argument must be there as well. */
static const struct option_row *row_of_item(const char *line)
{
	char **words = g_strsplit(line, " ", -1);
	const struct option_row *row = NULL;
	bool has_argument = false;
	char letter = 0;

	for (guint i = 0; i + 1 < g_strv_length(words); i++) {
		if (strcmp(words[i], "Ar") == 0)
			has_argument = true;
		if (strcmp(words[i], "Fl") != 0 || strcmp(words[i + 1], "Fl") == 0)
			continue;
		has_argument = false; /* that was the letter's */
		if (i > 0 && strcmp(words[i - 1], "Fl") == 0)
			row = find_in_table(words[i + 1]);
		else
			letter = words[i + 1][0];
	}
	g_strfreev(words);
	if (!row || row->letter != letter || !row->argument != !has_argument)
		g_error("no such option: %s", line);
	return row;
}

static int counter_of_item(const char *name)
{
	for (int i = 0; i < N_COUNTERS; i++)
		if (strcmp(counter_name((enum counter)i), name) == 0)
			return i;
	g_error("no such counter: %s", name);
}

/* Every counter has one item under COUNTERS, and nothing else has. */
static void test_man_page_counters(void)
{
	bool documented[N_COUNTERS] = {false};
	char *page, *section, **lines;

	if (!g_file_get_contents(SOURCE_ROOT "/man/netns-helper.1", &page, NULL, NULL)) {
		g_test_skip("there is no man/netns-helper.1");
		return;
	}
	section = strstr(page, "\n.Sh COUNTERS\n");
	g_assert_nonnull(section);
	lines = g_strsplit(section + 1, "\n", -1);
	for (char **line = lines + 1; *line && !g_str_has_prefix(*line, ".Sh"); line++) {
		if (g_str_has_prefix(*line, ".It Cm ")) {
			int which = counter_of_item(*line + strlen(".It Cm "));

			g_assert_false(documented[which]);
			documented[which] = true;
		}
	}
	for (int i = 0; i < N_COUNTERS; i++)
		if (!documented[i])
			g_error("%s is not in the manual page", counter_name((enum counter)i));
	g_strfreev(lines);
	g_free(page);
}

static void test_man_page(void)
{
	bool documented[OPTION_ROWS_MAX] = {false};
	char *page, **lines;

	if (!g_file_get_contents(SOURCE_ROOT "/man/netns-helper.1", &page, NULL, NULL)) {
		g_test_skip("there is no man/netns-helper.1");
		return;
	}
	lines = g_strsplit(page, "\n", -1);
	for (char **line = lines; *line; line++)
		if (g_str_has_prefix(*line, ".It Fl"))
			documented[row_of_item(*line) - option_table] = true;
	for (size_t i = 0; i < n_option_rows; i++)
		if (option_table[i].help && !documented[i])
			g_error("--%s is not in the manual page", option_table[i].name);
	g_strfreev(lines);
	g_free(page);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/options/defaults", test_defaults);
	g_test_add_func("/options/right", test_right);
	g_test_add_func("/options/wrong", test_wrong);
	g_test_add_func("/options/warned", test_warned);
	g_test_add_func("/options/no-argv", test_no_argv);
	g_test_add_func("/options/outbound6-interface", test_outbound6_interface);
	g_test_add_func("/options/prefixes", test_prefixes);
	g_test_add_func("/options/help", test_help);
	g_test_add_func("/options/version", test_version);
	g_test_add_func("/options/help-after-error", test_help_after_error);
	g_test_add_func("/options/features", test_features);
	g_test_add_func("/options/banner", test_banner);
	g_test_add_func("/options/full-banner", test_full_banner);
	g_test_add_func("/options/table", test_table);
	g_test_add_func("/options/man-page", test_man_page);
	g_test_add_func("/options/man-page-counters", test_man_page_counters);
	return g_test_run();
}
