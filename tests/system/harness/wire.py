# SPDX-License-Identifier: Apache-2.0
"""A far host behind a slow and lossy wire."""
import contextlib
import json
import os
import subprocess

import pytest

from .helper import BINARY
from .ns import CLEAN_ENV, Held, ends
from .util import wait_readable

DELAY_LINE = os.path.join(os.path.dirname(BINARY), "../tests/support/delay-line")


# Then the wire carries nothing that the test does not send.
NO_IPV6 = """
    no_ipv6=/proc/sys/net/ipv6/conf/line0/disable_ipv6
    [ ! -e $no_ipv6 ] || echo 1 >$no_ipv6
"""


class FarHost(Held):
    """A network namespace at the other end of a delay line that begins in the host's."""

    near_address, address = "198.51.100.1", "198.51.100.2"
    near_address6, address6 = "2001:db8:64::1", "2001:db8:64::2"

    def __init__(self, host):
        super().__init__(host.root, "net", 0, lambda pid: [
            *host.root.prefix, "nsenter", "-t", str(pid), "-n", "--"])
        self.line = None

    def string(self, host, options, ipv6):
        """Strings the wire, configures its ends, and waits until it is there."""
        self.line = host.root.popen(
            [DELAY_LINE, *options, f"/proc/{host.root.pid}/ns/net", f"/proc/{self.pid}/ns/net"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=CLEAN_ENV)
        assert wait_readable(self.line.stdout)
        assert self.line.stdout.readline() == b"ready\n"
        for world, four, six in ((host.root, self.near_address, self.near_address6),
                                 (self, self.address, self.address6)):
            world.shell(f"""
                {"" if ipv6 else NO_IPV6}
                ip link set lo up
                ip link set line0 addrgenmode none txqueuelen 10000 up
                ip address add {four}/24 dev line0
                ip -6 address add {six}/64 dev line0 nodad 2>/dev/null || :
                """)

    def cut(self):
        """Takes the wire down; what it has seen, by direction ("there" is away from the host)."""
        self.line.stdin.close()
        assert ends(self.line) == 0
        with self.line.stdout as out:
            return json.loads(out.read())

    def close(self):
        if self.line:
            self.line.kill()
            self.line.wait()
            self.line.stdin.close()
            self.line.stdout.close()
        super().close()


@contextlib.contextmanager
def far_host(host, delay_ms=10, loss=0.0, seed=1, queue=8192, ipv6=True):
    """A FarHost whose wire delays each packet by delay_ms one way and loses some at random."""
    if not os.path.exists(DELAY_LINE):
        pytest.skip("the delay line is not built beside the program under test")
    far = FarHost(host)
    try:
        far.string(host, [f"--delay-ms={delay_ms}", f"--loss={loss}", f"--seed={seed}",
                          f"--queue={queue}"], ipv6)
        yield far
    finally:
        far.close()
