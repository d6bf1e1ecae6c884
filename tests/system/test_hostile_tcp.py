# SPDX-License-Identifier: Apache-2.0
"""TCP segments that nobody means, by a packet socket: the relay goes on, and its counters tell."""
import random
import socket
import struct

import pytest

from harness.frames import (ETH_IPV6, Wire, checksum, ethernet, packet, pseudo, tcp_syn)
from harness.ns import listener
from harness.traffic import connected, outbound, transfer
from harness.util import until, wait_readable

FROM4, FROM6, TO4, TO6 = "10.0.2.100", "fd00::100", "10.0.2.2", "fd00::2"
PAIRS = [(FROM4, TO4), (FROM6, TO6)]
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
SOL_PACKET, PACKET_VNET_HDR = 263, 15
NEEDS_CSUM, DATA_VALID = 1, 2
GSO_NONE, GSO_TCPV4, GSO_UDP, GSO_TCPV6, GSO_UDP_L4, GSO_ECN = 0, 1, 3, 4, 5, 0x80


def segment(pair, ports, seq, ack, flags, data=b"", options=b"", window=64000, wrong=0):
    """A TCP segment; `wrong` is added to its checksum."""
    words = 5 + len(options) // 4
    body = struct.pack("!HHIIHHHH", *ports, seq & 0xffffffff, ack & 0xffffffff,
                       words << 12 | flags, window, 0, 0) + options + data
    value = checksum(pseudo(*pair, 6, len(body)) + body)
    return body[:16] + struct.pack("!H", (value + wrong) & 0xffff) + body[18:]


@pytest.fixture
def one(container, helper):
    started = helper("--enable-ipv6", "--enable-seccomp")
    container.run("ip", "-6", "address", "add", FROM6 + "/64", "dev", "tap0", "nodad")
    return started


@pytest.fixture
def wire(container, one):
    with Wire(container) as made:
        yield made


@pytest.fixture(autouse=True)
def alive_afterwards(host, container, one):
    yield
    outbound(container, host, 100_000)
    assert one.counters()["tcp_impossible"] == 0


def settle(one, wire):
    """All that was sent has been looked at: the answer to a stray segment comes after it. It is
    asked for again, since answers to the others may have filled the packet socket; the answer to the
    first one will do."""
    wanted = set()

    def answered():
        settle.port = settle.port % 1000 + 1
        wanted.add(struct.pack("!H", settle.port))
        wire.drain()
        wire.send(*packet(FROM4, TO4, 6, segment(PAIRS[0], (settle.port, 9), 1, 1, ACK)))
        return any(frame[12:14] == b"\x08\x00" and frame[23] == 6 and frame[36:38] in wanted and
                   frame[47] & RST for frame in wire.frames(0.5))
    until(answered, "a stray segment answered")
    assert one.process.poll() is None


settle.port = 0


def send_all(one, wire, packets):
    """As many as one likes: now and then the relay gets a turn, so that the tap's queue drains."""
    for number, each in enumerate(packets):
        wire.send(*each)
        if number % 500 == 499:
            one.api("list_hostfwd")
    settle(one, wire)


class Flow:
    """A connection of the container whose numbers are known from its frames."""

    def __init__(self, host, container, wire, pair):
        self.pair = pair
        with listener(host.user, "127.0.0.1" if ":" not in pair[0] else "::1") as (server, port):
            self.near = container.socket(socket.AF_INET6 if ":" in pair[0] else socket.AF_INET)
            self.near.bind((pair[0], 0))
            self.near.connect((pair[1], port))
            self.far, _ = server.accept()
        self.far.settimeout(60)
        self.ports = (self.near.getsockname()[1], port)
        self.exchange()
        self.far.sendall(b"x")
        at = 54 if ":" in pair[0] else 34  # of the TCP header
        frame = wire.expect(lambda frame: len(frame) > at + 20 and frame[at:at + 4] == struct.pack(
            "!HH", *reversed(self.ports)) and frame[-1:] == b"x", "the byte")
        assert self.near.recv(1) == b"x"
        theirs, self.seq = struct.unpack("!II", frame[at + 4:at + 12])
        self.ack = theirs + 1  # what the container says next

    def segment(self, flags, seq=0, ack=0, **kwargs):
        """Numbers relative to where the connection stands."""
        return packet(*self.pair, 6, segment(self.pair, self.ports, self.seq + seq, self.ack + ack,
                                             flags, **kwargs))

    def exchange(self):
        for source, sink in ((self.near, self.far), (self.far, self.near)):
            source.sendall(b"whole")
            assert sink.recv(5, socket.MSG_WAITALL) == b"whole"

    def close(self):
        self.near.close()
        self.far.close()


