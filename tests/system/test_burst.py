# SPDX-License-Identifier: Apache-2.0
"""Many connections at once, and descriptors that run out."""
import contextlib
import selectors
import socket

import pytest

from harness.ns import listener
from harness.traffic import connected, free_port, inbound, outbound, transfer
from harness.util import Thread, until


def echo_server(server, n_clients):
    """One thread serves them all until each has closed."""
    selector = selectors.DefaultSelector()
    server.setblocking(False)
    selector.register(server, selectors.EVENT_READ)
    done = 0
    while done < n_clients:
        ready = selector.select(60)
        assert ready, f"only {done} of {n_clients} came to an end"
        for key, _ in ready:
            if key.fileobj is server:
                with contextlib.suppress(BlockingIOError):
                    client, _ = server.accept()
                    client.setblocking(True)
                    selector.register(client, selectors.EVENT_READ)
                continue
            data = key.fileobj.recv(65536)
            if data:
                key.fileobj.sendall(data)
            else:
                selector.unregister(key.fileobj)
                key.fileobj.close()
                done += 1


def listen_overflows(world):
    """How often a SYN was dropped because a backlog was full: each costs its client a second."""
    rows = [line.split() for line in world.run("cat", "/proc/net/netstat").stdout.splitlines()]
    names, values = (row for row in rows if row[0] == "TcpExt:")
    table = dict(zip(names[1:], map(int, values[1:])))
    return table["ListenOverflows"] + table["ListenDrops"]


def test_200_at_once_through_a_published_port(host, container, helper):
    one = helper()
    port = free_port(host.user)
    with listener(container, "0.0.0.0") as (server, guest_port), contextlib.ExitStack() as stack:
        one.forward(guest_port, port)
        before = listen_overflows(host.root)
        echo = Thread(echo_server, server, 200)
        clients = []
        for _ in range(200):
            client = stack.enter_context(host.user.socket())
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(("127.0.0.1", port))
            clients.append(client)
        for number, client in enumerate(clients):
            client.settimeout(60)
            client.sendall(b"%d" % number * 100)
            client.shutdown(socket.SHUT_WR)
        for number, client in enumerate(clients):
            got = b""
            while piece := client.recv(4096):
                got += piece
            assert got == b"%d" % number * 100
        echo.result()
        assert listen_overflows(host.root) == before, "clients were made to wait"


def test_descriptors_come_back(host, container, helper):
    one = helper()
    before = one.descriptors()
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            for sock in connected(container, host.user, "127.0.0.1", "10.0.2.2"):
                stack.enter_context(sock)
        assert one.descriptors() >= before + 50
    until(lambda: one.descriptors() <= before, "the descriptors of 50 connections are back")


@pytest.fixture
def poor(helper):
    """A helper with few descriptors."""
    return helper(launcher=["prlimit", "--nofile=192:192"])


def test_outbound_beyond_the_limit(host, container, poor):
    """Refused cleanly; what is there goes on; afterwards there is room again."""
    near, far = connected(container, host.user, "127.0.0.1", "10.0.2.2")
    with near, far, listener(host.user) as (_, port), contextlib.ExitStack() as stack:
        refused = 0
        for _ in range(300):
            client = stack.enter_context(container.socket())
            try:
                client.connect(("10.0.2.2", port))
            except OSError as error:
                assert not isinstance(error, TimeoutError)
                refused += 1
        assert 0 < refused < 300
        poor.wait_rest()
        assert poor.api("list_hostfwd")["entries"] == []
        transfer(near, far, 100_000)
    until(lambda: can_reach(host, container), "there is room again")


def can_reach(host, container):
    try:
        outbound(container, host, 1000)
        return True
    except OSError:
        return False


def test_inbound_beyond_the_limit(host, container, poor):
    port = free_port(host.user)
    with listener(container, "0.0.0.0") as (server, guest_port), contextlib.ExitStack() as stack:
        poor.forward(guest_port, port)
        near = stack.enter_context(host.user.socket())
        near.connect(("127.0.0.1", port))
        far, _ = server.accept()
        stack.enter_context(far)
        far.settimeout(60)
        for _ in range(300):
            client = stack.enter_context(host.user.socket())
            with contextlib.suppress(ConnectionError):
                client.connect(("127.0.0.1", port))
        poor.wait_rest()
        assert len(poor.api("list_hostfwd")["entries"]) == 1
        transfer(near, far, 100_000)
        assert poor.counters()["forward_refused"] > 0
    until(lambda: can_publish(container, poor), "there is room again")


def can_publish(container, one):
    try:
        inbound(container, one, 1000)
        return True
    except (OSError, AssertionError):
        return False


def test_udp_beyond_the_limit(host, container, poor):
    """A thousand flows: the oldest or the newest go without, the helper stays."""
    near, far = connected(container, host.user, "127.0.0.1", "10.0.2.2")
    with near, far, contextlib.ExitStack() as stack:
        for _ in range(300):
            sock = stack.enter_context(container.socket(kind=socket.SOCK_DGRAM))
            sock.sendto(b"x", ("10.0.2.2", 9))
        poor.wait_rest()
        transfer(near, far, 100_000)
        assert poor.api("list_hostfwd")["entries"] == []
