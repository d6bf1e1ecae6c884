# SPDX-License-Identifier: Apache-2.0
"""What routers and hosts say about datagrams reaches the container, and costs nobody else's."""
import errno
import re
import shutil
import socket
import struct

import pytest

from harness.chain import chain
from harness.frames import checksum, pseudo
from harness.traffic import ping_pong_udp
from harness.udp import FOUR, PMTUDISC_DO, SIX, Error, body, family_of, sockets

pytestmark = pytest.mark.relay_only
both_families = pytest.mark.parametrize("family", [FOUR, SIX], ids=["ipv4", "ipv6"])
UNREACHABLE4, EXCEEDED4, UNREACHABLE6, TOO_BIG6, EXCEEDED6 = 3, 11, 1, 2, 3
N_ALTERNATING, WINDOW = 10_000, 20


@pytest.fixture
def start(container, helper):
    """Starts a helper with IPv6 whose container has its address at once."""
    def start_one(*options, **kwargs):
        one = helper("--enable-ipv6", *options, **kwargs)
        container.wait_ipv6()
        return one
    return start_one


def closed_port(world, family, address):
    with family.socket(world, address) as sock:
        return sock.getsockname()[1]


def connected(container, address, port):
    """A UDP socket of the container's that hears of all errors."""
    family = family_of(address)
    sock = family.socket(container)
    sock.setsockopt(family.level, family.recverr, 1)
    sock.connect((address, port))
    return sock


# --- refused

@both_families
@pytest.mark.parametrize("where", ["loopback", "far"])
def test_connection_refused(host, container, start, family, where):
    start()
    with chain(host, 1500) as hops:
        far = hops[0].addresses(family.any)[0]
        world, listen, address = ((host.user, family.loopback, family.gateway)
                                  if where == "loopback" else (hops[0], far, far))
        with family.socket(container) as client:
            client.connect((address, closed_port(world, family, listen)))
            for _ in range(3):
                client.send(b"anybody?")
                with pytest.raises(ConnectionRefusedError):
                    client.recv(1)


@both_families
def test_socat_is_refused(host, container, start, family):
    start()
    port = closed_port(host.user, family, family.loopback)
    target = f"UDP6-CONNECT:[fd00::2]:{port}" if family is SIX else f"UDP4-CONNECT:10.0.2.2:{port}"
    done = container.shell(f"echo knock | socat -t 50 - {target}", check=False)
    assert done.returncode != 0 and "Connection refused" in done.stderr


@both_families
@pytest.mark.parametrize("where", ["loopback", "far"])
def test_errors_cost_no_other_peer_a_datagram(host, container, start, family, where):
    """One socket, two peers in turn: one refuses each datagram, to the other none is lost."""
    start()
    with chain(host, 1500) as hops:
        far = hops[0].addresses(family.any)[0]
        world, listen, address = ((host.user, family.loopback, family.gateway)
                                  if where == "loopback" else (hops[0], far, far))
        refusing = (address, closed_port(world, family, listen))
        with sockets(family.socket(container), family.socket(world, listen)) as (client, server):
            living = (address, server.getsockname()[1])
            ping_pong_udp(client, living, server, [10])  # all neighbours know each other
            for first in range(0, N_ALTERNATING, WINDOW):
                numbers = range(first, first + WINDOW)
                for number in numbers:
                    client.sendto(struct.pack("!I", number), refusing)
                    client.sendto(struct.pack("!I", number), living)
                came = []
                for _ in numbers:
                    data, mapping = server.recvfrom(100)
                    came += struct.unpack("!I", data)
                    server.sendto(data, mapping)
                assert came == list(numbers)
                assert [client.recv(100) for _ in numbers] == [
                    struct.pack("!I", number) for number in numbers]


# --- what routers say

class Router:
    """A host that says about the next datagram what a test wants said."""

    def __init__(self, hop, family):
        self.family = family
        kind = 0x86dd if family is SIX else 0x0800
        self.sniffer = hop.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(kind))
        self.sniffer.bind(("up0", kind))
        protocol = socket.IPPROTO_ICMPV6 if family is SIX else socket.IPPROTO_ICMP
        self.speaker = hop.socket(family.family, socket.SOCK_RAW, protocol)
        self.address = hop.addresses(family.any)[0]

    def next_datagram(self, port):
        """The next UDP packet to that port."""
        head = 40 if self.family is SIX else 20
        while True:
            data = self.sniffer.recv(65536)
            protocol = data[6] if self.family is SIX else data[9]
            if protocol == 17 and data[head + 2:head + 4] == struct.pack("!H", port):
                return data

    def say(self, about, kind, code, info=0):
        """To the datagram's sender."""
        quote = about[:512]
        text = struct.pack("!BBHI", kind, code, 0, info) + quote
        if self.family is SIX:
            sender = socket.inet_ntop(socket.AF_INET6, about[8:24])
            value = checksum(pseudo(self.address, sender, 58, len(text)) + text)
        else:
            sender = socket.inet_ntop(socket.AF_INET, about[12:16])
            value = checksum(text)
        self.speaker.sendto(text[:2] + struct.pack("!H", value) + text[4:], (sender, 0))

    def __enter__(self):
        return self

    def __exit__(self, *what):
        self.sniffer.close()
        self.speaker.close()