@pytest.fixture(params=PAIRS, ids=["ipv4", "ipv6"])
def flow(request, host, container, wire):
    made = Flow(host, container, wire, request.param)
    yield made
    made.close()


def test_every_flag_combination_beside_the_window(flow, wire, one):
    """Blind guesses: the connection stands, and says so at most."""
    before = one.counters()
    places = ((-100000, 0), (5_000_000, 0), (1 << 31, 0), (-1, 0), (1000, 0), (0, 1 << 30),
              (0, -(1 << 30)))
    send_all(one, wire, (flow.segment(flags, seq, ack) for flags in range(512)
                         for seq, ack in places if seq or not flags & (RST | SYN | FIN)))
    flow.exchange()
    one.wait_grown(before, "tcp_unacceptable")


def test_every_flag_combination_at_the_right_place(host, container, wire, one):
    """What it means to one connection is its own; the helper and the others go on."""
    other = Flow(host, container, wire, PAIRS[0])
    for flags in range(256):
        made = Flow(host, container, wire, PAIRS[flags % 2])
        wire.send(*made.segment(flags))
        wire.send(*made.segment(flags, data=b"data"))
        made.close()
    settle(one, wire)
    other.exchange()
    other.close()


def test_every_flag_combination_to_no_flow(wire, one):
    before = one.counters()
    send_all(one, wire, (
        packet(*pair, 6, segment(pair, (50000 + flags, 9), 77, 88, flags, data))
        for pair in PAIRS for flags in range(512) for data in (b"", b"data")))
    one.wait_grown(before, "tcp_stray")


@pytest.mark.parametrize("pair", PAIRS, ids=["ipv4", "ipv6"])
def test_ports_that_are_zero(wire, one, pair):
    """A reset, as a host gives it, or nothing."""
    for ports in ((0, 9), (50000, 0), (0, 0)):
        wire.send(*packet(*pair, 6, segment(pair, ports, 1, 0, SYN)))
        wire.send(*packet(*pair, 6, segment(pair, ports, 1, 1, ACK)))
    settle(one, wire)


def test_connecting_to_port_zero(container, one):
    with container.socket() as sock, pytest.raises(OSError) as caught:
        sock.connect((TO4, 0))
    assert not isinstance(caught.value, TimeoutError)


@pytest.mark.parametrize("to", ["255.255.255.255", "10.0.2.255", "224.0.0.1", "10.0.2.100",
                                "ff02::1", "ff0e::1", "fd00::100", "fe80::1"])
def test_nobody_speaks_tcp_there(host, wire, one, to):
    with listener(host.user, "0.0.0.0") as (server, port):
        source = FROM6 if ":" in to else FROM4
        wire.send(*packet(source, to, 6, tcp_syn(source, to, port)))
        settle(one, wire)
        assert not wait_readable(server.fileno(), 0)


OPTIONS = [b"\x02\x04", b"\x02\x03\x05\xb4", b"\x02\x00\x05\xb4", b"\x02\xff\x05\xb4",
           b"\x02\x04\x00\x00", b"\x02\x04\x00\x01", b"\x02\x04\xff\xff", b"\x03\x03\xff\x00",
           b"\x03\x03\x0e\x02", b"\x03\x02\x01\x01", b"\x01\x01\x01\x02", b"\x01\x01\x01\x08",
           b"\x05\x01\x01\x01", b"\x05\x22" + bytes(38), b"\xff\x00\x00\x00", b"\x00\xff\xff\xff",
           b"\x02\x04\x05\xb4" * 10, b"\x03\x03\x00\x03" * 10]


