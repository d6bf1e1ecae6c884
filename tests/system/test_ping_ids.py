# SPDX-License-Identifier: Apache-2.0
"""Whose echo reply is whose, and what is done when there are too many, none or forbidden ones."""
import struct

import pytest

from harness.frames import Wire, checksum, ip4
from harness.ns import HOST4
from harness.util import Thread, until

pytestmark = pytest.mark.relay_only


def ping(world, *options):
    """Until it has all replies: without -w it waits for the last one two round trips only."""
    return world.run("ping", "-n", "-i", "0.01", "-w", "60", *options, HOST4, check=False)


def echo(ident, number=1):
    head = struct.pack("!BBHHH", 8, 0, 0, ident, number)
    return head[:2] + struct.pack("!H", checksum(head)) + head[4:]


def test_equal_ids(host, container, helper):
    """Two containers and the host's own user ask one host with one id at the same time."""
    other = host.container()
    for one in (container, other):
        helper(target=[one.pid, "tap0"])
    asking = [Thread(ping, world, "-e", "77", "-c", "100", "-s", size)
              for world, size in ((container, 100), (other, 200), (host.user, 300))]
    for one in asking:
        done = one.result()
        assert done.returncode == 0, done.stdout  # more than 100 when replies are slow
        assert "DUP" not in done.stdout and "wrong" not in done.stdout, done.stdout


def test_many_ids(container, helper):
    """Each frame another id: the silent ones give way, and who asks next is answered."""
    one = helper()
    before, descriptors = one.counters(), one.descriptors()
    with Wire(container) as wire:
        for ident in range(1, 2001):
            wire.send(ip4("10.0.2.100", HOST4, 1, echo(ident)))
    one.wait_grown(before, "icmp_evicted")
    assert one.descriptors() <= descriptors + 256
    done = ping(container, "-c", "3")
    assert done.returncode == 0, done.stdout  # more than 3 when replies are slow


def test_to_everybody(container, helper):
    one = helper()
    before = one.counters()
    with Wire(container) as wire:
        for address in ("10.0.2.255", "255.255.255.255", "224.0.0.1"):
            wire.send(ip4("10.0.2.100", address, 1, echo(1)))
    until(lambda: one.counters()["icmp_dropped"] == before["icmp_dropped"] + 3, "three are dropped")


def test_nobody_on_the_link(container, helper):
    """An error in the gateway's name, with which ping ends at once."""
    helper()
    container.shell("ip neighbour add 10.0.2.55 lladdr 52:55:0a:00:02:02 dev tap0")
    done = container.run("ping", "-n", "-c", "1", "-W", "20", "10.0.2.55", check=False)
    assert "From 10.0.2.2" in done.stdout and "Host Unreachable" in done.stdout, done.stdout


@pytest.mark.fresh
def test_forbidden_is_counted(host, container, helper):
    if host.root.run("sh", "-c", "echo '1 0' >/proc/sys/net/ipv4/ping_group_range",
                     check=False).returncode != 0:
        pytest.skip("without root no group can be named but its own")
    one = helper()
    before = one.counters()
    assert "Packet filtered" in ping(container, "-c", "1").stdout
    one.wait_grown(before, "icmp_forbidden")
