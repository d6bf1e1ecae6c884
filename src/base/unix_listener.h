/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A listening socket in the file system: its path, its mode, and its end.
 *
 * The folder stays open (O_PATH), and the inode that bind(2) made is remembered, so that at the end
 * the name can be taken away from within an empty root, and nobody else's file with it.
 */
#pragma once

#include <stddef.h>
#include <sys/types.h>
#include <sys/un.h>

struct unix_listener {
	int fd;
	int folder_fd;
	char name[sizeof(((struct sockaddr_un *)NULL)->sun_path)]; /* within the folder */
	dev_t dev;
	ino_t ino; /* 0: no name was made */
};

/* Of mode 0600, with the largest backlog. A name that a predecessor has left behind is replaced:
 * one at which nobody accepts. 0 or a negative errno. */
int unix_listener_open(struct unix_listener *listener, const char *path);
/* " (longer than 107 bytes)": what people want to know besides the errno; or "". */
const char *unix_listener_explain(int error);
/* Unlinks the name while it is ours, then closes. 0, or why the name is still there. */
int unix_listener_close(struct unix_listener *listener);
