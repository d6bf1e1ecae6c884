# SPDX-License-Identifier: Apache-2.0
"""TCP frames beyond 64 KiB to the container: where its kernel takes them, and where it had better not
be sent any."""
import pytest

from harness.helper import run_binary
from harness.ns import Container
from harness.traffic import MIB, connected, stream

pytestmark = pytest.mark.relay_only
FAMILIES = {"ipv4": ("127.0.0.1", "10.0.2.2"), "ipv6": ("::1", "fd00::2")}
SIZE = 32 * MIB


def start(helper, container, *options):
    one = helper("--enable-ipv6", "--mtu=1500", *options)
    container.wait_ipv6()
    return one


@pytest.fixture(autouse=True)
def kernel_knows_them(host):
    if "\nbig-tcp: yes" not in run_binary(host.user, "--features").stdout:
        pytest.skip("a kernel before Linux 6.3")


def download(host, client, family):
    near, far = connected(client, host.user, *FAMILIES[family])
    with near, far:
        stream(far, near, SIZE)


def download_until(host, client, family, is_enough):
    """Whether a connection fills such frames depends on how busy the machine is; one of many does."""
    for _ in range(50):
        download(host, client, family)
        if is_enough():
            return
    pytest.fail("50 connections were not enough")


@pytest.mark.parametrize("family", FAMILIES)
def test_they_are_sent(host, container, helper, family):
    one = start(helper, container)
    download_until(host, container, family, lambda: one.counters()["tcp_big"] > 10)
    assert one.counters()["tcp_big_lost"] == 0


@pytest.mark.parametrize("why", ["--disable-feature=big-tcp", "--pcap"])
def test_they_are_not_wanted(host, container, helper, why):
    """Readers of a capture know no frame of that size."""
    one = start(helper, container, f"--pcap={host.work}/pcap" if why == "--pcap" else why)
    download(host, container, "ipv4")
    assert one.counters()["tcp_big"] == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_behind_a_router(host, container, helper, family):
    """A container in the container, as rootless Docker has it: its kernel would have to cut them."""
    one = start(helper, container)
    inner = host.add(Container(container))
    container.shell(f"""
        ip link add to_inner type veth peer name eth0 netns {inner.pid}
        ip link set to_inner up
        ip address add 10.9.0.1/24 dev to_inner
        ip -6 address add fd09::1/64 dev to_inner nodad
        echo 1 >/proc/sys/net/ipv4/ip_forward
        echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
        """)
    inner.shell("""
        ip link set eth0 up
        ip address add 10.9.0.2/24 dev eth0
        ip -6 address add fd09::2/64 dev eth0 nodad
        ip route add default via 10.9.0.1
        ip -6 route add default via fd09::1
        """)
    download(host, inner, family)
    assert one.counters()["tcp_big"] == 0


def test_behind_a_bridge(host, container, helper):
    """The tap as a port of it: packets come with the Ethernet address of whoever sends them."""
    one = start(helper, container)
    inner = host.add(Container(container))
    container.shell(f"""
        ip link add to_inner type veth peer name eth0 netns {inner.pid}
        ip link add bridge0 type bridge
        ip link set to_inner master bridge0
        ip link set tap0 master bridge0
        ip link set to_inner up
        ip link set bridge0 up
        """)
    inner.shell("""
        ip link set eth0 up
        ip address add 10.0.2.101/24 dev eth0
        ip route add default via 10.0.2.2
        """)
    download(host, inner, "ipv4")
    assert one.counters()["tcp_big"] == 0


def filter_input(container, rule):
    """Skips where the kernel has no nftables, or nobody has nft."""
    done = container.shell(f"""
        nft add table inet filter
        nft add chain inet filter input '{{ type filter hook input priority 0; }}'
        nft add rule inet filter input {rule} counter drop
        """, check=False)
    if done.returncode != 0:
        pytest.skip("no filters here: " + done.stderr)


def test_a_filter_that_follows_connections(host, container, helper):
    """It finds nothing wrong with them."""
    one = start(helper, container)
    filter_input(container, "ct state invalid")
    for n, family in enumerate(FAMILIES):
        download_until(host, container, family, lambda n=n: one.counters()["tcp_big"] > 10 * (n + 1))
    assert one.counters()["tcp_big_lost"] == 0


@pytest.mark.parametrize("family,rule", [
    ("ipv4", "meta nfproto ipv4 @nh,16,16 0"), ("ipv6", "meta nfproto ipv6 @nh,32,16 0")])
def test_they_are_thrown_away(host, container, helper, family, rule):
    """By a filter that believes the length in the header; after three connections none tries."""
    one = start(helper, container)
    filter_input(container, rule)
    download_until(host, container, family, lambda: one.counters()["tcp_big_lost"] == 3)
    n_sent = one.counters()["tcp_big"]
    for _ in range(3):
        download(host, container, family)
    counters = one.counters()
    assert (counters["tcp_big"], counters["tcp_big_lost"]) == (n_sent, 3)
