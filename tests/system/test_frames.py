# SPDX-License-Identifier: Apache-2.0
"""Absurd frames: dropped and counted, and traffic goes on."""
import random
import socket
import struct

import pytest

from harness.frames import (ETH_ARP, ETH_IP, ETH_IPV6, Wire, ethernet, ip4, ip6, packet, tcp_syn,
                            udp)
from harness.traffic import outbound
from harness.util import until

FROM4, FROM6, TO4, TO6 = "10.0.2.100", "fd00::100", "10.0.2.2", "fd00::2"


def good_packets():
    """One well-formed packet of each kind, with its EtherType."""
    yield packet(FROM4, TO4, 6, tcp_syn(FROM4, TO4, 9))
    yield packet(FROM4, TO4, 17, udp(FROM4, TO4, 9))
    yield packet(FROM4, "10.0.2.3", 17, udp(FROM4, "10.0.2.3", 53))
    yield packet(FROM4, TO4, 1, b"\x08\x00\xf7\xfd\x00\x01\x00\x01")
    yield packet(FROM6, TO6, 6, tcp_syn(FROM6, TO6, 9))
    yield packet(FROM6, TO6, 17, udp(FROM6, TO6, 9))
    yield packet(FROM6, "ff02::2", 58, b"\x85\x00\x00\x00\x00\x00\x00\x00")
    yield struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + b"\x02\x00\x00\x00\x00\x01" + \
        b"\x0a\x00\x02\x64" + bytes(6) + b"\x0a\x00\x02\x02", ETH_ARP


@pytest.fixture
def one(helper):
    return helper("--enable-ipv6", "--enable-seccomp")


@pytest.fixture
def wire(container, one):
    with Wire(container) as made:
        yield made


@pytest.fixture(autouse=True)
def alive_afterwards(host, container, one, wire):
    yield
    # some of the frames told libslirp another address of ours: it hears the right one again
    container.run("ip", "neigh", "flush", "dev", "tap0")
    outbound(container, host, 100_000)
    assert one.process.poll() is None


def total_drops(one):
    return sum(value for name, value in one.counters().items() if name.startswith("drop_"))


def test_truncated_at_every_length(wire, one):
    before = one.counters()
    for payload, kind in good_packets():
        for length in range(len(payload)):
            wire.send(payload[:length], kind)
    one.wait_grown(before, "drop_truncated")


def test_every_byte_changed(wire, one):
    before = total_drops(one)
    for payload, kind in good_packets():
        for at in range(len(payload)):
            for value in (0x00, 0xff, payload[at] ^ 0x10):
                wire.send(payload[:at] + bytes([value]) + payload[at + 1:], kind)
    until(lambda: total_drops(one) > before, "drops counted")


def test_random_bytes(wire, one):
    chance = random.Random(20240229)
    before = total_drops(one)
    for _ in range(5000):
        body = chance.randbytes(chance.randrange(0, 1500))
        kind = chance.choice((ETH_IP, ETH_IPV6, ETH_ARP, chance.randrange(0x600, 0xffff)))
        if kind == ETH_IP and body:
            body = b"\x45" + body[1:]
        if kind == ETH_IPV6 and body:
            body = b"\x60" + body[1:]
        wire.send(body, kind)
    until(lambda: total_drops(one) > before, "drops counted")


