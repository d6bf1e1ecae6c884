# SPDX-License-Identifier: Apache-2.0
"""Rows of figures, their targets, and the rounds in which several programs are measured side by side.

Each round measures every program afresh, in an order that changes from round to round, so that a
machine that drifts does so for all. A row that failed in one round has no figure.
"""
import argparse
import contextlib
import copy
import fnmatch
import functools
import json
import os
import resource
import signal
import subprocess
import sys
import time

from common import (GATEWAY, Container, Failure, Helper, Host, Process, Program, read_line, write_json)
from links import Relay, Veth, VethLink, as_setting, publish, takes_part, user_folder
from results import VERDICTS, Results, with_interval

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


def as_results(rows, samples, helpers, peers, n_rounds):
    """What results.py makes figures, ratios and verdicts of."""
    roles = {name: "helper" if name in helpers else "peer" if name in peers else "limit" for name in samples}
    return Results({
        "programs": [{"name": name, "role": role} for name, role in roles.items()],
        "rows": [{"name": row.name, "unit": row.unit, "more": row.more, "series": row.is_series, "planned": n_rounds,
                  "targets": row.targets, "samples": {name: found[row.name] for name, found in samples.items()
                                                      if row.name in found}} for row in rows]})


def show(results, row):
    """Prints a row; how many targets it has missed."""
    print(f"\n{row.name} ({row.unit})")
    n_missed, helpers = 0, results.names("helper")
    for name in results.roles:
        cell = results.cell(row.name, name)
        if cell.state != "none":
            print(f"    {name:20}{cell.text()}" + (f": {cell.reasons[0]}" if cell.reasons else ""))
        if name not in helpers:
            continue
        ratios = (results.ratio(row.name, of, name) for of in ("slirp", "peer", "loopback"))
        for ratio, whose in dict.fromkeys(one for one in ratios if one[0]):
            print(f"        {with_interval(ratio, 'x')} {whose}")
        for text, met in results.targets(row.name, name):
            # What fails without a helper, too, is this machine's fault.
            failed = cell.reasons and not results.cell(row.name, "loopback").reasons
            n_missed += met is False or bool(failed)
            print(f"        {'MISSED, no figure' if failed else VERDICTS[met]}: {text}")
    if len(helpers) == 2 and (ratio := results.ratio(row.name, helpers[1], helpers[0])[0]):
        print(f"    {helpers[0]} is {with_interval(ratio, 'x')} {helpers[1]}")
    return n_missed


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
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=1, help="of one measurement")
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

    def relay(self, stack):
        """The ports of a tcp-relay that leads to the server on the loopback."""
        command = [self.path("tcp-relay"), "127.0.0.1", *(f"{name}={port}" for name, port in self.ports().items())]
        relay = stack.enter_context(self.host.popen_user(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        return answer_of(read_line(relay, 10, "the relay"))

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

    The setting is an MTU or a Setting. With Veth as the program there is a container and no helper; with Relay
    there is none of both.
    """

    def __init__(self, loads, program, setting):
        self.loads, self.program = loads, program
        self.helper, self.container, self.far_container = None, None, None
        self.address, self.setting = "127.0.0.1", as_setting(setting)
        self.relay_ports = None
        with contextlib.ExitStack() as stack:
            if isinstance(program, Relay):
                self.relay_ports = loads.relay(stack)
            elif program:
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
        if setting.prefix:
            program = copy.copy(program)
            program.command = [*setting.prefix, *program.command]
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
        ports = self.relay_ports or self.loads.ports(far, address if self.is_veth else "127.0.0.1")
        return self.popen([self.loads.client(), address, ports[service], mode, *amounts],
                          stdout=subprocess.PIPE, **kwargs)

    def run(self, mode, service, *amounts, far=None, seconds=60):
        with self.start(mode, service, *amounts, far=far) as client:
            answer = read_line(client, seconds, mode)
            client.wait()
        if self.helper and self.helper.process.poll() is not None:
            raise Failure("the helper has ended")
        return answer_of(answer)


def groups(measurements, wanted, alone):
    """Measurements that share a helper: [(setting, whether it has to be the only one, [measurement, ...]), ...]."""
    shared = {}
    for one in measurements:
        if wanted.isdisjoint(one[0]):
            continue
        key = (one[1], one[3]) if one[2] in alone else (one[1],)
        shared.setdefault(key, []).append(one)
    return [(key[0], len(key) > 1 or as_setting(key[0]).publish, members) for key, members in shared.items()]


SETTLED = 0.05  # of a processor


def settle(side):
    """What a helper still has to do with one measurement is not to disturb the next."""
    end, before = time.monotonic() + 1, None
    while side.helper and side.helper.process.poll() is None and time.monotonic() < end:
        now = side.helper.cpu_seconds()
        if before is not None and now - before < SETTLED * 0.01:
            return
        before = now
        time.sleep(0.01)


FAILURES_MAX = 2


def is_hopeless(samples, rows):
    """Of one program: whether a row that is measured with these has failed again and again, and mostly."""
    for row in rows:
        found = [sample for sample in samples.get(row, []) if sample is not None]
        n_failed = sum(isinstance(sample, str) for sample in found)
        if n_failed >= FAILURES_MAX and 2 * n_failed >= len(found):
            return True
    return False


def measure_side_by_side(loads, programs, setting, members, args, record):
    """Each measurement of all programs that take part in it, one right after the other."""
    with contextlib.ExitStack() as stack:
        sides = []
        for program in programs:
            try:
                if any(takes_part(program, rows) for rows, *_ in members):
                    sides.append((program, stack.enter_context(Side(loads, program, setting))))
            except Failure as failure:
                for rows, *_ in members:
                    if takes_part(program, rows):
                        fail(rows, failure, args.wanted, functools.partial(record, program))
        for rows, _, function, more in members:
            for program, side in sides:
                if not takes_part(program, rows) or args.hopeless(program, rows):
                    continue
                attempt(rows, lambda: function(side, args, *more), args.wanted, functools.partial(record, program))
                settle(side)


def measure_round(loads, programs, args, measurements, record, alone=()):
    """One round. A measurement is (rows, MTU or Setting, function, its arguments); those by a function that is in
    `alone`, and those with a published port, have one helper at a time. record(program, row, figure or reason)."""
    for setting, is_alone, members in groups(measurements, args.wanted, alone):
        for batch in [[program] for program in programs] if is_alone else [programs]:
            measure_side_by_side(loads, batch, setting, members, args, record)


def order_of(programs, i):
    """Another one first in each round, and the rest backwards every second time."""
    first, *rest = programs[i % len(programs):] + programs[:i % len(programs)]
    return [first, *(rest[::-1] if i % 2 else rest)]


def run_rounds(args, programs, samples, measure):
    for i in range(args.rounds):
        fresh = []
        measure(order_of(programs, i), lambda program, row, value: fresh.append((program, row, value)))
        for program, row, value in fresh:
            rows = samples[program.name if program else "loopback"].setdefault(row, [])
            rows += [None] * (i - len(rows)) + [value]
        print(f"round {i + 1} of {args.rounds}", file=sys.stderr)


def conduct(args, rows, kind, prepare, sampled, limits=(), **of_host):
    """Everything from the arguments to the exit status. `limits` are programs beside loopback that show one.

    prepare(loads, peers, stack) gives measure(programs, record), which measures one round of them,
    with None of the host itself. It finds the rows that are wanted in args.wanted.
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
    programs = [None, *(one for one in limits if takes_part(one, args.wanted)), *peers, *helpers]
    samples = {program.name if program else "loopback": {} for program in programs}
    args.hopeless = lambda program, rows: is_hopeless(samples[program.name if program else "loopback"], rows)
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
    results = as_results(rows, samples, [one.name for one in helpers], [one.name for one in peers], args.rounds)
    n_missed = sum(show(results, row) for row in rows if row.name in args.wanted and not row.is_series)
    if args.json:
        write_json(args.json, {"rounds": args.rounds, "seconds": args.seconds, "samples": samples})
    print(f"\n{n_missed} targets missed")
    return 1 if n_missed else 0


def conduct_module(module, args, **of_host):
    """conduct() for a module of rows, which has ROWS, KIND, SAMPLED, ALONE, prepare(args, loads, peers,
    stack), measurements(args) and perhaps LIMITS."""
    def prepare(loads, peers, stack):
        module.prepare(args, loads, peers, stack)
        return lambda programs, record: measure_round(loads, programs, args, module.measurements(args), record,
                                                      module.ALONE)

    return conduct(args, module.ROWS, module.KIND, prepare, module.SAMPLED, getattr(module, "LIMITS", ()), **of_host)
