# SPDX-License-Identifier: Apache-2.0
"""Published ports while something is wrong: with the container, the agent, or for want of room."""
import contextlib
import os
import signal
import socket
import subprocess

import pytest

from harness.ns import HOST4, listener
from harness.published import (GUEST4, RESET, Cell, Place, entry_of, fill, guest6_of, is_refused, is_reset,
                               reset, wait_entry)
from harness.traffic import MIB, free_port, stream, transfer
from harness.udp import FOUR, SIX
from harness.util import DEADLINE, Thread, until, wait_readable

pytestmark = pytest.mark.relay_only
both_paths = pytest.mark.parametrize("path", ["splice", "tap"])


def place_with(host, container, one):
    """A Place without another host, and with IPv4 alone."""
    made = Place.__new__(Place)
    made.host, made.far, made.container, made.helper = host, None, container, one
    made.guest = {FOUR: GUEST4}
    return made


@pytest.fixture
def place(host, container, helper):
    return place_with(host, container, helper())


def exchange(near, far):
    for one, other in ((near, far), (far, near)):
        one.sendall(b"x")
        assert other.recv(1) == b"x"


@contextlib.contextmanager
def conversation(place, path, **arguments):
    """A connection that has to outlive what happens to others."""
    with Cell(place, path, "ipv4", "local").connection(**arguments) as (near, far):
        exchange(near, far)
        yield near, far
        transfer(near, far, 100_000)


def dial(host, port, address="127.0.0.1"):
    client = host.user.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    client.connect((address, port))
    return client


def talk(client, server):
    """A connection that was dialled is served; whom the server saw."""
    far, name = server.accept()
    with far:
        far.settimeout(DEADLINE)
        client.sendall(b"hello")
        assert far.recv(10) == b"hello"
    return name[0]


# --- the container

@pytest.mark.parametrize("path,family", [("splice", FOUR), ("tap", FOUR), ("tap", SIX)],
                         ids=["splice-ipv4", "tap-ipv4", "tap-ipv6"])
def test_nobody_at_that_address(host, container, helper, path, family):
    """A reset when nobody has said that it is his address; nobody else has to wait for that."""
    one = helper("--enable-ipv6")
    container.wait_ipv6()
    port = free_port(host.user)
    with conversation(place_with(host, container, one), "tap"):
        one.forward(80, port, host_addr=family.loopback, path=path,
                    guest_addr="fd00::77" if family is SIX else "10.0.2.77")
        assert is_refused(lambda: dial(host, port, family.loopback))


def test_udp_to_nobody(place):
    """Datagrams to an address that nobody has are lost, and cost nobody else anything."""
    port = free_port(place.host.user, socket.SOCK_DGRAM)
    place.helper.forward(80, port, "udp", guest_addr="10.0.2.77", path="tap")
    with FOUR.socket(place.host.user) as client:
        for _ in range(100):
            client.sendto(b"x" * 1000, ("127.0.0.1", port))
    with Cell(place, "tap", "ipv4", "local").datagrams() as (client, server):
        client.send(b"hello")
        assert server.recv(10) == b"hello"


@both_paths
def test_container_without_its_tap(place, path):
    """It is down: clients are reset, and later served as before. The namespace's own address is
    reached without it."""
    with Cell(place, path, "ipv4", "local").served("0.0.0.0") as (server, port):
        place.container.run("ip", "link", "set", "tap0", "down")
        if path == "tap":
            assert is_refused(lambda: dial(place.host, port))
        else:
            with dial(place.host, port) as client:
                assert talk(client, server) == GUEST4
        place.container.shell("ip link set tap0 up; ip route replace default via 10.0.2.2")
        with dial(place.host, port) as client:
            assert talk(client, server)


def test_container_without_loopback(place):
    """A dial within the namespace hangs then: the tap takes over, and the server sees it."""
    with Cell(place, "auto", "ipv4", "local").served("0.0.0.0") as (server, port):
        with dial(place.host, port) as client:
            assert talk(client, server) == GUEST4
        place.container.run("ip", "link", "set", "lo", "down")
        with dial(place.host, port) as client:
            assert talk(client, server) == "10.0.2.2"
        place.container.run("ip", "link", "set", "lo", "up")


