# SPDX-License-Identifier: Apache-2.0
"""Echo requests of real clients to the world: ping compares what comes back."""
import re

import pytest

from harness.chain import chain
from harness.ns import is_root
from harness.udp import FOUR, SIX
from harness.util import Thread

relay_only = pytest.mark.relay_only
both_families = pytest.mark.parametrize("family", [FOUR, SIX], ids=["ipv4", "ipv6"])


@pytest.fixture
def start(container, helper):
    """Starts a helper with IPv6 whose container has its address at once."""
    def start_one(*options, **kwargs):
        one = helper("--enable-ipv6", *options, **kwargs)
        container.wait_ipv6()
        return one
    return start_one


def ping(container, address, size=56, *options):
    """One request, since for the answers to further ones ping waits no longer than for the first."""
    return container.run("ping", "-n", "-c", 1, "-W", 50, "-s", size, *options, address, check=False)


def assert_answered(done):
    assert done.returncode == 0 and "1 received, 0% packet loss" in done.stdout, done.stdout
    assert "wrong" not in done.stdout and "DUP" not in done.stdout, done.stdout


@relay_only
@pytest.mark.parametrize("mtu", [1500, 65520])
@both_families
def test_sizes(host, container, start, family, mtu):
    """From nothing to all that IP can carry; the gateway and a host beyond answer alike."""
    start(f"--mtu={mtu}")
    with chain(host, mtu) as hops:
        for address in (hops[0].addresses(family.any)[0], family.gateway):
            for size in (0, 1, 56, 1452, 1473, 20000, 65507):
                assert_answered(ping(container, address, size))


@relay_only
@both_families
def test_a_smaller_mtu_on_the_way(host, container, start, family):
    """ping is told of the MTU once; then the container cuts."""
    start("--mtu=65520")
    with chain(host, 1500) as hops:
        address = hops[0].addresses(family.any)[0]
        done = ping(container, address, 5000)
        assert re.search(r"mtu ?= ?1500", done.stdout) and "+1 errors" in done.stdout, done.stdout
        for _ in range(3):
            done = ping(container, address, 5000)
            assert_answered(done)
            assert "errors" not in done.stdout, done.stdout


@both_families
def test_the_dns_address_answers(container, start, family):
    start()
    assert_answered(ping(container, "fd00::3" if family is SIX else "10.0.2.3"))


@relay_only
@both_families
def test_many_at_once(host, container, start, family):
    """Twenty clients of one container, each with an id of its own, get their own answers."""
    start()
    with chain(host, 1500) as hops:
        address = hops[0].addresses(family.any)[0]
        for _ in range(5):
            clients = [Thread(ping, container, address, 100 + i) for i in range(20)]
            for i, client in enumerate(clients):
                done = client.result()
                assert_answered(done)
                assert f"{108 + i} bytes from" in done.stdout, done.stdout


@relay_only
@both_families
def test_ttl_of_the_reply(host, container, start, family):
    """It is that of the host that answers, less the routers between."""
    start()
    with chain(host, 1500, 1500) as hops:
        done = ping(container, hops[1].addresses(family.any)[0])
        assert_answered(done)
        assert set(re.findall(r"ttl=(\d+)", done.stdout)) == {"63"}


@relay_only
@both_families
def test_errors(host, container, start, family):
    """A router without a route, and one that is too far."""
    start()
    with chain(host, 1500, 1500) as hops:
        far, near = hops[1].addresses(family.any)[0], hops[0].addresses(family.any)[0]
        # in this order: Linux limits what it says of its routes by all that it said before
        hops[0].run("ip", "route", "add", "unreachable", far)
        done = ping(container, far)
        assert done.returncode == 1 and "nreachable" in done.stdout and near in done.stdout, done.stdout
        hops[0].run("ip", "route", "delete", "unreachable", far)
        done = ping(container, far, 56, "-t", 2)
        assert done.returncode == 1 and "Time" in done.stdout and near in done.stdout, done.stdout


@relay_only
@pytest.mark.fresh
def test_forbidden(host, container, helper):
    """One warning names the sysctl; the container is told rather than left waiting."""
    if not is_root:
        pytest.skip("an ordinary user's host has one group, which the sysctl cannot leave out")
    host.root.shell("echo '1 0' >/proc/sys/net/ipv4/ping_group_range")
    one = helper()
    with chain(host, 1500) as hops:
        for _ in range(2):
            done = ping(container, hops[0].address)
            assert done.returncode == 1 and "Packet filtered" in done.stdout, done.stdout
    assert one.stderr().count("ping_group_range") == 1
    assert_answered(ping(container, "10.0.2.2"))
