# SPDX-License-Identifier: Apache-2.0
"""A wire of 20 ms that loses packets: the wire itself, and streams through the helper over it."""
import re

import pytest

from harness.traffic import MIB, connected, transfer
from harness.wire import far_host

N_PINGS = 200


def test_the_line_itself(host):
    """It delays each way, and what it says it lost is what is missing."""
    with far_host(host, delay_ms=10, loss=0.1, ipv6=False) as far:
        done = host.root.run("ping", "-q", "-c", N_PINGS, "-i", "0.01", "-W", "5", far.address)
        seen = far.cut()
    received = int(re.search(r"(\d+) received", done.stdout)[1])
    fastest_ms = float(re.search(r"rtt min/avg/max/mdev = ([0-9.]+)/", done.stdout)[1])
    assert fastest_ms >= 20
    assert seen["there"]["read"] == N_PINGS
    assert seen["there"]["lost"] + seen["back"]["lost"] == N_PINGS - received
    # Each is lost with a probability of 0.19: fewer than 5 of 200 happen once in 10^13 runs.
    assert 5 <= N_PINGS - received <= 100
    assert seen["there"]["overflows"] == seen["back"]["refused"] == 0


def test_a_short_queue_overflows(host):
    """What the wire cannot hold is dropped and counted, and TCP gets through nevertheless."""
    with far_host(host, delay_ms=10, queue=16) as far:
        near, server_end = connected(host.root, far, far.address, far.address)
        with near, server_end:
            transfer(near, server_end, MIB)
        seen = far.cut()
    assert seen["there"]["overflows"] > 0
    assert seen["there"]["lost"] == seen["back"]["lost"] == 0


@pytest.mark.parametrize("mtu", [1500, 65520])
@pytest.mark.parametrize("size", [MIB, pytest.param(64 * MIB, marks=pytest.mark.soak)])
def test_streams_over_it(host, container, helper, mtu, size):
    """Both ways, every byte compared; 20 ms and 0.1 % loss."""
    helper(f"--mtu={mtu}", "--enable-ipv6")
    container.wait_ipv6()
    with far_host(host, delay_ms=10, loss=0.001) as far:
        for address in (far.address, far.address6):
            near, server_end = connected(container, far, address, address)
            with near, server_end:
                transfer(near, server_end, size)
        seen = far.cut()
    assert seen["there"]["written"] > size // 1500
