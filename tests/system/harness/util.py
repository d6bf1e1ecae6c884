# SPDX-License-Identifier: Apache-2.0
"""Small things that all of the harness uses."""
import array
import contextlib
import os
import select
import threading
import time

# What a test waits for comes within seconds even on a busy machine; this has ten times slack.
DEADLINE = 60


def until(predicate, what, deadline=DEADLINE):
    """Waits for a state that no descriptor tells of; returns the predicate's first true value."""
    end = time.monotonic() + deadline
    while True:
        value = predicate()
        if value:
            return value
        assert time.monotonic() < end, f"after {deadline} s still not: {what}"
        select.select([], [], [], 0.005)


def wait_readable(fd, deadline=DEADLINE):
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(deadline * 1000))


class Thread(threading.Thread):
    """A thread whose result, or exception, arrives at result()."""

    def __init__(self, function, *args, **kwargs):
        super().__init__(daemon=True)
        self.call = function, args, kwargs
        self.value = self.error = None
        self.start()

    def run(self):
        function, args, kwargs = self.call
        try:
            self.value = function(*args, **kwargs)
        except BaseException as error:  # pylint: disable=broad-except
            self.error = error

    def result(self, deadline=10 * DEADLINE):
        """Its sockets have the deadline for each step; all of them may take longer."""
        self.join(deadline)
        assert not self.is_alive(), f"{self.call[0].__name__} did not end within {deadline} s"
        if self.error:
            raise self.error
        return self.value


def counters(first_byte, n_bytes):
    """n_bytes of the endless stream of 8-byte counters, from an offset that is a multiple of 8."""
    first = first_byte // 8
    return array.array("Q", range(first, first + (n_bytes + 7) // 8)).tobytes()[:n_bytes]


def children_of(pid):
    """All descendants of a process."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                parents[int(name)] = int(file.read().rsplit(b")", 1)[1].split()[1])
    found, queue = [], [pid]
    while queue:
        parent = queue.pop()
        new = [child for child, its in parents.items() if its == parent]
        found += new
        queue += new
    return found


def status_of(pid):
    """/proc/PID/status as a dict."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return {key: value.strip() for key, value in
                (line.split(":", 1) for line in file if ":" in line)}


def cpu_ticks(pid):
    """User and system time of a process, in clock ticks."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rsplit(b")", 1)[1].split()
    return int(fields[11]) + int(fields[12])
