# SPDX-License-Identifier: Apache-2.0
"""TCP both ways, every byte compared."""
import errno
import signal
import socket

import pytest

from harness.ns import HOST4, HOST6, listener
from harness.traffic import (MIB, connected, free_port, inbound, outbound, recv_counters,
                             send_counters, transfer)
from harness.util import Thread, counters


@pytest.mark.parametrize("mtu", [1500, 65520])
@pytest.mark.parametrize("size", [MIB, 16 * MIB])
def test_outbound(host, container, helper, mtu, size):
    helper(f"--mtu={mtu}")
    outbound(container, host, size)


@pytest.mark.parametrize("mtu", [1500, 65520])
@pytest.mark.parametrize("size", [MIB, 16 * MIB])
def test_inbound(container, helper, mtu, size):
    inbound(container, helper(f"--mtu={mtu}"), size)


@pytest.mark.parametrize("mtu", [1500, 65520])
def test_outbound_to_a_host_address(host, container, helper, mtu):
    helper(f"--mtu={mtu}", "--disable-host-loopback")
    outbound(container, host, MIB, HOST4, HOST4)


@pytest.mark.parametrize("mtu", [1500, 65520])
def test_outbound_ipv6(host, container, helper, mtu):
    helper(f"--mtu={mtu}", "--enable-ipv6")
    container.wait_ipv6()
    outbound(container, host, 4 * MIB, "::1", "fd00::2")
    outbound(container, host, MIB, HOST6, HOST6)


def test_odd_mtus(host, helper, helpers):
    """576 is the smallest that hosts must take; 68 the smallest of all."""
    for mtu in (68, 576, 1280, 9001):
        container = host.container()
        helper(f"--mtu={mtu}", target=[container.pid, "tap0"])
        outbound(container, host, 100_003)
        helpers[-1].stop()


@pytest.mark.parametrize("first", ["container", "host"])
def test_half_close(host, container, helper, first):
    """The other direction goes on for as long as it likes."""
    helper()
    near, far = connected(container, host.user, "127.0.0.1", "10.0.2.2")
    one, other = (near, far) if first == "container" else (far, near)
    with near, far:
        one.shutdown(socket.SHUT_WR)
        assert other.recv(1) == b""
        reader = Thread(recv_counters, one, MIB)
        send_counters(other, MIB)
        reader.result()


def test_half_close_of_a_published_port(container, helper):
    one = helper()
    port = free_port(one.host.user)
    with listener(container, "0.0.0.0") as (server, guest_port):
        one.forward(guest_port, port)
        with one.host.user.socket() as client:
            client.connect(("127.0.0.1", port))
            far, _ = server.accept()
            with far:
                client.shutdown(socket.SHUT_WR)
                assert far.recv(1) == b""
                reader = Thread(recv_counters, client, MIB)
                send_counters(far, MIB)
                reader.result()


def test_both_directions_at_once(host, container, helper):
    helper("--mtu=65520")
    near, far = connected(container, host.user, "127.0.0.1", "10.0.2.2")
    with near, far:
        jobs = [Thread(recv_counters, sock, 4 * MIB) for sock in (near, far)]
        jobs += [Thread(send_counters, sock, 4 * MIB) for sock in (near, far)]
        for job in jobs:
            job.result()


def test_reader_that_is_late(host, container, helper):
    """A reader that does not read stops the sender; nothing is lost or doubled."""
    helper("--mtu=65520")
    near, far = connected(container, host.user, "127.0.0.1", "10.0.2.2")
    with near, far:
        near.settimeout(1)  # long enough to fill every buffer on the way; no failure by it
        sent = 0
        try:
            while sent < 64 * MIB:
                sent += near.send(counters(sent & ~7, MIB)[sent & 7:])
        except TimeoutError:
            pass
        assert sent < 64 * MIB, "somebody buffers without limit"
        near.settimeout(far.gettimeout())
        near.shutdown(socket.SHUT_WR)
        recv_counters(far, sent)


def test_refused_by_nobody(container, helper):
    """A published port without a server in the container resets its client."""
    one = helper()
    port = free_port(one.host.user)
    one.forward(9, port)
    with one.host.user.socket() as client:
        try:
            client.connect(("127.0.0.1", port))  # a reset may come before it returns
            assert client.recv(1) == b""
        except ConnectionResetError:
            pass


def test_reset_travels(host, container, helper):
    helper()
    near, far = connected(container, host.user, "127.0.0.1", "10.0.2.2")
    with near:
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        far.close()
        with pytest.raises(OSError) as caught:
            if near.recv(1) == b"":
                while True:
                    near.send(b"x")
        assert caught.value.errno in (errno.ECONNRESET, errno.EPIPE)


def test_urgent_data_is_ordinary_data(host, container, helper):
    one = helper()
    near, far = connected(container, host.user, "127.0.0.1", "10.0.2.2")
    with near, far:
        near.send(b"abc")
        near.send(b"d", socket.MSG_OOB)
        near.send(b"ef")
        near.shutdown(socket.SHUT_WR)
        got = b""
        while piece := far.recv(100):
            got += piece
    assert got == b"abcdef"
    assert one.counters()["urgent_cleared"] > 0


@pytest.mark.relay_only  # libslirp loses what stands behind it
def test_urgent_data_of_the_host_is_ordinary_data(host, container, helper):
    """recv(2) stops in front of it, and what stands behind it comes without being asked for."""
    one = helper()
    near, far = connected(container, host.user, "127.0.0.1", "10.0.2.2")
    with near, far:
        one.process.send_signal(signal.SIGSTOP)  # all of it is there at the first look
        try:
            far.send(b"abc")
            far.send(b"d", socket.MSG_OOB)
            far.send(b"ef")
        finally:
            one.process.send_signal(signal.SIGCONT)
        got = b""
        while len(got) < 6 and (piece := near.recv(100)):
            got += piece
        assert got == b"abcdef"


def test_hundred_connections(host, container, helper):
    helper()
    with listener(host.user) as (server, port):
        pairs = []
        for _ in range(100):
            near = container.socket()
            near.connect(("10.0.2.2", port))
            far, _ = server.accept()
            far.settimeout(near.gettimeout())
            pairs.append((near, far))
    for near, far in pairs:
        transfer(near, far, 1000)
        near.close()
        far.close()


@pytest.mark.soak
@pytest.mark.parametrize("mtu", [1500, 65520])
@pytest.mark.parametrize("direction", ["in", "out"])
def test_256_mib(host, container, helper, mtu, direction):
    one = helper(f"--mtu={mtu}")
    if direction == "out":
        outbound(container, host, 256 * MIB)
    else:
        inbound(container, one, 256 * MIB)
