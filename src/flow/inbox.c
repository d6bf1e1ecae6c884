/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/inbox.h"

#include <errno.h>
#include <sys/mman.h>

#include "base/util.h"

/* Of the room for one datagram. The step is no power of two: their beginnings would all be in the
 * same few lines of the processor's cache. */
#define ROOM   65536
#define STRIDE (ROOM + 25 * 64)
#define BYTES  ((size_t)HOST_BATCH_MAX * STRIDE)
/* So long nothing came in before the memory goes back. */
#define TRIM_NS (1 * NS_PER_SEC)

static void on_trim(struct timer *timer, int64_t now_ns)
{
	struct inbox *inbox = container_of(timer, struct inbox, trim_timer);

	if (inbox->was_used) {
		inbox->was_used = false;
		timer_arm(&inbox->loop->timers, timer, now_ns + TRIM_NS);
	} else {
		madvise(inbox->rooms, BYTES, MADV_DONTNEED);
	}
}

int inbox_init(struct inbox *inbox, struct loop *loop)
{
	*inbox = (struct inbox){.loop = loop, .trim_timer.fire = on_trim};
	inbox->rooms = mmap(NULL, BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (inbox->rooms == MAP_FAILED)
		return -errno;
	for (unsigned int i = 0; i < HOST_BATCH_MAX; i++)
		inbox->in[i].data = inbox->rooms + i * STRIDE;
	return 0;
}

void inbox_done(struct inbox *inbox)
{
	timer_cancel(&inbox->loop->timers, &inbox->trim_timer);
	munmap(inbox->rooms, BYTES);
}

struct host_datagram *inbox_rooms(struct inbox *inbox, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		inbox->in[i].len = ROOM;
	inbox->was_used = true;
	if (!timer_is_armed(&inbox->trim_timer))
		timer_arm(&inbox->loop->timers, &inbox->trim_timer, inbox->loop->now_ns + TRIM_NS);
	return inbox->in;
}

unsigned int inbox_batch(unsigned int asked, unsigned int n)
{
	if (n == asked)
		asked = MIN(asked * 2, HOST_BATCH_MAX);
	else if (n < asked / 4)
		asked /= 2;
	return MAX(asked, INBOX_BATCH_MIN);
}

/* ---- runs ---- */

static bool same_peer(const struct host_datagram *a, const struct host_datagram *b)
{
	return a->port == b->port && a->ttl == b->ttl && a->tos == b->tos && a->scope == b->scope &&
		ip_addr_equal(&a->addr, &b->addr) && ip_addr_equal(&a->local, &b->local);
}

/* Only the last may be shorter. */
static bool takes(const struct run *run, const struct host_datagram *datagram, size_t len)
{
	size_t size = run->iov[0].iov_len;

	return (run->first == datagram || same_peer(run->first, datagram)) &&
		run->n < EGRESS_PIECES_MAX && len && len <= size &&
		run->iov[run->n - 1].iov_len == size;
}

void run_end(struct run *run, run_deliver_fn *deliver, void *owner)
{
	if (run->first)
		deliver(owner, run);
	run_begin(run);
}

static void add(struct run *run, const struct host_datagram *datagram, size_t at, size_t len,
	run_deliver_fn *deliver, void *owner)
{
	if (run->first && !takes(run, datagram, len))
		run_end(run, deliver, owner);
	if (!run->first)
		run->first = datagram;
	run->iov[run->n++] = (struct iovec){.iov_base = datagram->data + at, .iov_len = len};
}

void run_add(
	struct run *run, const struct host_datagram *datagram, run_deliver_fn *deliver, void *owner)
{
	size_t size = datagram->segment ? datagram->segment : datagram->len;

	size_t at = 0;

	do {
		add(run, datagram, at, MIN(size, datagram->len - at), deliver, owner);
		at += size;
	} while (at < datagram->len);
}
