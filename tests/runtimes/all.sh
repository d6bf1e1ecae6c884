#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Run every recipe with HELPER and print one line for each.
# Usage: [HELPER=...] all.sh [recipe...]
set -u
cd "$(dirname "$0")" || exit 1
[ $# -gt 0 ] || set -- rootlesskit podman docker manual services
log=$(mktemp) bad=0
trap 'rm -f "$log"' EXIT
for s; do
	"./$s.sh" >"$log" 2>&1 </dev/null; rc=$?
	case $rc in 0|77) ;; *) bad=1; cat "$log";; esac
	tail -n 1 "$log"
done
exit $bad