@pytest.fixture
def silent_hop(host):
    """A host that has the routes to it and forwards nothing."""
    with chain(host, 1500) as hops:
        hops[0].shell("echo 0 >/proc/sys/net/ipv4/ip_forward; "
                      "echo 0 >/proc/sys/net/ipv6/conf/all/forwarding 2>/dev/null || :")
        host.root.shell(f"""
            ip route add 203.0.113.0/24 via {hops[0].address}
            ip -6 route add 2001:db8:ffff::/64 via {hops[0].address6} 2>/dev/null || :
            """)
        yield hops[0]


BEHIND = {FOUR: "203.0.113.7", SIX: "2001:db8:ffff::7"}
WORDS = [
    # family, type, code, the errno that Linux makes of it
    (FOUR, UNREACHABLE4, 0, errno.ENETUNREACH),
    (FOUR, UNREACHABLE4, 1, errno.EHOSTUNREACH),
    (FOUR, UNREACHABLE4, 3, errno.ECONNREFUSED),
    (FOUR, UNREACHABLE4, 9, errno.ENETUNREACH),
    (FOUR, UNREACHABLE4, 10, errno.EHOSTUNREACH),
    (FOUR, UNREACHABLE4, 13, errno.EHOSTUNREACH),
    (FOUR, EXCEEDED4, 0, errno.EHOSTUNREACH),
    (SIX, UNREACHABLE6, 0, errno.ENETUNREACH),
    (SIX, UNREACHABLE6, 1, errno.EACCES),
    (SIX, UNREACHABLE6, 3, errno.EHOSTUNREACH),
    (SIX, UNREACHABLE6, 4, errno.ECONNREFUSED),
    (SIX, EXCEEDED6, 0, errno.EHOSTUNREACH),
]


@pytest.mark.parametrize("family,kind,code,number", WORDS, ids=[
    f"ipv{6 if family is SIX else 4}-{kind}-{code}" for family, kind, code, _ in WORDS])
def test_a_routers_words(container, start, silent_hop, family, kind, code, number):
    """Type, code and who says so, and the errno."""
    start()
    with Router(silent_hop, family) as router, connected(container, BEHIND[family], 9) as client:
        client.send(b"hello")
        router.say(router.next_datagram(9), kind, code)
        error = Error(client)
        assert (error.errno, error.origin, error.type, error.code, error.offender) == (
            number, family.origin, kind, code, router.address)
        assert error.to[:2] == (BEHIND[family], 9)
        client.send(b"and again")  # the socket is well
        router.next_datagram(9)


@both_families
def test_words_about_others_are_not_passed_on(container, start, silent_hop, family):
    """An error about a datagram that was never sent is not told."""
    start()
    with Router(silent_hop, family) as router, connected(container, BEHIND[family], 9) as client, \
            connected(container, BEHIND[family], 10) as other:
        client.send(b"hello")
        about = bytearray(router.next_datagram(9))
        head = 40 if family is SIX else 20
        about[head:head + 2] = struct.pack("!H", 1)  # another port of ours
        kind = UNREACHABLE6 if family is SIX else UNREACHABLE4
        router.say(bytes(about), kind, 1)
        other.send(b"hello")
        router.say(router.next_datagram(10), kind, 1)
        assert Error(other).errno
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


@both_families
@pytest.mark.parametrize("route", ["unreachable", "prohibit"])
def test_routes_of_the_host(host, container, start, family, route):
    """The host itself finds that it may or can not."""
    start()
    address = BEHIND[family]
    host.root.run("ip", "route", "add", route, address)
    try:
        with connected(container, address, 9) as client:
            client.send(b"hello")
            error = Error(client)
    finally:
        host.root.run("ip", "route", "delete", route, address)
    prohibited4 = errno.EHOSTUNREACH  # what Linux makes of a filter's word, RFC 1812 5.2.7.1
    expected = {"unreachable": errno.EHOSTUNREACH,
                "prohibit": errno.EACCES if family is SIX else prohibited4}
    assert error.errno == expected[route], error
    assert error.origin == family.origin