def test_container_that_drops_syns(place):
    """What it did not hear it is told again; a client that gives up leaves nothing behind."""
    with conversation(place, "splice"), Cell(place, "tap", "ipv4", "local").served("0.0.0.0") as (
            server, port):
        descriptors = place.helper.descriptors()
        place.container.run("ip", "route", "add", "blackhole", "10.0.2.2/32")
        with dial(place.host, port) as client:
            assert not wait_readable(server.fileno(), 0.2)
            reset(client)
        with dial(place.host, port) as patient:
            until(lambda: place.helper.descriptors() <= descriptors + 1, "the first one is gone")
            place.container.run("ip", "route", "del", "blackhole", "10.0.2.2/32")
            assert talk(patient, server) == "10.0.2.2"


@both_paths
def test_server_that_never_accepts(place, path):
    """Its backlog is full: later clients wait, others are served, all of it goes when they go."""
    with conversation(place, path), listener(place.container, "0.0.0.0", backlog=0) as (_, guest_port):
        descriptors = place.helper.descriptors()
        with place.published(FOUR, guest_port, path=path) as port, contextlib.ExitStack() as stack:
            clients = []
            for _ in range(20):
                clients.append(stack.enter_context(dial(place.host, port)))
                clients[-1].sendall(b"hello?")
            with conversation(place, path):
                pass
            place.helper.wait_rest()
            for client in clients:
                reset(client)
        until(lambda: place.helper.descriptors() <= descriptors + 4, "its clients are gone")


@both_paths
def test_refused_at_once(place, path):
    """Without any delay: a hundred, one after another, well within the time of one time-out."""
    port = free_port(place.host.user)
    place.helper.forward(9, port, path=path)
    for _ in range(100):
        assert is_refused(lambda: dial(place.host, port))


@pytest.mark.parametrize("how", ["reset", "end"])
@both_paths
def test_client_that_goes_at_once(place, path, how):
    """Before the container has answered: nothing is left, and the server can tell how it went."""
    with Cell(place, path, "ipv4", "local").served("0.0.0.0") as (server, port):
        for _ in range(20):
            client = dial(place.host, port)
            if how == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            client.close()
        if how == "end":
            for _ in range(20):
                far, _ = server.accept()
                with far:
                    far.settimeout(DEADLINE)
                    assert far.recv(1) == b""
        with dial(place.host, port) as client:
            client.sendall(b"hello")
            got = b""
            while not got:  # those that were reset may have come to the server, too
                far, _ = server.accept()
                with far, contextlib.suppress(ConnectionResetError):
                    far.settimeout(DEADLINE)
                    got = far.recv(10)
            assert got == b"hello"


# --- the agent

def test_without_the_agent(place):
    """It was killed: open connections go on, new ones take the tap."""
    with conversation(place, "splice"), Cell(place, "auto", "ipv4", "local").served("0.0.0.0") as (
            server, port):
        with dial(place.host, port) as client:
            assert talk(client, server) == GUEST4
        agent = place.helper.agent()
        os.kill(agent, signal.SIGKILL)
        place.helper.wait_gone([agent])

        def by_tap():
            with dial(place.host, port) as client:
                return talk(client, server) == "10.0.2.2"
        until(by_tap, "the tap has taken over")  # sockets may have been made beforehand
        assert by_tap()
        with Cell(place, "tap", "ipv4", "local").datagrams() as (client, udp_server):
            client.send(b"hello")
            assert udp_server.recv(10) == b"hello"


# --- room

PIPE_HOG = """
import fcntl, os, sys, resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
pipes = []
while len(pipes) < hard // 2 - 50:
    pipes.append(os.pipe())
    if fcntl.fcntl(pipes[-1][0], 1032) < 65536:
        break  # F_GETPIPE_SZ: the limit is reached
print("small" if fcntl.fcntl(pipes[-1][0], 1032) < 65536 else "limit not reached", flush=True)
sys.stdin.read()
"""


