# SPDX-License-Identifier: Apache-2.0
"""UDP both ways, content compared."""
import socket

import pytest

from harness.ns import HOST4
from harness.traffic import free_port, ping_pong_udp
from harness.udp import SOL_UDP, UDP_SEGMENT, body, datagrams

SIZES = [1, 8, 100, 1200, 1472, 1473, 4000, 9000]


@pytest.fixture
def server(host):
    with host.user.socket(kind=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


@pytest.mark.parametrize("mtu", [1500, 65520])
def test_outbound(container, helper, server, mtu):
    helper(f"--mtu={mtu}")
    with container.socket(kind=socket.SOCK_DGRAM) as client:
        ping_pong_udp(client, ("10.0.2.2", server.getsockname()[1]), server, SIZES * 5)


def test_outbound_64k(container, helper, server):
    helper("--mtu=65520")
    with container.socket(kind=socket.SOCK_DGRAM) as client:
        ping_pong_udp(client, ("10.0.2.2", server.getsockname()[1]), server, [30000, 60000])


def test_outbound_ipv6(host, container, helper):
    helper("--enable-ipv6")
    container.wait_ipv6()
    with host.user.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server6:
        server6.bind(("::1", 0))
        with container.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
            ping_pong_udp(client, ("fd00::2", server6.getsockname()[1]), server6,
                          [1, 100, 1200, 1452])


@pytest.mark.parametrize("mtu", [1500, 65520])
def test_published(host, container, helper, mtu):
    one = helper(f"--mtu={mtu}")
    port = free_port(host.user, socket.SOCK_DGRAM)
    with container.socket(kind=socket.SOCK_DGRAM) as inner:
        inner.bind(("0.0.0.0", 0))
        one.forward(inner.getsockname()[1], port, "udp")
        with host.user.socket(kind=socket.SOCK_DGRAM) as client:
            client.connect(("127.0.0.1", port))  # replies from elsewhere would not arrive
            for size in SIZES:
                client.send(b"x" * size)
                data, peer = inner.recvfrom(65535)
                assert data == b"x" * size and peer[0] == "10.0.2.100"  # a socket of the namespace
                inner.sendto(data[::-1], peer)
                assert len(client.recv(65535)) == size


@pytest.mark.parametrize("mtu", [1500, 65520])
def test_published_run(host, container, helper, mtu):
    """What the container's kernel leaves to the tap to cut (QUIC servers) arrives cut."""
    one = helper(f"--mtu={mtu}")
    port = free_port(host.user, socket.SOCK_DGRAM)
    with container.socket(kind=socket.SOCK_DGRAM) as inner:
        inner.bind(("0.0.0.0", 0))
        one.forward(inner.getsockname()[1], port, "udp")
        with host.user.socket(kind=socket.SOCK_DGRAM) as client:
            client.connect(("127.0.0.1", port))
            client.send(b"hello")
            _, peer = inner.recvfrom(100)
            inner.setsockopt(SOL_UDP, UDP_SEGMENT, 1200)
            for n in (1, 2, 10, 40):
                inner.sendto(b"".join(body(i, 1200) for i in range(n)) + b"last", peer)
                assert datagrams(client, n + 1) == [body(i, 1200) for i in range(n)] + [b"last"]


def test_published_keeps_the_client_address_and_apart(host, container, helper):
    """Two clients of one port, each gets its own answers."""
    one = helper()
    port = free_port(host.user, socket.SOCK_DGRAM)
    with container.socket(kind=socket.SOCK_DGRAM) as inner, \
            host.user.socket(kind=socket.SOCK_DGRAM) as first, \
            host.user.socket(kind=socket.SOCK_DGRAM) as second:
        inner.bind(("0.0.0.0", 0))
        one.forward(inner.getsockname()[1], port, "udp")
        peers = []
        for client, word in ((first, b"one"), (second, b"two")):
            client.bind((HOST4, 0))
            client.connect((HOST4, port))
            client.send(word)
            data, peer = inner.recvfrom(100)
            assert data == word and peer[0] == HOST4
            peers.append(peer)
        assert peers[0] != peers[1]
        for client, peer, word in ((second, peers[1], b"to two"), (first, peers[0], b"to one")):
            inner.sendto(word, peer)
            assert client.recv(100) == word


def test_a_thousand_sources(container, helper, server):
    """Each container port is a flow of its own; the old ones go on."""
    helper()
    first = container.socket(kind=socket.SOCK_DGRAM)
    with first:
        address = ("10.0.2.2", server.getsockname()[1])
        ping_pong_udp(first, address, server, [10])
        for _ in range(1000):
            with container.socket(kind=socket.SOCK_DGRAM) as client:
                ping_pong_udp(client, address, server, [10])
        ping_pong_udp(first, address, server, [10])
