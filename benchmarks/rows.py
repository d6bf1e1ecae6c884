# SPDX-License-Identifier: Apache-2.0
"""Rows of figures, their targets, and the rounds in which several programs are measured side by side.

Each round measures every program afresh, in an order that changes from round to round, so that a
machine that drifts does so for all. A row that failed in one round has no figure.
"""
import argparse
import contextlib
import fnmatch
import json
import os
import resource
import signal
import subprocess
import sys

from common import (GATEWAY, Container, Failure, Helper, Host, Process, Program, Samples, read_line,
                    write_json)
from links import Veth, VethLink, as_setting, publish, user_folder

MANY_FILES = 65536


class Row:
    """A figure, whether more of it is better, and its targets: (of what, factor) each.

    "of" is slirp (slirp4netns), peer (the best of the peers), loopback, fixed (the factor itself is
    the bound), the name of another program, or that of another row of the same program. A third
    member names the only programs that it is for, by the end of their names.
    """

    def __init__(self, name, unit, more_is_better, *targets, optional=False, is_series=False):
        self.name, self.unit, self.more, self.targets = name, unit, more_is_better, targets
        # A series is a list of figures in each round, for a picture.
        self.optional, self.is_series = optional or is_series, is_series


def answer_of(line):
    if not line:
        raise Failure("the generator ended without a result")
    answer = json.loads(line)
    if "error" in answer:
        raise Failure(answer["error"])
    if answer.get("wrong"):
        raise Failure(f"wrong content in {answer['wrong']} blocks")
    return answer


def attempt(rows, figures, wanted, record):
    try:
        for row, figure in figures():
            if row in wanted:
                record(row, figure)
    except (Failure, OSError, ValueError, LookupError, subprocess.SubprocessError) as failure:
        fail(rows, failure, wanted, record)


def fail(rows, failure, wanted, record):
    for row in wanted.intersection(rows):
        record(row, str(failure))


class Verdicts:
    def __init__(self, samples, helpers, peers):
        self.samples, self.helpers, self.peers = samples, helpers, peers
        self.n_missed = 0

    def median(self, row, name):
        return Samples(self.samples.get(name, {}).get(row, [])).median

    def reference(self, row, of, name):
        """What a helper's figure is compared with, and how that is called."""
        if of == "peer":
            found = [(self.median(row.name, peer), peer) for peer in self.peers]
            found = [one for one in found if one[0] is not None]
            if not found:
                return None, "the best peer"
            value, peer = (max if row.more else min)(found)
            return value, f"the best peer, {peer}"
        if of == "slirp":
            return self.median(row.name, "slirp4netns"), "slirp4netns"
        if of == "loopback":
            return self.median(row.name, "loopback"), "native" if "wire" in row.name else "loopback"
        if of in self.samples:
            return self.median(row.name, of), of
        return self.median(of, name), f"its own {of}"

    def ratios(self, row, name):
        ours = self.median(row.name, name)
        for of in ("slirp", "peer", "loopback"):
            theirs, label = self.reference(row, of, name)
            if ours is not None and theirs:
                yield f"{ours / theirs:.2f}x {label}"

    def targets(self, row, name):
        ours = self.median(row.name, name)
        for of, factor, *only in row.targets:
            if only and not name.endswith(only[0]):
                continue
            sign = ">=" if row.more else "<="
            theirs, label = (factor, "") if of == "fixed" else self.reference(row, of, name)
            what = f"{sign} {factor}" if of == "fixed" else f"{sign} {factor}x {label}"
            if self.impossible(row) or ours is not None and theirs is None:
                yield f"nothing to compare with: {what}"
                continue
            if ours is None:
                self.n_missed += 1
                yield f"MISSED, no figure: {what}"
                continue
            bound = theirs if of == "fixed" else theirs * factor
            good = ours >= bound if row.more else ours <= bound
            self.n_missed += not good
            yield f"{'met' if good else 'MISSED'}: {what}"

    def impossible(self, row):
        """What fails without a helper, too, is this machine's fault."""
        return row.name in self.samples["loopback"] and self.median(row.name, "loopback") is None

    def show(self, row):
        print(f"\n{row.name} ({row.unit})")
        for name, rows in self.samples.items():
            if row.name in rows:
                print(f"    {name:20}{Samples(rows[row.name]).text()}")
            if name in self.helpers:
                for line in (", ".join(self.ratios(row, name)), *self.targets(row, name)):
                    if line:
                        print(f"        {line}")
        if len(self.helpers) == 2:
            one, other = (self.median(row.name, name) for name in self.helpers)
            if one is not None and other:
                print(f"    {self.helpers[0]} is {one / other:.2f}x {self.helpers[1]}")


