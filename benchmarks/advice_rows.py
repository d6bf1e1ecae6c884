# SPDX-License-Identifier: Apache-2.0
"""What a user can choose, each choice measured beside the default: the rows of benchmarks/run that docs/performance.md
gives its advice from. Only the program's own helper is measured."""
import collections
import contextlib
import os
import shutil
import subprocess
import sys
import time

from common import Failure, FarHost
from links import Setting
from real_rows import bound_ports, find, iperf3
from rows import Row
from tcp_rows import gbit, stream

KIND, SAMPLED, ALONE = "tcp", "8 bytes of each 4 KiB compared", ()
DEFAULT = "as it is"
DELAY_MS = 40
PUBLISHED_PORT = 7777

# One choice: what is changed, into which variants, and what is looked at.
Topic = collections.namedtuple("Topic", "name title variants whats")
TOPICS = [
    Topic("mtu", "MTU of the tap", ["1500", "9000", "65520"], ["TCP up", "TCP down", "UDP of 8000 bytes up"]),
    Topic("processors", "processors (taskset, cpusets)", [DEFAULT, "helper apart", "all on one"],
          ["TCP up", "TCP down", "exchanges"]),
    Topic("busy-poll", "--busy-poll, in microseconds", ["40", "0"], ["TCP up", "TCP down", "exchanges"]),
    Topic("offloads", "the tap's offloads in the container (ethtool -K)", [DEFAULT, "gro off", "tso off"],
          ["TCP up", "TCP down"]),
    Topic("tcp_rmem", f"net.ipv4.tcp_rmem and tcp_wmem of the host, over {2 * DELAY_MS} ms",
          [DEFAULT, "1 MB", "32 MB"], ["TCP up", "TCP down"]),
    Topic("rmem_max", "net.core.rmem_max and wmem_max of the host", [DEFAULT, "208 KiB"],
          ["UDP of 1400 bytes up", "UDP of 1400 bytes down"]),
    Topic("pipes", "pipe pages left to the user (fs.pipe-user-pages-soft), port published", [DEFAULT, "used up"],
          ["TCP in", "TCP out"]),
]
UNITS = {"exchanges": "1-byte requests/s"}


def unit_of(what):
    return UNITS.get(what, "Gbit/s received" if what.startswith("UDP") else "Gbit/s")


def row_name(topic, variant, what):
    return f"advice {topic}, {variant}: {what}"


ROWS = [Row(row_name(topic.name, variant, what), unit_of(what), True)
        for topic in TOPICS for variant in topic.variants for what in topic.whats]


def figures(side, args, whats, far=None):
    """(what, figure) of each."""
    for what in whats:
        if what == "exchanges":
            answer = side.run("exchange", "echo", args.seconds, far=far)
            yield what, answer["n"] / answer["seconds"]
        elif what.startswith("TCP"):
            seconds = args.wire_seconds if far else args.seconds
            yield what, gbit(stream(side, what.split()[1], seconds, far))
        else:
            _, _, size, _, way = what.split()
            args.iperf3_server()
            total = iperf3(side.popen, side.address, args.seconds, "-u", "-b", "0", "-l", size,
                           *(["-R"] if way == "down" else []))["sum"]
            yield what, total["bits_per_second"] * (100 - total["lost_percent"]) / 100 / 1e9


def named(topic, variant, found):
    for what, figure in found:
        yield row_name(topic.name, variant, what), figure


def measure_setting(side, args, topic, variant):
    """The side is another one already."""
    yield from named(topic, variant, figures(side, args, topic.whats))


# --- processors

def all_tasks(pids):
    for pid in pids:
        with contextlib.suppress(OSError):
            yield from (int(task) for task in os.listdir(f"/proc/{pid}/task"))


@contextlib.contextmanager
def pinned(side, helper_cpus, load_cpus):
    """Threads and processes that are begun meanwhile inherit it."""
    before = os.sched_getaffinity(0)
    groups = [(side.helper.pids(), helper_cpus), (side.loads.server_pids, load_cpus)]
    try:
        for pids, cpus in groups:
            for task in all_tasks(pids):
                os.sched_setaffinity(task, cpus)
        os.sched_setaffinity(0, load_cpus)
        yield
    finally:
        os.sched_setaffinity(0, before)
        for task in all_tasks([*side.helper.pids(), *side.loads.server_pids]):
            os.sched_setaffinity(task, before)


def measure_processors(side, args, topic, variant):
    cpus = sorted(os.sched_getaffinity(0))
    side.loads.ports()  # the server is there
    if variant == DEFAULT:
        yield from named(topic, variant, figures(side, args, topic.whats))
        return
    if len(cpus) < 2:
        raise Failure("there is one processor")
    one, others = {cpus[0]}, set(cpus[1:])
    with pinned(side, one, one if variant == "all on one" else others):
        yield from named(topic, variant, figures(side, args, topic.whats))


# --- offloads

