/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A forward backend that binds nothing: it answers what the test says and remembers what it was
 * asked.
 */
#pragma once

#include <unistd.h>

#include "base/util.h"
#include "forward/forward.h"

struct fake_backend {
	struct forward_backend base;
	int bind_answer;
	uint16_t bind_port;     /* only rules with this first port have that answer; 0: all */
	const char *bind_field; /* that a failure names; NULL: as it is */
	struct forward_status status;
	unsigned int n_bind;
	unsigned int n_unbind;
	bool closed_connections;  /* the last unbind() */
	struct forward_spec last; /* of either; what it points to may be gone */
};

static inline int fake_bind(struct forward_backend *base, struct forward_rule *rule,
	struct forward_failure *ret_failure)
{
	struct fake_backend *fake = container_of(base, struct fake_backend, base);

	fake->n_bind++;
	fake->last = rule->spec;
	if (fake->bind_answer < 0 &&
		(!fake->bind_port || fake->bind_port == rule->spec.host_port)) {
		if (fake->bind_field)
			ret_failure->field = fake->bind_field;
		return fake->bind_answer;
	}
	if (rule->spec.host_fd >= 0)
		close(rule->spec.host_fd);
	rule->spec.host_fd = -1;
	return 0;
}

static inline void fake_unbind(
	struct forward_backend *base, const struct forward_rule *rule, bool close_connections)
{
	struct fake_backend *fake = container_of(base, struct fake_backend, base);

	fake->n_unbind++;
	fake->closed_connections = close_connections;
	fake->last = rule->spec;
}

static inline void fake_status(
	struct forward_backend *base, const struct forward_rule *rule, struct forward_status *ret)
{
	*ret = container_of(base, struct fake_backend, base)->status;
}

static inline const char *fake_describe(struct forward_backend *base)
{
	return "fake";
}

static const struct forward_backend_ops fake_backend_ops = {
	.bind = fake_bind, .unbind = fake_unbind, .status = fake_status, .describe = fake_describe};
