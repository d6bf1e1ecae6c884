# SPDX-License-Identifier: Apache-2.0
"""Very many clients of published ports: short ones, silent ones, and those that never read."""
import contextlib
import resource
import socket

import pytest

from harness.ns import ends, listener
from harness.published import Cell, Place
from harness.traffic import MIB, Connections, answering, free_port, transfer
from harness.util import DEADLINE, counters, cpu_ticks, until

pytestmark = pytest.mark.relay_only
GUEST, N_PORTS = 20000, 64
FIRST = {"splice": 20000, "tap": 21000}


def publish_range(one, path):
    """N_PORTS ports of the host's loopback that lead to those of `answering`."""
    first = FIRST[path]
    one.forward(f"{GUEST}-{GUEST + N_PORTS - 1}", f"{first}-{first + N_PORTS - 1}",
                host_addr="127.0.0.1", path=path)
    return first


@pytest.mark.parametrize("path", ["splice", "tap"])
@pytest.mark.parametrize("count", [
    pytest.param(500_000 // 64, id="8k"),
    pytest.param(500_000, id="500k", marks=pytest.mark.soak)])
def test_short_connections(host, container, helper, path, count):
    """Half of them the client closes first, half the server."""
    one = helper()
    first = publish_range(one, path)
    descriptors = one.descriptors()
    with answering(container, "0.0.0.0", GUEST, N_PORTS), Connections(
            host.user, "dial", "127.0.0.1", first, N_PORTS, count, 64) as client:
        assert client.numbers() == [count, 0]
        client.end()
    until(lambda: one.descriptors() <= descriptors + 64, "the descriptors are back")
    assert one.counters()["forward_refused"] == 0


def hold(host, container, helper, count):
    """Half of them over each path, all open at once, and each answers again."""
    one = helper()
    ports = {path: publish_range(one, path) for path in FIRST}
    with answering(container, "0.0.0.0", GUEST, N_PORTS), contextlib.ExitStack() as stack:
        holders = [stack.enter_context(Connections(
            host.user, "hold", "127.0.0.1", port, N_PORTS, count // 2, 64))
            for port in ports.values()]
        for one_half in holders:
            assert one_half.numbers() == [count // 2, 0]
        rss = one.status()["VmRSS"]
        print(f"{count} connections: {rss}, {one.descriptors()} descriptors")
        for one_half in holders:
            assert one_half.again() == [count // 2, 0]
        port = free_port(host.user)
        with listener(container, "0.0.0.0") as (server, guest_port), host.user.socket() as near:
            one.forward(guest_port, port)
            near.connect(("127.0.0.1", port))
            far, _ = server.accept()
            with far:
                far.settimeout(DEADLINE)
                transfer(near, far, MIB)
        for one_half in holders:
            one_half.end()
    until(lambda: one.descriptors() < 300, "the descriptors are back")
    assert one.counters()["forward_refused"] == 0


def test_2000_at_once(host, container, helper):
    hold(host, container, helper, 2000)


@pytest.mark.soak
def test_20000_at_once(host, container, helper, many_descriptors):
    """Or a quarter of the limit, where it cannot be 65536; the number is printed."""
    hold(host, container, helper, min(20000, many_descriptors // 4) & ~1)


# --- clients that never read

N_REQUESTS = 5000
# One-byte requests, each answered before the next, by processes that do nothing else.
ASK = f"""
import socket, sys, time
sock = socket.socket(fileno=int(sys.argv[1]))
sock.setblocking(True)
took = []
for _ in range({N_REQUESTS}):
    began = time.monotonic_ns()
    sock.sendall(b"?")
    assert sock.recv(10) == b"?"
    took.append(time.monotonic_ns() - began)
print(sorted(took)[len(took) * 99 // 100] / 1000)
"""
ANSWER = """
import socket, sys
sock = socket.socket(fileno=int(sys.argv[1]))
sock.setblocking(True)
while data := sock.recv(100):
    sock.sendall(data)
"""
WORD = counters(0, 65536)


def ask(host, near, one):
    """The requests' p99, to be read, and what they cost the helper, in ticks of the processor: the
    less of two, since the first may find it at work for the others."""
    number, found = near.fileno(), []
    for _ in range(2):
        before = cpu_ticks(one.pid)
        p99_us = float(host.user.python(ASK, number, pass_fds=[number], timeout=600).stdout)
        found.append((cpu_ticks(one.pid) - before, p99_us))
    return min(found)


def send_to_who_does_not_read(far):
    """All that fits."""
    far.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            far.send(WORD)


@pytest.mark.fresh
@pytest.mark.parametrize("path", ["splice", "tap"])
def test_clients_that_never_read(host, container, helper, small_sockets, many_descriptors, path):
    """2,000 of them beside one that asks and is answered: a request costs the helper what it costs
    alone, so that nothing is done for each of those who wait. (How long it takes is the machine's
    business, too, and so for benchmarks.)"""
    n = min(2000, many_descriptors // 5)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (many_descriptors, many_descriptors))
    try:
        one = helper("--enable-ipv6")
        place = Place(host, None, container, one)
        with Cell(place, path, "ipv4", "local").connection() as (near, far), \
                contextlib.ExitStack() as stack:
            number = far.fileno()
            server = host.user.popen(["/usr/bin/python3", "-c", ANSWER, number], pass_fds=[number])
            far.close()
            alone, alone_us = ask(host, near, one)
            with Cell(place, path, "ipv4", "local").served() as (listening, port):
                stalled = []
                for _ in range(n):
                    client = stack.enter_context(host.user.socket())
                    client.connect(("127.0.0.1", port))
                    stalled.append(stack.enter_context(listening.accept()[0]))
                    send_to_who_does_not_read(stalled[-1])
                for waiting in stalled:  # what went on since
                    send_to_who_does_not_read(waiting)
                beside, beside_us = ask(host, near, one)
                print(f"p99 {alone_us:.0f} us alone, {beside_us:.0f} us beside {n} that never read; "
                      f"{alone} and {beside} ticks of the helper's")
                assert beside <= 5 * alone + 20
            near.shutdown(socket.SHUT_WR)
            assert ends(server) == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
