# SPDX-License-Identifier: Apache-2.0
"""UDP through mappings of our own: one for all peers, open to all, and nothing of a datagram lost."""
import contextlib
import json
import shutil
import socket
import struct

import pytest

from harness.chain import chain
from harness.frames import Wire, ip4, udp
from harness.ns import HOST4, Held
from harness.traffic import echo_udp, free_port, ping_pong_udp
from harness.udp import (FOUR, SIX, SOL_UDP, UDP_GRO, UDP_SEGMENT, body, both_ways, datagrams,
                         received, sockets)
from harness.util import Thread, until, wait_readable

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


@pytest.fixture
def far(host):
    """A host beside ours, with three addresses of each family."""
    with chain(host, 1500) as hops:
        for last in (3, 4):
            hops[0].shell(f"""
                ip address add 198.51.100.{last}/24 dev up0
                ip -6 address add 2001:db8:100::{last}/64 dev up0 nodad 2>/dev/null || :
                """)
        yield hops[0]


def three_addresses(far, family):
    first = far.addresses(family.any)[0]
    return [first, first[:-1] + "3", first[:-1] + "4"]


# --- mappings

@relay_only
@both_families
def test_one_mapping_for_all_peers(container, start, far, family):
    """As STUN sees it: two peers are told the same address and port, and a third, whom we never
    asked, reaches us there."""
    start()
    with sockets(family.socket(container, family.any), *(
            family.socket(far, address) for address in three_addresses(far, family))) as (
                client, one, two, stranger):
        seen = []
        for peer in (one, two):
            client.sendto(b"what am I?", peer.getsockname()[:2])
            seen.append(peer.recvfrom(100)[1])
        assert seen[0] == seen[1]
        assert seen[0][0] == far.addresses(family.any)[1]
        for peer in (stranger, two, one):
            peer.sendto(b"here I am", seen[0])
            data, sender = client.recvfrom(100)
            assert (data, sender[:2]) == (b"here I am", peer.getsockname()[:2])


@relay_only
@both_families
def test_each_socket_has_its_own(container, start, far, family):
    start()
    seen = set()
    with sockets(family.socket(far, three_addresses(far, family)[0]), *(
            family.socket(container, family.any) for _ in range(50))) as (peer, *clients):
        for client in clients:
            client.sendto(b"x", peer.getsockname()[:2])
            seen.add(peer.recvfrom(100)[1])
        assert len(seen) == len(clients)


@relay_only
def test_a_flood_of_ports(host, container, helper):
    """100,000 mappings where there is room for few: none is refused, the one that is used stays,
    the silent one goes, and what it cost comes back."""
    one = helper(launcher=["prlimit", "--nofile=1024:1024"])
    container.run("ip", "address", "add", "10.0.2.101/24", "dev", "tap0")
    with sockets(FOUR.socket(host.user, "127.0.0.1"), FOUR.socket(container, "10.0.2.100"),
                 *(FOUR.socket(container, "10.0.2.100") for _ in range(5))) as (
                     server, used, *silent):
        port = server.getsockname()[1]

        def mapping_of(sock):
            sock.sendto(b"", ("10.0.2.2", port))
            return server.recvfrom(100)[1]

        gone = [mapping_of(one) for one in silent]
        own = {sock.getsockname()[1] for sock in (used, *silent)}
        numbers = flood_numbers(own)
        flood(container, server, port, numbers[:2000])
        before, mapping = rss_kb(one), mapping_of(used)
        with Wire(container) as wire:
            for at in range(2000, len(numbers), 400):
                flood(container, server, port, numbers[at:at + 400], wire)
                assert mapping_of(used) == mapping, f"evicted after {at} though it was used"
        assert one.descriptors() <= 1024
        assert rss_kb(one) - before < 8 * 1024
        assert any(is_closed(host, mapping) for mapping in gone)
        mapping_of(silent[0])  # has one again


def is_closed(host, mapping):
    """Another mapping may have got that port of the host by now."""
    with FOUR.socket(host.user) as knocking:
        knocking.settimeout(1)
        knocking.connect(mapping)
        knocking.send(b"knock")
        try:
            return not knocking.recv(1)
        except ConnectionRefusedError:
            return True
        except TimeoutError:
            return False


