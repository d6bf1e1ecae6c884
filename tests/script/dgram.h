/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scripts of datagrams: UDP, ping and DNS (udpflow, icmpflow, dns, gateway) beside the same fake
 * link, and with sockets of their own on the fake host. README says what the lines mean.
 *
 * dgram.c knows the lines, dgram-publish.c those of published ports, dgram-world.c the parts and
 * their order, dgram-frame.c makes and reads
 * frames, dgram-host.c is the host's sockets.
 */
#pragma once

#include "dns/dns.h"
#include "flow/egress.h"
#include "gateway/gateway.h"
#include "icmpflow/icmpflow.h"
#include "publish/publish.h"
#include "script.h"
#include "udpflow/udpflow.h"

#define DGRAM_SOCKETS_MAX 2000
#define DGRAM_QUEUE_MAX   300
#define DGRAM_PATHS_MAX   8
#define DGRAM_DATA_MAX    65507
#define DGRAM_NAME_MAX    64
#define DGRAM_RULES_MAX   16
#define DGRAM_MADE_MAX    16
/* Where a container's datagrams come from when nothing is said. */
#define DGRAM_NEAR_PORT 5000
#define DGRAM_NEAR_ID   77

enum dgram_kind {
	DGRAM_UDP,
	DGRAM_PING,
	DGRAM_PONG,
	DGRAM_ERROR, /* ICMP */
	DGRAM_OPEN,
	DGRAM_CLOSE,
	DGRAM_SEND,
};

/* A datagram, or what else went out or comes in. Which fields count says `kind`. */
struct dgram {
	struct dgram *next;
	int64_t at_ns;
	enum dgram_kind kind;
	int socket;            /* from 1 on */
	unsigned int n_frame;  /* datagrams of one frame, or of one run, have the same */
	enum dgram_kind about; /* what an error is about: UDP or ping */
	struct ip_addr near, far;
	uint16_t near_port, far_port; /* or id and number of echo messages */
	uint32_t len;
	uint32_t n_packets;   /* that it came to the container in */
	uint32_t n_run, last; /* coming in: as a run of so many, and a shorter one behind them */
	uint8_t ttl, tos;
	bool dont_fragment;
	uint8_t icmp_type, icmp_code;
	uint32_t mtu;
	struct ip_addr by;
	struct ip_addr at;         /* of a published port: the address of ours */
	char name[DGRAM_NAME_MAX]; /* of a DNS message; empty: it is none */
	uint16_t dns_id;
	bool is_answer;
};

struct dgram_log {
	struct dgram *head, **tail;
};

/* The errors and datagrams that wait in a socket. */
struct dgram_socket {
	bool is_open, is_ping, is_full;
	struct host_dgram_config config;
	struct ip_addr peer, bound;
	struct handle handle;
	struct dgram in[DGRAM_QUEUE_MAX];
	int n_in, at_in;
	struct host_dgram_error errors[DGRAM_QUEUE_MAX];
	int n_errors, at_error;
	int pending_error; /* the next call fails with it, once */
	int send_error;    /* the next datagram cannot be sent, once */
	bool is_woken;     /* there is an event of which it has not been told */
	char name[DGRAM_NAME_MAX];
	uint16_t dns_id; /* of the query that was sent last */
};

/* A socket of the namespace that was asked for. */
struct dgram_asked {
	socket_made_fn *done;
	void *owner;
	uint64_t cookie;
	uint8_t family;
};

