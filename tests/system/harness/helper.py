# SPDX-License-Identifier: Apache-2.0
"""Starting, asking and ending the program under test."""
import contextlib
import json
import os
import re
import signal
import socket
import subprocess

from .ns import CLEAN_ENV, ends
from .util import DEADLINE, children_of, cpu_ticks, status_of, until, wait_readable

# Which program; /usr/bin/slirp4netns is a baseline, when it is asked for. conftest.py insists.
BINARY = os.path.realpath(os.environ.get("NETNS_HELPER", "/nonexistent"))
# Which stack every helper of this run gets; a test's own --stack comes later and wins.
STACK = os.environ.get("NETNS_HELPER_STACK", "")
# The programs of tests/support are built beside it.
TOOLS = os.path.join(os.path.dirname(BINARY), "../tests/support")
SOURCE = os.path.join(os.path.dirname(__file__), "../../..")


def counter_names():
    with open(os.path.join(SOURCE, "src/base/counter.h"), encoding="ascii") as file:
        return re.findall(r'X\(\w+,\s*"(\w+)"', file.read())


def feature_names():
    with open(os.path.join(SOURCE, "src/setup/features.h"), encoding="ascii") as file:
        return re.findall(r'X\(\w+,\s*"([\w-]+)"', file.read())


class HelperFailed(AssertionError):
    """The program ended before it was ready; `helper` is what remains of it."""

    def __init__(self, helper):
        super().__init__(f"status {helper.process.returncode}: {helper.stderr()}{helper.stdout()}")
        self.helper = helper


