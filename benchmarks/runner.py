# SPDX-License-Identifier: Apache-2.0
"""The rounds of benchmarks/run: groups of rows, their order, the time that is left, and what became of it.

First every group gets the rounds that are planned for it, one round of each group after the other, so that the rounds
of a row lie minutes apart. In the time that is then left, what is still undecided gets more.
"""
import argparse
import contextlib
import os
import shutil
import subprocess
import time

import udp_rows
from common import SERVER_PORTS, Container, Host, is_root
from links import Relay, Veth, VethLink, takes_part
from results import Results
from rows import Loads, is_hopeless, keep_awake, measure_round, order_of
from stats import CONFIDENCE, CONFIDENCE_AGAIN

OVERHEAD_S = 0.5  # of a measurement, besides its seconds: a container, a helper, a server
MORE_ROUNDS = 3   # so many times as many as planned, at most


class Progress:
    """A bar with the time left on a terminal, else one line for each round of a group."""

    def __init__(self, stream, clock=time.monotonic):
        self.stream, self.clock, self.begin = stream, clock, clock()
        self.is_terminal = stream.isatty()
        self.last, self.label = "", ""

    def bar(self, left_s, text):
        done_s = self.clock() - self.begin
        share = done_s / (done_s + left_s) if done_s + left_s else 1
        filled = int(share * 20)
        minutes, seconds = divmod(int(left_s), 60)
        return f"[{'#' * filled}{'.' * (20 - filled)}] {share * 100:3.0f} %  {minutes}:{seconds:02} left  {text}"

    def show(self, left_s, text, is_new_round=False):
        if self.is_terminal:
            width = shutil.get_terminal_size().columns - 1
            print("\r" + self.bar(left_s, text)[:width].ljust(width), end="", file=self.stream, flush=True)
        elif is_new_round:
            print(self.bar(left_s, text), file=self.stream, flush=True)

    def end(self):
        if self.is_terminal:
            print(file=self.stream)


class Running:
    """A group with its programs, arguments and samples."""

    def __init__(self, group, rows, plan, programs, args):
        self.group, self.rows, self.plan = group, rows, plan
        self.programs = [one for one in programs if takes_part(one, self.wanted)]
        defaults = {"seconds": 1, "wire_seconds": 3, "stream_seconds": 10, "minute_seconds": 60, "many": args.many,
                    "spawns": 10, "bulk_mib": 1024, "build": args.build, "may_halt": args.may_halt}
        self.args = argparse.Namespace(**{**defaults, **plan.options}, wanted={row.name for row in rows})
        if hasattr(group.module, "most_connections"):
            self.args.many = min(self.args.many, group.module.most_connections())
        self.rounds = min(plan.rounds, args.rounds) if args.rounds else plan.rounds
        self.rounds_max = self.rounds if args.rounds or self.rounds == 1 else MORE_ROUNDS * self.rounds
        self.samples = {name_of(program): {} for program in self.programs}
        self.args.hopeless = lambda program, rows: is_hopeless(self.samples[name_of(program)], rows)
        self.loads = None
        self.done = 0  # rounds
        self.slowness = 1.0  # than guessed

    @property
    def wanted(self):
        return {row.name for row in self.rows}

    def units(self, wanted):
        """The rows that are measured at once, of each measurement."""
        found = (wanted.intersection(rows) for rows, *_ in self.group.module.measurements(self.args))
        return [names for names in found if names]

    def round_s(self, wanted=None):
        """How long a round takes."""
        total = sum((OVERHEAD_S + self.seconds_of(min(names))) * sum(takes_part(one, names) for one in self.programs)
                    for names in self.units(wanted or self.wanted))
        return total * self.slowness

    def seconds_of(self, name):
        if name.startswith("minute"):
            return self.args.minute_seconds
        if name.startswith(("delay", "wire", "advice tcp_rmem", "advice rmem_max")):
            return self.args.wire_seconds
        return self.args.seconds * (3 if name.startswith("beside") else 1)

    def prepare(self, host, peers, stack):
        self.loads = Loads(self.args.build, host, self.group.module.KIND)
        stack.callback(self.loads.stack.close)
        self.group.module.prepare(self.args, self.loads, peers, stack)

    def left_s(self):
        return (self.rounds - self.done) * self.round_s()

    def measure(self, programs, record):
        module = self.group.module
        if not hasattr(module, "measure"):
            return measure_round(self.loads, programs, self.args, module.measurements(self.args), record, module.ALONE)
        for program in programs:
            module.measure(self.args, program, lambda row, value, program=program: record(program, row, value))
        return None

    def run_round(self, tell, wanted=None):
        """What a round has measured counts also when it is interrupted."""
        wanted = self.args.wanted = wanted or self.wanted
        guess, begin, fresh = self.round_s(wanted), time.monotonic(), {}

        def record(program, row, value):
            fresh[name_of(program), row] = value
            tell(self, f"{self.group.named(row)}, {name_of(program)}", guess - (time.monotonic() - begin))

        try:
            self.measure(order_of(self.programs, self.done), record)
        finally:
            for (program, row), value in fresh.items():
                samples = self.samples[program].setdefault(row, [])
                samples += [None] * (self.done - len(samples)) + [value]
            self.done += 1
        self.slowness *= (time.monotonic() - begin) / guess

    def unit(self, row):
        return row.unit + (f"; {self.args.many} connections" if "idle many" in row.name else "")

    def as_data(self, results):
        """Adds its rows to the results."""
        names = {row.name for row in self.group.module.ROWS}
        for row in self.rows:
            samples = {program: rows[row.name] + [None] * (self.done - len(rows[row.name]))
                       for program, rows in self.samples.items() if row.name in rows}
            results.append({
                "name": self.group.named(row.name), "group": self.group.name, "unit": self.unit(row), "more": row.more,
                "series": row.is_series, "planned": self.rounds, "samples": samples,
                "targets": [(self.group.named(of) if of in names else of, factor) for of, factor in row.targets]})

    def undecided(self, programs, level):
        """The rows that more rounds may help, with what is measured at once and what they are held against."""
        if self.done >= self.rounds_max:
            return set()
        found = []
        self.as_data(found)
        results = Results({"rows": found, "programs": programs},
                          CONFIDENCE if self.done <= self.rounds else CONFIDENCE_AGAIN)
        names = {row.name for row in self.group.module.ROWS}
        lacking = {row.name for row in self.rows if not row.is_series and
                   results.lacks(self.group.named(row.name)) == level}
        lacking |= {of for row in self.rows if row.name in lacking for of, _ in row.targets if of in names}
        return {name for unit in self.units(self.wanted) if unit & lacking for name in unit}


