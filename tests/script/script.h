/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A script that is being played: README says what its lines mean. script.c reads lines and moves
 * the clock, near.c and far.c are the actors, main.c begins and ends.
 */
#pragma once

#include "world.h"

#define WORDS_MAX 24

/* The words of a line, taken one after the other. */
struct words {
	char *word[WORDS_MAX];
	int n, at;
};

struct script {
	struct world *world;
	struct world_config config;
	uint32_t near_isn;
	char **lines;
	int n_lines;
	bool has_begun, turn_is_open;
	/* How long an expectation of this line may wait. */
	int64_t patience_ns;
};

/* NULL: there is none any more. */
const char *words_take(struct words *words);
/* The next word if it is `word`. */
bool words_accept(struct words *words, const char *word);
/* The next word; the script fails when there is none. */
const char *words_need(struct script *script, struct words *words);
uint32_t words_number(struct script *script, struct words *words);
/* Relative to `base` with a sign in front. */
uint32_t words_relative(struct script *script, struct words *words, uint32_t base);
/* errno by its name. */
int words_errno(struct script *script, struct words *words);
struct ip_addr words_addr(struct script *script, struct words *words);

void script_play(struct script *script);

/* A connection's first word: all numbers begin. */
void near_begin(struct conversation *conversation, uint32_t isn);

/* What comes in, and what is expected to go out. */
void near_in(struct script *script, struct conversation *conversation, struct words *words);
void near_out(struct script *script, struct conversation *conversation, struct words *words);
void far_in(struct script *script, struct conversation *conversation, struct words *words);
void far_out(struct script *script, struct conversation *conversation, struct words *words);
void link_in(struct script *script, struct words *words);
/* The next outcome of a log, for which the line's patience is waited. To be freed. */
struct outcome *script_next(struct script *script, struct outcomes *log, const char *what);
/* Waits until `is_so` within the line's patience. */
void script_wait(struct script *script, struct conversation *conversation, uint64_t goal,
	bool (*is_so)(const struct conversation *conversation, uint64_t goal), const char *what);