struct dgrams {
	struct world *world;
	struct egress egress;
	struct gateway gateway;
	struct udpflow udpflow;
	struct icmpflow icmpflow;
	struct dns *dns;
	struct publish *publish;
	struct splice *splice; /* nothing asks it for connections */
	struct socket_source source;
	struct dgram_asked asked[DGRAM_MADE_MAX];
	int n_asked;
	struct forward_rule rules[DGRAM_RULES_MAX];
	int n_rules;
	uint32_t mtu;
	struct dgram_log to_near, to_far;
	struct dgram_socket *sockets[DGRAM_SOCKETS_MAX];
	int n_sockets;
	int open_error; /* what the next sockets to be opened give, so often */
	uint32_t n_open_errors;
	struct {
		struct ip_addr addr;
		uint32_t mtu;
	} paths[DGRAM_PATHS_MAX];
	int n_paths;
	unsigned int n_frames;
	/* A datagram that comes in fragments. */
	uint8_t whole[LINK_BUFFER_LEN];
	size_t whole_len;
	uint32_t n_packets;
};

/* ---- dgram-world.c ---- */

void dgrams_new(struct world *world);
void dgrams_start(struct world *world, const struct world_config *config);
void dgrams_stop(struct world *world);
void dgrams_free(struct world *world);
/* A frame of the container in world->buf. */
void dgrams_near_input(struct world *world, size_t len);
/* Returns whether there is more to do at once. */
bool dgrams_finish(struct world *world);
void dgrams_check_clean(struct world *world);
void dgram_log_add(struct world *world, struct dgram_log *log, const struct dgram *dgram);
void dgram_describe(const struct dgram *dgram, char *text, size_t size);

/* ---- dgram-publish.c ---- */

void dgram_publish_start(struct world *world, const struct world_config *config);
void dgram_publish_stop(struct world *world);
void dgram_publish_check_clean(struct world *world);
/* Lines about published ports. False: it is another one. */
bool dgram_publish_line(struct script *script, const char *name, struct words *words);

/* ---- dgram-frame.c ---- */

/* The frame goes to world->buf; returns its length. `segment`: it is a run of such datagrams. */
size_t dgram_build(struct world *world, const struct dgram *dgram, uint32_t segment);
/* The frame in world->buf goes in, in fragments of that MTU; 0: whole. The one with the number
 * `lost`, from 1, does not. */
void dgram_input(struct world *world, size_t len, uint32_t mtu, uint32_t lost);
/* A frame to the container: checked, and put into the log. */
void dgrams_take_frame(struct world *world, const uint8_t *buf, size_t len);
/* Of a DNS message with that name: its question, or all that it is to be filled up to. */
size_t dgram_dns_len(const struct dgram *dgram);
/* What is in a datagram. */
void dgram_fill(uint8_t *data, const struct dgram *dgram);
/* Whether it is what dgram_fill() makes, or a DNS message, which is looked at. */
bool dgram_look(struct dgram *dgram, const uint8_t *data, size_t len);

/* ---- dgram-host.c ---- */

int dgram_host_open(struct host *host, const struct host_dgram_config *config, struct handle handle,
	struct host_dgram *ret);
int dgram_host_adopt(struct host *host, int fd, const struct host_dgram_config *config,
	struct handle handle, struct host_dgram *ret);
void dgram_host_close(struct host *host, struct host_dgram *dgram);
int dgram_host_send(
	struct host *host, struct host_dgram *dgram, const struct host_datagram *datagrams, int n);
int dgram_host_recv(
	struct host *host, struct host_dgram *dgram, struct host_datagram *datagrams, int n);
bool dgram_host_error(struct host *host, struct host_dgram *dgram, struct host_dgram_error *ret);
int dgram_host_change(struct host *host, int fd, uint32_t events, struct handle handle);

/* ---- dgram.c ---- */

/* What stands in front of the first event. */
bool dgram_set(struct script *script, const char *name, struct words *words);
/* "near" or "far" in a script of datagrams; `number` stands behind the actor's name. */
void dgram_act(struct script *script, const char *actor, int number, struct words *words);
bool dgram_check(struct script *script, const char *name, struct words *words);
/* Everything that went out was expected. */
void dgram_check_logs(struct script *script);
/* Goes to the next instant at which something happens, if that is not behind `until_ns`. */
bool script_go_on(struct script *script, int64_t until_ns);
