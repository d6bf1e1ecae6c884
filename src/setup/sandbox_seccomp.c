/* SPDX-License-Identifier: Apache-2.0 */
#include <config.h>
#include <errno.h>
#include <malloc.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/util.h"
#include "setup/sandbox_layers.h"
#include "setup/sandbox_rules.h"

/* siginfo_t's si_code; glibc's <signal.h> does not have it. */
#ifndef SYS_SECCOMP
#define SYS_SECCOMP 1
#endif

/* Written by the handler alone, in the one thread that reads it. */
static volatile uint64_t n_refused;
static volatile int last_refused = -1;

/* Where the kernel expects a system call's result on return from the handler. */
#if defined(__x86_64__)
#define RESULT_OF(context) ((context)->uc_mcontext.gregs[REG_RAX])
#elif defined(__i386__)
#define RESULT_OF(context) ((context)->uc_mcontext.gregs[REG_EAX])
#elif defined(__aarch64__)
#define RESULT_OF(context) ((context)->uc_mcontext.regs[0])
#elif defined(__arm__)
#define RESULT_OF(context) ((context)->uc_mcontext.arm_r0)
#elif defined(__riscv)
#define RESULT_OF(context) ((context)->uc_mcontext.__gregs[REG_A0])
#elif defined(__s390x__)
#define RESULT_OF(context) ((context)->uc_mcontext.gregs[2])
#endif

#ifdef RESULT_OF
#define REFUSAL SCMP_ACT_TRAP
#else
/* Elsewhere they are refused uncounted. */
#define REFUSAL SCMP_ACT_ERRNO(ENOSYS)
#endif

static void handle_refused(int signal, siginfo_t *info, void *context)
{
#ifdef RESULT_OF
	ucontext_t *at = context;

	if (info->si_code != SYS_SECCOMP)
		return;
	n_refused++;
	last_refused = info->si_syscall;
	RESULT_OF(at) = (__typeof__(RESULT_OF(at)))-ENOSYS;
#endif
}

uint64_t sandbox_refused_calls(int *ret_last)
{
	*ret_last = last_refused;
	return n_refused;
}

const char *sandbox_syscall_name(int number, char *buf, size_t buf_len)
{
	char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, number);

	snprintf(buf, buf_len, "%s", name ? name : "?");
	free(name);
	return buf;
}

/* A signal that is blocked when the kernel forces it kills. */
static int install_handler(void)
{
	struct sigaction action = {.sa_sigaction = handle_refused, .sa_flags = SA_SIGINFO};
	sigset_t set;

	sigemptyset(&action.sa_mask);
	sigemptyset(&set);
	sigaddset(&set, SIGSYS);
	if (sigaction(SIGSYS, &action, NULL) < 0 || sigprocmask(SIG_UNBLOCK, &set, NULL) < 0)
		return -errno;
	return 0;
}

/* A name that other architectures have, or that is part of socketcall(2) on this one. */
static bool is_foreign(int number, int result)
{
	return number < 0 && (result == -EDOM || result == -EINVAL);
}

static uint64_t value_of(const struct rule_argument *when)
{
	if (when->value == RULE_OWN_PID)
		return (uint64_t)getpid();
	if (when->value == RULE_RESOLV_CONF)
		return (uintptr_t)sandbox_resolv_conf;
	return when->value;
}

static int add_allowed(scmp_filter_ctx filter, const struct sandbox_rule *rule)
{
	int number = seccomp_syscall_resolve_name(rule->syscall);
	struct scmp_arg_cmp compare[ARRAY_SIZE(rule->when)];
	unsigned int n = 0;
	int r;

	if (number == __NR_SCMP_ERROR)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(rule->when); i++) {
		const struct rule_argument *when = &rule->when[i];

		if (when->mask)
			compare[n++] = SCMP_CMP(
				when->index, SCMP_CMP_MASKED_EQ, when->mask, value_of(when));
	}
	r = seccomp_rule_add_array(filter,
		rule->error ? SCMP_ACT_ERRNO((uint32_t)rule->error) : SCMP_ACT_ALLOW, number, n,
		compare);
	return is_foreign(number, r) ? 0 : r;
}

static int add_allowed_rows(scmp_filter_ctx filter, unsigned int process)
{
	for (size_t i = 0; i < n_sandbox_allowed; i++) {
		int r;

		if (!(sandbox_allowed[i].processes & process))
			continue;
		r = add_allowed(filter, &sandbox_allowed[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

static bool sanitizer_needs(const char *syscall)
{
	for (size_t i = 0; NETNS_HELPER_SANITIZED && i < n_sandbox_allowed; i++)
		if (sandbox_allowed[i].processes & RULE_SANITIZER &&
			strcmp(sandbox_allowed[i].syscall, syscall) == 0)
			return true;
	return false;
}

static int add_fatal_rows(scmp_filter_ctx filter)
{
	for (size_t i = 0; i < n_sandbox_fatal; i++) {
		int number = seccomp_syscall_resolve_name(sandbox_fatal[i]);
		int r;

		if (number == __NR_SCMP_ERROR || sanitizer_needs(sandbox_fatal[i]))
			continue;
		r = seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, number, 0);
		if (r < 0 && !is_foreign(number, r))
			return r;
	}
	return 0;
}

static int fill_filter(scmp_filter_ctx filter, unsigned int process)
{
	int r;

	r = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
#if SCMP_VER_MAJOR > 2 || SCMP_VER_MINOR >= 5
	/* A tree instead of a chain of comparisons. */
	if (!r)
		r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
#endif
	if (!r)
		r = add_allowed_rows(
			filter, NETNS_HELPER_SANITIZED ? process | RULE_SANITIZER : process);
	return r ? r : add_fatal_rows(filter);
}

int sandbox_seccomp_enter(unsigned int process, const char **ret_step)
{
	scmp_filter_ctx filter;
	int r;

	*ret_step = "install its handler";
	r = install_handler();
	if (r < 0)
		return r;
	*ret_step = "build the list of system calls";
	filter = seccomp_init(REFUSAL);
	if (!filter)
		return -ENOMEM;
	r = fill_filter(filter, process);
	if (!r) {
		*ret_step = "load the list of system calls";
		r = seccomp_load(filter);
	}
	seccomp_release(filter);
	malloc_trim(0); /* what libseccomp used was most of the heap until now */
	return r;
}