def test_no_pipe_is_left(host, container, helper):
    """Another program of the same ordinary user has all that he may: the bytes take another way."""
    hog = host.user.popen(["/usr/bin/python3", "-c", PIPE_HOG], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True)
    try:
        answer = hog.stdout.readline().strip()
        if answer != "small":
            pytest.skip(f"the user's pipes cannot be exhausted here: {answer}")
        place = place_with(host, container, helper())
        with Cell(place, "splice", "ipv4", "local").connection() as (near, far):
            stream(near, far, 16 * MIB)
            stream(far, near, 16 * MIB)
        with Cell(place, "splice", "ipv4", "local").connection() as (near, far):
            sent = fill(near, 64 * MIB)
            assert sent < 64 * MIB
            reset(far)
            assert is_reset(near)
    finally:
        hog.communicate("")


@pytest.mark.parametrize("path", ["auto", "tap"])
def test_out_of_descriptors(host, container, helper, path):
    """New clients are refused and old ones go on; afterwards there is room again."""
    place = place_with(host, container, helper(launcher=["prlimit", "--nofile=192:192"]))
    with conversation(place, path), Cell(place, path, "ipv4", "local").served("0.0.0.0") as (
            server, port):
        acceptor = Thread(accept_until_closed, server)
        with contextlib.ExitStack() as stack:
            clients = []
            for _ in range(300):
                client = stack.enter_context(host.user.socket())
                with contextlib.suppress(ConnectionError):
                    client.connect(("127.0.0.1", port))
                    clients.append(client)
            def some_refused():
                return place.helper.counters()["forward_refused"] > 0
            until(some_refused, "clients are refused")
            assert len(place.helper.api("list_hostfwd")["entries"]) == 2
            place.helper.wait_rest()

        def answered():
            with host.user.socket() as client, contextlib.suppress(ConnectionError):
                client.connect(("127.0.0.1", port))
                client.sendall(b"?")
                return client.recv(1) == b"?"
        until(answered, "there is room again")
        server.shutdown(socket.SHUT_RD)
        acceptor.result()


def accept_until_closed(server):
    """Echoes the first bytes of each connection, in threads of its own."""
    def echo(far):
        with far, contextlib.suppress(ConnectionError):
            far.settimeout(DEADLINE)
            while data := far.recv(100):
                far.sendall(data)
    while True:
        try:
            far, _ = server.accept()
        except OSError:
            return
        Thread(echo, far)


# --- removal

@pytest.mark.parametrize("close", [False, True])
@both_paths
def test_removal_while_connections_run(place, path, close):
    """They go on, or with close_connections are reset; those of other rules are untouched."""
    with conversation(place, path), listener(place.container, "0.0.0.0") as (server, guest_port):
        port = free_port(place.host.user)
        rule = place.helper.forward(guest_port, port, path=path)
        pairs = []
        for _ in range(10):
            near = dial(place.host, port)
            far, _ = server.accept()
            far.settimeout(DEADLINE)
            exchange(near, far)
            pairs.append((near, far))
        entry = entry_of(place.helper, rule)
        assert (entry["opened"], entry["active"]) == (10, 10)
        arguments = {"close_connections": True} if close else {}
        assert place.helper.api("remove_hostfwd", id=rule, **arguments) == {"return": {}}
        with pytest.raises(ConnectionRefusedError):
            dial(place.host, port)
        for near, far in pairs:
            with near, far:
                if close:
                    assert is_reset(near) and is_reset(far)
                else:
                    exchange(near, far)
                    transfer(near, far, 10_000)
        again = place.helper.forward(guest_port, port, path=path)
        with dial(place.host, port) as client:
            talk(client, server)
        place.helper.api("remove_hostfwd", id=again)


def test_removal_by_rule(place):
    """By what was asked for, as one that knows no ids does."""
    port = free_port(place.host.user)
    place.helper.forward(80, port, host_addr="127.0.0.1")
    place.helper.forward(81, port, host_addr="127.0.0.2")
    assert place.helper.api("remove_hostfwd", proto="tcp", host_addr="127.0.0.1",
                            host_port=port) == {"return": {}}
    entries = place.helper.api("list_hostfwd")["entries"]
    assert [entry["host_addr"] for entry in entries] == ["127.0.0.2"]
    reply = place.helper.api("remove_hostfwd", proto="tcp", host_addr="127.0.0.1", host_port=port)
    assert "error" in reply


