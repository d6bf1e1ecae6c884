/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/outbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

int outbox_init(struct outbox *outbox)
{
	*outbox = (struct outbox){.data = malloc(OUTBOX_BYTES)};
	return outbox->data ? 0 : -ENOMEM;
}

void outbox_done(struct outbox *outbox)
{
	free(outbox->data);
	outbox->data = NULL;
}

void outbox_clear(struct outbox *outbox)
{
	outbox->n = 0;
	outbox->n_bytes = 0;
	outbox->is_open = false;
}

static size_t size_of(const struct host_datagram *message)
{
	return message->segment ? message->segment : message->len;
}

/* Only the last datagram of a run may be shorter than the others. */
static bool can_grow(const struct host_datagram *message)
{
	return message->len && message->len % size_of(message) == 0;
}

static bool same_way(const struct host_datagram *a, const struct host_datagram *b)
{
	return a->port == b->port && a->ttl == b->ttl && a->tos == b->tos &&
		a->dont_fragment == b->dont_fragment && a->scope == b->scope &&
		ip_addr_equal(&a->addr, &b->addr) && ip_addr_equal(&a->local, &b->local);
}

/* Whether it goes on where the last message, which may grow, ends. */
static bool joins(
	const struct outbox *outbox, const void *sender, const struct host_datagram *datagram)
{
	unsigned int last = outbox->n - 1;
	const struct host_datagram *message = &outbox->messages[last];
	size_t size = size_of(message);

	if (outbox->senders[last] != sender || !same_way(message, datagram))
		return false;
	if (datagram->segment ? datagram->segment != size : !datagram->len || datagram->len > size)
		return false;
	return message->len + datagram->len <= HOST_RUN_BYTES_MAX &&
		outbox->n_datagrams[last] + host_n_datagrams(datagram) <= HOST_RUN_MAX;
}

bool outbox_add(struct outbox *outbox, void *sender, const struct host_datagram *datagram)
{
	uint8_t *data = outbox->data + outbox->n_bytes;
	struct host_datagram *message;

	if (outbox->n_bytes + datagram->len > OUTBOX_BYTES)
		return false;
	if (outbox->is_open && joins(outbox, sender, datagram)) {
		message = &outbox->messages[outbox->n - 1];
		message->segment = (uint16_t)size_of(message);
		message->len += datagram->len;
		outbox->n_datagrams[outbox->n - 1] += host_n_datagrams(datagram);
	} else {
		if (outbox->n == OUTBOX_MESSAGES)
			return false;
		message = &outbox->messages[outbox->n];
		*message = *datagram;
		message->data = data;
		outbox->senders[outbox->n] = sender;
		outbox->n_datagrams[outbox->n] = host_n_datagrams(datagram);
		outbox->n++;
	}
	memcpy(data, datagram->data, datagram->len);
	outbox->n_bytes += (uint32_t)datagram->len;
	outbox->is_open = can_grow(message);
	return true;
}

bool outbox_cut(struct host_datagram *run, uint16_t segment, struct host_datagram *ret)
{
	size_t max = run->len;

	if (segment) {
		max = MIN(HOST_RUN_MAX, HOST_RUN_BYTES_MAX / segment);
		max = MAX(max, 1) * segment;
	}
	*ret = *run;
	ret->len = MIN(run->len, max);
	ret->segment = ret->len > segment ? segment : 0;
	run->data += ret->len;
	run->len -= ret->len;
	return run->len;
}

/* ---- sending ---- */

unsigned int outbox_take(struct outbox *outbox, void **ret_sender,
	struct host_datagram ret_messages[OUTBOX_MESSAGES])
{
	unsigned int n = 0;
	void *sender = NULL;

	for (unsigned int i = 0; i < outbox->n; i++) {
		if (!sender)
			sender = outbox->senders[i];
		if (!sender || outbox->senders[i] != sender)
			continue;
		ret_messages[n++] = outbox->messages[i];
		outbox->senders[i] = NULL;
	}
	if (!n)
		outbox_clear(outbox);
	*ret_sender = sender;
	return n;
}

/* Runs are as many as they hold. */
static void count_all(struct counters *counters, enum counter which,
	const struct host_datagram *messages, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		counters->value[which] += host_n_datagrams(&messages[i]);
}

void outbox_send(struct host *host, struct host_dgram *dgram, struct counters *counters,
	struct host_datagram *messages, unsigned int n, outbox_retry_fn *retry, void *sender)
{
	unsigned int attempts = 0;

	for (unsigned int i = 0; i < n;) {
		int r = host->ops->dgram_send(host, dgram, messages + i, (int)(n - i));

		if (r > 0) {
			i += (unsigned int)r;
			attempts = 0;
		} else if (r == -EAGAIN || r == 0) {
			count_all(counters, COUNTER_UDP_SEND_FULL, messages + i, n - i);
			break;
		} else if (attempts++ >= OUTBOX_ATTEMPTS_MAX || !retry(sender, &messages[i], -r)) {
			count_all(counters, COUNTER_UDP_NOT_SENT, messages + i, 1);
			attempts = 0;
			i++;
		}
	}
	/* Datagrams of runs of which others were sent. */
	counters->value[COUNTER_UDP_SEND_FULL] += dgram->n_dropped;
	dgram->n_dropped = 0;
}
