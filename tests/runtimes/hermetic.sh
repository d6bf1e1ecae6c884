#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Run a command on a private "host": a network namespace with nothing but lo
# and an interface to nowhere (192.0.2.10/24, default route), its own
# /etc/resolv.conf and a DNS server on 127.0.0.1 that knows
# rt-test.example = 192.0.2.77.  Nothing in it can reach a real network.
# Needs root; the recipes start themselves through it when root runs them, and
# then drop to RT_USER.
# Behind that interface is another host, 192.0.2.20 (RT_FARIP): what is sent to its
# port 8800 (RT_FAR) as "PORT PATH" it fetches from that port of ours, and answers.
# RT_CGROUP2=1 also shows it a pure cgroup v2 (crun refuses a hybrid).
# apt: iproute2 util-linux procps dnsmasq-base socat curl
# Usage: hermetic.sh COMMAND...      e.g.  hermetic.sh ./podman.sh bridge
set -eu
[ "$(id -u)" = 0 ] || { echo "hermetic.sh: SKIP: needs root" >&2; exit 77; }
if [ "${RT_HERMETIC:-}" != setup ]; then
	RT_HERMETIC=setup exec unshare --net --mount --propagation private bash "$(readlink -f "$0")" "$@"
fi
export RT_HERMETIC=yes
d=$(mktemp -d /tmp/rth.XXXXXX)
dns='' cmd='' far=''
trap 'set +e; kill $dns $far 2>/dev/null; wait; rm -rf "$d"' EXIT
trap '[ -z "$cmd" ] || kill "$cmd" 2>/dev/null || :' TERM INT HUP
ip link set lo up
# (a veth pair, since not every kernel has CONFIG_DUMMY)
ip link add h0 type veth peer name h1
ip link set h0 up
ip addr add 192.0.2.10/24 dev h0
ip route add default via 192.0.2.1
export RT_HOSTIP=192.0.2.10
sysctl -qw net.ipv4.ping_group_range="0 2147483647"    # of this namespace only
[ -z "${RT_CGROUP2:-}" ] || mount -t cgroup2 none /sys/fs/cgroup
echo "nameserver 127.0.0.1" >"$d/resolv.conf"
chmod 755 "$d"
mount --bind "$d/resolv.conf" /etc/resolv.conf
if command -v dnsmasq >/dev/null; then
	# it goes into the background when it is bound
	dnsmasq --conf-file=/dev/null --pid-file="$d/dnsmasq.pid" --no-resolv --no-hosts --port=53 \
		--listen-address=127.0.0.1 --bind-interfaces --address=/rt-test.example/192.0.2.77
	dns=$(cat "$d/dnsmasq.pid")
	export RT_DNS=1
else
	echo "hermetic.sh: no dnsmasq, so no DNS checks" >&2
fi
if command -v socat >/dev/null && command -v curl >/dev/null; then
	mkfifo "$d/up"
	# shellcheck disable=SC2016
	unshare --net sh -c 'echo 1 >"$1/up"; read -r go <"$1/up"; ip link set lo up; ip link set h1 up
		ip addr add 192.0.2.20/24 dev h1; echo 2 >"$1/up"
		exec socat TCP4-LISTEN:8800,reuseaddr,fork SYSTEM:"read -r p f; exec curl -fsS -m 100 http\\://192.0.2.10\\:\$p/\$f"' sh "$d" &
	far=$!
	read -r _ <"$d/up"
	ip link set h1 netns "$far"
	echo 1 >"$d/up"
	read -r _ <"$d/up"
	export RT_FAR=192.0.2.20:8800 RT_FARIP=192.0.2.20
else
	ip link set h1 up
	echo "hermetic.sh: no socat or curl, so nobody behind the interface" >&2
fi
# in the background, so that a signal can be passed on at once
"$@" <&0 &
cmd=$!
rc=0; wait "$cmd" || rc=$?
while kill -0 "$cmd" 2>/dev/null; do rc=0; wait "$cmd" || rc=$?; done
exit "$rc"
