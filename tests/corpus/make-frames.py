#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/corpus/frame/: what fuzz-frame begins with. `make-frames.py FOLDER`."""
import pathlib
import socket
import struct
import sys

NEAR, FAR = bytes.fromhex("020000000064"), bytes.fromhex("52550a000202")
N100, GATEWAY, DNS = "10.0.2.100", "10.0.2.2", "10.0.2.3"
N6, GATEWAY6 = "fd00::64", "fd00::2"
NO_IPV6, VNET, SLOW, OWN, USO = 1, 2, 4, 8, 16
NEEDS_CSUM, DATA_VALID = 1, 2
TCP4, UDP, TCP6, UDP_L4, ECN = 1, 3, 4, 5, 0x80


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def eth(kind, payload, dst=FAR):
    return dst + NEAR + struct.pack("!H", kind) + payload


def ip4(proto, payload, dst="192.0.2.1", src=N100, options=b"", fragment=0, ident=7, ttl=64, tos=0):
    head = struct.pack("!BBHHHBBH", 0x45 + len(options) // 4, tos, 20 + len(options) + len(payload),
                       ident, fragment, ttl, proto, 0)
    head += socket.inet_aton(src) + socket.inet_aton(dst) + options
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    return eth(0x0800, head + payload)


def ip6(proto, payload, dst="2001:db8::1", src=N6, hops=64):
    head = struct.pack("!IHBB", 6 << 28, len(payload), proto, hops)
    return eth(0x86dd, head + addr(src) + addr(dst) + payload)


def addr(text):
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def with_sum(proto, segment, at, src, dst):
    if proto == 1:
        pseudo = b""
    elif ":" in src:
        pseudo = addr(src) + addr(dst) + struct.pack("!II", len(segment), proto)
    else:
        pseudo = addr(src) + addr(dst) + struct.pack("!HH", proto, len(segment))
    value = checksum(pseudo + segment)
    return segment[:at] + struct.pack("!H", value) + segment[at + 2:]


