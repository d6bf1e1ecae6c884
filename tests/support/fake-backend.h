/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A forward backend that binds nothing: it answers what the test says and remembers what it was
 * asked.
 */
#pragma once

#include "base/util.h"
#include "forward/forward.h"

struct fake_backend {
	struct forward_backend base;
	int bind_answer;
	int unbind_answer;
	unsigned int n_bind;
	unsigned int n_unbind;
	struct forward_rule last; /* of either */
};

static inline int fake_bind(struct forward_backend *base, const struct forward_rule *rule)
{
	struct fake_backend *fake = container_of(base, struct fake_backend, base);

	fake->n_bind++;
	fake->last = *rule;
	return fake->bind_answer;
}

static inline int fake_unbind(struct forward_backend *base, const struct forward_rule *rule)
{
	struct fake_backend *fake = container_of(base, struct fake_backend, base);

	fake->n_unbind++;
	fake->last = *rule;
	return fake->unbind_answer;
}

static inline const char *fake_describe(struct forward_backend *base)
{
	return "fake";
}

static const struct forward_backend_ops fake_backend_ops = {
	.bind = fake_bind, .unbind = fake_unbind, .describe = fake_describe};
