# SPDX-License-Identifier: Apache-2.0
"""The rows of TCP from the container: of benchmarks/tcp and benchmarks/run."""
import os
import resource
import statistics
import subprocess
import time

from common import Container, Failure, FarHost, Helper, count_syscalls, read_line
from links import Relay
from rows import Row, answer_of

KIND, SAMPLED = "tcp", "8 bytes of each 4 KiB compared"
LIMITS = (Relay(),)
MTUS = (1500, 65520)
SPARE_FILES = 96  # of a program beside one per connection
N_TRACED = 1000  # exchanges, and then three times as many
DELAYS_MS = (1, 10, 40)
GIB = 1 << 30
TICKS_MIN = 5  # fewer of a hundredth of a second say nothing


def throughput_rows():
    up = {1500: [("slirp", 15), ("loopback", 0.5)], 65520: [("up 1500", 0.95)]}
    down = {1500: [("slirp", 10), ("loopback", 0.5)], 65520: [("down 1500", 0.95), ("peer", 1.3)]}
    for mtu in (576, 1280, 1500, 9000, 65520):
        seldom = mtu not in MTUS
        yield Row(f"up {mtu}", "Gbit/s", True, *up.get(mtu, []), optional=seldom)
        yield Row(f"down {mtu}", "Gbit/s", True, *down.get(mtu, []), optional=seldom)
        for way in ("up", "down"):
            yield Row(f"cpu {way} {mtu}", "helper's CPU s/GiB", False, ("fixed", 0.2), optional=seldom)
            yield Row(f"switches {way} {mtu}", "helper's voluntary switches/GiB", False, optional=seldom)
        yield Row(f"tx drops {mtu}", "frames, in one bulk stream up", False, ("fixed", 0),
                  optional=seldom)


def path_rows():
    """For pictures: by round-trip time, and by connections."""
    for ms in DELAYS_MS:
        for way in ("up", "down"):
            yield Row(f"delay {2 * ms} {way}", f"Gbit/s, {2 * ms} ms", True, ("loopback", 0.95), optional=True)
    for n in (100, 5000):
        yield Row(f"idle {n} pss", "MB, all processes", False, optional=True)
    for way in ("up", "down"):
        yield Row(f"minute {way}", "slowest second / median second of a minute", True, ("fixed", 0.5), optional=True)
        yield Row(f"minute {way} seconds", "Gbit/s of each second", True, is_series=True)


def wire_rows():
    for mtu in MTUS:
        for loss in ("", " lossy"):
            for way in ("up", "down"):
                yield Row(f"wire{loss} {way} {mtu}", "Gbit/s, 20 ms" + (", 0.1 % lost" if loss else ""),
                          True, ("loopback", 0.95))


ROWS = [
    *throughput_rows(),
    Row("exchanges", "1-byte requests/s", True, ("peer", 1.3)),
    Row("exchanges p50", "us", False),
    Row("exchanges p99", "us", False, ("peer", 1.1)),
    Row("exchanges latency", "us by percent", False, is_series=True),
    Row("syscalls", "of the helper per exchange, without those of its connection", False, ("fixed", 6)),
    Row("connects", "connect, request, close/s", True, ("peer", 1.5)),
    Row("connects p99", "us", False),
    Row("beside up", "p99 beside a bulk flow up / p99 alone", False, ("loopback", 2)),
    Row("beside down", "p99 beside a bulk flow down / p99 alone", False, ("loopback", 2)),
    *(Row(f"syscalls {way} 1500", "of the helper per GiB, while it is traced", False, optional=True)
      for way in ("up", "down")),
    Row("kernel share up", "% of the helper's CPU time", True, optional=True),
    Row("kernel share down", "% of the helper's CPU time", True, optional=True),
    Row("kernel share exchanges", "% of the helper's CPU time", True, optional=True),
    Row("ready", "ms from spawn to ready, median", False, optional=True),
    Row("memory at start", "MB, PSS of all processes", False, ("fixed", 4)),
    Row("idle 1000 opens", "opened/s", True, ("peer", 1)),
    Row("idle 1000 p50", "us, one request on each", False, ("peer", 1)),
    Row("idle 1000 rss", "MB, all processes", False, ("fixed", 8)),
    Row("idle 1000 pss", "MB, all processes", False),
    Row("idle many opens", "opened/s", True),
    Row("idle many p50", "us, one request on each", False, ("idle 1000 p50", 1.1)),
    Row("idle many rss", "MB, all processes", False, ("fixed", 32)),
    *wire_rows(),
    *path_rows(),
    Row("stream up", "slowest second / median second", True, ("fixed", 0.5)),
    Row("stream down", "slowest second / median second", True, ("fixed", 0.5)),
]


