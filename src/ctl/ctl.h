/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `netns-helper ctl SOCKET COMMAND ...`: the API of a running program for people. ctl.c reads the
 * words, rule.c turns rules into requests, show.c replies into lines, client.c speaks to the
 * server.
 */
#pragma once

#include <stdio.h>

/* The command line from "ctl" on. Returns the exit status: 0, 1 when the request failed, 2 when the
 * command line is wrong. */
int ctl_main(int argc, char **argv);

void ctl_print_usage(FILE *out);
