/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bess target (User-Mode Linux's transport): a SOCK_SEQPACKET socket at a path, one client,
 * one Ethernet frame per packet. There is no namespace, and so no agent.
 */
#pragma once

/* Makes the socket (one left there before is replaced), waits for the one client and removes the
 * path again. Ends early with -ECANCELED when `exit_fd` (-1: none) hangs up. *ret_fd is
 * non-blocking. Logs what failed, returns a negative errno. */
int bess_accept(const char *path, int exit_fd, int *ret_fd);