def named(text, default_name=None):
    name, equals, command = text.partition("=")
    if not equals or "/" in name:
        name, command = default_name or os.path.basename(text.split()[0]), text
    return Program(name, command)


def parser_of(doc):
    """What all of these benchmarks understand."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build", help="the build folder, which has the generators")
    parser.add_argument("--helpers", nargs="+", metavar="NAME=COMMAND", help="builds to measure; options may follow the path")
    parser.add_argument("--peers", nargs="*", default=["slirp4netns", "pasta"], metavar="NAME[=COMMAND]")
    parser.add_argument("--rows", nargs="+", metavar="PATTERN", help="of those that --list names")
    parser.add_argument("--list", action="store_true", help="print the rows and end")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="of one measurement")
    parser.add_argument("--may-halt", action="store_true", help="do not keep idle processors from halting")
    parser.add_argument("--cpus", help="run everything on these processors, as 0 or 0,1: less noise")
    parser.add_argument("--json", metavar="FILE", help="write all samples to it")
    return parser


def programs_of(args):
    helpers = [named(text, "netns-helper" if "=" not in text else None) for text in
               args.helpers or [f"netns-helper={args.build}/src/netns-helper"]]
    peers = []
    for text in args.peers:
        try:
            peers.append(named(text))
        except Failure as failure:
            print(f"{text} is left out: {failure}", file=sys.stderr)
    return helpers, peers


def raise_limit():
    """Only the hard limit: the soft one is what programs find on any machine."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        if hard != resource.RLIM_INFINITY and hard < MANY_FILES:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1024), MANY_FILES))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, hard), hard))


def keep_awake(stack):
    """A loop on each processor that anything else interrupts at once."""
    for cpu in os.sched_getaffinity(0):
        loop = stack.enter_context(Process(["setpriv", "--pdeathsig", "KILL", "sh", "-c", "while :; do :; done"]))
        os.sched_setaffinity(loop.pid, {cpu})
        os.sched_setscheduler(loop.pid, os.SCHED_IDLE, os.sched_param(0))


class Loads:
    """The generators, and one server per address that was asked for; `kind` is tcp or udp."""

    def __init__(self, build, host, kind):
        self.folder, self.host, self.kind = os.path.abspath(build), host, kind
        self.servers, self.stack, self.server_pids = {}, contextlib.ExitStack(), []

    def path(self, name):
        return os.path.join(self.folder, "benchmarks", name)

    def client(self):
        return self.path(f"{self.kind}-client")

    def ports(self, far=None, address="127.0.0.1"):
        """The ports of the server on an address of the host's, or on a far host."""
        key = far or address
        if key not in self.servers:
            command = [self.path(f"{self.kind}-server"), far.address if far else address]
            start = far.popen if far else self.host.popen_user
            server = self.stack.enter_context(start(command, stdin=subprocess.PIPE,
                                                    stdout=subprocess.PIPE))
            self.servers[key] = answer_of(read_line(server, 10, "the server"))
            self.server_pids.append(server.pid)
        return self.servers[key]


class Side:
    """One program's container with its helper, or, without a program, the host itself.

    The setting is an MTU or a Setting. With Veth as the program there is a container and no helper.
    """

    def __init__(self, loads, program, setting):
        self.loads, self.program = loads, program
        self.helper, self.container, self.far_container = None, None, None
        self.address, self.setting = "127.0.0.1", as_setting(setting)
        self.stack = contextlib.ExitStack()
        if program:
            with contextlib.ExitStack() as stack:
                self.container = stack.enter_context(Container(loads.host))
                self.connect(stack, program)
                self.stack = stack.pop_all()

    def connect(self, stack, program):
        setting = self.setting
        if isinstance(program, Veth):
            link = stack.enter_context(VethLink(self.loads.host, self.container, setting.mtu))
            self.address, self.far_container = link.host_address, link.container_address
            return
        options = list(setting.options)
        if setting.publish and not program.is_pasta:
            folder = stack.enter_context(user_folder())
            options.append(f"--api-socket={folder}/api")
        self.helper = stack.enter_context(
            Helper(program, self.loads.host, self.container, setting.mtu, options, setting.publish))
        self.address = GATEWAY
        if setting.publish and not program.is_pasta:
            publish(f"{folder}/api", setting.publish)

    @property
    def is_veth(self):
        return self.container is not None and self.helper is None

    def published_address(self):
        """Where a client on the host finds the container's port that setting.publish names."""
        return self.far_container or "127.0.0.1"

    def popen(self, command, **kwargs):
        """By an ordinary user on the near side: in the container, if there is one."""
        return (self.container.popen if self.container else self.loads.host.popen_user)(command, **kwargs)

    def __enter__(self):
        return self

    def __exit__(self, *what):
        self.stack.close()

    def start(self, mode, service, *amounts, far=None, **kwargs):
        address = far.address if far else self.address
        port = self.loads.ports(far, address if self.is_veth else "127.0.0.1")[service]
        return self.popen([self.loads.client(), address, port, mode, *amounts],
                          stdout=subprocess.PIPE, **kwargs)

    def run(self, mode, service, *amounts, far=None, seconds=60):
        with self.start(mode, service, *amounts, far=far) as client:
            answer = read_line(client, seconds, mode)
            client.wait()
        if self.helper and self.helper.process.poll() is not None:
            raise Failure("the helper has ended")
        return answer_of(answer)


