# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# lib.sh - shared plumbing for the runtime recipes in this directory.
#
# Source it first:   . "$(dirname "$0")/lib.sh"; rt_init "$@"
#
# Environment (all optional):
#   HELPER      slirp4netns-compatible binary      (default /usr/bin/slirp4netns)
#   RT_USER     whom to run as when started by root (default: first user of
#               /etc/subuid that has an account with uid >= 1000)
#   RT_OPEN     non-empty: as root, use the host's own network and not the
#               private one of hermetic.sh
#   RT_TIMEOUT  seconds before the whole script is killed        (default 180)
#   RT_KEEP     non-empty: leave the work folder for a look
#   RT_SPY      a file: every call of HELPER is appended to it (argv, fds)
#   RT_TRACE    non-empty: set -x with times
#   RT_DNS      non-empty: the host resolver knows rt-test.example = 192.0.2.77
#               (hermetic.sh sets it up); scripts then also check 10.0.2.3
#   RT_HOSTIP   an address of the host that is not loopback (hermetic.sh, too)
#   RT_FAR, RT_FARIP  another host, and how it is asked to fetch something from
#               this one (hermetic.sh, too)
#   RT_TAP      non-empty: speak TAP (one test per part, parts left out are
#               "# SKIP") and end with 0 when skipped; meson sets it
#
# Exit status: 0 traffic passed both ways, 77 a prerequisite is missing,
# anything else is a failure.
#
# Traffic is 3 MB down and 3 MB up, compared by sha256, for each direction of
# opening a connection: from inside to the host's 127.0.0.1 through 10.0.2.2,
# and from a host port to a server inside.
#
# Base packages: bash coreutils util-linux iproute2 procps busybox-static curl uidmap

: "${HELPER:=/usr/bin/slirp4netns}" "${RT_TIMEOUT:=180}" "${RT_KEEP:=}" "${RT_SPY:=}" "${RT_DNS:=}" "${RT_HOSTIP:=}" "${RT_FAR:=}" "${RT_FARIP:=}" "${RT_HERMETIC:=}" "${RT_TRACE:=}" "${RT_TAP:=}"
RT_PART='' RT_N=0 RT_LEFT='' RT_WHY='' RT_READY=''

say()  { printf '%s%s: %s\n' "${RT_TAP:+# }" "$RT_NAME" "$*"; }
die()  { say "FAIL: $*" >&2; exit 1; }
# Once rt_init is through, rt_exit says it to TAP.
skip() {
	RT_WHY=$*
	say "SKIP: $*" >&2
	[ -z "$RT_TAP" ] || [ -n "$RT_READY" ] || { echo "1..0 # SKIP $*"; exit 0; }
	exit 77
}
need() { local c; for c; do command -v "$c" >/dev/null 2>&1 || skip "$c is not installed"; done; }

