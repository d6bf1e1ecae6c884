/* SPDX-License-Identifier: Apache-2.0 */
#include "udpflow/outbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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
		a->dont_fragment == b->dont_fragment && ip_addr_equal(&a->addr, &b->addr);
}

/* Whether it goes on where the last message, which may grow, ends. */
static bool joins(const struct outbox *outbox, const struct udp_flow *flow,
	const struct host_datagram *datagram)
{
	unsigned int last = outbox->n - 1;
	const struct host_datagram *message = &outbox->messages[last];
	size_t size = size_of(message);

	if (outbox->flows[last] != flow || !same_way(message, datagram))
		return false;
	if (datagram->segment ? datagram->segment != size : !datagram->len || datagram->len > size)
		return false;
	return message->len + datagram->len <= HOST_RUN_BYTES_MAX &&
		outbox->n_datagrams[last] + host_n_datagrams(datagram) <= HOST_RUN_MAX;
}

bool outbox_add(struct outbox *outbox, struct udp_flow *flow, const struct host_datagram *datagram)
{
	uint8_t *data = outbox->data + outbox->n_bytes;
	struct host_datagram *message;

	if (outbox->n_bytes + datagram->len > OUTBOX_BYTES)
		return false;
	if (outbox->is_open && joins(outbox, flow, datagram)) {
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
		outbox->flows[outbox->n] = flow;
		outbox->n_datagrams[outbox->n] = host_n_datagrams(datagram);
		outbox->n++;
	}
	memcpy(data, datagram->data, datagram->len);
	outbox->n_bytes += (uint32_t)datagram->len;
	outbox->is_open = can_grow(message);
	return true;
}