def stream(side, way, seconds, far=None):
    mode, service = {"up": ("send", "sink"), "down": ("receive", "source")}[way]
    answer = side.run(mode, service, seconds, far=far, seconds=seconds + 40)
    if answer["seconds"] < seconds / 2:
        raise Failure(f"the stream was over after {answer['seconds']:.1f} s")
    return answer


def gbit(answer):
    return answer["bytes"] * 8 / answer["seconds"] / 1e9


# --- what is measured; each yields (row, figure) or raises Failure

def per_gib(answer, n):
    return n / (answer["bytes"] / GIB)


def kernel_share(side, before):
    user, system = (after - ticks for after, ticks in zip(side.helper.cpu_ticks(), before))
    return 100 * system / (user + system) if user + system >= TICKS_MIN else None


def measure_stream(side, args, way, mtu):
    before = side.helper.cpu_seconds() if side.helper else 0
    switches = side.helper.switches() if side.helper else 0
    drops = side.container.tx_drops() if side.helper else 0
    answer = stream(side, way, args.seconds)
    yield f"{way} {mtu}", gbit(answer)
    if side.helper:
        yield f"cpu {way} {mtu}", per_gib(answer, side.helper.cpu_seconds() - before)
        yield f"switches {way} {mtu}", per_gib(answer, side.helper.switches() - switches)
        if way == "up":
            yield f"tx drops {mtu}", side.container.tx_drops() - drops


def measure_share(side, args, what):
    """Where the helper's time goes, beside the counts of instructions in its own code."""
    if side.helper:
        before = side.helper.cpu_ticks()
        if what == "exchanges":
            side.run("exchange", "echo", args.seconds)
        else:
            stream(side, what, args.seconds)
        share = kernel_share(side, before)
        if share is not None:
            yield f"kernel share {what}", share


def measure_stream_syscalls(side, args, way):
    if side.helper:
        answers = []
        n = count_syscalls(side.helper, lambda: answers.append(stream(side, way, args.seconds)))
        yield f"syscalls {way} 1500", per_gib(answers[0], n)


def measure_ready(side, args):
    """Not of pasta, which tells nobody that it is ready."""
    if not side.helper or side.program.is_pasta:
        return
    times = []
    with Container(side.loads.host) as container:
        for _ in range(args.spawns):
            with Helper(side.program, side.loads.host, container, 1500) as helper:
                times.append(helper.ready_ms)
            end = time.monotonic() + 5
            while container.tap_counters() and time.monotonic() < end:
                pass
    yield "ready", statistics.median(times)


def measure_exchanges(side, args):
    answer = side.run("exchange", "echo", args.seconds)
    yield "exchanges", answer["n"] / answer["seconds"]
    yield "exchanges p50", answer["p50_us"]
    yield "exchanges p99", answer["p99_us"]
    yield "exchanges latency", answer["quantiles_us"]


def measure_syscalls(side, args):
    """What begins and ends the connection, and the tracing, is in both counts alike: it is not in their difference."""
    if side.helper:
        few, many = (count_syscalls(side.helper, lambda n=n: side.run("exchanges", "echo", n))
                     for n in (N_TRACED, 3 * N_TRACED))
        yield "syscalls", (many - few) / (2 * N_TRACED)


def measure_connects(side, args):
    answer = side.run("connect", "many", args.seconds)
    yield "connects", answer["n"] / answer["seconds"]
    yield "connects p99", answer["p99_us"]


def measure_beside(side, args, way):
    alone = side.run("exchange", "echo", args.seconds)["p99_us"]
    mode, service = ("send", "sink") if way == "up" else ("receive", "source")
    first_windows_s = 0.3
    with side.start(mode, service, args.seconds + first_windows_s + 0.2) as bulk:
        time.sleep(first_windows_s)
        beside = side.run("exchange", "echo", args.seconds)["p99_us"]
        answer_of(read_line(bulk, 60, "the bulk flow"))
    yield f"beside {way}", beside / alone


