#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Rootless Podman 4.3: both port handlers, options, a pod, a bridge network
# (rootless-netns), and "podman build" with a RUN that needs the network.
# apt: podman runc netavark aardvark-dns iptables nginx-light socat + lib.sh's base packages
#      (crun instead of runc where the host has a clean cgroup v2)
# RT_RUNTIME=crun|runc and RT_STORAGE=vfs|overlay override what it picks.
# Usage: [HELPER=...] podman.sh [slirp4netns|log|rootlesskit|options|pod|kube|bridge|build|buildah|compose]...
. "$(dirname "$0")/lib.sh"; rt_init "$@"
need podman conmon

# crun refuses a hybrid cgroup set-up whose v2 side has controllers.
runtime=crun
if grep -qs . /sys/fs/cgroup/unified/cgroup.controllers || ! command -v crun >/dev/null; then runtime=runc; fi
runtime=${RT_RUNTIME:-$runtime}
need $runtime
mkdir -p "$HOME/.config/containers"
conf() {
	printf '%s\n' '[engine]' "runtime = \"$runtime\"" 'cgroup_manager = "cgroupfs"' \
		'events_logger = "file"' "$@" >"$HOME/.config/containers/containers.conf"
}
cat >"$HOME/.config/containers/storage.conf" <<-CONF
	[storage]
	driver = "${RT_STORAGE:-vfs}"
CONF
export IN_WWW=/www       # where the site is inside

cleanup() {
	{
		podman rm -af -t 0
		podman pod rm -af -t 0
		podman network prune -f
		podman system migrate          # ends the pause process
		podman unshare rm -rf "$HOME/.local/share/containers"
		podman system migrate
	} >/dev/null 2>&1
}
dns() {
	[ -n "$RT_DNS" ] || return 0
	podman exec "$1" nslookup -type=a rt-test.example ${2:-} | grep -q 192.0.2.77 || die "dns in $1"
	say "ok: dns in $1"
}
httpd() { podman run -d "$@" bb httpd -f -p 80 -h /www >/dev/null; }

