/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loaded before a helper (LD_PRELOAD): its sockets get the buffers that they would get where
 * net.core.rmem_max and wmem_max are as the kernel sets them, which no network namespace can have
 * of its own.
 */
#include <dlfcn.h>
#include <sys/socket.h>

#define BOUND_BYTES 212992

typedef int setsockopt_fn(int fd, int level, int name, const void *value, socklen_t len);

static setsockopt_fn *next;

/* Before the helper gives up its rights. */
__attribute__((constructor)) static void find_next(void)
{
	*(void **)&next = dlsym(RTLD_NEXT, "setsockopt");
}

__attribute__((visibility("default"))) int setsockopt(
	int fd, int level, int name, const void *value, socklen_t len)
{
	int bytes = BOUND_BYTES;

	if (level == SOL_SOCKET && (name == SO_RCVBUF || name == SO_SNDBUF) &&
		len == sizeof(bytes) && *(const int *)value > bytes)
		value = &bytes;
	return next(fd, level, name, value, len);
}