def most_connections():
    """That the hard descriptor limit has room for, which not even root can raise everywhere."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 5 * SPARE_FILES


def measure_idle(side, args, label, n):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < n + SPARE_FILES:
        raise Failure(f"{n} connections do not fit the hard descriptor limit, {hard}")
    with side.start("idle", "many", n, stdin=subprocess.PIPE) as client:
        answer = answer_of(read_line(client, 60, "idle connections"))
        memory = {field: side.helper.memory_kib(field) for field in ("Rss", "Pss")} if side.helper else {}
        client.stdin.close()
        client.wait()
    yield f"idle {label} opens", n / answer["seconds"]
    yield f"idle {label} p50", answer["p50_us"]
    for field, kib in memory.items():
        yield f"idle {label} {field.lower()}", kib / 1000


def measure_memory(side, args):
    if side.helper:
        yield "memory at start", side.helper.memory_kib() / 1000


def measure_delay(side, args, way, ms):
    if not side.is_veth:  # nothing of the host's forwards
        yield f"delay {2 * ms} {way}", gbit(stream(side, way, args.wire_seconds, args.far(0, ms)))


def measure_minute(side, args, way):
    whole = stream(side, way, args.minute_seconds)["per_second"][:args.minute_seconds]
    yield f"minute {way}", min(whole) / sorted(whole)[len(whole) // 2]
    yield f"minute {way} seconds", [n * 8 / 1e9 for n in whole]


def measure_wire(side, args, way, mtu, loss):
    if side.is_veth:
        return
    far = args.far(0.001 if loss else 0)
    yield f"wire{loss} {way} {mtu}", gbit(stream(side, way, args.wire_seconds, far))


def measure_seconds(side, args, way):
    whole = stream(side, way, args.stream_seconds)["per_second"][:args.stream_seconds]
    yield f"stream {way}", min(whole) / sorted(whole)[len(whole) // 2]


def measurements(args):
    """(rows, MTU, function, its arguments), in the order in which one helper runs them."""
    yield ["memory at start"], 1500, measure_memory, ()
    for mtu in (576, 1280, 1500, 9000, 65520):
        up = [f"up {mtu}", f"cpu up {mtu}", f"switches up {mtu}", f"tx drops {mtu}"]
        yield up, mtu, measure_stream, ("up", mtu)
        yield [f"down {mtu}", f"cpu down {mtu}", f"switches down {mtu}"], mtu, measure_stream, ("down", mtu)
    yield [f"exchanges{what}" for what in ("", " p50", " p99", " latency")], 1500, measure_exchanges, ()
    yield ["syscalls"], 1500, measure_syscalls, ()
    yield ["connects", "connects p99"], 1500, measure_connects, ()
    for way in ("up", "down"):
        yield [f"syscalls {way} 1500"], 1500, measure_stream_syscalls, (way,)
    for what in ("up", "down", "exchanges"):
        yield [f"kernel share {what}"], 1500, measure_share, (what,)
    yield ["ready"], 1500, measure_ready, ()
    for ms in DELAYS_MS:
        for way in ("up", "down"):
            yield [f"delay {2 * ms} {way}"], 1500, measure_delay, (way, ms)
    for way in ("up", "down"):
        yield [f"minute {way}", f"minute {way} seconds"], 1500, measure_minute, (way,)
    for way in ("up", "down"):
        yield [f"beside {way}"], 1500, measure_beside, (way,)
    for mtu in MTUS:
        for loss in ("", " lossy"):
            for way in ("up", "down"):
                yield [f"wire{loss} {way} {mtu}"], mtu, measure_wire, (way, mtu, loss)
    for way in ("up", "down"):
        yield [f"stream {way}"], 1500, measure_seconds, (way,)
    for label, n in (("100", 100), ("1000", 1000), ("5000", 5000), ("many", args.many)):
        yield [f"idle {label} {what}" for what in ("opens", "p50", "rss", "pss")], 1500, measure_idle, (label, n)


# In a helper that has done nothing else, whose memory is looked at.
ALONE = (measure_memory, measure_idle)


def add_options(parser):
    parser.add_argument("--wire-seconds", type=float, default=4, help="of one stream over a delay")
    parser.add_argument("--stream-seconds", type=int, default=10, help="of the stream that is sampled per second")
    parser.add_argument("--minute-seconds", type=int, default=60, help="of the rows 'minute'")
    parser.add_argument("--spawns", type=int, default=10, help="of one round of the row 'ready'")
    parser.add_argument("--many", type=int, default=20000, help="connections of the rows 'idle many'")


def prepare(args, loads, peers, stack):
    far_hosts = {}

    def far(loss, delay_ms=10):
        """A host behind a delay line, which stays; made when it is first asked for."""
        if (loss, delay_ms) not in far_hosts:
            line = os.path.join(loads.folder, "tests/support/delay-line")
            far_hosts[loss, delay_ms] = stack.enter_context(
                FarHost(loads.host, line, len(far_hosts), delay_ms, loss))
        return far_hosts[loss, delay_ms]

    args.far = far