# Become the unprivileged user, with a clean environment, a time limit and a
# private HOME, XDG_RUNTIME_DIR and TMPDIR.  Everything lives under $W.
rt_init() {
	RT_NAME=$(basename "$0" .sh)
	HELPER=$(command -v "$HELPER") || skip "no helper"
	HELPER=$(readlink -f "$HELPER")
	if [ -z "${RT_INNER:-}" ]; then
		local self u pre=()
		self=$(readlink -f "$0")
		if [ "$(id -u)" = 0 ]; then
			[ -n "${RT_HERMETIC:-}${RT_OPEN:-}" ] || exec "$(dirname "$self")/hermetic.sh" "$self" "$@"
			if [ -z "${RT_USER:-}" ]; then
				while IFS=: read -r u _; do
					[ "$(id -u "$u" 2>/dev/null || echo 0)" -ge 1000 ] && { RT_USER=$u; break; }
				done </etc/subuid
			fi
			[ -n "${RT_USER:-}" ] || skip "no unprivileged user with subordinate ids"
			# udev would have done this
			[ -c /dev/net/tun ] || skip "no /dev/net/tun"
			[ "$(stat -c %a /dev/net/tun)" = 666 ] || chmod 0666 /dev/net/tun
			pre=(setpriv --reuid "$RT_USER" --regid "$(id -g "$RT_USER")" --init-groups --)
		else
			RT_USER=$(id -un)
		fi
		cd /
		local v rt=()
		for v in ${!RT_@}; do rt+=("$v=${!v}"); done
		exec "${pre[@]}" timeout -k 30 "$RT_TIMEOUT" env -i "${rt[@]}" RT_INNER=1 HELPER="$HELPER" \
			PATH=/usr/sbin:/usr/bin:/sbin:/bin \
			LANG=C.UTF-8 TERM=dumb USER="$RT_USER" LOGNAME="$RT_USER" bash "$self" "$@"
	fi
	set -eu
	[ -z "$RT_TRACE" ] || { PS4='+${EPOCHREALTIME} ${LINENO} '; set -x; }
	umask 022
	need busybox curl ss sha256sum newuidmap
	grep -q "^$RT_USER:" /etc/subuid || skip "$RT_USER has no subordinate ids"
	[ -x "$HELPER" ] || skip "$RT_USER cannot run $HELPER"
	[ -w /dev/net/tun ] || skip "/dev/net/tun is not writable for $RT_USER"
	W=$(mktemp -d /tmp/rt.XXXXXX)           # short: unix sockets go below it
	export HOME=$W/home XDG_RUNTIME_DIR=$W/run TMPDIR=$W/tmp RT_TAG=$W
	mkdir -p "$HOME" "$TMPDIR" "$W/out/cgi-bin" "$W/in/cgi-bin"
	mkdir -m 0700 "$XDG_RUNTIME_DIR"
	RT_PIDS=() RT_TRAFFIC='' RT_T0=$(date +%s%N)
	RT_READY=1
	trap rt_exit EXIT
	trap 'exit 143' TERM INT HUP

	# What the two web servers serve: out = on the host, in = in the namespace.
	# Text, since busybox wget --post-file stops at the first NUL; and no
	# "wget -T" anywhere, since that crashes in Debian 12's busybox-static.
	local d
	for d in out in; do
		head -c 2250000 /dev/urandom | base64 -w 0 >"$W/$d/blob"       # 3 MB
		printf '#!/bin/sh\nprintf "Content-Type: text/plain\\r\\n\\r\\n"\nexec busybox sha256sum\n' >"$W/$d/cgi-bin/sum"
		chmod 755 "$W/$d/cgi-bin/sum"
	done
	SUM_out=$(sha256sum <"$W/out/blob") SUM_in=$(sha256sum <"$W/in/blob")

	# Optional spy in front of the helper.
	if [ -n "$RT_SPY" ]; then
		cat >"$W/spy" <<-SPY
			#!/bin/sh
			l="== $RT_NAME: slirp4netns \$*"
			for f in /proc/\$\$/fd/*; do t=\$(readlink "\$f") && [ "\$t" != "$W/spy" ] && l="\$l
			   fd \${f##*/} -> \$t"; done
			echo "\$l" >>"$RT_SPY"
			exec "$HELPER" "\$@"
		SPY
		chmod 755 "$W/spy"
		HELPER=$W/spy
	fi
	[ -z "$RT_HERMETIC" ] || [ -n "$RT_DNS" ] || part dns left_out "no dnsmasq, so no DNS checks"
}

# part NAME COMMAND...: one sub-test. Must not be called where "set -e" is off.
part() {
	local t0
	RT_PART=$1 RT_LEFT='' t0=$(date +%s%N); shift
	"$@"
	[ -n "$RT_LEFT" ] || say "$RT_PART: $(( ($(date +%s%N) - t0) / 1000000 )) ms"
	RT_N=$((RT_N + 1))
	[ -z "$RT_TAP" ] || echo "ok $RT_N $RT_PART${RT_LEFT:+ # SKIP $RT_LEFT}"
	RT_PART=''
}
# left_out REASON: the part at hand cannot be tested here
left_out() { RT_LEFT=$*; say "LEFT OUT $RT_PART: $*"; }