def name_of(program):
    """How it is shown: two ways to start one helper can have rows of their own."""
    return getattr(program, "shown_as", program.name) if program else "loopback"


def choose(group, helpers, peers, veth):
    if hasattr(group.module, "programs"):
        return group.module.programs(helpers, peers)
    known = {"loopback": [None], "relay": [Relay()], "veth": [veth] if veth else [], "peer": peers}
    return [program for other in group.others for program in known[other]] + helpers


def veth_of(host):
    """Whether the kernel lets us make one."""
    with contextlib.suppress(Exception), Container(host) as container, VethLink(host, container, 1500):
        return Veth()
    return None


def run_planned(running, deadline, tell):
    """All rounds of all groups that are planned, round by round; whether the time was up before the last."""
    out_of_time = False
    for i in range(max((one.rounds for one in running), default=0)):
        for one in running:
            if i >= one.rounds:
                continue
            if deadline and time.monotonic() + one.round_s() > deadline:
                out_of_time = True
                continue
            tell(one, f"{one.group.name}: round {i + 1} of {one.rounds}", one.round_s(), is_new_round=True)
            one.run_round(tell)
    return out_of_time


def run_more(running, deadline, tell, programs):
    """One round of each group that has rows undecided at the first of the levels at which any fits the time."""
    for level in (2, 1):
        found = [(one, wanted) for one in running if (wanted := one.undecided(programs, level))]
        fitting = [(one, wanted) for one, wanted in found if time.monotonic() + one.round_s(wanted) < deadline]
        for one, wanted in fitting:
            if time.monotonic() + one.round_s(wanted) < deadline:
                what = "targets" if level == 2 else "figures"
                tell(one, f"{one.group.name}: round {one.done + 1}, for {what} undecided", 0, is_new_round=True)
                one.run_round(tell, wanted)
        if fitting:
            return True
    return False


def run_all(running, deadline, progress, programs):
    def tell(current, text, left_s, is_new_round=False):
        left = sum(one.left_s() for one in running) - (current.round_s() - left_s if current.done < current.rounds else 0)
        if deadline:
            until_s = deadline - time.monotonic()
            left = until_s if any(one.rounds_max > one.rounds for one in running) else min(left, until_s)
        progress.show(max(left, 0), text, is_new_round)

    out_of_time = run_planned(running, deadline, tell)
    while deadline and run_more(running, deadline, tell, programs):
        pass
    return out_of_time