@pytest.mark.parametrize("pair", PAIRS, ids=["ipv4", "ipv6"])
def test_options_of_a_syn(host, container, wire, one, pair):
    """Truncated, of length 0 or 255, twice, absurd: answered or dropped."""
    with listener(host.user, "::1" if ":" in pair[0] else "127.0.0.1") as (_, port):
        for number, options in enumerate(OPTIONS):
            options += b"\0" * (-len(options) % 4)
            for flags in (SYN, ACK, SYN | FIN):
                wire.send(*packet(*pair, 6, segment(pair, (51000 + number, port), 1, 0, flags,
                                                    options=options[:40])))
        settle(one, wire)


def test_options_of_a_live_flow(flow, wire, one):
    for options in OPTIONS:
        options += b"\0" * (-len(options) % 4)
        wire.send(*flow.segment(ACK, options=options[:40]))
    settle(one, wire)
    flow.exchange()


def test_data_beyond_the_window(flow, wire, one):
    """What was not asked for is not taken, whatever its numbers. (A window of its own choice is
    believed: who lies about it stops its own connection.)"""
    chance = random.Random(793)
    def guess():
        seq = chance.choice((chance.randrange(1, 1 << 32), chance.randrange(1, 1 << 21)))
        return flow.segment(ACK | PSH, seq, chance.choice((0, chance.randrange(1 << 32))),
                            data=b"bad" * chance.randrange(300))
    send_all(one, wire, (guess() for _ in range(2000)))
    flow.exchange()
    transfer(flow.near, flow.far, 100_000)


def test_old_data_again(flow, wire, one):
    """Overlaps what has arrived: only the new part counts, and here is none."""
    for back in (1, 3, 5):
        wire.send(*flow.segment(ACK | PSH, -back, data=b"BADxx"[:back]))
    settle(one, wire)
    flow.exchange()


@pytest.mark.parametrize("wrong", [1, 0x100, 0x8000])
def test_wrong_checksums(flow, wire, one, wrong):
    """No offload vouches for them."""
    before = one.counters()
    wire.send(*flow.segment(ACK | PSH, data=b"bad", wrong=wrong))
    wire.send(*flow.segment(ACK | RST, wrong=wrong))
    wire.send(*packet(*flow.pair, 6, segment(flow.pair, (52000, 9), 1, 0, SYN, wrong=wrong)))
    settle(one, wire)
    flow.exchange()
    assert one.counters()["drop_checksum"] >= before["drop_checksum"] + 3


def vnet(flags, gso, header_len, gso_size, start, offset):
    return struct.pack("=BBHHHH", flags, gso, header_len, gso_size, start, offset)


def test_headers_that_lie(flow, wire, one):
    """Everything that the kernel lets a container say about a frame."""
    wire.sock.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    payload, kind = flow.segment(ACK | PSH, 1000, data=b"lies" * 300)
    frame = ethernet(wire.mac, payload, kind)
    at = 54 if kind == ETH_IPV6 else 34
    passed = 0
    for flags in (0, NEEDS_CSUM, DATA_VALID, NEEDS_CSUM | DATA_VALID):
        for gso in (GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP, GSO_UDP_L4, GSO_TCPV4 | GSO_ECN, 77):
            for header_len in (0, at, at + 20, 200, 1400, 65535):
                for size in (0, 1, 100, 1448, 65535):
                    for start, offset in ((at, 16), (at, 6), (14, 10), (0, 0), (at, 1000),
                                          (65535, 65535), (at + 100, 16)):
                        passed += can_send(wire, vnet(flags, gso, header_len, size, start,
                                                      offset) + frame)
    assert passed > 100, "the kernel refuses all of it"
    with Wire(wire.container) as plain:
        settle(one, plain)
    flow.exchange()


def can_send(wire, frame):
    try:
        wire.send_raw(frame)
        return True
    except OSError:
        return False


def test_syn_flood(host, container, wire, one):
    """To where nobody answers: the half-open have a quota, and those that stand go on."""
    near, far = connected(container, host.user, "127.0.0.1", TO4)
    before = one.counters()
    with near, far:
        for number in range(20000):
            source = f"10.0.2.{101 + number % 100}"
            wire.send(*packet(source, "192.0.2.99", 6, tcp_syn(
                source, "192.0.2.99", 9, source_port=1024 + number // 100)))
            if number % 500 == 0:
                one.api("list_hostfwd")  # a turn for the relay, so that the tap's queue drains
        transfer(near, far, 100_000)
    one.wait_grown(before, "tcp_half_open")
