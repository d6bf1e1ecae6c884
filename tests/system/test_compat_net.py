# SPDX-License-Identifier: Apache-2.0
"""What the container can reach and as whom: loopback, DNS address, outbound addresses, ping."""
import errno
import socket

import pytest

from harness.ns import HOST4, HOST6, listener
from harness.traffic import connect_errno
from harness.util import wait_readable

pytestmark = pytest.mark.dad


IP_RECVERR = 11  # without it Linux does not tell UDP of an unreachable network


def dial(container, address, port):
    """The error number of a TCP connection, 0 when it was made."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with container.socket(family) as sock:
        return connect_errno(sock, (address, port))


def peer_seen(container, server, address, port):
    """Whom the host's server sees when the container connects."""
    with container.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as sock:
        sock.connect((address, port))
        far, peer = server.accept()
        far.close()
        return peer[0]


def ping(container, address):
    return container.run("ping", "-n", "-c", "1", "-W", "20", address, check=False).returncode


def test_host_loopback_by_the_gateway(host, container, helper):
    helper("--enable-ipv6")
    container.wait_ipv6()
    with listener(host.user) as (_, port), listener(host.user, "::1") as (_, port6):
        assert dial(container, "10.0.2.2", port) == 0
        assert dial(container, "fd00::2", port6) == 0
        assert dial(container, "10.0.2.2", 9) == errno.ECONNREFUSED


def test_disable_host_loopback(host, container, helper):
    helper("--disable-host-loopback", "--enable-ipv6")
    container.wait_ipv6()
    with listener(host.user) as (server, port), listener(host.user, "::1") as (server6, port6):
        assert ping(container, "10.0.2.2") == 0
        assert dial(container, "10.0.2.2", port) == errno.ENETUNREACH
        assert dial(container, "fd00::2", port6) in (errno.ENETUNREACH, errno.EHOSTUNREACH)
        assert dial(container, "fd00::77", port6) in (errno.ENETUNREACH, errno.EHOSTUNREACH)
        for sock in (server, server6):
            assert not wait_readable(sock.fileno(), 0), "a connection reached the host's loopback"


def test_host_loopback_udp(host, container, helper):
    helper("--disable-host-loopback")
    with host.user.socket(kind=socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        with container.socket(kind=socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
            sock.connect(("10.0.2.2", server.getsockname()[1]))
            sock.send(b"knock")
            with pytest.raises(OSError) as caught:
                sock.recv(1)
        assert caught.value.errno == errno.ENETUNREACH
        assert not wait_readable(server.fileno(), 0)


def test_other_host_addresses_stay_reachable(host, container, helper):
    """--disable-host-loopback is about loopback alone, as in slirp4netns."""
    helper("--disable-host-loopback", "--enable-ipv6")
    container.wait_ipv6()
    with listener(host.user, HOST4) as (_, port), listener(host.user, HOST6) as (_, port6):
        assert dial(container, HOST4, port) == 0
        assert dial(container, HOST6, port6) == 0


def test_unreachable_network(container, helper):
    """The host has no route there."""
    helper()
    assert dial(container, "203.0.113.1", 80) in (errno.ENETUNREACH, errno.EHOSTUNREACH)


@pytest.mark.parametrize("by", ["address", "interface"])
def test_outbound_addr(host, container, helper, by):
    helper(f"--outbound-addr={HOST4 if by == 'address' else 'ext0'}")
    with listener(host.user, "0.0.0.0") as (server, port):
        assert peer_seen(container, server, "10.0.2.2", port) == HOST4


def test_no_outbound_addr(host, container, helper):
    helper()
    with listener(host.user, "0.0.0.0") as (server, port):
        assert peer_seen(container, server, "10.0.2.2", port) == "127.0.0.1"


@pytest.mark.fresh
@pytest.mark.parametrize("by", ["address", "interface"])
def test_outbound_addr6(host, container, helper, by):
    """slirp4netns looks up the other option's interface."""
    host.root.run("ip", "address", "add", "2001:db8::11/64", "dev", "ext1", "nodad")
    helper("--enable-ipv6", f"--outbound-addr6={'2001:db8::11' if by == 'address' else 'ext1'}")
    container.wait_ipv6()
    with listener(host.user, HOST6) as (server, port):
        assert peer_seen(container, server, HOST6, port) == "2001:db8::11"


def test_client_address_is_kept_on_published_ports(host, container, helper):
    one = helper("--forward-path=tap")
    for address, seen in (("127.0.0.1", "10.0.2.2"), (HOST4, HOST4)):
        with listener(container, "0.0.0.0") as (server, guest_port):
            with listener(host.user, "0.0.0.0") as (_, port):
                pass
            rule = one.forward(guest_port, port)
            with host.user.socket() as client:
                client.connect((address, port))
                far, peer = server.accept()
                far.close()
            assert peer[0] == seen
            one.api("remove_hostfwd", id=rule)


@pytest.mark.fresh
def test_disable_dns(host, container, helper):
    """10.0.2.3 is then an ordinary address: with a route to it the packets leave."""
    host.root.run("ip", "address", "add", "10.0.2.3/32", "dev", "lo")
    helper("--disable-dns")
    assert ping(container, "10.0.2.2") == 0
    with listener(host.user, "127.0.0.1", 53) as (resolver, _):
        with listener(host.user, "10.0.2.3", 53) as (ordinary, _):
            assert dial(container, "10.0.2.3", 53) == 0
            assert wait_readable(ordinary.fileno())
            assert not wait_readable(resolver.fileno(), 0)


@pytest.mark.parametrize("address", ["10.0.2.2", "10.0.2.3", HOST4])
def test_ping(container, helper, address):
    helper()
    assert ping(container, address) == 0


def test_ping6(container, helper):
    helper("--enable-ipv6")
    container.wait_ipv6()
    assert ping(container, "fd00::2") == 0


def test_ping_nobody(container, helper):
    helper()
    assert container.run("ping", "-n", "-c", "1", "-W", "1", "203.0.113.9",
                         check=False).returncode == 1


def test_ipv6_off_by_default(container, helper):
    helper()
    assert ping(container, "10.0.2.2") == 0
    assert "fd00:" not in container.configured()


def test_router_advertisement_at_once_with_rdnss(host, container, helper):
    """Podman expects the address as soon as the container runs."""
    host.resolv_conf("nameserver ::1\n")
    container.shell("echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad")
    with container.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x86dd)) as raw:
        helper("--enable-ipv6")
        container.wait_ipv6()
        raw.setblocking(False)
        adverts = []
        while True:
            try:
                frame = raw.recv(65535)
            except BlockingIOError:
                break
            if len(frame) > 54 and frame[20] == 58 and frame[54] == 134:
                adverts.append(frame)
    rdnss = socket.inet_pton(socket.AF_INET6, "fd00::3")
    assert any(rdnss in frame for frame in adverts)
