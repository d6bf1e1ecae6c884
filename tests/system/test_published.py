# SPDX-License-Identifier: Apache-2.0
"""Published ports, one matrix: both paths, TCP and UDP, IPv4 and IPv6, clients here and elsewhere.

What the server sees of its client is in Cell.seen(), and compared for each connection:

    path     client at 127/8, ::1    at another address of the host    in another namespace
    tap      N+2, fd00::2            its own                           its own
    splice   the container's own     the container's own               the container's own
    auto     as splice               as tap                            as tap
"""
import contextlib
import socket

import pytest

from harness.published import Cell, fill, is_refused, is_reset, place_of, reset
from harness.traffic import MIB, echo_udp, recv_counters, send_counters, stream, transfer
from harness.udp import SIX, body
from harness.util import DEADLINE, Thread, until, wait_readable

pytestmark = pytest.mark.relay_only  # libslirp forwards in its own way


@pytest.fixture(scope="module")
def place():
    with place_of("--mtu=65520") as made:
        yield made


@pytest.fixture(params=[(path, family, where) for path in ("splice", "tap")
                        for family in ("ipv4", "ipv6") for where in ("local", "remote")],
                ids="-".join)
def cell(place, request):
    return Cell(place, *request.param)


# --- whom the server sees

@pytest.mark.parametrize("path", ["auto", "tap", "splice"])
@pytest.mark.parametrize("where", ["local", "other", "remote"])
@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_who_is_seen(place, path, family, where):
    one = Cell(place, path, family, where)
    with one.connection() as (near, far):  # compares it
        near.send(b"hello")
        assert far.recv(100) == b"hello"
    with one.datagrams() as (client, server):
        client.send(b"hello")
        data, name = server.recvfrom(100)
        assert data == b"hello"
        one.check_seen(name, client)
        server.sendto(b"answer", name)
        assert client.recv(100) == b"answer"


# --- TCP

def check_half_close(one, other):
    """`one` ends first; the other direction goes on for as long as it likes, then all is over."""
    one.sendall(b"last words")
    one.shutdown(socket.SHUT_WR)
    got = b""
    while piece := other.recv(100):
        got += piece
    assert got == b"last words"
    reader = Thread(recv_counters, one, MIB)
    send_counters(other, MIB)
    reader.result()


@pytest.mark.parametrize("first", ["client", "server"])
def test_half_close(cell, first):
    with cell.connection() as (near, far):
        check_half_close(*((near, far) if first == "client" else (far, near)))


@pytest.mark.parametrize("by", ["client", "server"])
def test_reset(cell, by):
    with cell.connection() as (near, far):
        one, other = (near, far) if by == "client" else (far, near)
        one.sendall(b"x")
        assert other.recv(1) == b"x"
        reset(one)
        assert is_reset(other)


@pytest.mark.parametrize("by", ["client", "server"])
def test_reset_while_all_is_full(cell, by):
    """With the reader's side full, and while the one that sends waits for room."""
    with cell.connection() as (near, far):
        one, other = (near, far) if by == "client" else (far, near)
        assert fill(other, 64 * MIB, 0.1) < 64 * MIB
        reset(one)
        assert is_reset(other)


@pytest.mark.parametrize("way", ["in", "out"])
def test_reader_that_is_late(cell, way):
    """The sender is stopped by the other end alone; nothing is lost or doubled."""
    with cell.connection() as (near, far):
        source, sink = (near, far) if way == "in" else (far, near)
        sent = fill(source, 64 * MIB)
        assert sent < 64 * MIB, "somebody buffers without limit"
        source.shutdown(socket.SHUT_WR)
        recv_counters(sink, sent)


@pytest.mark.parametrize("size", [pytest.param(16 * MIB, id="16m"), pytest.param(
    256 * MIB, id="256m", marks=pytest.mark.soak)])
def test_bulk(cell, size):
    """Each way, every byte compared."""
    with cell.connection() as (near, far):
        stream(near, far, size)
        stream(far, near, size)