def conduct(args, chosen, helpers, peers, progress):
    """Measures; (rows and programs as data, interrupted, out of time)."""
    deadline = time.monotonic() + args.minutes * 60 if args.minutes else None
    running, veth, interrupted, out_of_time = [], None, False, False
    try:
        with contextlib.ExitStack() as stack:
            resolv_conf = stack.enter_context(udp_rows.resolv_conf())
            host = stack.enter_context(Host(resolv_conf=resolv_conf))
            if not args.may_halt:
                keep_awake(stack)
            veth = None if args.no_veth or args.quick else veth_of(host)
            running = [Running(group, rows, group.plan(args.quick), choose(group, helpers, peers, veth), args)
                       for group, rows in chosen]
            for one in running:
                one.prepare(host, peers, stack)
            out_of_time = run_all(running, deadline, progress, programs_of(running, helpers, peers, veth))
    except KeyboardInterrupt:
        interrupted = True
    progress.end()
    rows = []
    for one in running:
        one.as_data(rows)
    return rows, programs_of(running, helpers, peers, veth), interrupted, out_of_time


def programs_of(running, helpers, peers, veth):
    """Also those that only one group knows."""
    known = {name_of(program) for program in (*helpers, *peers, veth, None)}
    more = {name_of(program): program for one in running for program in one.programs if name_of(program) not in known}
    limits = [program for program in more.values() if isinstance(program, Relay)]
    return programs_data(helpers, [*peers, *(one for one in more.values() if one not in limits)], veth, limits)


# --- what it ran on

def first_line(command):
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10,
                              check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return next((text.strip() for text in (done.stdout + done.stderr).splitlines() if text.strip()), "")


def version_of(path):
    """What it says of itself, or else of which package it is."""
    text = first_line([path, "--version"])
    if "version" in text and "unknown" not in text and "option" not in text:
        return text
    owner = first_line(["dpkg-query", "-S", shutil.which(path) or path]).partition(":")[0]
    return f"{owner} {first_line(['dpkg-query', '-W', '-f=${Version}', owner])} (Debian's package)" if owner else text


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [text.split(":", 1)[1].strip() for text in file if text.startswith("model name")]
    model = models[0] if models else os.uname().machine
    with open("/proc/meminfo", encoding="ascii") as file:
        gib = int(file.readline().split()[1]) / (1 << 20)
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        kind = ", virtual" if " hypervisor" in file.read() else ""
    return f"{os.cpu_count()} processors ({model}{kind}), {gib:.0f} GiB"


def git(folder, *words):
    """Also of a tree that is another user's."""
    command = ["git", "-C", folder, *words]
    trust = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
    try:
        done = subprocess.run(command, env={**os.environ, **trust}, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def commit(folder):
    found = git(folder, "rev-parse", "--short=12", "HEAD")
    changed = found and git(folder, "--no-optional-locks", "status", "--porcelain", "--untracked-files=no")
    return (found or "unknown") + (" with changes" if changed else "")


TOOLS = {"iperf3": ["iperf3", "--version"], "nginx": ["nginx", "-v"], "wrk": ["wrk", "-v"],
         "h2load": ["h2load", "--version"], "redis": ["redis-server", "--version"], "pgbench": ["pgbench", "--version"],
         "dnsperf": ["dnsperf", "-h"], "dnsmasq": ["dnsmasq", "--version"], "curl": ["curl", "--version"],
         "git": ["git", "--version"], "strace": ["strace", "--version"], "valgrind": ["valgrind", "--version"]}


def tools():
    return {name: text for name, command in TOOLS.items() if shutil.which(command[0]) and (text := first_line(command))}


def rmem_max():
    with contextlib.suppress(OSError), open("/proc/sys/net/core/rmem_max", encoding="ascii") as file:
        return int(file.read())
    return None


def about(args, source, begin):
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(begin)), "commit": commit(source), "machine": machine(),
        "kernel": os.uname().release, "mode": "quick" if args.quick else "full",
        "minutes": (time.time() - begin) / 60, "user": "root, with helpers and containers of an ordinary user"
        if is_root else "an ordinary user", "tools": tools(), "load_before": args.load_before,
        "counted_by": "strace -f -c in a pass of its own", "rmem_max": rmem_max(),
    }


def programs_data(helpers, peers, veth, limits):
    found = [{"name": name, "role": "limit"} for name in ("loopback", *(one.name for one in limits))]
    if veth:
        found.append({"name": "veth", "role": "kernel", "version": f"Linux {os.uname().release}"})
    for role, programs in (("peer", peers), ("helper", helpers)):
        found += [{"name": one.name, "role": role, "version": version_of(one.command[0])}
                  for one in programs]
    return found
