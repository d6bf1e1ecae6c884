# SPDX-License-Identifier: Apache-2.0
"""The rows of UDP and DNS from the container: of benchmarks/udp and benchmarks/run."""
import contextlib
import math
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile

from common import DNS, Failure
from rows import Row, Side

KIND, SAMPLED, ALONE = "udp", "8 bytes and the length of each datagram", ()
SIZE, SMALL, QUIC = 1400, 64, 1200
NAMES = "".join(f"host{i}.example A\n" for i in range(1000))


def flood_rows():
    bounds = {
        "flood up": ([("peer", 1.1), ("slirp", 1.7)], [("peer", 0.7)], []),
        "flood down": ([("peer", 1.4)], [], [("fixed", 1)]),
        "runs up": ([("peer", 1)], [], []),
        "runs down": ([("peer", 1)], [], []),
    }
    for kind, what in (("flood", f"{SIZE} bytes"), ("runs", f"{QUIC} bytes, UDP_SEGMENT"),
                       ("small", f"{SMALL} bytes")):
        for way in ("up", "down"):
            name, seldom = f"{kind} {way}", kind == "small"
            rate, cpu, loss = bounds.get(name, ([], [], []))
            yield Row(name, f"datagrams received/s, {what}", True, *rate, optional=seldom)
            yield Row(f"{name} loss", "%", False, *loss, optional=seldom)
            yield Row(f"{name} cpu", "helper's CPU us per datagram received", False, *cpu, optional=seldom)


ROWS = [
    *flood_rows(),
    Row("half up rate", f"datagrams sent/s, {SIZE} bytes", True),
    Row("half up loss", "%", False, ("fixed", 0)),
    Row("half down rate", f"datagrams sent/s, {SIZE} bytes", True),
    Row("half down loss", "%", False, ("fixed", 0)),
    Row("exchanges", f"{SMALL}-byte requests/s", True, ("peer", 1.4)),
    Row("exchanges p50", "us", False),
    Row("exchanges p99", "us", False),
    Row("exchanges latency", "us by percent", False, is_series=True),
    Row("exchanges lost", "requests or responses", False, ("fixed", 0)),
    Row("dns", "queries/s, dnsperf and dnsmasq", True, ("loopback", 0.8)),
    Row("dns lost", "queries", False, ("fixed", 0)),
]


# --- what is measured; each yields (row, figure) or raises Failure

def flood(side, args, kind, way, size, rate=0):
    mode = {"up": "send", "down": "receive"}[way] + ("-runs" if kind == "runs" else "")
    service = {"up": "sink", "down": "source"}[way]
    answer = side.run(mode, service, args.seconds, size, rate, seconds=args.seconds + 40)
    if not answer["n"] or answer["seconds"] < args.seconds / 2:
        raise Failure(f"of {answer['sent']} datagrams {answer['n']} arrived")
    return answer


def loss_percent(answer):
    return (1 - answer["n"] / answer["sent"]) * 100


def measure_flood(side, args, kind, way, size):
    before = side.helper.cpu_seconds() if side.helper else 0
    answer = flood(side, args, kind, way, size)
    yield f"{kind} {way}", answer["n"] / answer["seconds"]
    yield f"{kind} {way} loss", loss_percent(answer)
    if side.helper:
        yield f"{kind} {way} cpu", (side.helper.cpu_seconds() - before) / answer["n"] * 1e6


def measure_half(side, args, way):
    answer = flood(side, args, "flood", way, SIZE, args.half(way))
    yield f"half {way} rate", answer["sent"] / args.seconds
    yield f"half {way} loss", loss_percent(answer)


def measure_exchanges(side, args):
    answer = side.run("exchange", "echo", args.seconds, SMALL)
    yield "exchanges", answer["n"] / answer["seconds"]
    yield "exchanges p50", answer["p50_us"]
    yield "exchanges p99", answer["p99_us"]
    yield "exchanges lost", answer["lost"]
    yield "exchanges latency", answer["quantiles_us"]