def rss_kb(one):
    return int(one.status()["VmRSS"].split()[0])


def flood_numbers(own):
    """100,000 pairs of a source address and a port, but for our own."""
    return [(f"10.0.2.{100 + i // 50000}", 10000 + i % 50000) for i in range(100_000)
            if 10000 + i % 50000 not in own]


def flood(container, server, port, numbers, wire=None, step=50):
    """A datagram from each, so few at once that no queue is too short for them."""
    with contextlib.ExitStack() as stack:
        wire = wire or stack.enter_context(Wire(container))
        for at in range(0, len(numbers), step):
            for source, source_port in numbers[at:at + step]:
                wire.send(ip4(source, "10.0.2.2", 17, udp(
                    source, "10.0.2.2", port, struct.pack("!H", source_port), source_port)))
            came = {struct.unpack("!H", server.recv(100))[0] for _ in numbers[at:at + step]}
            assert came == {source_port for _, source_port in numbers[at:at + step]}


# --- datagrams

SIZES4 = [0, 1, 1472, 1473, 8000, 0, 40000, 65506, 65507]
SIZES6 = [0, 1, 1452, 1453, 8000, 0, 40000, 65506, 65507, 65527]


@relay_only
@pytest.mark.parametrize("mtu", [1500, 65520])
@both_families
def test_all_sizes(host, container, start, family, mtu):
    """Up to the largest that IP can carry, and none at all, there and back."""
    start(f"--mtu={mtu}")
    with sockets(family.socket(container), family.socket(host.user, family.loopback)) as (
            client, server):
        sizes = SIZES6 if family is SIX else SIZES4
        ping_pong_udp(client, (family.gateway, server.getsockname()[1]), server, sizes * 3)


@relay_only
@pytest.mark.parametrize("mtu", [1500, 65520])
@both_families
def test_runs_of_the_container(host, container, start, family, mtu):
    """UDP_SEGMENT, as QUIC sends: each datagram arrives with its own length."""
    start(f"--mtu={mtu}")
    with sockets(family.socket(container), family.socket(host.user, family.loopback)) as (
            client, server):
        client.setsockopt(SOL_UDP, UDP_SEGMENT, 1200)
        for last in (1200, 1, 700):
            for number in range(50):
                parts = [body(number * 21 + i, 1200) for i in range(20)] + [body(number, last)]
                client.sendto(b"".join(parts), (family.gateway, server.getsockname()[1]))
                assert [server.recv(2000) for _ in parts] == parts


@relay_only
@pytest.mark.parametrize("together", [False, True], ids=["singly", "together"])
@pytest.mark.parametrize("mtu", [1500, 65520])
@both_families
def test_runs_of_the_host(host, container, start, family, mtu, together):
    """Whether the container takes them one by one or as they come (UDP_GRO)."""
    start(f"--mtu={mtu}")
    with sockets(family.socket(container), family.socket(host.user, family.loopback)) as (
            client, server):
        client.sendto(b"go", (family.gateway, server.getsockname()[1]))
        _, mapping = server.recvfrom(100)
        client.setsockopt(SOL_UDP, UDP_GRO, together)
        server.setsockopt(SOL_UDP, UDP_SEGMENT, 1200)
        for last in (1200, 1, 700):
            for number in range(50):
                parts = [body(number * 21 + i, 1200) for i in range(20)] + [body(number, last)]
                server.sendto(b"".join(parts), mapping)
                assert datagrams(client, len(parts)) == parts


@pytest.mark.parametrize("mtu", [1500, 65520])
@pytest.mark.parametrize("size", [100, 1420])
@both_families
def test_both_ways_at_once(host, container, start, family, mtu, size):
    """As WireGuard does it; a window keeps the queues short, so that nothing may be missing."""
    start(f"--mtu={mtu}")
    with sockets(family.socket(container), family.socket(host.user, family.loopback)) as (
            client, server):
        both_ways(client, server, (family.gateway, server.getsockname()[1]), 3000, size)


