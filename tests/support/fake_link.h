/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A link without a device: frames that the test queues are received, frames that are sent are kept
 * for the test to look at.
 */
#pragma once

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "base/util.h"
#include "link/link.h"

struct fake_link {
	struct link link;
	GQueue incoming; /* of GByteArray, without virtio-net header */
	GQueue sent;     /* of GByteArray, with it */
	bool is_down;
};

static ssize_t fake_link_recv(struct link *link, uint8_t *buf)
{
	struct fake_link *fake = container_of(link, struct fake_link, link);
	GByteArray *frame = g_queue_pop_head(&fake->incoming);
	ssize_t len;

	if (!frame)
		return -EAGAIN;
	memset(buf, 0, LINK_HEADER_LEN);
	memcpy(buf + LINK_HEADER_LEN, frame->data, frame->len);
	len = frame->len;
	g_byte_array_unref(frame);
	return len;
}

static int fake_link_send(struct link *link, const struct iovec *iov, int n_iov)
{
	struct fake_link *fake = container_of(link, struct fake_link, link);
	GByteArray *frame;

	if (fake->is_down)
		return -EIO;
	frame = g_byte_array_new();
	for (int i = 0; i < n_iov; i++)
		g_byte_array_append(frame, iov[i].iov_base, (guint)iov[i].iov_len);
	g_queue_push_tail(&fake->sent, frame);
	return 0;
}

static void fake_link_close(struct link *link)
{
	struct fake_link *fake = container_of(link, struct fake_link, link);
	GByteArray *frame;

	while ((frame = g_queue_pop_head(&fake->incoming)))
		g_byte_array_unref(frame);
	while ((frame = g_queue_pop_head(&fake->sent)))
		g_byte_array_unref(frame);
}

static const struct link_ops fake_link_ops = {
	.recv = fake_link_recv,
	.send = fake_link_send,
	.close = fake_link_close,
};

static inline void fake_link_init(struct fake_link *fake)
{
	*fake = (struct fake_link){.link = {.ops = &fake_link_ops, .fd = -1}};
	g_queue_init(&fake->incoming);
	g_queue_init(&fake->sent);
}

/* The next frame that was sent, without its header, which must be zero; NULL: none. */
static inline GByteArray *fake_link_take(struct fake_link *fake)
{
	static const uint8_t no_offload[LINK_HEADER_LEN];
	GByteArray *frame = g_queue_pop_head(&fake->sent);

	if (!frame)
		return NULL;
	g_assert_cmpuint(frame->len, >=, LINK_HEADER_LEN);
	g_assert_cmpmem(frame->data, LINK_HEADER_LEN, no_offload, LINK_HEADER_LEN);
	return g_byte_array_remove_range(frame, 0, LINK_HEADER_LEN);
}