def measure_dns(side, args):
    if side.is_veth:  # which has no resolver
        return
    with side.popen([args.dnsperf(), "-s", DNS if side.helper else "127.0.0.1", "-d", args.names, "-l", math.ceil(args.seconds), "-c", 4],
               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as client:
        text = client.stdout.read().decode()
    found = {key: re.search(rf"{key}: *([0-9.]+)", text)
             for key in ("Queries completed", "Queries lost", "Queries per second")}
    if not all(found.values()) or found["Queries completed"][1] == "0":
        raise Failure("no query was answered")
    yield "dns", float(found["Queries per second"][1])
    yield "dns lost", int(found["Queries lost"][1])


def measurements(args):
    """(rows, MTU, function, its arguments), in the order in which one helper runs them."""
    for kind, size in (("flood", SIZE), ("runs", QUIC), ("small", SMALL)):
        for way in ("up", "down"):
            rows = [f"{kind} {way}{what}" for what in ("", " loss", " cpu")]
            yield rows, 1500, measure_flood, (kind, way, size)
    for way in ("up", "down"):
        yield [f"half {way} rate", f"half {way} loss"], 1500, measure_half, (way,)
    yield [f"exchanges{what}" for what in ("", " p50", " p99", " lost", " latency")], 1500, measure_exchanges, ()
    yield ["dns", "dns lost"], 1500, measure_dns, ()


# --- what it needs

class Halves:
    """Half of the best peer's rate each way, measured when it is first asked for."""

    def __init__(self, loads, peers, args):
        self.loads, self.peers, self.args, self.known = loads, peers, args, {}

    def __call__(self, way):
        if way not in self.known:
            best = max((self.of(peer, way) for peer in self.peers), default=0)
            self.known[way] = int(best / 2)
            print(f"half of the best peer's rate {way}: {self.known[way]}/s", file=sys.stderr)
        if not self.known[way]:
            raise Failure("no peer to take half of")
        return self.known[way]

    def of(self, peer, way):
        try:
            with Side(self.loads, peer, 1500) as side:
                answer = flood(side, self.args, "flood", way, SIZE)
            return answer["n"] / answer["seconds"]
        except Failure as failure:
            print(f"{peer.name}: {failure}", file=sys.stderr)
            return 0


def is_bound(host):
    """Whether something has port 53 of the host's."""
    with open(f"/proc/{host.pid}/net/udp", encoding="ascii") as file:
        return any(line.split()[1].endswith(":0035") for line in file.readlines()[1:])


class Dns:
    """dnsmasq on the host's loopback, started when dnsperf is first asked for; dnsperf's path."""

    def __init__(self, host, stack):
        self.host, self.stack, self.server = host, stack, None

    def __call__(self):
        for name, package in (("dnsperf", "dnsperf"), ("dnsmasq", "dnsmasq-base")):
            if not shutil.which(name):
                raise Failure(f"{name} is not installed: apt-get install {package}")
        if not self.server:
            self.server = self.stack.enter_context(self.host.popen(
                ["dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts",
                 "--listen-address=127.0.0.1", "--bind-interfaces", "--address=/example/192.0.2.99",
                 "--cache-size=0"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        while not is_bound(self.host):
            if self.server.poll() is not None:
                raise Failure("dnsmasq does not start")
            select.select([], [], [], 0.005)
        return shutil.which("dnsperf")


@contextlib.contextmanager
def resolv_conf():
    """A file for the host, whose nameserver is its own loopback."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = os.path.join(folder, "resolv.conf")
        with open(path, "w", encoding="ascii") as file:
            file.write("nameserver 127.0.0.1\n")
        yield path


def prepare(args, loads, peers, stack):
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    os.chmod(folder, 0o755)
    args.names = os.path.join(folder, "names")
    with open(args.names, "w", encoding="ascii") as file:
        file.write(NAMES)
    args.half = Halves(loads, peers, args)
    args.dnsperf = Dns(loads.host, stack)
