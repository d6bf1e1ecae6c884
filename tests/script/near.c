/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The near end: segments of the container, and those that it is sent.
 */
#include <stdio.h>
#include <stdlib.h>

#include "script.h"

/* As much as comes now, but something. */
#define LEN_ANY        UINT32_MAX
#define WINDOW_DEFAULT 64256
#define SHIFT_DEFAULT  7
#define MSS4_DEFAULT   1460
#define MSS6_DEFAULT   1440

static const struct {
	const char *name;
	uint8_t flags;
} kinds[] = {
	{"syn", TCP_SYN},
	{"syn-ack", TCP_SYN | TCP_ACK},
	{"ack", TCP_ACK},
	{"probe", TCP_ACK},
	{"data", TCP_ACK | TCP_PSH},
	{"fin", TCP_FIN | TCP_ACK},
	{"rst", TCP_RST},
	{"rst-ack", TCP_RST | TCP_ACK},
	{"flags", 0},
};

static uint8_t flags_of(struct script *script, const char *letters)
{
	static const char known[] = "FSRPAUEC";
	uint8_t flags = 0;

	if (!strcmp(letters, "none"))
		return 0;
	for (const char *p = letters; *p; p++) {
		const char *at = strchr(known, *p);

		if (!at)
			world_fail(script->world, "%c is no flag", *p);
		flags |= (uint8_t)(1 << (at - known));
	}
	return flags;
}

/* Returns the verb's name. */
static const char *take_kind(
	struct script *script, struct words *words, uint8_t *ret_flags, uint32_t *ret_len)
{
	const char *word = words_need(script, words);

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (strcmp(kinds[i].name, word) != 0)
			continue;
		*ret_flags = kinds[i].flags;
		if (!strcmp(word, "flags"))
			*ret_flags = flags_of(script, words_need(script, words));
		if (!strcmp(word, "data"))
			*ret_len =
				words_accept(words, "any") ? LEN_ANY : words_number(script, words);
		return kinds[i].name;
	}
	world_fail(script->world, "%s is no segment", word);
}

/* ---- from the container ---- */

void near_begin(struct conversation *c, uint32_t isn)
{
	c->is_open = true;
	c->is_arrival = false;
	c->near_isn = isn;
	c->our_isn_is_known = false;
	c->our_isn = 0;
	c->near_next = c->near_got = c->near_edge = 0;
	c->our_next = c->our_got = c->our_edge = 0;
	c->near_window = WINDOW_DEFAULT;
	c->near_shift = SHIFT_DEFAULT;
	c->our_shift = NO_SHIFT;
	c->near_mss = c->near_addr.family == AF_INET ? MSS4_DEFAULT : MSS6_DEFAULT;
	c->kernel = (struct kernel){0};
}

/* mss N|none, ws N|none, new N: what only a SYN has. */
static bool take_syn_word(struct script *script, struct conversation *c, struct near_frame *frame,
	struct words *words, const char *word)
{
	bool is4 = c->near_addr.family == AF_INET;

	if (!strcmp(word, "mss")) {
		if (words_accept(words, "none"))
			frame->mss = 0;
		else
			frame->mss = (uint16_t)words_number(script, words);
		c->near_mss = frame->mss;
		if (!frame->mss)
			c->near_mss = is4 ? TCP_MSS_DEFAULT4 : TCP_MSS_DEFAULT6;
	} else if (!strcmp(word, "ws")) {
		frame->has_window_scale = !words_accept(words, "none");
		c->near_shift =
			frame->has_window_scale ? (uint8_t)words_number(script, words) : NO_SHIFT;
		if (frame->has_window_scale)
			c->near_window = WINDOW_DEFAULT >> c->near_shift << c->near_shift;
	} else if (!strcmp(word, "new")) {
		near_begin(c, c->near_isn + words_number(script, words));
		frame->seq = 0;
	} else {
		return false;
	}
	return true;
}

static const struct eth_addr *to_everybody(void)
{
	static const struct eth_addr broadcast = {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};

	return &broadcast;
}

static void set_options(struct script *script, struct near_frame *frame, struct words *words)
{
	static uint8_t options[40];
	const char *hex = words_need(script, words);
	size_t n = strlen(hex) / 2;
	unsigned int byte;

	if (n > sizeof(options) || n % 4)
		world_fail(script->world, "options come in units of 4 bytes");
	for (size_t i = 0; i < n && sscanf(hex + 2 * i, "%2x", &byte) == 1; i++)
		options[i] = (uint8_t)byte;
	frame->options = options;
	frame->options_len = n;
}

/* What a frame of this kind is when nothing more is said. */
static struct near_frame frame_of(struct conversation *c, const char *kind, uint8_t flags)
{
	struct near_frame frame = {
		.flags = flags,
		.seq = c->near_next,
		.ack = c->near_got,
		.window = c->near_window,
	};

