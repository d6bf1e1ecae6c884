# SPDX-License-Identifier: Apache-2.0
"""Sockets that whoever starts the helper has opened, as systemd does: sd_listen_fds(3)."""
import contextlib
import os
import shutil
import socket

import pytest

from harness.helper import BINARY, HelperFailed
from harness.ns import HOST4, listener
from harness.published import exchange
from harness.traffic import free_port
from harness.util import until

# Descriptor numbers from here on are nobody's: those below belong to the protocol.
ABOVE = 40


@pytest.fixture(autouse=True)
def low_numbers_taken():
    """So that the descriptors of the harness have other numbers than those that are passed."""
    taken = []
    while not taken or taken[-1] < ABOVE:
        taken.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
    yield
    for fd in taken:
        os.close(fd)


def activation(fds, names=None, pid="$$", count=None):
    """A launcher that passes these descriptors as 3, 4, ...; its keyword arguments for helper()."""
    moves = " ".join(f"{3 + i}<&{fd}" for i, fd in enumerate(fds) if fd is not None)
    closed = " ".join(f"{3 + i}<&-" for i, fd in enumerate(fds) if fd is None)
    count = len(fds) if count is None else count
    script = f"exec {moves} {closed}; export LISTEN_PID={pid} LISTEN_FDS={count}; "
    if names is not None:
        script += f"export LISTEN_FDNAMES={names}; "
    return {"launcher": ["bash", "-c", script + 'exec "$@"', "-"],
            "pass_fds": [fd for fd in fds if fd is not None]}


@pytest.mark.parametrize("rule,names", [("fd:4:{}", None), ("fd:web:{}", "other:web"),
                                        ("fd:4:{}", "web:web")])
def test_by_number_and_by_name(host, container, helper, rule, names):
    with listener(host.user) as (other, _), listener(host.user) as (sock, port), \
            listener(container, "0.0.0.0") as (server, guest_port):
        one = helper("-p", rule.format(guest_port), **activation(
            [other.fileno(), sock.fileno()], names))
        sock.close()
        exchange(host, "127.0.0.1", port, server)
        [entry] = one.api("list_hostfwd")["entries"]
        assert (entry["host_addr"], entry["host_port"]) == ("127.0.0.1", port)


def test_low_port(host, container, helper):
    """What the helper's user may not open, on both paths' addresses."""
    with host.root.socket() as low, listener(container, "0.0.0.0") as (server, guest_port):
        low.bind(("0.0.0.0", 80))
        low.listen()
        helper("-p", f"fd:3:{guest_port}", **activation([low.fileno()]))
        low.close()
        assert exchange(host, "127.0.0.1", 80, server) == "10.0.2.100"
        assert exchange(host, HOST4, 80, server) == HOST4


def test_udp(host, container, helper):
    with host.user.socket(kind=socket.SOCK_DGRAM) as sock, \
            container.socket(kind=socket.SOCK_DGRAM) as server, \
            host.user.socket(kind=socket.SOCK_DGRAM) as client:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        server.bind(("0.0.0.0", 0))
        helper("-p", f"fd:3:{server.getsockname()[1]}/udp", **activation([sock.fileno()]))
        sock.close()
        client.connect(("127.0.0.1", port))
        client.send(b"question")
        data, peer = server.recvfrom(100)
        assert data == b"question"
        server.sendto(b"answer", peer)
        assert client.recv(100) == b"answer"


def sockets_of(pid):
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
    return found


def test_what_no_rule_uses_is_closed(host, helper):
    with listener(host.user) as (used, _), listener(host.user) as (unused, port):
        one = helper("-p", "fd:3:80", **activation([used.fileno(), unused.fileno()]))
        inode = os.fstat(unused.fileno()).st_ino
        with contextlib.suppress(PermissionError):
            assert f"socket:[{inode}]" not in sockets_of(one.pid)
        unused.close()
        until(lambda: is_refused(host, port), "nobody has it any more")


def is_refused(host, port):
    with host.user.socket() as client:
        try:
            client.connect(("127.0.0.1", port))
        except ConnectionRefusedError:
            return True
    return False


def test_for_somebody_else(host, helper):
    """With another process's LISTEN_PID the descriptors are leftovers, which are closed."""
    with listener(host.user) as (sock, port):
        one = helper(**activation([sock.fileno()], pid="1"))
        assert one.api("list_hostfwd")["entries"] == []
        sock.close()
        until(lambda: is_refused(host, port), "nobody has it any more")


def test_for_somebody_else_and_used(host, helper):
    with listener(host.user) as (sock, _), pytest.raises(HelperFailed) as failed:
        helper("-p", "fd:3:80", **activation([sock.fileno()], pid="1"))
    assert "fd:3:80" in failed.value.helper.stderr()


@pytest.mark.parametrize("passed,kwargs,line", [
    ("pipe", {}, "LISTEN_FDS=1: descriptor 3: Socket operation on non-socket"),
    ("nothing", {}, "LISTEN_FDS=1: descriptor 3: Bad file descriptor"),
    ("socket", {"count": "two"}, "LISTEN_FDS=two: not a number of descriptors up to 1024"),
    ("socket", {"names": "a:b"}, "LISTEN_FDNAMES=a:b: 2 names for 1 descriptors"),
])
def test_what_does_not_add_up(host, container, helper, passed, kwargs, line):
    with contextlib.ExitStack() as stack:
        if passed == "pipe":
            read, write = os.pipe()
            stack.callback(os.close, read)
            stack.callback(os.close, write)
            fd = read
        elif passed == "socket":
            fd = stack.enter_context(listener(host.user))[0].fileno()
        else:
            fd = None
        with pytest.raises(HelperFailed) as failed:
            helper(**activation([fd], **kwargs))
    assert failed.value.helper.stderr() == f"netns-helper: {line}\n"
    assert "tap0" not in container.run("ip", "link").stdout


@pytest.mark.parametrize("option", ["--ready-fd", "--exit-fd"])
def test_one_descriptor_for_two_things(host, helper, option):
    """The ready byte would go to a listener."""
    with listener(host.user) as (sock, _), pytest.raises(HelperFailed) as failed:
        helper(f"{option}=3", **activation([sock.fileno()]))
    assert failed.value.helper.stderr() == (
        f"netns-helper: descriptor 3 cannot be {option} and one of LISTEN_FDS\n")


def test_started_by_systemd(host, container, helper):
    """The real thing opens the port, and starts the helper for its first client."""
    activate = shutil.which("systemd-socket-activate")
    if not activate:
        pytest.skip("systemd is not installed")
    port = free_port(host.user)
    with listener(container, "0.0.0.0") as (server, guest_port):
        one = helper("-p", f"fd:web:{guest_port}", ready=False, exit_fd=False, launcher=[
            activate, "-l", f"127.0.0.1:{port}", "--fdname=web", "--setenv=ASAN_OPTIONS"])
        # asked without a connection, since the first one would start it
        until(lambda: host.user.run("ss", "-Hltn", f"sport = :{port}").stdout, "the port is there")
        exchange(host, "127.0.0.1", port, server)
        assert os.path.realpath(f"/proc/{one.pid}/exe") == os.path.realpath(BINARY)
        [entry] = one.api("list_hostfwd")["entries"]
        assert entry["host_port"] == port
