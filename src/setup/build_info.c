/* SPDX-License-Identifier: Apache-2.0 */
#include "setup/build_info.h"

#include <libslirp.h>
#include <seccomp.h>

#include "config.h"
#include "setup/commit.h"

void build_info_print(FILE *out)
{
	const struct scmp_version *seccomp = seccomp_version();

	fprintf(out, "commit: %s\n", NETNS_HELPER_COMMIT);
	fprintf(out, "libslirp: %s\n", slirp_version_string());
	fprintf(out, "SLIRP_CONFIG_VERSION_MAX: %d\n", SLIRP_CONFIG_VERSION_MAX);
	if (seccomp)
		fprintf(out, "libseccomp: %u.%u.%u\n", seccomp->major, seccomp->minor,
			seccomp->micro);
	fprintf(out, "netns-helper: %s\n", NETNS_HELPER_VERSION);
}

void build_info_print_features(FILE *out)
{
	const struct scmp_version *seccomp = seccomp_version();

	fprintf(out, "libslirp: yes (%s, SLIRP_CONFIG_VERSION_MAX %d)\n", slirp_version_string(),
		SLIRP_CONFIG_VERSION_MAX);
	if (seccomp)
		fprintf(out, "libseccomp: yes (%u.%u.%u)\n", seccomp->major, seccomp->minor,
			seccomp->micro);
	if (NETNS_HELPER_SANITIZED)
		fputs("sanitizer: yes (more system calls are allowed than in a normal build)\n",
			out);
	else
		fputs("sanitizer: no (a normal build)\n", out);
}
