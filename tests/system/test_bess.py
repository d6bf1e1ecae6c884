# SPDX-License-Identifier: Apache-2.0
"""--target-type=bess: frames over a SOCK_SEQPACKET socket, as user-mode Linux speaks them."""
import os
import socket
import stat
import struct

import pytest

from harness.frames import ETH_ARP, ETH_IP, GATEWAY_MAC, checksum, ethernet, ip4
from harness.helper import Helper
from harness.util import until

MAC = bytes.fromhex("020000000001")


@pytest.fixture
def bess(host, helpers):
    path = host.path("bess.sock")
    one = Helper(host, ["--target-type=bess"], [path], wait=False)
    helpers.append(one)
    until(lambda: os.path.exists(path), "the socket is there")
    assert stat.S_ISSOCK(os.stat(path).st_mode)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.settimeout(60)
        until(lambda: connects(client, path), "it accepts")
        one.wait_ready()
        yield one, client
        if not one.ended:
            one.stop()


def connects(client, path):
    try:
        client.connect(path)
        return True
    except ConnectionRefusedError:
        return False


def arp_request():
    return ethernet(MAC, struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + MAC +
                    socket.inet_aton("10.0.2.100") + bytes(6) + socket.inet_aton("10.0.2.2"),
                    ETH_ARP, b"\xff" * 6)


def receive(client, match):
    while True:
        frame = client.recv(70000)
        assert frame, "the socket was closed"
        if match(frame):
            return frame


def test_arp_and_ping(bess):
    one, client = bess
    client.send(arp_request())
    reply = receive(client, lambda frame: frame[12:14] == struct.pack("!H", ETH_ARP))
    assert reply[20:22] == b"\x00\x02" and reply[28:32] == socket.inet_aton("10.0.2.2")
    assert reply[22:28] == GATEWAY_MAC and reply[:6] == MAC
    echo = b"\x08\x00\x00\x00\x12\x34\x00\x01payload!"
    echo = echo[:2] + struct.pack("!H", checksum(echo)) + echo[4:]
    client.send(ethernet(MAC, ip4("10.0.2.100", "10.0.2.2", 1, echo)))
    pong = receive(client, lambda frame: frame[12:14] == struct.pack("!H", ETH_IP))
    assert pong[26:30] == socket.inet_aton("10.0.2.2") and pong[34] == 0
    assert pong[38:] == echo[4:]
    assert one.api("list_hostfwd")["entries"] == []


def test_absurd_packets(bess):
    one, client = bess
    for frame in (b"x", b"x" * 13, b"x" * 14, b"x" * 60, b"x" * 70000):
        try:
            client.send(frame)
        except OSError:
            pass
    client.send(arp_request())
    receive(client, lambda frame: frame[12:14] == struct.pack("!H", ETH_ARP))
    one.wait_grown(dict.fromkeys(one.counters(), 0), "drop_oversized", "drop_truncated",
                   "drop_ethertype")


def test_only_one_client(host, bess):
    _, client = bess
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as second:
        second.settimeout(60)
        try:
            second.connect(host.path("bess.sock"))
            assert second.recv(1) == b""
        except OSError:
            pass
    client.send(arp_request())
    receive(client, lambda frame: frame[12:14] == struct.pack("!H", ETH_ARP))


def test_client_gone(bess):
    """As a tap that was deleted: one line, status 1."""
    one, client = bess
    one.expect_status = 1
    client.close()
    one.check_end([])


def test_no_second_process(bess):
    """There is no namespace, so there is no agent."""
    assert bess[0].children() == []
