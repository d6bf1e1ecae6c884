/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A link around another one, which appends every frame that it passes on to a capture file: pcap
 * with nanoseconds, Ethernet. Frames are written without their virtio-net header and otherwise as
 * the link carries them, so checksums may be unfinished and segments as long as 64 KiB.
 *
 * With a limit there are two files of at most that size, PATH and PATH.1, written by turns: each
 * begins anew when it is due. Both are opened at the start, since the sandbox opens nothing, and
 * renames nothing. Whatever becomes of the capture, frames pass.
 */
#pragma once

#include "base/counter.h"
#include "link/link.h"

/* What is written at once when there is much to write; holds the largest frame. */
#define PCAP_BUFFER_LEN (256 * 1024)
/* The least limit that makes sense: any frame fits into a file of its own. */
#define PCAP_LIMIT_MIN (128 * 1024)

struct pcap_link {
	struct link link;
	struct link *inner;
	struct counters *counters;
	const char *path;
	const int64_t *now_ns;
	int64_t wall_offset_ns; /* from *now_ns to the time of day */
	int fds[2];             /* the file that is written, and the next; -1: none */
	uint64_t limit;         /* of each; 0: none */
	uint64_t size;          /* of the first, with what is still in `buf`: whole records */
	size_t used;
	uint8_t buf[PCAP_BUFFER_LEN];
};

/* Opens the files, which are emptied, mode 0600 when new; only regular files that no other relay
 * captures to. `path` is not copied; `limit` is 0 or from PCAP_LIMIT_MIN on. 0 or a negative errno,
 * logged. */
int pcap_link_open(struct pcap_link *pcap, const char *path, uint64_t limit);

/* Puts an open one around `inner`, which is complete already and which it closes. Returns the link
 * to be used from now on. `wall_offset_ns` is clock_wall_offset_ns(). */
struct link *pcap_link_wrap(struct pcap_link *pcap, struct link *inner, const int64_t *now_ns,
	int64_t wall_offset_ns, struct counters *counters);

/* Writes what is in the buffer; a zeroed pcap_link has nothing there. */
void pcap_link_flush(struct pcap_link *pcap);