# Processes of ours that are still about: they inherited RT_TAG.
rt_tagged() {
	local p
	for p in /proc/[0-9]*; do
		p=${p#/proc/}
		[ "$p" = $$ ] || [ "$p" = "$BASHPID" ] && continue
		grep -qsz "^RT_TAG=$W\$" "/proc/$p/environ" && echo "$p"
	done
	return 0
}

rt_exit() {
	local rc=$? p left
	trap - EXIT; trap '' TERM INT HUP
	set +e
	declare -F cleanup >/dev/null && cleanup
	for p in "${RT_PIDS[@]}"; do kill "$p" 2>/dev/null; done
	# Everything must go by itself within 5 s, or 20 where others are busy; what does not is a finding.
	for _ in {1..200}; do left=$(rt_tagged 2>/dev/null); [ -z "$left" ] && break; look_again; done
	for p in $left; do
		say "LEFT BEHIND: $p $(tr '\0' ' ' <"/proc/$p/cmdline")"
		kill -9 "$p" 2>/dev/null; [ $rc = 0 ] && rc=1
	done
	wait 2>/dev/null
	if [ -n "$RT_KEEP" ]; then say "kept $W"
	else
		# files of subordinate ids need the user namespace to be removed
		rm -rf "$W" 2>/dev/null || unshare --map-root-user --map-auto rm -rf "$W"
		[ -e "$W" ] && { say "could not remove $W"; [ $rc = 0 ] && rc=1; }
	fi
	local ms=$(( ($(date +%s%N) - RT_T0) / 1000000 ))
	[ $rc != 0 ] || [ -n "$RT_TRAFFIC" ] || { RT_WHY="nothing was tested"; say "SKIP: $RT_WHY" >&2; rc=77; }
	if [ $rc = 0 ]; then say "PASS in $ms ms"; else say "status $rc after $ms ms"; fi
	[ -z "$RT_TAP" ] || rt_tap_end $rc
	exit $rc
}
# The plan comes last, when the number of parts is known.
rt_tap_end() {
	if [ "$1" = 77 ]; then
		# parts that were left out have their own lines
		[ "$RT_N" != 0 ] && echo "1..$RT_N" || echo "1..0 # SKIP $RT_WHY"
		exit 0
	fi
	if [ "$1" != 0 ]; then
		RT_N=$((RT_N + 1))
		echo "not ok $RT_N ${RT_PART:-set-up-and-clean-up}"
	fi
	echo "1..$RT_N"
}

bg() { "$@" 8>&- 9>&- & RT_PIDS+=($!); BG=$!; }       # in the background, killed at the end; never gets fds 8 and 9

# bg_up SECONDS CMD...: in the background; fails unless it writes to fd 7 within four times that time
bg_up() {
	local end=$1 said up; shift
	# one of its own each time: whoever said more than one byte left it in there
	mkfifo "$W/up"
	exec {up}<>"$W/up"
	rm "$W/up"
	"$@" 7>&"$up" 8>&- 9>&- {up}>&- & BG=$!
	RT_PIDS+=("$BG")
	read -r -N 1 -t "$((4 * end))" said <&"$up" || said=
	exec {up}>&-
	[ "$said" = 1 ]
}

# free_port VAR: a port that nothing uses, below the ephemeral range
free_port() {
	local _p
	while :; do
		_p=$((20000 + RANDOM % 12000))
		[ -z "$(ss -Hltun "sport = :$_p")" ] && break
	done
	printf -v "$1" %s "$_p"
}

# look_again: a tenth of a second between two looks. The kernel tells nobody that a port is listened
# on (sock_diag knows of destroyed sockets only), nor whom of foreign processes it has ended.
look_again() {
	[ -n "${RT_NEVER:-}" ] || exec {RT_NEVER}<> <(:)
	read -r -t 0.1 -u "$RT_NEVER" || :
}

# retry SECONDS CMD...: until it succeeds; a busy machine gets four times as long. For what foreign programs tell nobody of (a port of
# dockerd's answers, nginx serves); what can say that it is there is started by bg_up.
retry() {
	local end=$((SECONDS + 4 * $1)); shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || return 1
		look_again
	done
}

# The host's server, on 127.0.0.1 (and on RT_HOSTIP, if set).  Sets HP.
host_server() {
	free_port HP
	bg busybox httpd -f -p "127.0.0.1:$HP" -h "$W/out"
	[ -z "$RT_HOSTIP" ] || bg busybox httpd -f -p "$RT_HOSTIP:$HP" -h "$W/out"
	retry 5 curl -fs -o /dev/null -r 0-0 "http://127.0.0.1:$HP/blob" || die "host server did not start"
}

# check_out ADDR RUN...: RUN executes a command inside the namespace; fetch
# from and post to the host's server at ADDR (normally 10.0.2.2).
check_out() {
	local addr=$1 got; shift
	got=$(timeout --foreground 120 "$@" busybox wget -q -O - "http://$addr:$HP/blob" | sha256sum)
	[ "$got" = "$SUM_out" ] || die "download from the host through $addr: $got"
	got=$(timeout --foreground 120 "$@" busybox wget -q -O - --post-file="${IN_WWW:-$W/in}/blob" "http://$addr:$HP/cgi-bin/sum")
	[ "$got" = "$SUM_in" ] || die "upload to the host through $addr: $got"
	RT_TRAFFIC=1
	say "ok: inside -> $addr:$HP on the host, 3 MB each way"
}

# check_in PORT [ADDR]: fetch from and post to the server inside, through a
# forwarded port of the host.
check_in() {
	local port=$1 addr=${2:-127.0.0.1} got
	retry 15 curl -fs -m 5 -o /dev/null -r 0-0 "http://$addr:$port/blob" || die "nothing behind $addr:$port"
	got=$(curl -fsS -m 100 "http://$addr:$port/blob" | sha256sum)
	[ "$got" = "$SUM_in" ] || die "download from inside through $addr:$port: $got"
	got=$(curl -fsS -m 100 -H Expect: --data-binary "@$W/out/blob" "http://$addr:$port/cgi-bin/sum")
	[ "$got" = "$SUM_out" ] || die "upload to the inside through $addr:$port: $got"
	RT_TRAFFIC=1
	say "ok: host $addr:$port -> inside, 3 MB each way"
}

# far_sum PORT: the sum of the site's blob as another host gets it from that port of ours
far_sum() { socat -t 110 - "TCP4:$RT_FAR" <<<"$1 blob" | sha256sum; }

# check_far PORT SEEN LOG...: another host fetches from inside, through a forwarded port; with SEEN, the
# server's log, which LOG prints, has the address of that host, and not without.
check_far() {
	local port=$1 seen=$2; shift 2
	[ -n "$RT_FAR" ] || { say "nobody is there to come from elsewhere"; return 0; }
	far_fetched() { [ "$(far_sum "$port")" = "$SUM_in" ]; }
	retry 15 far_fetched || die "another host does not get through port $port: $(far_sum "$port")"
	# a line of the log comes after the answer, and through other processes
	logged() { "$@" 2>&1 | grep -qF "$RT_FARIP"; }
	[ -z "$seen" ] || retry 15 logged "$@" || { "$@" 2>&1 | tail -n 3 >&2; die "the server does not see $RT_FARIP"; }
	RT_TRAFFIC=1
	say "ok: another host -> inside${seen:+, and the server sees its address}"
}

# nginx_root DIR: adds nginx and what it needs to a root file system; it serves /www and logs to standard
# output. Started by: nginx -c /nginx.conf
nginx_root() {
	local d=$1 f nginx
	nginx=$(command -v nginx) || return 1
	for f in "$nginx" $(ldd "$nginx" | grep -o '/[^ ]*'); do
		mkdir -p "$d$(dirname "$f")"
		cp -L "$f" "$d$f"
	done
	mkdir -p "$d/var/log/nginx" "$d/var/lib/nginx"
	cat >"$d/nginx.conf" <<-CONF
		user root root; daemon off; pid /tmp/nginx.pid; error_log /dev/stderr;
		events {}
		http {
		  access_log /dev/stdout;
		  client_body_temp_path /tmp/1; proxy_temp_path /tmp/2; fastcgi_temp_path /tmp/3;
		  uwsgi_temp_path /tmp/4; scgi_temp_path /tmp/5;
		  server { listen 80; root /www; }
		}
	CONF
}

# busybox_root DIR: a root file system with nothing but busybox and the site
busybox_root() {
	local a d=$1
	mkdir -p "$d"/{bin,dev,etc,proc,sys,tmp,run,var,root,www}
	cp "$(command -v busybox)" "$d/bin/busybox"
	for a in $("$d/bin/busybox" --list); do [ "$a" = busybox ] || ln -s busybox "$d/bin/$a"; done
	cp -r "$W/in/." "$d/www/"
	echo 'root:x:0:0:root:/root:/bin/sh' >"$d/etc/passwd"
	echo 'root:x:0:' >"$d/etc/group"
}
