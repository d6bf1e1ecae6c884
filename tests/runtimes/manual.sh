#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The helper by hand: unshare (by PID; by path; inside a user namespace with a
# named network namespace, as Podman does; unconfigured, as RootlessKit does),
# bubblewrap, and OCI containers of runc and crun.
# apt: socat bubblewrap runc crun + lib.sh's base packages
# Usage: [HELPER=...] manual.sh [pid|path|ipv6|named|noconf|bwrap|runc|crun]...
. "$(dirname "$0")/lib.sh"; rt_init "$@"
need unshare nsenter ip socat

helper_with_fds() {
	local n=$1; shift
	exec "$HELPER" --ready-fd=3 --exit-fd=4 --api-socket="$S" "$@" 3>&7 7>&- 4<"$W/$n.exit" >"$W/$n.log" 2>&1
}
# helper NAME ARGS...: start it and wait for its ready-fd.  Its exit-fd hangs
# up when we close fd 8; its API socket is $S.
helper() {
	local n=$1; shift
	S=$W/$n.api
	mkfifo "$W/$n.exit"
	exec 8<>"$W/$n.exit"
	bg_up 10 helper_with_fds "$n" "$@" || { cat "$W/$n.log" >&2; die "no ready-fd, or it did not say 1"; }
	H=$BG
}
api() { printf '%s' "$1" | socat -t 20 - "UNIX-CONNECT:$S"; }
forward() {      # forward PORT: a host port to it; sets P
	free_port P
	local r; r=$(api '{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_addr":"127.0.0.1","host_port":'"$P"',"guest_port":'"$1"'}}')
	case $r in *'"id"'*) ;; *) die "add_hostfwd: $r";; esac
	r=$(api '{"execute":"list_hostfwd"}')
	case $r in *"$P"*) ;; *) die "list_hostfwd: $r";; esac
}
# the exit-fd must end the helper
finish() {
	exec 8>&-
	wait "$H" || true       # a helper that stays is ended by RT_TIMEOUT, which fails
	say "ok: exit-fd"
}
holder() {       # a process in new user and network namespaces; sets N and IN
	bg_up 5 unshare --user --map-root-user --net sh -c 'echo 1 >&7; exec sleep 600 7>&-' || die "unshare"
	N=$BG
	IN=(nsenter -t "$N" -U --preserve-credentials -n --)
}
serve() { bg "${IN[@]}" busybox httpd -f -p "$1" -h "$W/in"; }
dns() {
	[ -n "$RT_DNS" ] || return 0
	"${IN[@]}" busybox nslookup -type=a rt-test.example 10.0.2.3 | grep -q 192.0.2.77 || die dns
	say "ok: dns"
}
pings() {
	"${IN[@]}" busybox ping -c 1 -W 20 10.0.2.2 >/dev/null || die "ping 10.0.2.2"
	[ -z "$RT_HOSTIP" ] || "${IN[@]}" busybox ping -c 1 -W 20 "$RT_HOSTIP" >/dev/null || die "ping $RT_HOSTIP"
	say "ok: ping"
}
done_with() { local p; for p; do kill "$p"; wait "$p" 2>/dev/null || :; done; }