def test_iperf3(host, container, helper):
    """So slowly that a receiver that gets no processor for three seconds misses nothing."""
    if not shutil.which("iperf3"):
        pytest.skip("iperf3 is not installed")
    helper()
    for options in ([], ["-R"]):
        port = free_port(host.user)
        with host.user.popen(["iperf3", "-s", "-1", "--forceflush", "-B", "127.0.0.1", "-p", port],
                             stdout=-1, text=True) as server:
            until(lambda: "listening" in server.stdout.readline(), "iperf3 listens")
            done = container.run("iperf3", "-J", "-u", "-c", "10.0.2.2", "-p", port, "-l", "1200",
                                 "-b", "500K", "-n", "150K", "-w", "200K", *options)
            server.stdout.read()
        total = json.loads(done.stdout)["end"]["sum"]
        assert total["packets"] > 100 and total["lost_packets"] == 0


# --- hops, groups, addresses

@relay_only
@both_families
def test_ttl_and_tos(container, start, far, family):
    """We are a hop for what goes out; a reply has the TTL and TOS that it came with."""
    start()
    with sockets(family.socket(container), family.socket(far, far.addresses(family.any)[0])) as (
            client, peer):
        for sock in (client, peer):
            sock.setsockopt(family.level, family.recv_ttl, 1)
            sock.setsockopt(family.level, family.recv_tos, 1)
        for ttl, tos in ((33, 0xb8), (64, 0), (33, 0x02), (2, 0x88), (255, 0xb8)):
            client.setsockopt(family.level, family.ttl, ttl)
            client.setsockopt(family.level, family.tos, tos)
            client.sendto(b"there", peer.getsockname()[:2])
            data, seen_ttl, seen_tos, _, mapping = received(peer)
            assert (data, seen_ttl, seen_tos) == (b"there", ttl - 1, tos)
            peer.setsockopt(family.level, family.ttl, ttl)
            peer.setsockopt(family.level, family.tos, tos)
            peer.sendto(b"back", mapping)
            data, seen_ttl, seen_tos, _, _ = received(client)
            assert (data, seen_ttl, seen_tos) == (b"back", ttl, tos)


@relay_only
@both_families
def test_multicast_leaves(host, container, start, far, family):
    """A group's members on the host's link hear the container."""
    start()
    group = "ff05::1234" if family is SIX else "239.1.2.3"
    host.root.run("ip", "route", "add", "multicast" if family is SIX else "unicast", group,
                  "dev", "down0", *(["table", "local"] if family is SIX else []))
    with sockets(family.socket(container), family.socket(far, family.any)) as (client, member):
        join(far, member, group)
        member.setsockopt(family.level, family.recv_ttl, 1)
        ttl_option = socket.IPV6_MULTICAST_HOPS if family is SIX else socket.IP_MULTICAST_TTL
        if family is SIX:
            client.setsockopt(family.level, socket.IPV6_MULTICAST_IF, index_of(container, "tap0"))
        client.setsockopt(family.level, ttl_option, 5)
        client.sendto(b"all of you", (group, member.getsockname()[1]))
        data, ttl, _, _, mapping = received(member)
        assert (data, ttl) == (b"all of you", 4)
        member.sendto(b"I am here", mapping)
        assert client.recv(100) == b"I am here"


def index_of(world, name):
    return int(world.run("cat", f"/sys/class/net/{name}/ifindex", check=False).stdout or
               world.run("ip", "-o", "link", "show", "dev", name).stdout.split(":")[0])


def join(world, sock, group):
    if ":" in group:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP,
                        socket.inet_pton(socket.AF_INET6, group) +
                        struct.pack("=I", index_of(world, "up0")))
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP,
                        socket.inet_aton(group) + socket.inet_aton(world.address))


@pytest.mark.parametrize("loopback", [True, False])
def test_broadcast_means_the_host(host, container, helper, loopback):
    helper(*([] if loopback else ["--disable-host-loopback"]))
    with sockets(FOUR.socket(container), FOUR.socket(host.user, "127.0.0.1"),
                 FOUR.socket(host.user, HOST4)) as (client, server, marker):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        client.sendto(b"anybody", ("255.255.255.255", server.getsockname()[1]))
        if loopback:
            assert server.recv(100) == b"anybody"
        else:
            client.sendto(b"later", marker.getsockname())
            assert marker.recv(100) == b"later"
            assert not wait_readable(server.fileno(), 0)