	if (!strcmp(kind, "probe"))
		frame.seq--;
	if (!(flags & TCP_SYN) || strcmp(kind, "flags") == 0)
		return frame;
	frame.seq = 0;
	frame.mss = c->near_mss;
	frame.has_window_scale = c->near_shift != NO_SHIFT;
	return frame;
}

/* Returns whether it is lost on the way. */
static bool take_frame_words(struct script *script, struct conversation *c,
	struct near_frame *frame, struct words *words)
{
	bool is_lost = false;
	const char *word;

	while ((word = words_take(words))) {
		if (!strcmp(word, "seq"))
			frame->seq = words_relative(script, words, frame->seq);
		else if (!strcmp(word, "ack"))
			frame->ack = words_relative(script, words, frame->ack);
		else if (!strcmp(word, "win"))
			frame->window = c->near_window = words_number(script, words);
		else if (!strcmp(word, "len"))
			frame->len = words_number(script, words);
		else if (!strcmp(word, "urgent"))
			frame->urgent = (uint16_t)words_number(script, words);
		else if (!strcmp(word, "ttl"))
			frame->ttl = (uint8_t)words_number(script, words);
		else if (!strcmp(word, "fin"))
			frame->flags |= TCP_FIN;
		else if (!strcmp(word, "lost"))
			is_lost = true;
		else if (!strcmp(word, "bad-checksum"))
			frame->has_bad_checksum = true;
		else if (!strcmp(word, "to-everybody"))
			frame->to = to_everybody();
		else if (!strcmp(word, "options"))
			set_options(script, frame, words);
		else if (!take_syn_word(script, c, frame, words, word))
			world_fail(script->world, "%s is nothing of a segment", word);
	}
	if (frame->urgent)
		frame->flags |= TCP_URG;
	return is_lost;
}

static void write_kernel(struct script *script, struct conversation *c, struct words *words)
{
	if (!c->kernel.is_on)
		world_fail(script->world, "only a kernel writes");
	c->kernel.n_written += words_number(script, words);
	c->kernel.wants_fin = words_accept(words, "fin");
}

/* TYPE/CODE [seq N] */
static void say_icmp(struct script *script, struct conversation *c, struct words *words)
{
	unsigned int type, code;
	uint32_t seq = 0;

	if (sscanf(words_need(script, words), "%u/%u", &type, &code) != 2)
		world_fail(script->world, "an error is TYPE/CODE");
	if (words_accept(words, "seq"))
		seq = words_relative(script, words, 0);
	world_near_icmp(script->world, c, (uint8_t)type, (uint8_t)code, seq);
}

static void say_neighbor(struct script *script, struct conversation *c, struct words *words)
{
	struct ip_addr addr = c->near_addr;

	if (words->at < words->n)
		addr = words_addr(script, words);
	else
		script->world->neighbor_is_unknown = false;
	world_hear(script->world, &addr);
}

/* Data of a SYN do not count: they are said again. */
static void note_said(struct conversation *c, const struct near_frame *frame)
{
	uint32_t end = frame->seq + frame->len + !!(frame->flags & TCP_FIN);

	if (frame->flags & TCP_RST)
		return;
	if (frame->flags & TCP_SYN)
		end = frame->seq + 1;
	if (seq_after(end, c->near_next) && !(frame->flags & TCP_SYN && frame->seq))
		c->near_next = end;
}

void near_in(struct script *script, struct conversation *c, struct words *words)
{
	struct near_frame frame;
	uint32_t len = 0;
	uint8_t flags;
	const char *kind;
	bool is_lost;

	if (words_accept(words, "kernel")) {
		kernel_start(script->world, c);
		return;
	}
	if (words_accept(words, "write")) {
		write_kernel(script, c, words);
		return;
	}
	if (words_accept(words, "icmp")) {
		say_icmp(script, c, words);
		return;
	}
	if (words_accept(words, "neighbor")) {
		say_neighbor(script, c, words);
		return;
	}
	if (!c->is_open)
		near_begin(c, script->near_isn);
	kind = take_kind(script, words, &flags, &len);
	frame = frame_of(c, kind, flags);
	frame.len = len;
	is_lost = take_frame_words(script, c, &frame, words);
	note_said(c, &frame);
	if (!is_lost)
		world_near_input(script->world, c, &frame);
}

/* ---- to it ---- */

/* What is asked of a segment; what is not said must be as it should be. */
struct wanted {
	const char *kind;
	uint8_t flags;
	uint32_t len, seq, ack;
	bool has_window, has_mss, has_shift, has_gso, is_lost;
	uint32_t window, n_frames, gso_size;
	uint16_t mss;
	uint8_t shift;
};

static void take_wanted(
	struct script *script, const struct conversation *c, struct words *words, struct wanted *w)
{
	const char *word;