@both_paths
def test_removal_of_udp(place, path):
    """The port is free at once, and a new rule there is served."""
    with FOUR.socket(place.container, "0.0.0.0") as server, FOUR.socket(place.host.user) as client:
        port = free_port(place.host.user, socket.SOCK_DGRAM)
        for number in range(5):
            rule = place.helper.forward(server.getsockname()[1], port, "udp", path=path)
            client.sendto(b"%d" % number, ("127.0.0.1", port))
            data, name = server.recvfrom(10)
            assert data == b"%d" % number
            server.sendto(data, name)
            assert client.recv(10) == data
            assert place.helper.api("remove_hostfwd", id=rule) == {"return": {}}
            with FOUR.socket(place.host.user, "0.0.0.0", port):
                pass


# --- what the list tells

@both_paths
def test_what_is_counted(place, path):
    """Connections and bytes by rule, and refusals."""
    with listener(place.container, "0.0.0.0") as (server, guest_port):
        port = free_port(place.host.user)
        rule = place.helper.forward(guest_port, port, path=path)
        entry = entry_of(place.helper, rule)
        assert (entry["state"], entry["path"]) == ("listening", path)
        with dial(place.host, port) as near:
            far, _ = server.accept()
            with far:
                far.settimeout(DEADLINE)
                near.sendall(b"1234567")
                assert far.recv(10) == b"1234567"
                far.sendall(b"12345")
                assert near.recv(10) == b"12345"
                wait_entry(place.helper, rule, "counted", opened=1, active=1, in_bytes=7, out_bytes=5)
        wait_entry(place.helper, rule, "it is over", opened=1, active=0, in_bytes=7, out_bytes=5)
        server.close()
        assert is_refused(lambda: dial(place.host, port))
        wait_entry(place.helper, rule, "the refusal is counted", active=0, refused=1)


@pytest.mark.parametrize("proto", ["tcp", "udp"])
def test_address_that_goes_away(host, container, helper, proto):
    """The rule of another address is untouched, and this one's can be withdrawn."""
    one = helper()
    host.root.run("ip", "address", "add", "192.0.2.99/24", "dev", "ext0")
    try:
        kind = socket.SOCK_STREAM if proto == "tcp" else socket.SOCK_DGRAM
        port = free_port(host.user, kind)
        rules = [one.forward(80, port, proto, host_addr=address) for address in (HOST4, "192.0.2.99")]
    finally:
        host.root.run("ip", "address", "del", "192.0.2.99/24", "dev", "ext0")
    for rule in rules:
        assert one.api("remove_hostfwd", id=rule) == {"return": {}}


def test_guest6_is_one_of_the_containers(container, helper):
    """What these tests take for the container's address is its own."""
    helper("--enable-ipv6")
    assert guest6_of(container) in container.configured()


# --- the end

def test_bytes_on_their_way_at_the_end(place):
    """What clients were told has arrived is passed on, more than one look of the helper's finds,
    and every server sees the end."""
    with listener(place.container, "0.0.0.0") as (server, guest_port), contextlib.ExitStack() as stack:
        server.settimeout(DEADLINE)
        port = free_port(place.host.user)
        place.helper.forward(guest_port, port, path="splice")
        pairs = []
        for number in range(200):
            near = stack.enter_context(dial(place.host, port))
            far = stack.enter_context(server.accept()[0])
            far.settimeout(DEADLINE)
            exchange(near, far)
            pairs.append((near, far))
        place.helper.process.send_signal(signal.SIGSTOP)
        place.helper.hang_up()
        for number, (near, _) in enumerate(pairs):
            if number % 2:
                near.sendall(b"x" * 20000)
                near.shutdown(socket.SHUT_WR)
        place.helper.process.send_signal(signal.SIGCONT)
        for number, (_, far) in enumerate(pairs):
            got = b""
            while data := far.recv(65536):
                got += data
            assert len(got) == (20000 if number % 2 else 0)
        place.helper.check_end([])