class Helper:
    """One run of the program; `helper.process.pid` is the relay."""

    serial = 0

    def __init__(self, host, options, target, world=None, api=True, ready=True, exit_fd=True,
                 binary=BINARY, wait=True, launcher=(), **popen):
        Helper.serial += 1
        self.host, self.world = host, world or host.user
        self.base = host.path(f"helper{Helper.serial}")
        self.api_path = f"{self.base}.api" if api else None
        self.ended = False
        self.expect_status = 0
        self.exit_write = self.ready_read = None
        command, inherited = [*launcher, binary], list(popen.pop("pass_fds", []))
        if ready:
            self.ready_read, ready_write = os.pipe()
            inherited.append(ready_write)
            command.append(f"--ready-fd={ready_write}")
        if exit_fd:
            exit_read, self.exit_write = os.pipe()
            inherited.append(exit_read)
            command.append(f"--exit-fd={exit_read}")
        if api:
            command.append(f"--api-socket={self.api_path}")
        if STACK:
            command.append(f"--stack={STACK}")
        command += list(options) + [str(word) for word in target]
        self.command = command
        with open(self.base + ".out", "wb") as out, open(self.base + ".err", "wb") as err:
            popen.setdefault("stdout", out)
            popen.setdefault("stderr", err)
            popen.setdefault("env", dict(CLEAN_ENV))
            self.process = self.world.popen(command, pass_fds=inherited, **popen)
        if ready:
            os.close(ready_write)
        if exit_fd:
            os.close(exit_read)
        if wait:
            try:
                self.wait_ready()
            except BaseException:
                self.discard()
                raise

    @property
    def pid(self):
        return self.process.pid

    def wait_ready(self):
        """One byte and end of file; nothing at all means that the start has failed."""
        got = b""
        while wait_readable(self.ready_read):
            piece = os.read(self.ready_read, 16)
            got += piece
            if not piece:
                break
        else:
            raise AssertionError(f"not ready after {DEADLINE} s: {self.stderr()}")
        if got == b"":
            ends(self.process)
            self.finish()
            raise HelperFailed(self)
        assert got == b"1"

    def stderr(self):
        with open(self.base + ".err", encoding="utf-8", errors="replace") as file:
            return file.read()

    def stdout(self):
        with open(self.base + ".out", encoding="utf-8", errors="replace") as file:
            return file.read()

    def children(self):
        return children_of(self.pid)

    def agent(self):
        """The pid of the netns agent: the relay's one child."""
        found = self.children()
        assert len(found) == 1, f"children of the relay: {found}"
        return found[0]

    def processes(self):
        return [self.pid, self.agent()]

    def status(self):
        return status_of(self.pid)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    # --- API

    def connect(self):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(DEADLINE)
        client.connect(self.api_path)
        return client

    def api_bytes(self, data, half_close=False):
        """Sends bytes, returns the reply up to the end of file."""
        with self.connect() as client:
            if data:
                client.sendall(data)
            if half_close:
                client.shutdown(socket.SHUT_WR)
            return read_all(client)

    def api(self, execute, **arguments):
        request = {"execute": execute}
        if arguments:
            request["arguments"] = arguments
        return json.loads(self.api_bytes(json.dumps(request).encode()))

    def forward(self, guest_port, host_port, proto="tcp", **arguments):
        """Publishes a port and returns the rule's id."""
        reply = self.api("add_hostfwd", proto=proto, host_port=host_port, guest_port=guest_port,
                         **arguments)
        assert "error" not in reply, reply
        return reply["return"]["id"]

    def counters(self):
        """All counters, by SIGUSR1."""
        names = counter_names()
        seen = len(self.stderr())
        self.process.send_signal(signal.SIGUSR1)

        def dumped():
            found = dict(re.findall(r"(?:^|[:\s])([a-z][a-z0-9_]*)[ =](\d+)\n",
                                    self.stderr()[seen:], re.MULTILINE))
            return found if all(name in found for name in names) else None
        found = until(dumped, "all counters printed")
        return {name: int(found[name]) for name in names}

    def pause(self, seconds):
        """A while in which it must not end; its counters are compared before and after."""
        pidfd = os.pidfd_open(self.pid)
        try:
            assert not wait_readable(pidfd, seconds), self.stderr()
        finally:
            os.close(pidfd)

    def wait_rest(self):
        """Waits for half a second that costs it less than half of that: it does not spin. What it had
        to do before may take its time."""
        def rests():
            before = cpu_ticks(self.pid)
            self.pause(0.5)
            return cpu_ticks(self.pid) - before <= 25
        until(rests, "it rests")

    def wait_grown(self, before, *names):
        """Waits until each of these counters is above what it was."""
        def grown():
            now = self.counters()
            return all(now[name] > before[name] for name in names)
        until(grown, f"{', '.join(names)} counted")

    # --- the end

    def hang_up(self):
        os.close(self.exit_write)
        self.exit_write = None

    def stop(self):
        """Ends it the proper way and checks that nothing is left."""
        if self.process.poll() is None:
            family = self.children()
            if self.exit_write is not None:
                self.hang_up()
            else:
                self.process.terminate()
            self.check_end(family)
        else:
            self.check_end([])

    def check_end(self, family):
        status = ends(self.process)
        self.wait_gone(family)
        self.finish()
        assert status == self.expect_status, f"exit status {status}: {self.stderr()}"
        if self.api_path and status >= 0:
            assert not os.path.lexists(self.api_path), "the API socket was left behind"

    @staticmethod
    def wait_gone(pids):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                fd = os.pidfd_open(pid)
                try:
                    assert wait_readable(fd), f"process {pid} was left behind"
                finally:
                    os.close(fd)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)  # we are its reaper

    def finish(self):
        """Closes what the test holds of it."""
        self.ended = True
        for name in ("exit_write", "ready_read"):
            if getattr(self, name) is not None:
                os.close(getattr(self, name))
                setattr(self, name, None)

    def discard(self):
        """Whatever the test left: gone."""
        if self.process.poll() is None:
            family = self.children()
            self.process.kill()
            self.process.wait()
            self.wait_gone(family)
        if not self.ended:
            self.finish()


def read_all(client):
    data = b""
    while True:
        try:
            piece = client.recv(65536)
        except ConnectionResetError:
            return data
        if not piece:
            return data
        data += piece


def run_binary(world, *args, binary=BINARY, timeout=DEADLINE, **kwargs):
    """Runs the program to its end."""
    return world.run(binary, *args, check=False, timeout=timeout, **kwargs)


def libslirp_version():
    text = subprocess.run([BINARY, "--version"], stdout=subprocess.PIPE, text=True,
                          check=True).stdout
    return tuple(int(part) for part in
                 re.search(r"^libslirp: (\d+)\.(\d+)", text, re.MULTILINE).groups())
