/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arguments of requests: JSON values in, what the forward rules want out, or which one is wrong
 * and why. They are checked in slirp4netns's order.
 */
#pragma once

#include <jansson.h>

#include "api/request.h"

/* What is wrong. What is zero, or NULL, does not apply. */
struct api_fault {
	const char *field; /* the argument's name */
	size_t index;      /* of the rule in a set */
	uint16_t port;
	int error;       /* positive errno */
	const char *why; /* for people, nothing that JSON would escape */
};

/* A rule to be added. True: `ret` is complete, and the caller's. It takes the descriptor that it
 * names out of the request's. */
bool api_take_spec(const struct api_context *context, const struct api_request *request,
	const json_t *arguments, struct forward_spec *ret, struct api_fault *ret_fault);
/* "proto", "host_addr" and "host_port" of a rule that there is. True: `ret` is the caller's. */
bool api_take_host_side(
	const json_t *arguments, struct forward_spec *ret, struct api_fault *ret_fault);
/* true or false; missing and null leave *ret as it is. */
bool api_take_flag(const json_t *object, const char *name, bool *ret, struct api_fault *ret_fault);