def test_ping_pong(cell):
    """A byte there and back: none waits for another one."""
    with cell.connection() as (near, far):
        for number in range(300):
            word = bytes([number % 256])
            for one, other in ((near, far), (far, near)):
                one.send(word)
                assert other.recv(2) == word


def test_both_directions_at_once(cell):
    with cell.connection() as (near, far):
        jobs = [Thread(recv_counters, sock, 4 * MIB) for sock in (near, far)]
        jobs += [Thread(send_counters, sock, 4 * MIB) for sock in (near, far)]
        for job in jobs:
            job.result()


def test_many_at_once(cell):
    """Each answered on its own connection."""
    with cell.served() as (server, port):
        pairs = []
        for _ in range(50):
            near = cell.dial(port)
            far, name = server.accept()
            cell.check_seen(name, near)
            pairs.append((near, far))
        for number, (near, far) in enumerate(pairs):
            near.sendall(b"%d" % number)
        for number, (near, far) in enumerate(pairs):
            assert far.recv(100) == b"%d" % number
            far.sendall(b"-%d" % number)
        for number, (near, far) in enumerate(pairs):
            assert near.recv(100) == b"-%d" % number
            near.close()
            assert far.recv(1) == b""
            far.close()


def test_server_that_speaks_first(cell):
    with cell.connection() as (near, far):
        far.sendall(b"220 ready")
        assert near.recv(100) == b"220 ready"


def test_refused(cell):
    """Nobody listens in the container: a reset at once, and no end of file before it."""
    with cell.served() as (server, port):
        server.close()
        assert is_refused(lambda: cell.dial(port))


# --- UDP

def test_all_sizes(cell):
    """Up to the largest that IP can carry, and none at all, there and back."""
    sizes = [0, 1, 1472, 1473, 0, 8000, 40000, 65506, 65507]
    if cell.family is SIX:
        sizes.append(65527)
    with cell.datagrams() as (client, server):
        echo = Thread(echo_udp, server, 2 * len(sizes))
        for size in sizes * 2:
            client.send(body(size, size))
            assert client.recv(65536) == body(size, size)
        echo.result()


def test_nobody_there(cell):
    """Datagrams that the container refuses hurt nobody: not the client, not the next service."""
    with cell.datagrams() as (client, server):
        guest_port = server.getsockname()[1]
        server.close()
        for _ in range(20):
            client.send(b"x")
        with cell.family.socket(cell.place.container, cell.family.any, guest_port) as server:
            def came():
                client.send(b"again")
                return wait_readable(server.fileno(), 0.05)
            until(came, "the service is reached")
            assert server.recv(100) in (b"x", b"again")


@pytest.mark.parametrize("n_clients", [1, 5])
def test_burst_of_new_clients(cell, n_clients):
    """The way of each is not there yet when its datagrams come. No two of them make a run. All of them
    find room in one socket's buffer, as large as Linux makes it by default, while nobody reads it."""
    n = 100 // n_clients + 20
    with cell.datagrams() as (client, server), contextlib.ExitStack() as stack:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        clients = [stack.enter_context(cell.family.socket(cell.world, cell.address))
                   for _ in range(n_clients)]
        for one in clients:
            one.connect(client.getpeername())
        for one in clients:
            for number in range(n):
                one.send(body(number, 4 + number))
        came = {}
        for _ in range(n * n_clients):
            data, name = server.recvfrom(200)
            came.setdefault(name, []).append(data)
        assert list(came.values()) == [[body(number, 4 + number) for number in range(n)]] * n_clients


def test_server_that_is_silent(cell):
    """What it did not answer has come, and what it says later comes, too."""
    with cell.datagrams() as (client, server):
        for number in range(100):
            client.send(body(number, 100))
        for number in range(100):
            data, name = server.recvfrom(200)
            assert data == body(number, 100)
        server.sendto(b"at last", name)
        assert client.recv(100) == b"at last"