	while ((word = words_take(words))) {
		if (!strcmp(word, "seq")) {
			w->seq = words_relative(script, words, w->seq);
		} else if (!strcmp(word, "ack")) {
			w->ack = words_relative(script, words, w->ack);
		} else if (!strcmp(word, "win")) {
			w->has_window = true;
			w->window = words_number(script, words);
		} else if (!strcmp(word, "mss")) {
			w->has_mss = true;
			w->mss = (uint16_t)words_number(script, words);
		} else if (!strcmp(word, "ws")) {
			w->has_shift = true;
			w->shift = words_accept(words, "none")
				? NO_SHIFT
				: (uint8_t)words_number(script, words);
		} else if (!strcmp(word, "gso")) {
			w->has_gso = true;
			w->gso_size = words_number(script, words);
		} else if (!strcmp(word, "frames")) {
			w->n_frames = words_number(script, words);
		} else if (!strcmp(word, "lost")) {
			w->is_lost = true;
		} else {
			world_fail(script->world, "%s is nothing of a segment", word);
		}
	}
}

static void compare(struct script *script, const char *name, uint32_t is, uint32_t wanted,
	const struct outcome *out)
{
	char text[128];

	outcome_describe(out, text, sizeof(text));
	if (is != wanted)
		world_fail(script->world, "%s is %u, not %u, in %s", name, is, wanted, text);
}

static void compare_segment(
	struct script *script, const struct outcome *out, const struct wanted *w)
{
	uint32_t kind = out->kind == OUT_SEGMENT ? out->flags & ~(uint32_t)TCP_PSH : 0;

	compare(script, "flags", kind, w->flags & ~(uint32_t)TCP_PSH, out);
	compare(script, "seq", out->seq, w->seq, out);
	compare(script, "ack", out->ack, out->flags & TCP_ACK ? w->ack : 0, out);
	if (w->has_window)
		compare(script, "window", out->window, w->window, out);
	if (w->has_mss)
		compare(script, "mss", out->mss, w->mss, out);
	if (w->has_shift)
		compare(script, "ws", out->shift, w->shift, out);
	if (w->has_gso)
		compare(script, "gso", out->gso_size, w->gso_size, out);
}

static void note_got(struct conversation *c, const struct outcome *out, bool is_lost)
{
	uint32_t end = out->seq + out->len + !!(out->flags & (TCP_SYN | TCP_FIN));

	if (out->flags & TCP_RST)
		return;
	if (seq_after(end, c->our_next))
		c->our_next = end;
	if (!is_lost && !seq_after(out->seq, c->near_got) && seq_after(end, c->near_got))
		c->near_got = end;
}

/* Data may come in any number of frames, each behind the other. */
static void take_segments(struct script *script, struct conversation *c, struct wanted *w)
{
	uint32_t left = w->len, n = 0;

	do {
		struct outcome *out = script_next(script, &c->to_near, w->kind);

		compare_segment(script, out, w);
		if (out->len > left || (left && !out->len))
			compare(script, "len", out->len, left, out);
		left -= out->len;
		w->seq += out->len;
		note_got(c, out, w->is_lost);
		free(out);
		n++;
	} while (left && (w->len != LEN_ANY || c->to_near.head));
	if (w->n_frames && n != w->n_frames)
		world_fail(script->world, "it came in %u frames", n);
}

static void take_icmp(struct script *script, struct conversation *c, struct words *words)
{
	struct outcome *out = script_next(script, &c->to_near, "icmp");
	const char *wanted = words_need(script, words);
	char text[128], is[16];

	snprintf(is, sizeof(is), "%u/%u", out->icmp_type, out->icmp_code);
	outcome_describe(out, text, sizeof(text));
	if (out->kind != OUT_ICMP || strcmp(is, wanted) != 0)
		world_fail(script->world, "%s came", text);
	free(out);
}

static bool has_read(const struct conversation *c, uint64_t goal)
{
	return c->kernel.n_read == goal;
}

static bool has_said(const struct conversation *c, uint64_t goal)
{
	return c->kernel.una - 1 >= goal;
}

static bool is_reset(const struct conversation *c, uint64_t goal)
{
	return c->kernel.is_reset;
}

void near_out(struct script *script, struct conversation *c, struct words *words)
{
	struct wanted w = {.seq = c->our_next, .ack = c->our_got};

	if (words_accept(words, "icmp")) {
		take_icmp(script, c, words);
	} else if (words_accept(words, "read")) {
		script_wait(script, c, words_number(script, words), has_read, "read");
	} else if (words_accept(words, "acked")) {
		script_wait(script, c, words_number(script, words), has_said, "acked");
	} else if (words_accept(words, "reset")) {
		script_wait(script, c, 0, is_reset, "reset");
	} else {
		w.kind = take_kind(script, words, &w.flags, &w.len);
		if (!strcmp(w.kind, "probe"))
			w.seq = c->near_got - 1;
		if (w.flags & TCP_SYN)
			w.seq = 0;
		take_wanted(script, c, words, &w);
		take_segments(script, c, &w);
	}
}
