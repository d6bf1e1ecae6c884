#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Real servers and clients on both sides of the helper: nginx + curl (plain and
# TLS, many requests at a time), wrk and h2load, node http, dnsmasq + dig (UDP and TCP, large
# answers), iperf3 (TCP both ways, UDP out).
# apt: nginx-light openssl wrk nghttp2-client nodejs dnsmasq-base bind9-dnsutils iperf3 socat + lib.sh's base packages
# Usage: [HELPER=...] services.sh [nginx|load|node|dns|iperf3|burst]...
. "$(dirname "$0")/lib.sh"; rt_init "$@"
need unshare nsenter socat

# One namespace for all; all of the user's ids, since nginx drops to nobody.
bg_up 5 unshare --user --map-root-user --map-auto --net sh -c 'echo 1 >&7; exec sleep 600 7>&-' || die "unshare"
N=$BG
IN=(nsenter -t "$N" -U --preserve-credentials -n --)
S=$W/api
helper() { exec "$HELPER" --configure --mtu=65520 --ready-fd=3 --api-socket="$S" "$N" tap0 3>&7 7>&- >"$W/helper.log" 2>&1; }
bg_up 10 helper || { cat "$W/helper.log" >&2; die "no ready-fd"; }
H=$BG

forward() {      # forward PROTO GUESTPORT [HOSTPORT]: sets P
	[ $# -gt 2 ] && P=$3 || free_port P
	printf '{"execute":"add_hostfwd","arguments":{"proto":"%s","host_addr":"'"${LISTEN:-127.0.0.1}"'","host_port":%s,"guest_addr":"10.0.2.100","guest_port":%s}}' \
		"$1" "$P" "$2" | socat -t 20 - "UNIX-CONNECT:$S" | grep -q '"id"' || die "add_hostfwd $*"
}
mem() { awk '/VmRSS/ {print $2 " kB"}' "/proc/$H/status"; }

t_nginx() {
	local d=$W/nginx side addr port tls
	command -v nginx >/dev/null && command -v openssl >/dev/null || { left_out "no nginx or openssl"; return 0; }
	mkdir -p "$d"; chmod 755 "$W"
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=rt-test.example \
		-addext subjectAltName=DNS:rt-test.example -keyout "$d/key" -out "$d/cert" 2>/dev/null
	for side in out in; do
		if [ $side = in ]; then addr=0.0.0.0 port=80 tls=443; else addr=127.0.0.1; free_port port; free_port tls; fi
		[ $side = in ] || { OP=$port; OT=$tls; }
		cat >"$d/$side.conf" <<-CONF
			daemon off; pid $d/$side.pid; error_log $d/$side.err; worker_processes 2;
			events { worker_connections 256; }
			http {
			  access_log off; sendfile on; keepalive_requests 1000;
			  client_body_temp_path $d/$side.1; proxy_temp_path $d/$side.2; fastcgi_temp_path $d/$side.3;
			  uwsgi_temp_path $d/$side.4; scgi_temp_path $d/$side.5;
			  server { listen $addr:$port; listen $addr:$tls ssl http2; ssl_certificate $d/cert; ssl_certificate_key $d/key;
			    root $W/$side; location = /small { return 200 "small\n"; } }
			}
		CONF
	done
	bg nginx -e "$d/out.err" -c "$d/out.conf" 2>/dev/null
	bg "${IN[@]}" nginx -e "$d/in.err" -c "$d/in.conf"
	forward tcp 80; IP=$P; forward tcp 443; IT=$P
	local k=(curl -fsS -m 120 --cacert "$d/cert") i
	retry 10 curl -fs -o /dev/null "http://127.0.0.1:$OP/small" || { cat "$d/out.err" >&2; die "nginx outside"; }
	retry 10 curl -fs -o /dev/null "http://127.0.0.1:$IP/small" || { cat "$d/in.err" >&2; die "nginx inside"; }
	[ "$("${k[@]}" "http://127.0.0.1:$IP/blob" | sha256sum)" = "$SUM_in" ] || die "http in"
	[ "$("${IN[@]}" "${k[@]}" "http://10.0.2.2:$OP/blob" | sha256sum)" = "$SUM_out" ] || die "http out"
	[ "$("${k[@]}" --resolve "rt-test.example:$IT:127.0.0.1" "https://rt-test.example:$IT/blob" | sha256sum)" = "$SUM_in" ] || die "https in"
	[ "$("${IN[@]}" "${k[@]}" --resolve "rt-test.example:$OT:10.0.2.2" "https://rt-test.example:$OT/blob" | sha256sum)" = "$SUM_out" ] || die "https out"
	say "ok: nginx, http and https both ways"
	many "http://127.0.0.1:$IP/small" 4              # see t_burst for why not more
	many "http://10.0.2.2:$OP/small" 50 "${IN[@]}"
	RT_TRAFFIC=1; say "ok: nginx, 2600 requests; helper's memory $(mem)"
}
many() {         # many URL CONNECTIONS RUN...: 300 requests over so many connections, then 1000 over one
	local u=$1 c=$2 n t; shift 2
	t=$(date +%s%N)
	n=$("$@" curl -sS -m 240 -Z --parallel-max "$c" --no-progress-meter "$u?[1-300]" | grep -c small)
	[ "$n" = 300 ] || die "$n of 300 requests to $u over $c connections"
	n=$("$@" curl -sS -m 240 --no-progress-meter "$u?[1-1000]" | grep -c small)
	[ "$n" = 1000 ] || die "$n of 1000 requests to $u over one connection"
	say "ok: 300 requests over $c connections, 1000 over one, $(( ($(date +%s%N) - t) / 1000000 )) ms, $u"
}
# Not among the defaults, for comparisons: slirp4netns 1.2.0 and 1.3.2 mostly
# fail it.  They listen with a backlog of 1, so of 50 connections at once to a
# forwarded port some stall for a second and some for minutes.
t_burst() {
	local i n
	[ -n "${IP:-}" ] || t_nginx
	for i in 1 2 3 4 5; do
		n=$(curl -sS -m 20 -Z --parallel-max 50 --no-progress-meter "http://127.0.0.1:$IP/small?[1-300]" 2>/dev/null | grep -c small)
		[ "$n" = 300 ] || die "burst $i: $n of 300 requests answered within 20 s"
	done
	say "ok: 5 bursts of 50 connections to a forwarded port"
}

t_load() {       # as hard as they can, from both kinds of clients: no request may fail
	local addr out
	command -v wrk >/dev/null && command -v h2load >/dev/null || { left_out "no wrk or h2load"; return 0; }
	[ -n "${IP:-}" ] || t_nginx
	[ -n "${IP:-}" ] || return 0
	LISTEN=0.0.0.0 forward tcp 80; local plain=$P
	LISTEN=0.0.0.0 forward tcp 443; local tls=$P
	for addr in 127.0.0.1 $RT_HOSTIP; do
		out=$(wrk -t 2 -c 50 -d 2s --timeout 10s "http://$addr:$plain/small" 2>&1) || die "wrk: $out"
		grep -q 'Requests/sec' <<<"$out" && ! grep -qE 'Socket errors|Non-2xx' <<<"$out" || die "wrk, $addr: $out"
		say "ok: wrk, $addr: $(sed -n 's/^ *\([0-9]* requests in .*\)/\1/p' <<<"$out")"
		out=$(h2load -n 10000 -c 50 -m 10 "https://$addr:$tls/small" 2>&1) || die "h2load: $out"
		grep -q ' 10000 succeeded, 0 failed, 0 errored, 0 timeout' <<<"$out" || die "h2load, $addr: $out"
		say "ok: h2load, $addr: $(grep '^finished in' <<<"$out")"
	done
	RT_TRAFFIC=1
}

t_node() {       # streams a request back, chunked, in both directions at once
	command -v node >/dev/null || { left_out "no node"; return 0; }
	cat >"$W/echo.js" <<-'JS'
		require('http').createServer((q, r) => q.pipe(r)).listen(+process.argv[3], process.argv[2]);
	JS
	cat >"$W/ask.js" <<-'JS'
		// 20 requests of 1 MB, so many at a time, streamed up and compared while it comes down
		const http = require('http'), crypto = require('crypto'), [, , host, port, many] = process.argv;
		const one = () => new Promise((ok, no) => {
		  const up = crypto.createHash('sha256'), down = crypto.createHash('sha256'); let n = 0;
		  const q = http.request({host, port, method: 'POST', agent: false, timeout: 100000}, r => {
		    r.on('data', d => { n += d.length; down.update(d); });
		    r.on('end', () => n === 1 << 20 && up.digest('hex') === down.digest('hex') ? ok() : no(new Error('got ' + n + ' bytes')));
		  });
		  q.on('error', no); q.on('timeout', () => q.destroy(new Error('timeout')));
		  for (let i = 0; i < 16; i++) { const b = crypto.randomBytes(65536); up.update(b); q.write(b); }
		  q.end();
		});
		let left = 20;
		const worker = async () => { while (left-- > 0) await one(); };
		Promise.all(Array.from({length: +many}, worker)).then(() => process.exit(0), e => { console.error(e); process.exit(1); });
	JS
	local o; free_port o
	bg node "$W/echo.js" 127.0.0.1 "$o"
	bg "${IN[@]}" node "$W/echo.js" 0.0.0.0 8000
	forward tcp 8000
	retry 10 curl -fs -d x "http://127.0.0.1:$o/" || die "node outside"
	retry 10 curl -fs -d x "http://127.0.0.1:$P/" || die "node inside"
	node "$W/ask.js" 127.0.0.1 "$P" 2 || die "node host -> inside"
	"${IN[@]}" node "$W/ask.js" 10.0.2.2 "$o" 20 || die "node inside -> host"
	RT_TRAFFIC=1; say "ok: node, 20 streams each way; helper's memory $(mem)"
}

t_dns() {        # a server on each side; answers of 40 bytes and of 1.3 kB, UDP and TCP
	command -v dnsmasq >/dev/null && command -v dig >/dev/null || { left_out "no dnsmasq or dig"; return 0; }
	local o i t big=() m=(dnsmasq --keep-in-foreground --conf-file=/dev/null --pid-file= --no-resolv --no-hosts --edns-packet-max=4096
		--user= --group= --bind-interfaces --address=/a.example/192.0.2.1)
	for i in 1 2 3 4 5 6; do big+=("--txt-record=big.example,$(printf "$i%.0s" {1..200})"); done
	free_port o
	bg "${m[@]}" "${big[@]}" --listen-address=127.0.0.1 --port="$o"
	bg "${IN[@]}" "${m[@]}" "${big[@]}" --listen-address=10.0.2.100 --port=5300
	forward udp 5300; forward tcp 5300 "$P"
	ask() {          # ask SERVER PORT RUN...
		local s=$1 p=$2 t; shift 2
		retry 10 "$@" dig +tries=1 +time=1 "@$s" -p "$p" a.example || die "no answer from $s"
		for t in +notcp +tcp; do
			[ "$("$@" dig $t +short +tries=3 +time=10 "@$s" -p "$p" a.example)" = 192.0.2.1 ] || die "dig $t a.example at $s"
			[ "$("$@" dig $t +short +ignore +bufsize=4096 +tries=3 +time=10 "@$s" -p "$p" TXT big.example | wc -l)" = 6 ] || die "dig $t big.example at $s"
		done
		say "ok: dns, UDP and TCP, $s"
	}
	ask 10.0.2.2 "$o" "${IN[@]}"
	ask 127.0.0.1 "$P"
	RT_TRAFFIC=1
	[ -z "$RT_DNS" ] || {
		[ "$("${IN[@]}" dig +short @10.0.2.3 rt-test.example)" = 192.0.2.77 ] || die "10.0.2.3 by UDP"
		[ "$("${IN[@]}" dig +short +tcp @10.0.2.3 rt-test.example)" = 192.0.2.77 ] || die "10.0.2.3 by TCP"
		say "ok: 10.0.2.3, UDP and TCP"
	}
}

t_iperf3() {     # T seconds each
	command -v iperf3 >/dev/null || { left_out "no iperf3"; return 0; }
	local o T=${RT_IPERF_T:-1} f
	free_port o
	bg iperf3 -s -B 127.0.0.1 -p "$o" >/dev/null
	bg "${IN[@]}" iperf3 -s -p 5201 >/dev/null
	forward tcp 5201
	retry 5 eval '[ -n "$(ss -Hltn "sport = :$o")" ]'
	rate() { sed -n 's/.* \([0-9.]* [KMG]bits\/sec\).*receiver.*/\1/p'; }
	f=$("${IN[@]}" iperf3 -c 10.0.2.2 -p "$o" -t "$T") || die "iperf3 out: $f";              say "ok: iperf3 inside -> host, upload:   $(rate <<<"$f")"
	f=$("${IN[@]}" iperf3 -c 10.0.2.2 -p "$o" -t "$T" -R) || die "iperf3 out -R: $f";        say "ok: iperf3 inside -> host, download: $(rate <<<"$f")"
	f=$("${IN[@]}" iperf3 -c 10.0.2.2 -p "$o" -t "$T" -P 8) || die "iperf3 out -P 8: $f";    say "ok: iperf3 inside -> host, 8 streams: $(grep SUM <<<"$f" | rate)"
	f=$(iperf3 -c 127.0.0.1 -p "$P" -t "$T") || die "iperf3 in: $f";                         say "ok: iperf3 host -> inside, upload:   $(rate <<<"$f")"
	f=$(iperf3 -c 127.0.0.1 -p "$P" -t "$T" -R) || die "iperf3 in -R: $f";                   say "ok: iperf3 host -> inside, download: $(rate <<<"$f")"
	f=$("${IN[@]}" iperf3 -c 10.0.2.2 -p "$o" -t "$T" -u -b 50M -l 1400) || die "iperf3 -u: $f"
	say "ok: iperf3 UDP 50 Mbit/s, inside -> host: $(rate <<<"$f"), lost $(sed -n 's/.* \([0-9]*\/[0-9]* ([^)]*)\).*receiver.*/\1/p' <<<"$f")"
	RT_TRAFFIC=1; say "helper's memory $(mem)"
}

[ $# -gt 0 ] || set -- nginx load node dns iperf3
for t; do part "$t" "t_$t"; done