t_pid() {
	holder
	helper pid --configure --mtu=65520 --enable-sandbox --enable-seccomp "$N" tap0
	serve 80; forward 80
	check_in "$P"; check_out 10.0.2.2 "${IN[@]}"; dns; pings
	finish; done_with "$BG" "$N"
}
t_path() {
	holder
	# no --enable-sandbox: slirp4netns cannot do it with --userns-path unless
	# it is already root in the user namespace (its issue 317)
	helper path --configure --mtu=65520 --enable-ipv6 --enable-seccomp --netns-type=path \
		--userns-path="/proc/$N/ns/user" "/proc/$N/ns/net" tap0
	serve 80; forward 80
	check_in "$P"; check_out 10.0.2.2 "${IN[@]}"; dns; pings
	finish; done_with "$BG" "$N"
}
t_ipv6() {       # fd00::2 is the host's ::1
	holder
	helper ipv6 --configure --mtu=65520 --enable-ipv6 "$N" tap0
	retry 10 eval '"${IN[@]}" ip -6 addr show dev tap0 scope global -tentative | grep -q fd00:' || die "no IPv6 address by router advertisement"
	bg busybox httpd -f -p "[::1]:$HP" -h "$W/out"; local h=$BG
	retry 5 curl -gfs -o /dev/null -r 0-0 "http://[::1]:$HP/blob" || die "host server on ::1"
	check_out '[fd00::2]' "${IN[@]}"
	serve 80; forward 80; check_in "$P"
	finish; done_with "$BG" "$h" "$N"
}
t_named() {      # the helper itself runs as root of a user namespace
	# (--net, too, since "ip netns add" must be able to go back where it was)
	bg_up 5 unshare --user --map-root-user --map-auto --mount --net sh -c \
		'mount -t tmpfs none /run && ip netns add box && echo 1 >&7 && exec sleep 600 7>&-' || die "unshare"
	N=$BG
	local real=$HELPER
	IN=(nsenter -t "$N" -U --preserve-credentials -m -- ip netns exec box)
	printf '#!/bin/sh\nexec nsenter -t %s -U --preserve-credentials -m -- %q "$@"\n' "$N" "$real" >"$W/inside"
	chmod 755 "$W/inside"; HELPER=$W/inside
	helper named --configure --mtu=65520 --enable-ipv6 --enable-sandbox --enable-seccomp --netns-type=path /run/netns/box tap0
	HELPER=$real
	serve 80; forward 80
	check_in "$P"; check_out 10.0.2.2 "${IN[@]}"; dns; pings
	finish; done_with "$BG" "$N"
}
t_noconf() {     # the caller makes and configures the interface
	holder
	"${IN[@]}" ip tuntap add name t0 mode tap
	"${IN[@]}" ip link set t0 address 02:50:00:00:00:01
	helper noconf --mtu=1500 "$N" t0
	"${IN[@]}" sh -c 'ip link set lo up; ip link set t0 mtu 1500 up; ip addr add 10.0.2.100/24 dev t0; ip route add default via 10.0.2.2'
	serve 80; forward 80
	check_in "$P"; check_out 10.0.2.2 "${IN[@]}"; dns; pings
	finish; done_with "$BG" "$N"
}
t_bwrap() {      # --info-fd tells the PID, --block-fd holds it until the network is there
	command -v bwrap >/dev/null || { left_out "no bwrap"; return 0; }
	mkfifo "$W/block"
	: >"$W/info"
	bwrap --unshare-user --unshare-net --unshare-pid --dev-bind / / --proc /proc --die-with-parent --info-fd 5 --block-fd 6 \
		busybox httpd -f -p 8080 -h "$W/in" 5>"$W/info" 6<"$W/block" & local b=$!; RT_PIDS+=("$b")
	exec 9>"$W/block"
	retry 5 grep -q '}' "$W/info" || die "bwrap --info-fd"
	N=$(sed -n 's/.*"child-pid": *\([0-9]*\).*/\1/p' "$W/info")
	helper bwrap --configure --mtu=65520 "$N" tap0
	echo >&9; exec 9>&-
	IN=(nsenter -t "$N" -U --preserve-credentials -n --)
	forward 8080
	check_in "$P"; check_out 10.0.2.2 "${IN[@]}"; dns
	finish; done_with "$b"
}
oci() {          # create, give it a network, start
	local r=$1 c=("$1" --root "$W/$1") d=$W/bundle-$1
	command -v "$r" >/dev/null || { left_out "no $r"; return 0; }
	[ "$r" != crun ] || ! grep -qs . /sys/fs/cgroup/unified/cgroup.controllers || {
		left_out "crun refuses this host's hybrid cgroup set-up"; return 0; }
	mkdir "$d"
	busybox_root "$d/rootfs"
	cat >"$d/config.json" <<-JSON
		{"ociVersion": "1.0.2", "hostname": "$r", "root": {"path": "rootfs"},
		 "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "env": ["PATH=/bin"],
		  "args": ["httpd", "-f", "-p", "80", "-h", "/www"],
		  "capabilities": {"bounding": ["CAP_NET_BIND_SERVICE"], "effective": ["CAP_NET_BIND_SERVICE"], "permitted": ["CAP_NET_BIND_SERVICE"]}},
		 "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
		  {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]}],
		 "linux": {
		  "uidMappings": [{"containerID": 0, "hostID": $(id -u), "size": 1}],
		  "gidMappings": [{"containerID": 0, "hostID": $(id -g), "size": 1}],
		  "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "uts"}, {"type": "ipc"}, {"type": "user"}, {"type": "network"}]}}
	JSON
	OCI=("${c[@]}" delete -f "$r")
	"${c[@]}" create --bundle "$d" --pid-file "$d/pid" "$r" </dev/null >"$d/log" 2>&1 || { cat "$d/log" >&2; die "$r create"; }
	N=$(cat "$d/pid")
	# crun's init is not dumpable before "start", which closes its /proc/PID/ns
	[ "$r" != crun ] || { "${c[@]}" start "$r"; retry 5 readlink "/proc/$N/ns/net"; }
	helper "$r" --configure --mtu=65520 --enable-sandbox --enable-seccomp "$N" eth0
	[ "$r" = crun ] || "${c[@]}" start "$r"
	IN=("${c[@]}" exec "$r")
	forward 80
	check_in "$P"; IN_WWW=/www check_out 10.0.2.2 "${IN[@]}"; dns
	finish
	"${OCI[@]}"; OCI=()
}
t_runc() { oci runc; }
t_crun() { oci crun; }
cleanup() { [ -z "${OCI[*]:-}" ] || "${OCI[@]}"; exec 8>&- 9>&-; }

host_server
[ $# -gt 0 ] || set -- pid path ipv6 named noconf bwrap runc crun
for t; do part "$t" "t_$t"; done
