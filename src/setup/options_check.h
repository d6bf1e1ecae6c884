/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What can be judged only when the whole command line was read; part of options.c.
 */
#pragma once

#include <stdbool.h>

#include "setup/options.h"

/* The target and the tap's name from the `n` arguments that are no options. False: wrong, the usage
 * is to be shown; the message was printed, unless arguments are just missing. */
bool options_check_target(struct options *options, int n, char **args);

/* The values that need more than a glance: networks, addresses, contradictions. False: wrong, the
 * message was printed. */
bool options_check_values(struct options *options);

/* Base 10, the whole text, as strtol(3) reads it: "" is 0. */
bool options_parse_number(const char *text, long min, long max, long *ret_number);
