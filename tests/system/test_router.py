# SPDX-License-Identifier: Apache-2.0
"""The router that the container sees: fragments of its kernel, the end of a packet's life, protocols
that are not carried."""
import errno
import socket
import struct

import pytest

from harness.ns import listener
from harness.util import wait_readable

IP_RECVERR, IPV6_RECVERR = 11, 25
MSG_ERRQUEUE = 0x2000
FROM_ICMP, FROM_ICMP6 = 2, 3
BEHIND4, BEHIND6 = "192.0.2.1", "2001:db8::1"
SCTP = 132


@pytest.fixture
def client(container):
    """Makes a socket in the container that is told of errors."""
    made = []

    def make(family, kind=socket.SOCK_DGRAM, protocol=0):
        sock = container.socket(family, kind, protocol)
        made.append(sock)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        return sock
    yield make
    for sock in made:
        sock.close()


def told(sock):
    """(errno, origin, type, code, who) of the first error that the kernel was told of."""
    assert wait_readable(sock.fileno(), 20), "no error came"
    _, control, _, _ = sock.recvmsg(2000, 512, MSG_ERRQUEUE)
    data = control[0][2]
    number, origin, kind, code = struct.unpack_from("=IBBB", data)
    if origin == FROM_ICMP:
        return number, origin, kind, code, socket.inet_ntop(socket.AF_INET, data[20:24])
    return number, origin, kind, code, socket.inet_ntop(socket.AF_INET6, data[24:40])


def test_fragments_of_ipv6(host, container, helper):
    """Both stacks get the whole, which libslirp takes for as long as it fits into its MTU."""
    helper("--enable-ipv6", "--mtu=65520")
    container.wait_ipv6()
    container.run("ip", "link", "set", "tap0", "mtu", "1500")
    with host.user.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server, \
            container.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        server.bind(("::1", 0))
        for size in (1453, 4000, 20000, 65000):
            payload = (bytes(range(251)) * 262)[:size]
            sock.sendto(payload, ("fd00::2", server.getsockname()[1]))
            assert wait_readable(server.fileno(), 20), f"{size} bytes did not arrive"
            assert server.recv(65535) == payload


@pytest.mark.relay_only
def test_hop_limit(client, container, helper):
    """traceroute's first line."""
    one = helper("--enable-ipv6")
    container.wait_ipv6()
    sock, sock6 = client(socket.AF_INET), client(socket.AF_INET6)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
    sock6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 1)
    sock.sendto(b"x", (BEHIND4, 33434))
    assert told(sock) == (errno.EHOSTUNREACH, FROM_ICMP, 11, 0, "10.0.2.2")
    sock6.sendto(b"x", (BEHIND6, 33434))
    assert told(sock6) == (errno.EHOSTUNREACH, FROM_ICMP6, 3, 0, "fd00::2")
    assert one.counters()["drop_ttl"] == 2


def test_hop_limit_on_the_link(host, container, helper):
    """The gateway itself is no hop."""
    helper()
    with listener(host.user) as (_, port), container.socket() as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
        sock.connect(("10.0.2.2", port))


@pytest.mark.relay_only
def test_protocols_that_are_not_carried(client, container, helper):
    one = helper("--enable-ipv6")
    container.wait_ipv6()
    sock = client(socket.AF_INET, socket.SOCK_RAW, SCTP)
    sock6 = client(socket.AF_INET6, socket.SOCK_RAW, SCTP)
    sock.sendto(b"x" * 12, (BEHIND4, 0))
    assert told(sock)[1:] == (FROM_ICMP, 3, 13, "10.0.2.2")
    sock6.sendto(b"x" * 12, (BEHIND6, 0))
    assert told(sock6) == (errno.EACCES, FROM_ICMP6, 1, 1, "fd00::2")
    assert one.counters()["drop_protocol"] == 2
