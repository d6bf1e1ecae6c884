/* SPDX-License-Identifier: Apache-2.0 */
#include "link/pcap.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"

/* Readers tell the byte order, ours, from the magic number. */
#define MAGIC_NANOSECONDS 0xa1b23c4d
#define LINKTYPE_ETHERNET 1
/* The largest that readers take without asking. */
#define SNAPLEN 262144

struct file_header {
	uint32_t magic;
	uint16_t major, minor;
	uint32_t zone, accuracy; /* always 0 */
	uint32_t snaplen;
	uint32_t linktype;
};

struct record_header {
	uint32_t seconds, nanoseconds;
	uint32_t captured_len, original_len;
};

static const struct file_header file_header = {
	.magic = MAGIC_NANOSECONDS,
	.major = 2,
	.minor = 4,
	.snaplen = SNAPLEN,
	.linktype = LINKTYPE_ETHERNET,
};

_Static_assert(LINK_FRAME_MAX <= SNAPLEN, "no frame is cut");
_Static_assert(sizeof(struct record_header) + LINK_FRAME_MAX <= PCAP_BUFFER_LEN, "it is held");
_Static_assert(
	sizeof(file_header) + sizeof(struct record_header) + LINK_FRAME_MAX <= PCAP_LIMIT_MIN,
	"a file has room for any frame");

static struct pcap_link *pcap_of(struct link *link)
{
	return container_of(link, struct pcap_link, link);
}

/* Empty but for the header, which makes it a capture without frames. */
static int begin_file(int fd)
{
	ssize_t n;

	if (ftruncate(fd, 0) < 0)
		return -errno;
	n = write(fd, &file_header, sizeof(file_header));
	if (n < 0)
		return -errno;
	return n < (ssize_t)sizeof(file_header) ? -ENOSPC : 0;
}

/* How much of the first `len` bytes of the buffer is whole records. */
static size_t whole_records(const struct pcap_link *pcap, size_t len, uint64_t *ret_n_rest)
{
	size_t at = 0, whole = 0;

	for (*ret_n_rest = 0; at < pcap->used;) {
		struct record_header record;

		memcpy(&record, pcap->buf + at, sizeof(record));
		at += sizeof(record) + record.captured_len;
		if (at <= len)
			whole = at;
		else
			++*ret_n_rest;
	}
	return whole;
}

/* After an error, with `written` bytes of the buffer in the file: what is there stays readable. */
static void give_up(struct pcap_link *pcap, int error, size_t written)
{
	uint64_t n_lost;
	uint64_t size = pcap->size - pcap->used + whole_records(pcap, written, &n_lost);

	log_errno(LOG_LEVEL_WARNING, error, "--pcap=%s: the capture ends here", pcap->path);
	pcap->counters->value[COUNTER_PCAP_DROPPED] += n_lost;
	if (ftruncate(pcap->fds[0], (off_t)size) < 0)
		log_errno(LOG_LEVEL_WARNING, -errno, "--pcap=%s: its last frame is cut short",
			pcap->path);
	pcap->used = 0;
	fd_close(&pcap->fds[0]);
	fd_close(&pcap->fds[1]);
}

void pcap_link_flush(struct pcap_link *pcap)
{
	size_t done = 0;

	while (done < pcap->used) {
		ssize_t n = write(pcap->fds[0], pcap->buf + done, pcap->used - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			give_up(pcap, n < 0 ? -errno : -EIO, done);
			return;
		}
		done += (size_t)n;
	}
	pcap->used = 0;
}

/* Nothing of the file before is in the buffer any more. */
static void next_file(struct pcap_link *pcap)
{
	int full = pcap->fds[0], r;

	pcap->fds[0] = pcap->fds[1];
	pcap->fds[1] = full;
	pcap->size = sizeof(file_header);
	r = begin_file(pcap->fds[0]);
	if (r < 0) {
		pcap->size = 0;
		give_up(pcap, r, 0);
	}
}

/* False: the capture has ended, or ends here. */
static bool make_room(struct pcap_link *pcap, size_t record_len)
{
	bool is_full = pcap->limit && pcap->size + record_len > pcap->limit;

	if (pcap->fds[0] < 0 || record_len > PCAP_BUFFER_LEN)
		return false;
	if (is_full || pcap->used + record_len > PCAP_BUFFER_LEN)
		pcap_link_flush(pcap);
	if (is_full && pcap->fds[0] >= 0)
		next_file(pcap);
	return pcap->fds[0] >= 0;
}

static void put(struct pcap_link *pcap, const void *data, size_t len)
{
	memcpy(pcap->buf + pcap->used, data, len);
	pcap->used += len;
}