def groups(measurements, wanted, alone):
    """Measurements that share a helper: [(MTU, [measurement, ...]), ...]."""
    shared = {}
    for one in measurements:
        if wanted.isdisjoint(one[0]):
            continue
        key = (one[1], one[3]) if one[2] in alone else (one[1],)
        shared.setdefault(key, []).append(one)
    return [(key[0], members) for key, members in shared.items()]


def measure(loads, program, args, measurements, record, alone=()):
    """One round of one program. A measurement is (rows, MTU, function, its arguments); those by a
    function that is in `alone` get a helper that has done nothing else."""
    for mtu, members in groups(measurements, args.wanted, alone):
        try:
            with Side(loads, program, mtu) as side:
                for rows, _, function, more in members:
                    attempt(rows, lambda: function(side, args, *more), args.wanted, record)
        except Failure as failure:
            for rows, *_ in members:
                fail(rows, failure, args.wanted, record)


def order_of(programs, i):
    """Another one first in each round, and the rest backwards every second time."""
    first, *rest = programs[i % len(programs):] + programs[:i % len(programs)]
    return [first, *(rest[::-1] if i % 2 else rest)]


def run_rounds(args, programs, samples, measure):
    for i in range(args.rounds):
        for program in order_of(programs, i):
            rows = samples[program.name if program else "loopback"]
            measure(program, lambda row, value: rows.setdefault(row, []).append(value))
        print(f"round {i + 1} of {args.rounds}", file=sys.stderr)


def conduct(args, rows, kind, prepare, sampled, **of_host):
    """Everything from the arguments to the exit status.

    prepare(loads, peers, stack) gives measure(program, record), which measures one round of one
    program, or with None of the host itself. It finds the rows that are wanted in args.wanted.
    """
    args.wanted = {row.name for row in rows if not row.optional}
    if args.rows:
        args.wanted = {row.name for row in rows for pattern in args.rows
                       if fnmatch.fnmatch(row.name, pattern)}
    if args.list:
        for row in rows:
            print(f"{row.name:24}{row.unit}{'  (only when asked for)' if row.optional else ''}")
        return 0
    if args.cpus:
        os.sched_setaffinity(0, {int(cpu) for cpu in args.cpus.split(",")})
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    raise_limit()
    helpers, peers = programs_of(args)
    programs = [None, *peers, *helpers]
    samples = {program.name if program else "loopback": {} for program in programs}
    with contextlib.ExitStack() as stack:
        host = stack.enter_context(Host(**of_host))
        if not args.may_halt:
            keep_awake(stack)
        loads = Loads(args.build, host, kind)
        stack.callback(loads.stack.close)
        try:
            run_rounds(args, programs, samples, prepare(loads, peers, stack))
        except KeyboardInterrupt:
            print("interrupted: what there is so far")

    print(f"{args.rounds} rounds of {args.seconds:g} s; content sampled: {sampled}")
    verdicts = Verdicts(samples, [one.name for one in helpers], [one.name for one in peers])
    for row in rows:
        if row.name in args.wanted and not row.is_series:
            verdicts.show(row)
    if args.json:
        write_json(args.json, {"rounds": args.rounds, "seconds": args.seconds, "samples": samples})
    print(f"\n{verdicts.n_missed} targets missed")
    return 1 if verdicts.n_missed else 0


def conduct_module(module, args, **of_host):
    """conduct() for a module of rows, which has ROWS, KIND, SAMPLED, ALONE, prepare(args, loads, peers,
    stack) and measurements(args)."""
    def prepare(loads, peers, stack):
        module.prepare(args, loads, peers, stack)
        return lambda program, record: measure(loads, program, args, module.measurements(args), record,
                                               module.ALONE)

    return conduct(args, module.ROWS, module.KIND, prepare, module.SAMPLED, **of_host)
