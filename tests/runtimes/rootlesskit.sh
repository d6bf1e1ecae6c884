#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# RootlessKit 1.1 with --net=slirp4netns, once for each of its port drivers, and
# once with all of its other options that reach the helper.
# apt: rootlesskit uidmap socat + lib.sh's base packages
# Usage: [HELPER=...] rootlesskit.sh [slirp4netns|builtin|options]...
. "$(dirname "$0")/lib.sh"; rt_init "$@"
need rootlesskit rootlessctl nsenter socat
host_server

one() {
	local drv=$1 net=10.0.2 st=$W/rk-$1 p1 p2 pu id rk opts=(--mtu=65520)
	if [ "$drv" = options ]; then
		drv=slirp4netns net=10.88.7
		opts=(--mtu=1500 "--cidr=$net.0/24" --ifname=eth7 --ipv6 --slirp4netns-sandbox=true --slirp4netns-seccomp=true
			--pidns --utsns --ipcns --cgroupns)
	fi
	free_port p1; free_port p2; free_port pu
	# The child is the server; p1 is published from the start.
	bg rootlesskit --state-dir="$st" --net=slirp4netns --slirp4netns-binary="$HELPER" \
		"${opts[@]}" --port-driver="$drv" --copy-up=/etc --copy-up=/run \
		-p "127.0.0.1:$p1:80/tcp" busybox httpd -f -v -p 80 -h "$W/in" >"$W/log-$1" 2>&1
	rk=$BG
	retry 15 test -S "$st/api.sock" || die "rootlesskit did not come up"
	local inside=(nsenter -t "$(cat "$st/child_pid")" -U --preserve-credentials -n -m --)
	check_in "$p1"
	check_out $net.2 "${inside[@]}"

	# Ports added and removed at run time.
	id=$(rootlessctl --socket "$st/api.sock" add-ports "127.0.0.1:$p2:80/tcp")
	check_in "$p2"
	rootlessctl --socket "$st/api.sock" list-ports | grep -q "$p2" || die "list-ports lacks $p2"
	rootlessctl --socket "$st/api.sock" remove-ports "$id" >/dev/null
	retry 5 bash -c "! curl -s -m 1 -o /dev/null http://127.0.0.1:$p2/blob" || die "port $p2 outlived remove-ports"

	# A client elsewhere.
	free_port p2
	rootlessctl --socket "$st/api.sock" add-ports "0.0.0.0:$p2:80/tcp" >/dev/null
	check_far "$p2" "$([ "$drv" = builtin ] || echo yes)" cat "$W/log-$1"

	# UDP, through a published port.
	bg "${inside[@]}" socat -T 1 UDP4-LISTEN:7000,reuseaddr,fork EXEC:cat
	rootlessctl --socket "$st/api.sock" add-ports "127.0.0.1:$pu:7000/udp" >/dev/null
	retry 10 bash -c "echo hello | socat -t 2 - UDP4:127.0.0.1:$pu | grep -qx hello" || die "udp echo through $pu"
	say "ok: $1: add-ports, list-ports, remove-ports, udp"
	[ -z "$RT_DNS" ] || { "${inside[@]}" busybox nslookup -type=a rt-test.example $net.3 | grep -q 192.0.2.77 || die "dns"; say "ok: dns"; }

	kill "$rk"; wait "$rk" || true
}
[ $# -gt 0 ] || set -- slirp4netns builtin options
for d; do part "$d" one "$d"; done
