# SPDX-License-Identifier: Apache-2.0
"""Frames made by hand, sent and read by a packet socket on the container's tap."""
import select
import socket
import struct
import time

from .util import DEADLINE

GATEWAY_MAC = bytes.fromhex("525500000000")[:2] + socket.inet_aton("10.0.2.2")
ETH_IP, ETH_ARP, ETH_IPV6 = 0x0800, 0x0806, 0x86dd


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def ethernet(source, payload, kind=ETH_IP, to=GATEWAY_MAC):
    return to + source + struct.pack("!H", kind) + payload


def ip4(source, to, protocol, payload, ident=1, flags=0x4000, ttl=64):
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), ident, flags, ttl, protocol, 0)
    head += socket.inet_aton(source) + socket.inet_aton(to)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def ip6(source, to, protocol, payload, hops=64):
    return struct.pack("!IHBB", 6 << 28, len(payload), protocol, hops) + \
        socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, to) + payload


def pseudo(source, to, protocol, length):
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    ends = socket.inet_pton(family, source) + socket.inet_pton(family, to)
    if family == socket.AF_INET6:
        return ends + struct.pack("!II", length, protocol)
    return ends + struct.pack("!HH", protocol, length)


def tcp_syn(source, to, port, source_port=40000, options=b"\x02\x04\x05\xb4"):
    words = 5 + len(options) // 4
    head = struct.pack("!HHIIBBHHH", source_port, port, 1000, 0, words << 4, 2, 64000, 0, 0)
    data = head + options
    value = checksum(pseudo(source, to, 6, len(data)) + data)
    return data[:16] + struct.pack("!H", value) + data[18:]


def udp(source, to, port, payload=b"knock", source_port=40000):
    length = 8 + len(payload)
    data = struct.pack("!HHHH", source_port, port, length, 0) + payload
    value = checksum(pseudo(source, to, 17, length) + data) or 0xffff
    return data[:6] + struct.pack("!H", value) + data[8:]


def packet(source, to, protocol, payload):
    """An IPv4 or IPv6 packet with its EtherType."""
    if ":" in source:
        return ip6(source, to, protocol, payload), ETH_IPV6
    return ip4(source, to, protocol, payload), ETH_IP


class Wire:
    """The container's tap, seen raw."""

    def __init__(self, container, tap="tap0"):
        self.container = container
        self.sock = container.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.sock.bind((tap, 3))
        self.mac = self.sock.getsockname()[4]

    def send(self, payload, kind=ETH_IP):
        self.sock.send(ethernet(self.mac, payload, kind))

    def send_raw(self, frame):
        self.sock.send(frame)

    def frames(self, deadline=DEADLINE):
        """Frames that come to the container, until the deadline."""
        end = time.monotonic() + deadline
        while True:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.sock], [], [], left)[0]:
                return
            frame, where = self.sock.recvfrom(70000)
            if where[2] != socket.PACKET_OUTGOING:
                yield frame

    def drain(self):
        """Forgets what has come."""
        while select.select([self.sock], [], [], 0)[0]:
            self.sock.recv(1)

    def expect(self, match, what, deadline=DEADLINE):
        for frame in self.frames(deadline):
            if match(frame):
                return frame
        raise AssertionError(f"no {what} arrived")

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *what):
        self.close()


def is_icmp_unreachable(frame, about):
    """An ICMP destination-unreachable error whose quoted packet goes to `about`."""
    kind = struct.unpack("!H", frame[12:14])[0]
    if kind == ETH_IP and ":" not in about:
        return frame[23] == 1 and frame[34] == 3 and frame[58:62] == socket.inet_aton(about)
    if kind == ETH_IPV6 and ":" in about:
        to = socket.inet_pton(socket.AF_INET6, about)
        return frame[20] == 58 and frame[54] == 1 and frame[86:102] == to
    return False