def tcp(flags, src=N100, dst="192.0.2.1", options=b"", data=b"", urgent=0, port=80):
    segment = struct.pack("!HHIIBBHHH", 40000, port, 0xfffffff0, 0, (5 + len(options) // 4) << 4, flags,
                          65535, 0, urgent) + options + data
    return with_sum(6, segment, 16, src, dst)


def udp(port, data, src=N100, dst="192.0.2.1", length=None, src_port=40000):
    segment = struct.pack("!HHHH", src_port, port, 8 + len(data) if length is None else length, 0) + data
    return with_sum(17, segment, 6, src, dst)


def icmp(kind, code, rest, src=N100, dst="192.0.2.1"):
    proto = 58 if ":" in src else 1
    return with_sum(proto, struct.pack("!BBH", kind, code, 0) + rest, 2, src, dst)


def arp(opcode, sender=N100, target=GATEWAY):
    return eth(0x0806, struct.pack("!HHBBH", 1, 0x0800, 6, 4, opcode) + NEAR + addr(sender) +
               bytes(6) + addr(target), b"\xff" * 6)


def dhcp(kind, mac=1, options=b""):
    head = struct.pack("!BBBBI", 1, 1, 6, 0, 0x12345678) + bytes(20) + bytes([2, 0, 0, 0, 0, mac])
    body = head.ljust(236, b"\0") + bytes.fromhex("63825363") + bytes([53, 1, kind]) + options + b"\xff"
    return ip4(17, udp(67, body.ljust(300, b"\0"), "0.0.0.0", "255.255.255.255"), "255.255.255.255",
               "0.0.0.0")


def fragments(ident, proto, payload, size):
    pieces = [payload[i:i + size] for i in range(0, len(payload), size)]
    return [ip4(proto, piece, ident=ident,
                fragment=(0x2000 if i < len(pieces) - 1 else 0) | i * size // 8)
            for i, piece in enumerate(pieces)]


def fragments6(ident, proto, payload, size, options=b"", dst="2001:db8::1"):
    """`options`: a hop-by-hop header in front, its first byte 44."""
    for at in range(0, len(payload), size):
        piece = payload[at:at + size]
        head = struct.pack("!BBHI", proto, 0, at | (at + size < len(payload)), ident)
        yield ip6(0 if options else 44, options + head + piece, dst)


def ndp(kind, rest, dst="ff02::2", src="fe80::64"):
    return ip6(58, icmp(kind, 0, rest, src, dst), dst, src, 255)


def vnet(frame, flags=0, gso=0, size=0, start=0, offset=0):
    """A frame behind its virtio-net header."""
    return struct.pack("<BBHHHHH", flags, gso, 54, size, start, offset, 0), frame


def partial(frame, at):
    """The checksum at `at` of the transport header, put back to the pseudo header's sum."""
    start = 34 if frame[12:14] == b"\x08\0" else 54
    value, = struct.unpack("!H", frame[start + at:start + at + 2])
    rest = frame[start:start + at] + b"\0\0" + frame[start + at + 2:]
    pseudo = (~value & 0xffff) + checksum(rest)
    pseudo = (pseudo & 0xffff) + (pseudo >> 16)
    return frame[:start + at] + struct.pack("!H", pseudo) + frame[start + at + 2:]


SYN_OPTIONS = bytes.fromhex("020405b40402080a0001000200000000 01030307".replace(" ", ""))
LLADDR = b"\x01\x01" + NEAR


def inputs():
    """name -> (settings, frames)"""
    mapped, target = "::ffff:127.0.0.1", addr(GATEWAY6)
    datagram = udp(9, bytes(range(256)) * 8)
    one = {
        "arp-request": arp(1),
        "arp-reply": arp(2),
        "arp-probe": arp(1, "0.0.0.0", N100),
        "arp-bad-opcode": arp(9),
        "arp-short": arp(1)[:30],
        "ncsi": eth(0x88f8, bytes(40)),
        "vlan": eth(0x8100, bytes(40)),
        "runt": b"\x52\x55",
        "tcp4-syn": ip4(6, tcp(2, options=SYN_OPTIONS)),
        "tcp4-data": ip4(6, tcp(0x18, data=b"GET / HTTP/1.0\r\n\r\n")),
        "tcp4-rst": ip4(6, tcp(4)),
        "tcp4-urgent": ip4(6, tcp(0x38, data=b"!urgent", urgent=4)),
        "tcp4-urgent-beyond": ip4(6, tcp(0x38, data=b"x", urgent=0xffff)),
        "tcp4-pointer-alone": ip4(6, tcp(0x18, data=b"x", urgent=1)),
        "tcp4-port0": ip4(6, tcp(2, port=0)),
        "tcp4-bad-offset": ip4(6, tcp(2)[:12] + b"\x10" + tcp(2)[13:]),
        "tcp4-bad-option": ip4(6, tcp(2, options=b"\x02\x00\x05\xb4")),
        "tcp4-option-overrun": ip4(6, tcp(2, options=b"\x01\x01\x02\x09")),
        "tcp6-syn": ip6(6, tcp(2, N6, "2001:db8::1", SYN_OPTIONS)),
        "tcp6-urgent": ip6(6, tcp(0x38, N6, "2001:db8::1", data=b"urgent", urgent=3)),
        "tcp4-loopback": ip4(6, tcp(2, dst="127.0.0.1"), "127.0.0.1"),
        "tcp4-zero": ip4(6, tcp(2, dst="0.0.0.0"), "0.0.0.0"),
        "tcp4-class-e": ip4(6, tcp(2, dst="250.0.0.1"), "250.0.0.1"),
        "tcp6-loopback": ip6(6, tcp(2, N6, "::1"), "::1"),
        "tcp6-mapped": ip6(6, tcp(2, N6, mapped), mapped),
        "tcp6-link-local": ip6(6, tcp(2, N6, "fe80::2"), "fe80::2"),
        "udp4-large-refused": ip4(17, udp(9, bytes(1400), dst="127.0.0.1"), "127.0.0.1"),
        "udp6-large-refused": ip6(17, udp(9, bytes(1400), N6, "::1"), "::1"),
        "udp4-dns": ip4(17, udp(53, b"\x12\x34\1\0\0\1\0\0\0\0\0\0\1a\0\0\1\0\1", dst=DNS), DNS),
        "udp4-empty": ip4(17, udp(9, b"")),
        "udp4-short-length": ip4(17, udp(9, b"abc", length=4)),
        "udp4-long-length": ip4(17, udp(9, b"abc", length=400)),
        "udp4-broadcast": ip4(17, udp(9, b"a", dst="255.255.255.255"), "255.255.255.255"),
        "udp4-multicast": ip4(17, udp(5353, b"a", dst="224.0.0.251"), "224.0.0.251"),
        "udp4-tftp": ip4(17, udp(69, b"\0\1x\0octet\0", dst=GATEWAY), GATEWAY),
        "udp6-tftp": ip6(17, udp(69, b"\0\1x\0octet\0", N6, GATEWAY6), GATEWAY6),
        "udp6-dhcp6": ip6(17, udp(547, b"\x0b\1\2\3\0\6\0\2\0\x17", N6, "ff02::1:2"), "ff02::1:2"),
        "udp6-no-checksum": ip6(17, struct.pack("!HHHH", 9, 9, 8, 0)),
        "icmp4-echo": ip4(1, icmp(8, 0, bytes(60), dst=GATEWAY), GATEWAY),
        "icmp4-error": ip4(1, icmp(3, 3, bytes(32), dst="127.0.0.1"), "127.0.0.1"),
        "icmp6-echo": ip6(58, icmp(128, 0, bytes(60), N6, GATEWAY6), GATEWAY6),
        "igmp": ip4(2, b"\x16\0\x09\x04\xe0\0\0\xfb", "224.0.0.251", "0.0.0.0", b"\x94\4\0\0", ttl=1),
        "options-record-route": ip4(17, udp(9, b"a"), options=b"\x07\x07\x04\0\0\0\0\0"),
        "options-source-route": ip4(17, udp(9, b"a"), options=b"\x83\x07\x04\x7f\0\0\1\0"),
        "options-broken": ip4(17, udp(9, b"a"), options=b"\x94\x00\0\0"),
        "ttl0": ip4(17, udp(9, b"a"), ttl=0),
        "source-loopback": ip4(17, udp(9, b"a", "127.0.0.1"), src="127.0.0.1"),
        "ndp-rs": ndp(133, bytes(4) + LLADDR),
        "ndp-ns": ndp(135, bytes(4) + target + LLADDR, "ff02::1:ff00:2"),
        "ndp-dad": ndp(135, bytes(4) + addr("fe80::64"), "ff02::1:ff00:64", "::"),
        "ndp-na": ndp(136, b"\x60\0\0\0" + addr("fe80::64") + b"\2\1" + NEAR, "ff02::1"),
        "ndp-option-zero": ndp(135, bytes(4) + target + b"\1\0" + NEAR, "ff02::1:ff00:2"),
        "ndp-ra": ndp(134, bytes(12), "ff02::1"),
        "mld": ip6(0, b"\x3a\0\5\2\0\0\1\0" + icmp(143, 0, bytes(24), "fe80::64", "ff02::16"),
                   "ff02::16", "fe80::64", 1),
        "ip6-fragment": ip6(44, b"\x11\0\0\1\0\0\0\7" + bytes(16)),
        "ip6-routing0": ip6(43, b"\x11\0\0\1\0\0\0\0" + udp(9, b"a", N6, "2001:db8::1")),
        "ip6-chain": ip6(60, b"\x3c\0\1\4\0\0\0\0" * 9 + b"\x3b\0"),
        "ip6-jumbo": ip6(0, b"")[:18] + b"\0\0" + ip6(0, b"\x3b\0\xc2\4\0\1\0\0")[20:],
    }
    for name, frame in one.items():
        yield name, 0, [frame]
    yield "ip6-disabled", NO_IPV6, [one["ndp-rs"], one["tcp4-syn"]]
    yield "padding", 0, [one["tcp6-syn"] + bytes(6), one["udp4-empty"] + bytes(18)]
    yield "large", 0, [ip4(17, udp(9, bytes(3000)))]
    yield "fragments", 0, fragments(1, 17, datagram, 1024)
    yield "fragments-reversed", 0, fragments(2, 17, datagram, 512)[::-1]
    yield "fragments-overlap", 0, fragments(3, 17, datagram, 1024)[:2] * 2
    yield "fragments-late", SLOW, fragments(4, 17, datagram, 512)
    yield "fragments-tcp-urgent", 0, fragments(5, 6, tcp(0x38, data=bytes(200), urgent=9), 64)
    yield "fragment-beyond", 0, [ip4(17, bytes(24), fragment=0x1fff)]
    yield "dhcp", 0, [dhcp(1), dhcp(3, 1, b"\x32\4\x0a\0\2\x0f"), dhcp(7)]
    yield "dhcp-many", 0, [dhcp(1, mac) for mac in range(18)]
    yield "refused-often", 0, [one["tcp4-loopback"]] * 60
    yield "tcp-verified", OWN, [one["tcp4-data"], one["tcp6-syn"], one["tcp4-data"][:-1] + b"x"]
    yield from own(one)
    yield from fragmented6()
    yield from offloads(one)


def own(one):
    """What our own stack gets and libslirp does not, and what ends here."""
    long, n6, far6 = bytes(range(200)), N6, "2001:db8::1"
    for name in ("tcp4-syn", "udp4-dns", "udp4-empty", "udp4-short-length", "udp4-long-length",
                 "udp4-broadcast", "udp6-dhcp6", "icmp4-echo", "icmp6-echo", "igmp", "mld", "ndp-ns",
                 "arp-request", "tcp4-loopback"):
        yield "own-" + name, OWN, [one[name]]
    yield "own-udp-wrong", OWN, [ip4(17, udp(9, b"abc")[:-1] + b"x"),
                                 ip6(17, udp(9, b"abc", n6, far6)[:-1] + b"x")]
    yield "own-udp-no-checksum", OWN, [ip4(17, struct.pack("!HHHH", 9, 9, 8, 0))]
    yield "own-udp-tail", OWN, [ip4(17, udp(9, b"abc") + bytes(9)), ip6(17, udp(9, b"", n6, far6) + bytes(3)),
                                ip4(17, udp(67, b"", dst=GATEWAY) + b"x", GATEWAY)]
    yield "own-udp-port0", OWN, [ip4(17, udp(0, b"abc")), ip4(17, udp(9, b"abc", src_port=0))]
    yield "own-icmp-wrong", OWN, [one["icmp4-echo"][:-1] + b"x", one["icmp6-echo"][:-1] + b"x"]
    yield "own-ttl", OWN, [
        ip4(17, udp(33434, b"abc"), ttl=1), ip4(17, udp(33434, b"abc"), ttl=2), ip4(6, tcp(2), ttl=1),
        ip4(1, icmp(8, 0, bytes(60)), ttl=1), ip4(1, icmp(3, 3, bytes(32)), ttl=1),
        ip4(17, udp(9, b"a", dst=GATEWAY), GATEWAY, ttl=1), ip6(17, udp(33434, b"abc", n6, far6), hops=1),
        ip6(58, icmp(128, 0, bytes(60), n6, far6), hops=1), ip4(132, long, ttl=1)]
    yield "own-odd", OWN, [ip4(132, long), ip6(132, long), ip6(59, b""), ip4(58, long), ip6(1, long),
                           ip4(47, long, "224.0.0.9"), ip6(2, long), ip4(2, b"")]
    run4, run6 = ip4(17, udp(443, bytes(3000))), ip6(17, udp(443, bytes(3000), n6, far6))
    sums4, sums6 = {"start": 34, "offset": 6}, {"start": 54, "offset": 6}
    for name, settings in (("", OWN | USO), ("-not-offered", OWN), ("-libslirp", USO)):
        yield "run" + name, settings | VNET, [
            vnet(partial(run4, 6), NEEDS_CSUM, UDP_L4, 1400, **sums4),
            vnet(partial(run6, 6), NEEDS_CSUM, UDP_L4, 1400, **sums6),
            vnet(partial(run6, 6), NEEDS_CSUM, UDP_L4, 24, **sums6),
            vnet(run4, 0, UDP_L4, 1000), vnet(run4, 0, UDP_L4, 3000)]
    yield "run-lies", OWN | USO | VNET, [
        vnet(partial(run4, 6), NEEDS_CSUM, UDP_L4, 0, **sums4),
        vnet(partial(run4, 6), NEEDS_CSUM, UDP_L4, 23, **sums4),
        vnet(partial(run4, 6), NEEDS_CSUM, UDP_L4 | ECN, 1000, **sums4),
        vnet(partial(run4, 6), NEEDS_CSUM, UDP_L4, 1000, 42, 6),
        vnet(ip4(17, udp(443, b"")), 0, UDP_L4, 1000), vnet(one["tcp4-data"], 0, UDP_L4, 10),
        vnet(ip4(17, udp(443, bytes(3000), length=1008)), 0, UDP_L4, 1000),
        vnet(one["arp-request"], 0, UDP_L4, 10), vnet(run4[:-1] + b"x", 0, UDP_L4, 1000),
        *(vnet(f, 0, UDP_L4, 100) for f in fragments(8, 17, udp(9, bytes(2000)), 1024))]
    yield "own-vnet-within", OWN | VNET, [
        vnet(ip4(17, udp(4789, bytes(8) + one["tcp6-syn"])), NEEDS_CSUM, 0, 0, 42 + 8 + 54, 16),
        vnet(ip4(17, struct.pack("!HHHH", 9, 4789, 68, 0) + bytes(60)), NEEDS_CSUM, 0, 0, 50, 16),
        vnet(ip4(17, udp(4789, bytes(4)) + bytes(60)), NEEDS_CSUM, 0, 0, 50, 16)]


def fragmented6():
    datagram = udp(9, bytes(range(256)) * 8, N6, "2001:db8::1")
    echo = icmp(128, 0, bytes(2000), N6, "2001:db8::1")
    solicitation = icmp(135, 0, bytes(4) + addr(GATEWAY6) + LLADDR, N6, GATEWAY6)
    hops = b"\x2c\0\5\2\0\0\1\0"
    within = b"\x11\0\0\1\0\0\0\7" + datagram
    for name, settings in (("", 0), ("-own", OWN)):
        yield "fragments6" + name, settings, [*fragments6(1, 17, datagram, 1024),
                                              *fragments6(2, 17, datagram, 512, hops)]
        yield "fragments6-reversed" + name, settings, list(fragments6(3, 17, datagram, 512))[::-1]
        yield "fragments6-atomic" + name, settings, [
            next(fragments6(4, 17, datagram, 512)), *fragments6(4, 17, datagram, 4096),
            *fragments6(4, 58, echo, 4096, hops)]
        yield "fragments6-echo" + name, settings, fragments6(5, 58, echo, 1024)
        yield "fragments6-ndp" + name, settings, [*fragments6(6, 58, solicitation, 16, dst=GATEWAY6),
                                                  *fragments6(7, 58, solicitation, 64, dst=GATEWAY6)]
        yield "fragments6-within" + name, settings, [*fragments6(8, 44, within, 1024),
                                                     *fragments6(9, 44, within, 4096)]
    yield "fragments6-overlap", 0, list(fragments6(10, 17, datagram, 1024))[:2] * 2
    yield "fragments6-late", SLOW, fragments6(11, 17, datagram, 512)
    yield "fragments6-options", OWN, [
        *fragments6(12, 60, b"\x11\0\1\4\0\0\0\0" + datagram, 1024),
        *fragments6(13, 0, b"\x11\0\1\4\0\0\0\0" + datagram, 1024)]
    yield "fragments6-beyond", 0, [ip6(44, b"\x11\0\xff\xf8\0\0\0\1" + bytes(8)),
                                   ip6(44, b"\x11\0\xff\xf8\0\0\0\1" + bytes(7))]


def offloads(one):
    data4, syn6, dns = one["tcp4-data"], one["tcp6-syn"], one["udp4-dns"]
    large = ip4(6, tcp(0x18, data=bytes(4000)))
    for name, settings in (("", VNET), ("-verified", VNET | OWN)):
        yield "vnet-partial" + name, settings, [
            vnet(partial(data4, 16), NEEDS_CSUM, start=34, offset=16),
            vnet(partial(syn6, 16), NEEDS_CSUM, start=54, offset=16),
            vnet(partial(dns, 6), NEEDS_CSUM, start=34, offset=6),
            vnet(partial(one["icmp6-echo"], 2), NEEDS_CSUM, start=54, offset=2)]
        yield "vnet-gso" + name, settings, [
            vnet(partial(large, 16), NEEDS_CSUM, TCP4, 1448, 34, 16),
            vnet(partial(large, 16), NEEDS_CSUM, TCP4 | ECN, 536, 34, 16),
            vnet(partial(syn6, 16), NEEDS_CSUM, TCP6, 1428, 54, 16)]
        yield "vnet-vouched" + name, settings, [vnet(data4[:-1] + b"x", DATA_VALID)]
        yield "vnet-fragments" + name, settings, [
            vnet(f, DATA_VALID) for f in fragments(6, 6, tcp(0x18, data=bytes(200)), 64)]
    yield "vnet-within", VNET, [vnet(ip4(17, udp(4789, bytes(8) + syn6)), NEEDS_CSUM, 0, 0,
                                     42 + 8 + 54, 16)]
    yield "vnet-gso-lies", VNET, [vnet(dns, 0, UDP, 100), vnet(dns, 0, UDP_L4, 100),
                                  vnet(data4, 0, TCP6, 100), vnet(data4, 0, TCP4), vnet(data4, 0, ECN)]
    yield "vnet-csum-lies", VNET | OWN, [
        vnet(data4, NEEDS_CSUM, start=start, offset=offset)
        for start, offset in ((34, 0), (14, 10), (0, 12), (34, 0xffff), (0xffff, 0xffff), (54, 0))]
    yield "vnet-arp", VNET, [vnet(one["arp-request"], NEEDS_CSUM, start=14, offset=2)]


def main():
    folder = pathlib.Path(sys.argv[1])
    for name, settings, frames in inputs():
        pairs = frames if settings & VNET else [(b"", frame) for frame in frames]
        data = bytes([settings]) + b"".join(struct.pack("!H", len(f)) + head + f for head, f in pairs)
        (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