def measure_offloads(side, args, topic, variant):
    if variant == DEFAULT:
        yield from named(topic, variant, figures(side, args, topic.whats))
        return
    if not shutil.which("ethtool"):
        raise Failure("ethtool is not installed: apt-get install ethtool")
    side.container.shell(f"ethtool -K tap0 {variant} >/dev/null")
    try:
        yield from named(topic, variant, figures(side, args, topic.whats))
    finally:
        side.container.shell(f"ethtool -K tap0 {variant.split()[0]} on >/dev/null")


# --- memory of sockets: of the host's namespace alone

@contextlib.contextmanager
def socket_memory(host, far, size):
    """The largest buffers; the machine's own setting is another namespace's."""
    names = ("tcp_rmem", "tcp_wmem")
    before = {}
    for namespace in (host, far):
        for name in names:
            path = f"/proc/sys/net/ipv4/{name}"
            with namespace.popen(["cat", path], stdout=subprocess.PIPE) as process:
                before[namespace, name] = process.stdout.read().decode().split()
            least, usual, _ = before[namespace, name]
            namespace.shell(f'echo "{least} {min(int(usual), size)} {size}" >{path}')
    try:
        yield
    finally:
        for (namespace, name), words in before.items():
            namespace.shell(f'echo "{" ".join(words)}" >/proc/sys/net/ipv4/{name}')


def measure_memory(side, args, topic, variant):
    far = args.advice_far()
    if variant == DEFAULT:
        yield from named(topic, variant, figures(side, args, topic.whats, far))
        return
    with socket_memory(side.loads.host, far, int(variant.split()[0]) << 20):
        yield from named(topic, variant, figures(side, args, topic.whats, far))


# --- net.core: of the whole machine, and no namespace may set it

def small_buffers(args):
    """The helper finds the bound lower than it is, by a library that stands before the kernel."""
    return "env", f"LD_PRELOAD={os.path.abspath(args.build)}/benchmarks/libsmall-buffers.so"


# --- pipes

HOARD = """
import fcntl, os, sys
pipes = []
try:
    while len(pipes) < 400:
        pipes.append(os.pipe())
        fcntl.fcntl(pipes[-1][1], 1031, 1 << 20)
except OSError:
    pass
print(len(pipes), flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def pipes_used_up(host):
    """The helper's user has as many pages in pipes as it may."""
    with host.popen_user([sys.executable, "-c", HOARD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as hoard:
        hoard.stdout.readline()
        yield


def measure_pipes(side, args, topic, variant):
    with pipes_used_up(side.loads.host) if variant != DEFAULT else contextlib.nullcontext():
        for what in topic.whats:
            yield row_name(topic.name, variant, what), published_stream(side, args, what)


def published_stream(side, args, what):
    """iperf3, whose port can be chosen."""
    way = [] if what == "TCP in" else ["-R"]
    server = ["iperf3", "-s", "-1", "-p", PUBLISHED_PORT]
    with side.container.popen(server, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        args.wait_port(side.container, PUBLISHED_PORT)
        report = iperf3(side.loads.host.popen_user, "127.0.0.1", args.seconds, "-p", PUBLISHED_PORT, *way)
    return report["sum_received"]["bits_per_second"] / 1e9


FUNCTIONS = {"processors": measure_processors, "offloads": measure_offloads, "tcp_rmem": measure_memory,
             "pipes": measure_pipes}


def measure_choice(side, args, topic, variant):
    if side.helper:
        yield from FUNCTIONS.get(topic.name, measure_setting)(side, args, topic, variant)


def setting_of(args, topic, variant):
    if topic.name == "mtu":
        return int(variant)
    if topic.name == "busy-poll":
        return Setting(options=(f"--busy-poll={variant}",))
    if topic.name == "rmem_max" and variant != DEFAULT:
        return Setting(prefix=small_buffers(args))
    return Setting(publish=PUBLISHED_PORT) if topic.name == "pipes" else 1500


def measurements(args):
    for topic in TOPICS:
        for variant in topic.variants:
            rows = [row_name(topic.name, variant, what) for what in topic.whats]
            yield rows, setting_of(args, topic, variant), measure_choice, (topic, variant)


def add_options(parser):
    pass


def prepare(args, loads, peers, stack):
    known = {}

    def far():
        if "far" not in known:
            line = os.path.join(loads.folder, "tests/support/delay-line")
            known["far"] = stack.enter_context(FarHost(loads.host, line, 90, DELAY_MS, 0))
        return known["far"]

    def server():
        if "server" not in known:
            known["server"] = stack.enter_context(loads.host.popen_user(
                [find("iperf3"), "-s", "-B", "127.0.0.1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            args.wait_port(loads.host, 5201)

    def wait_port(namespace, port):
        for _ in range(500):
            if port in bound_ports(namespace.pid):
                return
            time.sleep(0.01)
        raise Failure("iperf3 does not start")

    args.advice_far, args.iperf3_server, args.wait_port = far, server, wait_port