t_slirp4netns() {        # ports by the helper's API socket
	httpd --name c1 --network slirp4netns:port_handler=slirp4netns -p "127.0.0.1:$p1:80"
	check_in "$p1"; check_out 10.0.2.2 podman exec c1; dns c1 10.0.2.3
	podman restart -t 0 c1 >/dev/null
	check_in "$p1"; check_out 10.0.2.2 podman exec c1
	podman rm -f -t 0 c1 >/dev/null
}
t_log() {                # the address of a client elsewhere in nginx's log
	command -v nginx >/dev/null || { left_out "no nginx"; return 0; }
	[ -n "$RT_FAR" ] || { left_out "no other host"; return 0; }
	podman run -d --name c1 --network slirp4netns:port_handler=slirp4netns -p "$p1:80" bb "$(command -v nginx)" \
		-c /nginx.conf >/dev/null
	check_far "$p1" yes podman logs c1
	podman rm -f -t 0 c1 >/dev/null
}
t_rootlesskit() {        # ports by podman's rootlessport
	httpd --name c1 --network slirp4netns:port_handler=rootlesskit -p "127.0.0.1:$p1:80"
	check_in "$p1"; check_out 10.0.2.2 podman exec c1; dns c1 10.0.2.3
	podman rm -f -t 0 c1 >/dev/null
}
t_options() {            # on the command line; and the binary, too
	conf
	podman --network-cmd-path "$HELPER" run -d --name c1 -p "$p1:80" --network \
		slirp4netns:cidr=10.99.0.0/24,mtu=1400,enable_ipv6=false,allow_host_loopback=true,port_handler=slirp4netns \
		bb httpd -f -p 80 -h /www >/dev/null
	podman exec c1 ip -4 addr show tap0 | grep -q 'inet 10\.99\.0\.100/24' || die "cidr"
	podman exec c1 ip link show tap0 | grep -q 'mtu 1400' || die "mtu"
	! podman exec c1 ip -6 addr show tap0 | grep -q 'inet6 fd00' || die "enable_ipv6=false"
	check_in "$p1"; check_out 10.99.0.2 podman exec c1; dns c1 10.99.0.3
	[ -z "$RT_HOSTIP" ] || { check_in "$p1" "$RT_HOSTIP"; check_out "$RT_HOSTIP" podman exec c1; }
	podman rm -f -t 0 c1 >/dev/null
	[ -n "$RT_HERMETIC" ] || return 0      # a wrong helper might go to a real 10.0.2.2
	# and closed to the host's loopback when not asked for
	podman --network-cmd-path "$HELPER" run -d --name c2 --network slirp4netns bb sleep 60 >/dev/null
	! podman exec c2 timeout 3 wget -q -O /dev/null "http://10.0.2.2:$HP/blob" 2>/dev/null || die "host loopback is open"
	say "ok: host loopback closed by default"
	podman rm -f -t 0 c2 >/dev/null
}
t_pod() {                # two containers behind one helper
	podman pod create --name p1 --network slirp4netns:port_handler=slirp4netns -p "127.0.0.1:$p1:80" >/dev/null
	httpd --pod p1 --name c1
	podman run -d --pod p1 --name c2 bb sleep 600 >/dev/null
	check_in "$p1"; check_out 10.0.2.2 podman exec c2; dns c2 10.0.2.3
	podman exec c2 wget -q -O - http://127.0.0.1/blob | sha256sum | grep -qFx "$SUM_in" || die "pod's own loopback"
	podman pod rm -f -t 0 p1 >/dev/null
}
t_bridge() {             # one helper for the user's rootless-netns
	podman network create n1 >/dev/null
	httpd --network n1 --name c1 -p "127.0.0.1:$p1:80"
	podman run -d --network n1 --name c2 bb sleep 600 >/dev/null
	check_in "$p1"; check_out 10.0.2.2 podman exec c2; dns c2
	podman exec c2 wget -q -O - http://c1/blob | sha256sum | grep -qFx "$SUM_in" || die "c2 -> c1 by name"
	say "ok: container to container by name"
	podman rm -f -t 0 c1 c2 >/dev/null
	podman network rm n1 >/dev/null
}
t_build() {              # buildah looks for "slirp4netns" in PATH only
	mkdir "$W/bin" "$W/ctx"
	ln -s "$HELPER" "$W/bin/slirp4netns"
	cat >"$W/ctx/Containerfile" <<-FILE
		FROM localhost/bb
		RUN wget -q -O /fetched http://10.0.2.2:$HP/blob
		RUN wget -q -O /posted --post-file=/www/blob http://10.0.2.2:$HP/cgi-bin/sum
	FILE
	PATH=$W/bin:$PATH podman build -q -t built "$W/ctx" >/dev/null
	[ "$(podman run --rm --network none built cat /fetched | sha256sum)" = "$SUM_out" ] || die "RUN wget"
	[ "$(podman run --rm --network none built cat /posted)" = "$SUM_in" ] || die "RUN wget --post-file"
	RT_TRAFFIC=1
	say "ok: podman build with RUN through the network"
}
t_buildah() {            # the same, from buildah itself
	command -v buildah >/dev/null || { left_out "no buildah"; return 0; }
	local c
	mkdir -p "$W/bin"
	ln -sf "$HELPER" "$W/bin/slirp4netns"
	c=$(buildah from --pull-never localhost/bb)
	check_out 10.0.2.2 env "PATH=$W/bin:$PATH" buildah run --runtime "$runtime" "$c" --
	buildah rm "$c" >/dev/null
}
t_kube() {               # a pod from a Kubernetes file
	cat >"$W/pod.yaml" <<-YAML
		apiVersion: v1
		kind: Pod
		metadata: {name: k1}
		spec:
		  containers:
		  - name: web
		    image: localhost/bb
		    imagePullPolicy: Never
		    command: [/bin/httpd, -f, -p, "80", -h, /www]
		    ports: [{containerPort: 80, hostPort: $p1, hostIP: 127.0.0.1}]
	YAML
	podman kube play -q --network slirp4netns:port_handler=slirp4netns "$W/pod.yaml" >/dev/null
	check_in "$p1"; check_out 10.0.2.2 podman exec k1-web; dns k1-web 10.0.2.3
	podman kube down "$W/pod.yaml" >/dev/null
}
t_compose() {            # docker-compose through Podman's Docker-compatible socket
	command -v docker-compose >/dev/null || { left_out "no docker-compose"; return 0; }
	local sock=$XDG_RUNTIME_DIR/p.sock s
	podman system service --time 0 "unix://$sock" >"$W/service.log" 2>&1 & s=$!; RT_PIDS+=("$s")
	retry 10 test -S "$sock" || die "podman system service"
	mkdir -p "$W/compose"
	cat >"$W/compose/docker-compose.yml" <<-FILE
		version: "3"
		services:
		  web:
		    image: localhost/bb
		    command: httpd -f -p 80 -h /www
		    ports: ["127.0.0.1:$p1:80"]
		    networks: [inner]
		  client: {image: localhost/bb, command: sleep 600, networks: [inner]}
		networks: {inner: {}}
	FILE
	dc() { (cd "$W/compose" && DOCKER_HOST=unix://$sock docker-compose -p rt "$@" >"$W/compose.log" 2>&1) || { cat "$W/compose.log"; die "docker-compose $*"; }; }
	dc up -d
	check_in "$p1"; check_out 10.0.2.2 podman exec rt_client_1; dns rt_client_1
	podman exec rt_client_1 wget -q -O - http://web/blob | sha256sum | grep -qFx "$SUM_in" || die "client -> web"
	say "ok: service to service by name"
	dc down -t 0
	kill "$s"; wait "$s" || :
}

conf
host_server
busybox_root "$W/root"
nginx_root "$W/root" || say "no nginx"
tar -C "$W/root" -c . | podman import -q -c "ENV PATH=/bin" - bb >/dev/null

[ $# -gt 0 ] || set -- slirp4netns log rootlesskit options pod kube bridge build buildah compose
for t; do
	free_port p1
	conf "network_cmd_path = \"$HELPER\"" 'network_cmd_options = ["allow_host_loopback=true"]'
	part "$t" "t_$t"
done
