#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Rootless Docker 20.10 (dockerd under RootlessKit, no systemd session), once
# for each RootlessKit port driver: docker run, docker build, docker-compose.
# apt: docker.io rootlesskit iptables docker-compose nginx-light socat + lib.sh's base packages
# Usage: [HELPER=...] docker.sh [builtin|slirp4netns]...
. "$(dirname "$0")/lib.sh"; rt_init "$@"
need dockerd docker rootlesskit iptables
script=$(command -v dockerd-rootless.sh || echo /usr/share/docker.io/contrib/dockerd-rootless.sh)
[ -r "$script" ] || skip "no dockerd-rootless.sh"
export IN_WWW=/www DOCKER_HOST=unix://$XDG_RUNTIME_DIR/docker.sock DOCKER_BUILDKIT=0

stop() {
	local c
	[ -n "${dpid:-}" ] || return 0
	c=$(docker ps -aq) && [ -z "$c" ] || docker rm -f $c >/dev/null
	kill "$dpid"; wait "$dpid" || :
	dpid=
}
cleanup() { stop 2>/dev/null; }
dns() {
	[ -n "$RT_DNS" ] || return 0
	docker exec "$1" nslookup -type=a rt-test.example ${2:-} | grep -q 192.0.2.77 || die "dns in $1"
	say "ok: dns in $1"
}

up() {           # up DRIVER: dockerd with that port driver
	local drv=$1 t0
	t0=$(date +%s%N)
	# The script itself says --disable-host-loopback; the later flag wins.
	DOCKERD_ROOTLESS_ROOTLESSKIT_NET=slirp4netns DOCKERD_ROOTLESS_ROOTLESSKIT_MTU=65520 \
	DOCKERD_ROOTLESS_ROOTLESSKIT_PORT_DRIVER=$drv \
	DOCKERD_ROOTLESS_ROOTLESSKIT_FLAGS="--slirp4netns-binary=$HELPER --disable-host-loopback=false" \
		sh "$script" --data-root "$W/docker-$drv" --storage-driver vfs >"$W/dockerd-$drv.log" 2>&1 &
	dpid=$!; RT_PIDS+=("$dpid")
	retry 30 docker version || { tail -n 20 "$W/dockerd-$drv.log" >&2; die "dockerd did not come up"; }
	docker info 2>/dev/null | grep -qw rootless || die "not rootless"
	say "$drv: dockerd up after $(( ($(date +%s%N) - t0) / 1000000 )) ms"
	tar -C "$W/root" -c . | docker import - bb >/dev/null
}

t_run() {        # the default bridge
	local p
	free_port p
	docker run -d --name c1 -p "127.0.0.1:$p:80" bb httpd -f -p 80 -h /www >/dev/null
	check_in "$p"; check_out 10.0.2.2 docker exec c1; dns c1 10.0.2.3
	[ -z "$RT_HOSTIP" ] || check_out "$RT_HOSTIP" docker exec c1
	docker rm -f c1 >/dev/null
	retry 5 bash -c "! curl -s -m 1 -o /dev/null http://127.0.0.1:$p/blob" || die "port $p outlived docker rm"
}

t_log() {        # t_log DRIVER: the address of a client elsewhere in nginx's log
	local p
	command -v nginx >/dev/null || { left_out "no nginx"; return 0; }
	[ -n "$RT_FAR" ] || { left_out "no other host"; return 0; }
	free_port p
	docker run -d --name c2 -p "0.0.0.0:$p:80" bb "$(command -v nginx)" -c /nginx.conf >/dev/null
	# builtin connects anew, as it says of itself
	check_far "$p" "$([ "$1" = builtin ] || echo yes)" docker logs c2
	docker rm -f c2 >/dev/null
}

t_build() {
	mkdir -p "$W/ctx"
	printf 'FROM bb\nRUN wget -q -O /fetched http://10.0.2.2:%s/blob\n' "$HP" >"$W/ctx/Dockerfile"
	docker build -q -t built "$W/ctx" >/dev/null
	[ "$(docker run --rm --network none built cat /fetched | sha256sum)" = "$SUM_out" ] || die "RUN wget"
	say "ok: docker build with RUN through the network"
}

t_compose() {    # docker-compose: two services on a network of their own
	local p2
	command -v docker-compose >/dev/null || { left_out "no docker-compose"; return 0; }
	free_port p2
	mkdir -p "$W/compose"
	cat >"$W/compose/docker-compose.yml" <<-FILE
		version: "3"
		services:
		  web:
		    image: bb
		    command: httpd -f -p 80 -h /www
		    ports: ["127.0.0.1:$p2:80"]
		    networks: [inner]
		  client:
		    image: bb
		    command: sleep 600
		    depends_on: [web]
		    networks: [inner]
		networks:
		  inner: {}
	FILE
	dc() {
		docker-compose --project-directory "$W/compose" -f "$W/compose/docker-compose.yml" -p rt "$@" \
			>"$W/compose.log" 2>&1 || { cat "$W/compose.log"; die "docker-compose $*"; }
	}
	dc up -d
	check_in "$p2"
	check_out 10.0.2.2 docker exec rt_client_1; dns rt_client_1
	[ "$(docker exec rt_client_1 wget -q -O - http://web/blob | sha256sum)" = "$SUM_in" ] || die "client -> web"
	say "ok: service to service by name"
	dc down -t 0
}
host_server
busybox_root "$W/root"
nginx_root "$W/root" || say "no nginx"
[ $# -gt 0 ] || set -- builtin slirp4netns
for d; do
	part "$d-start" up "$d"
	part "$d-run" t_run
	part "$d-log" t_log "$d"
	part "$d-build" t_build
	part "$d-compose" t_compose
	part "$d-stop" stop
done
