/* SPDX-License-Identifier: Apache-2.0 */
#include "rules.h"

#include <errno.h>
#include <stdlib.h>

#include "base/log.h"

static int parse(const struct options *options, const char *text, forward_fd_fn *find_fd,
	void *find_fd_arg, struct forward_spec *ret)
{
	const char *wrong = NULL;
	int r;

	*ret = (struct forward_spec){.host_fd = -1};
	if (options->forward_path && !forward_path_parse(options->forward_path, &ret->path))
		return -EINVAL;
	r = forward_spec_parse(text, find_fd, find_fd_arg, ret, &wrong);
	if (r < 0) {
		log_error("--publish=%s: %s", text, wrong);
		return r;
	}
	ret->lazy = options->lazy_listen && forward_spec_can_be_lazy(ret);
	ret->at_start = true;
	return 0;
}

static int parse_all(const struct options *options, forward_fd_fn *find_fd, void *find_fd_arg,
	struct forward_spec *specs)
{
	for (size_t i = 0; i < options->n_publish; i++) {
		int r = parse(options, options->publish[i], find_fd, find_fd_arg, &specs[i]);

		if (r == 0)
			continue;
		while (i > 0)
			forward_spec_done(&specs[--i]);
		return r;
	}
	return 0;
}

int rules_add(struct forward *forward, const struct options *options, forward_fd_fn *find_fd,
	void *find_fd_arg)
{
	struct forward_spec *specs;
	struct forward_failure failure;
	uint64_t id;
	int r;

	if (options->n_publish == 0)
		return 0;
	specs = calloc(options->n_publish, sizeof(*specs));
	if (!specs)
		return log_errno(LOG_LEVEL_ERROR, -ENOMEM, "--publish");
	r = parse_all(options, find_fd, find_fd_arg, specs);
	if (r == 0)
		r = forward_add(forward, specs, options->n_publish, LOG_LEVEL_ERROR, &id, &failure);
	free(specs);
	return r;
}
