# SPDX-License-Identifier: Apache-2.0
"""The rows of benchmarks/published for benchmarks/run: both paths of a helper as rows of their own."""
import contextlib
import importlib.machinery
import importlib.util
import os
import shutil
import subprocess
import tempfile

import real_rows
from common import Container, Failure, Helper
from rows import Row, named

KIND, SAMPLED, ALONE = "tcp", "8 bytes of each 4 KiB compared", ()
PATHS = ("splice", "tap")
SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "published")


def load():
    loader = importlib.machinery.SourceFileLoader("published_script", SCRIPT)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


script = load() if os.path.exists(SCRIPT) else None
# With the path in front; of the targets those that are that path's.
ROWS = [Row(f"{path} {row.name}", row.unit, row.more,
            *((of, factor) for of, factor, *only in row.targets if not only or only[0] == path), optional=row.optional)
        for path in PATHS for row in (script.ROWS if script else ())]


class Socat(script.Loopback if script else object):
    """What people do by hand: a socat per port, and for each connection another one in the namespace. TCP only."""

    def __init__(self, place, program):
        super().__init__(place, program)
        self.program, self.helper, self.stack = program, self, contextlib.ExitStack()
        self.container = self.stack.enter_context(Container(place.loads.host))
        self.processes = []

    def serve(self, command):
        return self.container.popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def publish(self, proto, host_port, guest_port):
        if proto != "tcp":
            return
        inner = " ".join(["nsenter", "-t", str(self.container.pid), "--user", "--net", "--preserve-credentials", "--",
                          "socat", "STDIO", f"TCP\\:127.0.0.1\\:{guest_port}\\,nodelay"])  # socat's own marks
        process = self.stack.enter_context(self.place.loads.host.popen_user(
            [*self.program.command, f"TCP-LISTEN:{host_port},bind=127.0.0.1,fork,reuseaddr,nodelay,backlog=4096",
             f"EXEC:{inner}"], stderr=subprocess.DEVNULL))
        self.processes.append(process)
        real_rows.wait_listening(process, self.place.loads.host, host_port, "socat")

    def pids(self):
        found = [process.pid for process in self.processes]
        for pid in found:
            found += Helper.children(pid)
        return found

    memory_kib = Helper.memory_kib  # the time of those that have ended nobody tells

    def close(self):
        self.stack.close()


def is_socat(program):
    return bool(program) and os.path.basename(program.command[0]) == "socat"


def side_of(place, program):
    if is_socat(program):
        return script.Side(place, Socat(place, program))
    return script.Place.side(place, program)


def programs(helpers, peers):
    """What is measured: each helper by its two paths, and who else publishes ports."""
    found = [one for one in peers if not one.is_pasta]
    if shutil.which("rootlesskit") and shutil.which("rootlessctl"):
        found.append(named("rootlesskit"))
    if shutil.which("socat"):
        found.append(named("socat"))
    for helper in helpers:
        for path in PATHS:
            one = named(f"{helper.name}-{path}={' '.join(helper.command)}")
            one.path, one.shown_as = path, helper.name
            found.append(one)
    return [None, *found]


def prepare(args, loads, peers, stack):
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="nhb-"))
    os.chmod(folder, 0o1777)
    if not script:
        raise Failure("there is no benchmarks/published")
    args.place = script.Place(loads, folder)
    args.place.side = lambda program: side_of(args.place, program)


def most_connections():
    return script.most_connections()


def measurements(args):
    """The rows of each measurement; measure() knows how."""
    for group in script.measurements(args):
        for rows, *_ in group:
            yield [f"{path} {row}" for path in PATHS for row in rows], None, None, ()


def measure(args, program, record):
    """One round of one program. Who has no paths is shown beside both."""
    paths = [program.path] if hasattr(program, "path") else PATHS
    wanted, hopeless = args.wanted, args.hopeless
    args.hopeless = lambda _, rows: hopeless(program, [f"{paths[0]} {row}" for row in rows])
    args.wanted = {name.split(" ", 1)[1] for name in wanted if name.split(" ", 1)[0] in paths}
    if is_socat(program):
        # it speaks no UDP here; and a process for each connection takes its time with it
        args.wanted = {name for name in args.wanted if not name.startswith(("udp ", "cpu "))}

    def record_all(row, value):
        for path in paths:
            if f"{path} {row}" in wanted:
                record(f"{path} {row}", value)

    try:
        script.measure(args.place, program, args, record_all)
    finally:
        args.wanted, args.hopeless = wanted, hopeless