def test_reader_that_loses(cell):
    """A server whose buffer is small loses datagrams: those that it gets are whole, and in order."""
    n = 2000
    with cell.datagrams() as (client, server):
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for number in range(n):
            client.send(body(number, 1000))
        got = []
        while wait_readable(server.fileno(), 0.2 if got else DEADLINE):
            data, name = server.recvfrom(2000)
            got.append(int.from_bytes(data[:4], "big"))
            assert data == body(got[-1], 1000)
        assert 0 < len(got) < n and got == sorted(set(got))
        server.sendto(b"enough", name)
        assert client.recv(100) == b"enough"


def test_clients_are_told_apart(cell):
    """Each of fifty is seen by a name of its own, and gets its own answer."""
    with cell.datagrams() as (client, server):
        port = client.getpeername()[1]
        clients = [cell.family.socket(cell.world, cell.address) for _ in range(50)]
        names = set()
        for number, one in enumerate(clients):
            one.connect((cell.dialled, port))
            one.send(b"%d" % number)
            data, name = server.recvfrom(100)
            cell.check_seen(name, one)
            names.add(name)
            server.sendto(b"-" + data, name)
        assert len(names) == len(clients)
        for number, one in enumerate(clients):
            assert one.recv(100) == b"-%d" % number
            one.close()


# --- the container as its own client

def hairpin(place, path, family, via):
    """(cell, the address by which the container speaks to its own published ports)"""
    one = Cell(place, path, family, "local" if via == "gateway" else "other")
    return one, one.family.gateway if via == "gateway" else one.dialled


hairpins = pytest.mark.parametrize("path,family,via", [
    (path, family, via) for path in ("auto", "splice", "tap") for family in ("ipv4", "ipv6")
    for via in ("gateway", "address")])


@hairpins
def test_hairpin(place, path, family, via):
    """Over the gateway it is a client at the host's loopback, else one at the host's address."""
    one, address = hairpin(place, path, family, via)
    with one.served() as (server, port), place.container.socket(one.family.family) as near:
        near.connect((address, port))
        far, name = server.accept()
        with far:
            far.settimeout(DEADLINE)
            assert name[0] == one.seen(None)[0]
            transfer(near, far, MIB)


@hairpins
def test_hairpin_refused(place, path, family, via):
    one, address = hairpin(place, path, family, via)
    with one.served() as (server, port), place.container.socket(one.family.family) as near:
        server.close()

        def dial():
            near.connect((address, port))
            return near
        assert is_refused(dial)


@hairpins
def test_hairpin_of_datagrams(place, path, family, via):
    """Two clients at once, and the server as a client of itself."""
    one, address = hairpin(place, path, family, via)
    with one.family.socket(place.container, one.family.any) as server, \
            one.family.socket(place.container) as client, \
            one.family.socket(place.container) as other:
        with place.published(one.family, server.getsockname()[1], "udp", path=path) as port:
            for size in (4, 0, 1472, 1473, 30000) * 2:
                for near in (client, other):
                    near.sendto(body(size, size), (address, port))
                    data, name = server.recvfrom(65536)
                    assert data == body(size, size) and name[0] == one.seen(None)[0]
                    server.sendto(data[::-1], name)
                    data, name = near.recvfrom(65536)
                    assert data == body(size, size)[::-1] and name[:2] == (address, port)
            server.sendto(b"to myself", (address, port))
            data, name = server.recvfrom(100)
            assert data == b"to myself"
            server.sendto(b"from myself", name)
            data, name = server.recvfrom(100)
            assert data == b"from myself" and name[:2] == (address, port)


# --- afterwards

def test_nothing_is_left(place):
    """All of it has cost no rule, no descriptor, and none of what must not happen was counted."""
    assert place.helper.api("list_hostfwd")["entries"] == []
    for path in ("splice", "tap"):
        with Cell(place, path, "ipv4", "local").connection() as (near, far):
            near.send(b"x")
            assert far.recv(1) == b"x"
    counted = place.helper.counters()
    assert counted["tcp_impossible"] == 0 and counted["forward_refused"] == 0
    until(lambda: place.helper.descriptors() < 150, "the descriptors are back")
