/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request to the API socket of a running program, and its reply. Blocks, but never for longer
 * than the server is silent for CLIENT_SILENCE_SEC.
 */
#pragma once

#include <stddef.h>

#define CLIENT_SILENCE_SEC 5
/* SCM_MAX_FD of the kernel: what one message can carry. */
#define CLIENT_FDS_MAX 253
/* The list of 65,536 rules, with room to spare. */
#define CLIENT_REPLY_MAX ((size_t)256 << 20)

/* Sends `request` and with it copies of the descriptors, and reads the reply up to the end of the
 * stream; it is malloc'ed and ends with a NUL that does not count. 0 or a negative errno:
 * -ENOTSOCK: `path` is none; -ETIMEDOUT: the server is silent; -EBADMSG: it closed without a word;
 * -E2BIG: more descriptors than one message carries. */
int client_ask(const char *path, const char *request, const int *fds, size_t n_fds,
	char **ret_reply, size_t *ret_len);