@both_families
def test_no_route(container, start, family):
    start()
    with connected(container, BEHIND[family], 9) as client:
        client.send(b"hello")
        error = Error(client)
    assert (error.errno, error.offender) == (errno.ENETUNREACH, family.gateway), error


@both_families
def test_we_are_a_hop(container, start, silent_hop, family):
    start()
    with connected(container, silent_hop.addresses(family.any)[0], 9) as client:
        client.setsockopt(family.level, family.ttl, 1)
        client.send(b"no further")
        error = Error(client)
    kind = EXCEEDED6 if family is SIX else EXCEEDED4
    assert (error.type, error.code, error.offender) == (kind, 0, family.gateway), error


@both_families
@pytest.mark.parametrize("by", ["udp", "icmp"])
def test_traceroute(host, container, start, family, by):
    """Each hop of a chain, in its order."""
    if not shutil.which("traceroute"):
        pytest.skip("traceroute is not installed")
    start()
    with chain(host, 1500, 1500, 1500) as hops:
        target = hops[-1].addresses(family.any)[0]
        done = container.run("traceroute", "-n", "-q", "1", "-N", "1", "-w", "10", "-m", "6",
                             *(["-6"] if family is SIX else []), *(["-I"] if by == "icmp" else []),
                             target)
    shown = re.findall(r"^ *(\d+)  (\S+)", done.stdout, re.MULTILINE)
    path = [family.gateway, *(hop.addresses(family.any)[0] for hop in hops)]
    assert shown == [(str(i + 1), address) for i, address in enumerate(path)], done.stdout


@both_families
@pytest.mark.parametrize("by", ["udp", "icmp"])
def test_mtr(host, container, start, family, by):
    """Each hop of a chain, in its order. mtr waits for the last answers as long as it is told, not
    as long as they take: the first ones are enough."""
    if not shutil.which("mtr"):
        pytest.skip("mtr is not installed")
    start()
    with chain(host, 1500, 1500, 1500) as hops:
        target = hops[-1].addresses(family.any)[0]
        done = container.run("mtr", "--raw", "-n", "-c", "6", "-i", "0.5", "-G", "5", "-m", "6",
                             "-6" if family is SIX else "-4", *(["-u"] if by == "udp" else []),
                             target)
    shown = dict(re.findall(r"^h (\d+) (\S+)$", done.stdout, re.MULTILINE))
    path = [family.gateway, *(hop.addresses(family.any)[0] for hop in hops)]
    assert [shown.get(str(i)) for i in range(len(path))] == path, done.stdout
    answered = set(re.findall(r"^p (\d+) \d+ \d+$", done.stdout, re.MULTILINE))
    assert set("0123") <= answered, done.stdout


# --- path MTU

@both_families
@pytest.mark.parametrize("mtu", [1500, 65520])
@pytest.mark.parametrize("links", [(1280, 1500), (1500, 1280)], ids=["host's", "router's"])
def test_path_mtu(host, container, start, family, mtu, links):
    """Who wants to know the path's MTU gets to know it, and EMSGSIZE from then on."""
    start(f"--mtu={mtu}")
    with chain(host, *links) as hops:
        address = hops[1].addresses(family.any)[0]
        with sockets(family.socket(hops[1], address)) as (peer,), \
                connected(container, address, peer.getsockname()[1]) as client:
            client.setsockopt(family.level, family.discover, PMTUDISC_DO)
            client.send(body(1, 1400))
            error = Error(client)
            assert (error.errno, error.info) == (errno.EMSGSIZE, 1280), error
            assert client.getsockopt(family.level, family.mtu) == 1280
            if links[0] == 1280:  # the host cut it; on a router's link it was lost, as ever
                assert peer.recv(2000) == body(1, 1400)
            with pytest.raises(OSError) as caught:
                client.send(body(2, 1400))
            assert caught.value.errno == errno.EMSGSIZE
            largest = 1280 - (48 if family is SIX else 28)
            client.send(body(3, largest))
            assert peer.recv(2000) == body(3, largest)


@both_families
@pytest.mark.parametrize("mtu", [1500, 65520])
def test_who_does_not_care_loses_nothing(host, container, start, family, mtu):
    """5000 bytes over a link of 1280: the first datagram arrives, and all that follow."""
    start(f"--mtu={mtu}")
    with chain(host, 1280) as hops:
        address = hops[0].addresses(family.any)[0]
        with sockets(family.socket(hops[0], address), family.socket(container)) as (peer, client):
            for number in range(20):
                client.sendto(body(number, 5000), peer.getsockname()[:2])
                assert peer.recv(6000) == body(number, 5000)