@relay_only
def test_broadcast_is_answered(host, container, helper):
    """By the gateway, as far as the container can see; libslirp's answer comes from 255.255.255.255."""
    helper()
    with sockets(FOUR.socket(container), FOUR.socket(host.user, "127.0.0.1")) as (client, server):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        client.sendto(b"anybody", ("255.255.255.255", server.getsockname()[1]))
        data, mapping = server.recvfrom(100)
        server.sendto(data, mapping)
        assert client.recvfrom(100) == (data, ("10.0.2.2", server.getsockname()[1]))


def test_addresses_change(host, container, helper):
    """A second address, then no first one: each speaks for itself."""
    helper()
    container.run("ip", "address", "add", "10.0.2.55/24", "dev", "tap0")
    with FOUR.socket(host.user, "127.0.0.1") as server:
        to = ("10.0.2.2", server.getsockname()[1])
        with sockets(FOUR.socket(container, "10.0.2.100", 4000),
                     FOUR.socket(container, "10.0.2.55", 4000)) as clients:
            mappings = set()
            for client in clients * 2:
                client.sendto(b"x", to)
                data, mapping = server.recvfrom(100)
                mappings.add(mapping)
                server.sendto(b"y", mapping)
                assert client.recv(100) == b"y"
            assert len(mappings) == 2
        container.shell("ip address del 10.0.2.100/24 dev tap0; "
                        "ip address add 10.0.2.55/24 dev tap0 2>/dev/null || :; "
                        "ip route replace default via 10.0.2.2 dev tap0")
        with FOUR.socket(container) as client:
            ping_pong_udp(client, to, server, [10, 1000, 3000])


BRIDGED = """
    ip link add inner0 type veth peer name eth0 netns {pid}
    ip link set inner0 up
    ip link add br0 type bridge
    ip address flush dev tap0
    ip link set tap0 master br0
    ip link set inner0 master br0
    ip link set br0 up
    ip address add 10.0.2.100/24 dev br0
    ip route replace default via 10.0.2.2
    """
ROUTED = """
    ip link add inner0 type veth peer name eth0 netns {pid}
    ip link set inner0 up
    ip address add 172.30.0.1/24 dev inner0
    echo 1 >/proc/sys/net/ipv4/ip_forward
    """


@pytest.mark.parametrize("outer,address,router", [
    (BRIDGED, "10.0.2.77", "10.0.2.2"),
    pytest.param(ROUTED, "172.30.0.2", "172.30.0.1", marks=relay_only)], ids=["bridged", "routed"])
def test_namespaces_behind_the_container(host, container, helper, outer, address, router):
    """As rootless Docker's bridges, with and without addresses of the tap's network."""
    helper()
    inner = host.add(Held(container, "net", 0, lambda pid: [
        *container.prefix, "nsenter", "-t", str(pid), "-n", "--"]))
    container.shell(outer.format(pid=inner.pid))
    inner.shell(f"ip link set eth0 up; ip address add {address}/24 dev eth0; "
                f"ip route add default via {router}")
    with sockets(FOUR.socket(host.user, "127.0.0.1"), FOUR.socket(inner, address, 4000),
                 FOUR.socket(container, "10.0.2.100", 4000)) as (server, within, outside):
        to = ("10.0.2.2", server.getsockname()[1])
        for sizes in ([10, 1472], [4000, 20000], [1]):
            for client in (within, outside):
                ping_pong_udp(client, to, server, sizes)


@pytest.mark.parametrize("listen", ["127.0.0.1", "0.0.0.0"])
def test_own_published_port(host, container, helper, listen):
    """The container reaches its own service by the gateway's address, and the answer comes back
    from there."""
    one = helper()
    port = free_port(host.user, socket.SOCK_DGRAM)
    with sockets(FOUR.socket(container, "10.0.2.100"), FOUR.socket(container)) as (server, client):
        one.forward(server.getsockname()[1], port, "udp", host_addr=listen)
        client.connect(("10.0.2.2", port))
        echo = Thread(echo_udp, server, 3)
        for size in (1, 1400, 1):
            client.send(body(7, size))
            assert client.recv(2000) == body(7, size)
        echo.result()
