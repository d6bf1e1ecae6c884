/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The system calls of the relay and of the agent: one table, one reason each.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* In which process a call is allowed. RULE_SANITIZER rows hold in sanitizer builds, in both;
 * RULE_CAPTURE rows in a relay that writes a capture, RULE_UNIX rows in an agent that may be asked
 * for unix sockets. */
enum rule_process {
	RULE_RELAY = 1 << 0,
	RULE_AGENT = 1 << 1,
	RULE_SANITIZER = 1 << 2,
	RULE_CAPTURE = 1 << 3,
	RULE_UNIX = 1 << 4,
};

/* As a value: the process's own id, known only when the list is loaded. */
#define RULE_OWN_PID UINT32_MAX
/* Likewise: the address of sandbox_resolv_conf[]. */
#define RULE_RESOLV_CONF (UINT64_MAX - 1)

struct rule_argument {
	uint8_t index;  /* which argument, 0..5 */
	uint64_t mask;  /* bits that are compared; 0: this condition is not used */
	uint64_t value; /* what they must be */
};

/* Several rows of one call: any of them allows it. Names that an architecture does not have are
 * skipped there. A row with an error answers with that instead, and is not counted: what libc tries
 * and can do without. */
struct sandbox_rule {
	const char *syscall;
	uint8_t processes; /* of enum rule_process */
	struct rule_argument when[2];
	const char *reason;
	int error; /* a positive errno; 0: allowed */
};

extern const struct sandbox_rule sandbox_allowed[];
extern const size_t n_sandbox_allowed;

/* Calls that end the process at once: nothing harmless makes them. Everything in neither list is
 * trapped, counted and answered with ENOSYS. */
extern const char *const sandbox_fatal[];
extern const size_t n_sandbox_fatal;
