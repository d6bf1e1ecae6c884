/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The listening socket in the file system: its path, its mode, and its end.
 *
 * The folder stays open (O_PATH), and the inode that bind(2) made is remembered, so that at the end
 * the name can be taken away from within an empty root, and nobody else's file with it.
 */
#pragma once

#include <stddef.h>
#include <sys/types.h>
#include <sys/un.h>

struct api_listener {
	int fd;
	int folder_fd;
	char name[sizeof(((struct sockaddr_un *)NULL)->sun_path)]; /* within the folder */
	dev_t dev;
	ino_t ino; /* 0: no name was made */
};

/* As api_server_open(). */
int api_listener_open(struct api_listener *listener, const char *path);
/* Unlinks the name while it is ours, then closes. */
void api_listener_close(struct api_listener *listener);