/* The first LINK_HEADER_LEN bytes of iov[0] are the frame's virtio-net header. */
static void capture(struct pcap_link *pcap, const struct iovec *iov, int n_iov)
{
	int64_t time_ns = *pcap->now_ns + pcap->wall_offset_ns;
	size_t len = iov_len(iov, n_iov) - LINK_HEADER_LEN;
	struct record_header record;

	if (!make_room(pcap, sizeof(record) + len)) {
		count(pcap->counters, COUNTER_PCAP_DROPPED);
		return;
	}
	record = (struct record_header){
		.seconds = (uint32_t)(time_ns / NS_PER_SEC),
		.nanoseconds = (uint32_t)(time_ns % NS_PER_SEC),
		.captured_len = (uint32_t)len,
		.original_len = (uint32_t)len,
	};
	put(pcap, &record, sizeof(record));
	put(pcap, (uint8_t *)iov[0].iov_base + LINK_HEADER_LEN, iov[0].iov_len - LINK_HEADER_LEN);
	for (int i = 1; i < n_iov; i++)
		put(pcap, iov[i].iov_base, iov[i].iov_len);
	pcap->size += sizeof(record) + len;
}

static ssize_t pcap_recv(struct link *link, uint8_t *buf)
{
	struct pcap_link *pcap = pcap_of(link);
	ssize_t n = pcap->inner->ops->recv(pcap->inner, buf);

	if (n >= 0) {
		const struct iovec iov = {buf, LINK_HEADER_LEN + (size_t)n};

		capture(pcap, &iov, 1);
	}
	return n;
}

static int pcap_send(struct link *link, const struct iovec *iov, int n_iov)
{
	struct pcap_link *pcap = pcap_of(link);
	int r = pcap->inner->ops->send(pcap->inner, iov, n_iov);

	if (r == 0)
		capture(pcap, iov, n_iov);
	return r;
}

static void pcap_close(struct link *link)
{
	struct pcap_link *pcap = pcap_of(link);

	pcap->inner->ops->close(pcap->inner);
	link->fd = -1;
	pcap_link_flush(pcap);
	fd_close(&pcap->fds[0]);
	fd_close(&pcap->fds[1]);
}

static const struct link_ops pcap_ops = {
	.recv = pcap_recv,
	.send = pcap_send,
	.close = pcap_close,
};

static int refuse(const char *path, const char *why)
{
	log_error("--pcap=%s: %s", path, why);
	return -EINVAL;
}

/* A FIFO or a device could block, so only regular files. No link is followed: whoever may write in
 * the folder could lead to a file that nobody meant to be emptied. ENXIO is a FIFO's, a socket's.
 */
static int open_file(const char *path, int *ret_fd)
{
	cleanup_fd int fd = open(path,
		O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
		S_IRUSR | S_IWUSR);
	struct stat stat;
	int r;

	if (fd < 0 && errno == ELOOP)
		return refuse(path, "is a symbolic link");
	if (fd < 0 && errno == ENXIO)
		return refuse(path, "not a regular file");
	if (fd < 0 || fstat(fd, &stat) < 0)
		return log_errno(LOG_LEVEL_ERROR, -errno, "--pcap=%s", path);
	if (!S_ISREG(stat.st_mode))
		return refuse(path, "not a regular file");
	/* Some file systems have no locks. */
	if (flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
		return refuse(path, "another capture is being written there");
	r = begin_file(fd);
	if (r < 0)
		return log_errno(LOG_LEVEL_ERROR, r, "--pcap=%s", path);
	*ret_fd = fd_take(&fd);
	return 0;
}

int pcap_link_open(struct pcap_link *pcap, const char *path, uint64_t limit)
{
	cleanup_fd int first = -1;
	char second_path[PATH_MAX];
	int r;

	pcap->path = path;
	pcap->limit = limit;
	pcap->size = sizeof(file_header);
	pcap->used = 0;
	pcap->fds[0] = pcap->fds[1] = -1;
	r = open_file(path, &first);
	if (r < 0)
		return r;
	if (limit) {
		if (snprintf(second_path, sizeof(second_path), "%s.1", path) >= PATH_MAX)
			return log_errno(LOG_LEVEL_ERROR, -ENAMETOOLONG, "--pcap");
		r = open_file(second_path, &pcap->fds[1]);
		if (r < 0)
			return r;
	}
	pcap->fds[0] = fd_take(&first);
	return 0;
}

struct link *pcap_link_wrap(struct pcap_link *pcap, struct link *inner, const int64_t *now_ns,
	int64_t wall_offset_ns, struct counters *counters)
{
	pcap->link = *inner;
	pcap->link.ops = &pcap_ops;
	/* Of larger frames readers know neither the length nor what the headers mean. */
	pcap->link.offloads &= ~(uint32_t)LINK_BIG_TCP;
	pcap->inner = inner;
	pcap->now_ns = now_ns;
	pcap->wall_offset_ns = wall_offset_ns;
	pcap->counters = counters;
	return &pcap->link;
}