def test_lengths_that_lie(wire, one):
    before = one.counters()
    data = udp(FROM4, TO4, 9, b"x" * 100)
    for length in (0, 19, 20, 21, 27, 28, 127, 129, 1500, 65535):
        whole = bytearray(ip4(FROM4, TO4, 17, data))
        whole[2:4] = struct.pack("!H", length)
        wire.send(bytes(whole))
        lying = data[:4] + struct.pack("!H", length) + data[6:]
        wire.send(ip4(FROM4, TO4, 17, lying))
    for words in range(16):
        segment = bytearray(tcp_syn(FROM4, TO4, 9))
        segment[12] = words << 4
        wire.send(ip4(FROM4, TO4, 6, bytes(segment)))
        whole = bytearray(ip4(FROM4, TO4, 17, data))
        whole[0] = 0x40 | words
        wire.send(bytes(whole))
    for option in (b"\x02\x00\x05\xb4", b"\x02\xff\x05\xb4", b"\x05\x04\x00\x00",
                   b"\x03\x01\x02\x02"):
        wire.send(ip4(FROM4, TO4, 6, tcp_syn(FROM4, TO4, 9, options=option)))
    one.wait_grown(before, "drop_truncated", "drop_header")


def test_wrong_header_checksum(wire, one):
    before = one.counters()
    whole = bytearray(ip4(FROM4, TO4, 17, udp(FROM4, TO4, 9)))
    whole[10] ^= 0xff
    wire.send(bytes(whole))
    one.wait_grown(before, "drop_checksum")


def test_unknown_ethertype(wire, one):
    before = one.counters()
    wire.send(b"x" * 60, 0x88cc)
    one.wait_grown(before, "drop_ethertype")


def test_extension_headers_without_end(wire):
    """A chain that is longer than anybody means."""
    chain = b"\x00\x00\x01\x04\x00\x00\x00\x00" * 150
    wire.send(ip6(FROM6, TO6, 0, chain + udp(FROM6, TO6, 9)), ETH_IPV6)
    wire.send(ip6(FROM6, TO6, 44, b"\x2c\x00\x00\x00\x00\x00\x00\x01" * 100), ETH_IPV6)


def test_fragments_that_never_meet(wire, one):
    """Reassembly is bounded: 80 MB of first fragments do not make us grow by half as much."""
    wire.send(ip4(FROM4, TO4, 17, bytes(64), 1, 0x2000))
    before, n_before = memory_kb(one), one.counters()["frames_in"]
    for ident in range(60000):
        wire.send(ip4(FROM4, TO4, 17, bytes(1400), ident & 0xffff, 0x2000))
        if ident % 500 == 499:  # none may be lost in the tap's queue
            until(lambda: one.counters()["frames_in"] - n_before > ident,  # pylint: disable=W0640
                  "they have come")
    assert memory_kb(one) - before < 40 * 1024


def memory_kb(one):
    return int(one.status()["VmRSS"].split()[0])


@pytest.mark.parametrize("offset,more", [(8189, True), (8191, False), (1, True), (8000, False)])
def test_fragments_beyond_the_end(wire, offset, more):
    for size in (0, 1, 8, 1400):
        wire.send(ip4(FROM4, TO4, 17, bytes(size), 7, offset | (0x2000 if more else 0)))


def test_broadcast_source_and_own_addresses(wire):
    """Nobody's addresses as sources."""
    for source in ("255.255.255.255", "224.0.0.1", "127.0.0.1", "0.0.0.0", "10.0.2.2"):
        wire.send(ip4(source, TO4, 6, tcp_syn(source, TO4, 9)))
        wire.send(ip4(source, TO4, 17, udp(source, TO4, 9)))
        wire.send(ip4(source, "10.0.2.3", 17, udp(source, "10.0.2.3", 53)))
    wire.send_raw(ethernet(b"\xff" * 6, ip4(FROM4, TO4, 17, udp(FROM4, TO4, 9))))


def test_larger_than_our_mtu(host, container, wire):
    """A caller, or the container's root, may give the tap a larger MTU than ours: it arrives."""
    container.run("ip", "link", "set", "tap0", "mtu", "65521")
    with host.user.socket(kind=socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        payload = bytes(range(250)) * 160
        wire.send(ip4(FROM4, TO4, 17, udp(FROM4, TO4, server.getsockname()[1], payload)))
        assert server.recv(65535) == payload
    container.run("ip", "link", "set", "tap0", "mtu", "1500")
