# SPDX-License-Identifier: Apache-2.0
"""Addresses that can only mean the host itself are never dialled, whoever makes the frame."""
import socket

import pytest

from harness.frames import Wire, is_icmp_unreachable, packet, tcp_syn, udp
from harness.ns import listener
from harness.util import wait_readable

FROM4, FROM6 = "10.0.2.100", "fd00::100"
REFUSED4 = ["127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "240.0.0.1"]
REFUSED6 = ["::1", "::", "::ffff:127.0.0.1", "::ffff:0.0.0.0", "::127.0.0.1",
            "::ffff:192.0.2.10"]
MODES = [[], ["--disable-host-loopback"],
         ["--disable-host-loopback", "--enable-sandbox", "--enable-seccomp"]]


@pytest.fixture
def open_host(host):
    """Listeners on every address of the host: TCP and UDP, IPv4 and IPv6, one port."""
    with listener(host.user, "0.0.0.0") as (tcp4, port), listener(host.user, "::1", port) as (
            tcp6, _), host.user.socket(kind=socket.SOCK_DGRAM) as udp4, \
            host.user.socket(socket.AF_INET6, socket.SOCK_DGRAM) as udp6:
        udp4.bind(("0.0.0.0", port))
        udp6.bind(("::1", port))
        yield port, [tcp4, tcp6, udp4, udp6]


@pytest.mark.parametrize("options", MODES, ids=["open", "disabled", "sandboxed"])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_frames(container, helper, open_host, options, protocol):
    port, sockets = open_host
    one = helper("--enable-ipv6", *options)
    # an address at once, not after duplicate address detection
    container.run("ip", "-6", "address", "add", FROM6 + "/64", "dev", "tap0", "nodad")
    make, number = (tcp_syn, 6) if protocol == "tcp" else (udp, 17)
    with Wire(container) as wire:
        for to in REFUSED4 + REFUSED6:
            before = one.counters()
            source = FROM6 if ":" in to else FROM4
            wire.send(*packet(source, to, number, make(source, to, port)))
            one.wait_grown(before, "policy_refused")
            if to != "::":  # the unspecified address as destination: RFC 4291 2.5.2, no answer
                wire.expect(lambda frame: is_icmp_unreachable(frame, to),  # pylint: disable=W0640
                            f"ICMP unreachable about {to}")
            for sock in sockets:
                assert not wait_readable(sock.fileno(), 0), f"{protocol} to {to} reached the host"


def test_route_into_the_tap(host, container, helper):
    """No raw socket needed: the container's root routes 127.0.0.1 to the gateway."""
    helper("--disable-host-loopback")
    container.shell("""
        echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet
        echo 1 >/proc/sys/net/ipv4/conf/tap0/route_localnet
        ip address del 127.0.0.1/8 dev lo
        ip route del local 127.0.0.0/8 dev lo table local 2>/dev/null || :
        ip route add 127.0.0.1 via 10.0.2.2 dev tap0 src 10.0.2.100""")
    with listener(host.user) as (server, port):
        with container.socket() as sock:
            with pytest.raises(OSError) as caught:
                sock.connect(("127.0.0.1", port))
            assert not isinstance(caught.value, TimeoutError)
        assert not wait_readable(server.fileno(), 0)


def test_errors_are_rate_limited(container, helper):
    """Ten thousand refused packets do not bring ten thousand errors, and traffic goes on."""
    one = helper()
    with Wire(container) as wire:
        payload, kind = packet(FROM4, "127.0.0.1", 17, udp(FROM4, "127.0.0.1", 9))
        for _ in range(5000):
            wire.send(payload, kind)
        # the tap's queue may be full of the others when it asks for the first time
        container.run("ping", "-c", "1", "-w", "50", "10.0.2.2")
    one.wait_grown(dict.fromkeys(one.counters(), 0), "policy_refused", "icmp_limited")
