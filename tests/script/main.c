/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plays one script (README), and speaks TAP.
 *
 *   play [-v] [--cells] FILE    -v tells each outcome; --cells each (state, event) that came to be
 *   play --cells                each (state, event), and whether it is possible
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "dgram.h"

/* Longer than anything takes that has lost its peers. */
#define FINALE_NS (400 * NS_PER_SEC)

static char **read_lines(const char *file, int *ret_n)
{
	FILE *f = fopen(file, "re");
	char **lines = NULL, *line = NULL;
	size_t size = 0;
	ssize_t len;
	int n = 0;

	while (f && (len = getline(&line, &size, f)) >= 0) {
		char **more = realloc(lines, (size_t)(n + 1) * sizeof(*lines));

		if (!more)
			break;
		lines = more;
		line[strcspn(line, "\n")] = '\0';
		lines[n++] = line;
		line = NULL;
		size = 0;
	}
	free(line);
	if (f)
		fclose(f);
	*ret_n = n;
	return lines;
}

/* Whatever the script has left behind ends here: the container resets, the host reads on. */
static void end_conversation(struct world *world, struct conversation *c)
{
	const struct tcp_flow *flow = world_flow(world, c);
	const struct near_frame reset = {
		.flags = TCP_RST,
		.seq = flow ? flow->rcv_nxt - c->near_isn : 0,
	};

	c->kernel.is_on = false;
	if (flow)
		world_near_input(world, c, &reset);
}

static void end_all(struct world *world)
{
	int64_t until_ns = world->loop.now_ns + FINALE_NS;

	world->is_tracing = false;
	world->link_error = 0;
	for (int i = 0; i < world->n_conversations; i++)
		end_conversation(world, &world->conversations[i]);
	for (int i = 0; i < world->n_sockets; i++) {
		world->sockets[i].room = ROOM_ALL;
		if (world->sockets[i].is_open)
			world_far_event(world, &world->sockets[i], EPOLLOUT);
	}
	world_finish_turn(world);
	while (world_next_ns(world) <= until_ns)
		world_go(world, world_next_ns(world));
	if (world->loop.timers.root)
		world_fail(world, "a timer is left armed");
}

static void forget(struct world *world)
{
	for (int i = 0; i < world->n_conversations; i++) {
		struct conversation *c = &world->conversations[i];

		while (c->to_near.head)
			free(outcomes_take(&c->to_near));
		while (c->to_far.head)
			free(outcomes_take(&c->to_far));
	}
}

static void play(struct script *script)
{
	struct world *world = script->world;

	printf("1..1\n");
	script_play(script);
	if (!world->is_done)
		end_all(world);
	world_check_clean(world);
	world_done(world);
	if (world->counters.value[COUNTER_TCP_IMPOSSIBLE])
		world_fail(world, "something impossible came to be");
	forget(world);
	if (world->dgrams)
		dgrams_free(world);
	printf("ok 1 - %s\n", world->file);
}

static void print_visited(const struct world *world)
{
	for (int s = 0; s < N_TCP_STATES; s++)
		for (int e = 0; e < N_TCP_EVENTS; e++)
			if (world->is_visited[s][e])
				printf("# visited %s %s\n", tcp_state_name((enum tcp_state)s),
					tcp_event_name((enum tcp_event)e));
}

static int print_cells(void)
{
	for (int s = 0; s < N_TCP_STATES; s++)
		for (int e = 0; e < N_TCP_EVENTS; e++)
			printf("%s %s %s\n", tcp_state_name((enum tcp_state)s),
				tcp_event_name((enum tcp_event)e),
				tcp_event_is_possible((enum tcp_state)s, (enum tcp_event)e)
					? "possible"
					: "impossible");
	return 0;
}

static void play_file(const char *file, bool is_verbose, bool with_cells)
{
	struct world *world = calloc(1, sizeof(*world));
	struct script script = {
		.world = world,
		.config = {.host_loopback = true,
			.max_flows = 1000,
			.memory = 16 * 1024 * 1024,
			.our_isn = UINT32_MAX - 99},
		.near_isn = UINT32_MAX - 99,
	};

	if (!world)
		return;
	world->nameservers[0].addr = ip_addr_of_v4((struct in_addr){htonl(0xc0000235)});
	world->n_nameservers = 1;
	world->file = file;
	world->is_verbose = is_verbose;
	script.lines = read_lines(file, &script.n_lines);
	if (!script.n_lines)
		world_fail(world, "there is nothing in it");
	play(&script);
	if (with_cells)
		print_visited(world);
	for (int i = 0; i < script.n_lines; i++)
		free(script.lines[i]);
	free(script.lines);
	free(world);
}

int main(int argc, char **argv)
{
	bool is_verbose = false, with_cells = false;
	const char *file = NULL;

	for (int i = 1; i < argc; i++) {
		is_verbose |= !strcmp(argv[i], "-v");
		with_cells |= !strcmp(argv[i], "--cells");
		if (argv[i][0] != '-')
			file = argv[i];
	}
	if (!file && with_cells)
		return print_cells();
	if (!file) {
		fprintf(stderr, "usage: play [-v] [--cells] FILE\n");
		return 2;
	}
	play_file(file, is_verbose, with_cells);
	return 0;
}
