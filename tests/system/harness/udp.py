# SPDX-License-Identifier: Apache-2.0
"""What UDP sockets are told and tell beyond their data; numbered datagrams within a window."""
import contextlib
import select
import socket
import struct

from .util import DEADLINE, Thread

SOL_UDP, UDP_SEGMENT, UDP_GRO = 17, 103, 104
MSG_ERRQUEUE = 0x2000
PMTUDISC_DO = 2
ORIGIN_LOCAL, ORIGIN_ICMP, ORIGIN_ICMP6 = 1, 2, 3


class Family:
    """The names that one family has for what both can."""

    def __init__(self, family, level, **names):
        self.family, self.level = family, level
        self.__dict__.update(names)

    def socket(self, world, address=None, port=0):
        sock = world.socket(self.family, socket.SOCK_DGRAM)
        if address:
            sock.bind((address, port))
        return sock


FOUR = Family(socket.AF_INET, socket.IPPROTO_IP, recverr=11, discover=10, mtu=14, ttl=2, tos=1,
              recv_ttl=12, recv_tos=13, got_ttl=2, got_tos=1, any="0.0.0.0", loopback="127.0.0.1",
              gateway="10.0.2.2", origin=ORIGIN_ICMP)
SIX = Family(socket.AF_INET6, socket.IPPROTO_IPV6, recverr=25, discover=23, mtu=24, ttl=16, tos=67,
             recv_ttl=51, recv_tos=66, got_ttl=52, got_tos=67, any="::", loopback="::1",
             gateway="fd00::2", origin=ORIGIN_ICMP6)


def family_of(address):
    return SIX if ":" in address else FOUR


@contextlib.contextmanager
def sockets(*made):
    """Closes them all."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(sock) for sock in made]


class Error:
    """One entry of the error queue: ip(7), IP_RECVERR."""

    def __init__(self, sock, deadline=DEADLINE):
        poll = select.poll()
        poll.register(sock, 0)  # POLLERR alone
        assert poll.poll(deadline * 1000), "no error arrived"
        _, ancillary, _, self.to = sock.recvmsg(65536, 1024, MSG_ERRQUEUE)
        data = next(data for level, kind, data in ancillary
                    if (level, kind) in ((FOUR.level, FOUR.recverr), (SIX.level, SIX.recverr)))
        (self.errno, self.origin, self.type, self.code, _, self.info, _,
         family) = struct.unpack("=IBBBBIIH", data[:18])
        self.offender = None
        if family == socket.AF_INET:
            self.offender = socket.inet_ntop(family, data[20:24])
        elif family == socket.AF_INET6:
            self.offender = socket.inet_ntop(family, data[24:40])

    def __repr__(self):
        return (f"errno {self.errno}, origin {self.origin}, type {self.type}, code {self.code}, "
                f"info {self.info}, by {self.offender}")


def received(sock):
    """(data, TTL, TOS, length of the datagrams when there are several, sender)"""
    data, ancillary, _, sender = sock.recvmsg(65536, 1024)
    found = {}
    for level, kind, value in ancillary:
        number = int.from_bytes(value, "little")
        if (level, kind) == (SOL_UDP, UDP_GRO):
            found["segment"] = number
        elif kind in (FOUR.got_ttl, SIX.got_ttl) and level in (FOUR.level, SIX.level):
            found["ttl"] = number
        elif kind in (FOUR.got_tos, SIX.got_tos) and level in (FOUR.level, SIX.level):
            found["tos"] = number
    return data, found.get("ttl"), found.get("tos"), found.get("segment"), sender


def datagrams(sock, n):
    """The next n datagrams, those that came as one apart again."""
    found = []
    while len(found) < n:
        data, _, _, segment, _ = received(sock)
        step = segment or len(data) or 1
        found += [data[at:at + step] for at in range(0, max(len(data), 1), step)]
    return found


PATTERN = bytes(range(256)) * 258


def body(number, size):
    """`size` bytes that this number has and few others."""
    return (struct.pack("!I", number) + PATTERN[number % 256:])[:size]


def converse(sock, to, n, size, window=32):
    """Sends n numbered datagrams and receives as many, in order, `window` of ours unacknowledged."""
    sent = got = acknowledged = 0

    def say(number):
        data = body(number, size - 8) if number >= 0 else b""
        sock.sendto(struct.pack("!iI", number, got) + data, to)

    while got < n or acknowledged < n:
        while sent < n and sent - acknowledged < window:
            say(sent)
            sent += 1
        data, _ = sock.recvfrom(65536)
        number, acknowledged = struct.unpack("!iI", data[:8])
        if number >= 0:
            assert number == got, f"datagram {got} is missing: {number} came"
            assert data[8:] == body(number, size - 8)
            got += 1
            if got % 8 == 0 or got == n:
                say(-1)
    return got


def both_ways(near, far, to, n, size):
    """converse() at both ends at once."""
    near.sendto(b"hello", to)
    _, peer = far.recvfrom(100)
    far.sendto(b"hello", peer)  # while addresses are asked for, datagrams overtake each other
    near.recvfrom(100)
    ends = [Thread(converse, near, to, n, size), Thread(converse, far, peer, n, size)]
    for end in ends:
        assert end.result() == n
