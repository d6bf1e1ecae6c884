# SPDX-License-Identifier: Apache-2.0
"""Ways to publish: the command line, sockets in the file system, sockets that were passed, ranges,
and listening only while the container does."""
import contextlib
import errno
import json
import os
import socket

import pytest

from harness.helper import HelperFailed, read_all, run_binary
from harness.ns import listener
from harness.published import GUEST4, entry_of, guest6_of, is_refused, wait_entry
from harness.traffic import echo_udp, free_port, transfer
from harness.udp import FOUR, SIX
from harness.util import DEADLINE, Thread, cpu_ticks, until

pytestmark = pytest.mark.relay_only


def connect(world, port, address="127.0.0.1"):
    client = world.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    client.connect((address, port))
    return client


def serves(client, server):
    """Whom the server saw, once both have spoken."""
    far, name = server.accept()
    with client, far:
        far.settimeout(DEADLINE)
        client.settimeout(DEADLINE)
        transfer(client, far, 10_000)
    return name


def free_row(world, n, kind=socket.SOCK_STREAM):
    """The first of n ports in a row that nothing uses."""
    for first in range(21000, 60000, n):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + n):
                sock = stack.enter_context(world.socket(socket.AF_INET, kind))
                sock.bind(("0.0.0.0", port))
            return first
    raise AssertionError(f"no {n} free ports in a row")


# --- the command line

def test_publish(host, container, helper):
    """Served as soon as the program says that it is ready."""
    plain, named, ranged = free_port(host.user), free_port(host.user), free_row(host.user, 3)
    udp = free_port(host.user, socket.SOCK_DGRAM)
    with listener(container, "0.0.0.0", plain) as (server, _), \
            listener(container, "0.0.0.0") as (other, other_port), \
            FOUR.socket(container, "0.0.0.0") as datagrams:
        one = helper("-p", f"{plain}", "--publish", f"127.0.0.1:{named}:{other_port}/tcp",
                     "-p", f"127.0.0.1:{ranged}-{ranged + 2}:{GUEST4}:5000-5002",
                     f"--publish={udp}:{datagrams.getsockname()[1]}/udp")
        serves(connect(host.user, plain), server)
        serves(connect(host.user, named), other)
        with FOUR.socket(host.user) as client:
            echo = Thread(echo_udp, datagrams, 1)
            client.sendto(b"hello", ("127.0.0.1", udp))
            assert client.recv(10) == b"hello"
            echo.result()
        entries = one.api("list_hostfwd")["entries"]
        assert [(entry["host_addr"], entry["proto"]) for entry in entries] == [
            ("0.0.0.0", "tcp"), ("127.0.0.1", "tcp"), ("127.0.0.1", "tcp"), ("0.0.0.0", "udp")]
        assert entries[2]["host_port"] == f"{ranged}-{ranged + 2}"
        assert entries[2]["guest_port"] == "5000-5002"


@pytest.mark.parametrize("path,seen", [("tap", "10.0.2.2"), ("splice", GUEST4), ("auto", GUEST4)])
def test_forward_path(host, container, helper, path, seen):
    """It is what rules have that do not say it themselves, those of the API too."""
    port, later = free_port(host.user), free_port(host.user)
    with listener(container, "0.0.0.0") as (server, guest_port):
        one = helper(f"--forward-path={path}", "-p", f"{port}:{guest_port}")
        assert serves(connect(host.user, port), server)[0] == seen
        one.forward(guest_port, later)
        assert serves(connect(host.user, later), server)[0] == seen
        assert [entry["path"] for entry in one.api("list_hostfwd")["entries"]] == [path, path]


@pytest.mark.dad
def test_publish_for_ipv6(host, container, helper):
    """The container has no address of IPv6 yet when the rule is made, and is found later."""
    port, both = free_port(host.user), free_port(host.user)
    udp = free_port(host.user, socket.SOCK_DGRAM)
    with listener(container, "::") as (server, guest_port), SIX.socket(container, "::") as datagrams:
        one = helper("--enable-ipv6", "-p", f"[::1]:{port}:{guest_port}", "-p", f"*:{both}:{guest_port}",
                     "-p", f"[::1]:{udp}:{datagrams.getsockname()[1]}/udp", configure=False)
        wait_entry(one, 1, "nobody was seen", state="failed", errno="EADDRNOTAVAIL", guest_addr="")
        wait_entry(one, 3, "nobody was seen", state="failed", errno="EADDRNOTAVAIL")
        assert is_refused(lambda: connect(host.user, port, "::1"))
        container.shell("ip link set lo up; ip link set tap0 up")
        container.wait_ipv6()
        for rule in (1, 2, 3):
            wait_entry(one, rule, "the container was seen", state="listening")
        serves(connect(host.user, port, "::1"), server)
        serves(connect(host.user, both, "::1"), server)
        with SIX.socket(host.user) as client:
            echo = Thread(echo_udp, datagrams, 1)
            client.sendto(b"hello", ("::1", udp))
            assert client.recv(10) == b"hello"
            echo.result()


def test_publish_for_ipv6_without_it(helper):
    """There will be no such address."""
    with pytest.raises(HelperFailed) as caught:
        helper("-p", "[::1]:8080:80")
    one = caught.value.helper
    assert one.process.returncode == 1
    lines = one.stderr().splitlines()
    assert len(lines) == 1 and "guest_addr" in lines[0], lines


@pytest.mark.parametrize("rule", [
    "", "x", "0", "70000", "80:", ":80", "80:70000", "80-70", "80-90:1-5", "127.0.0.1", "80/sctp",
    "[::1:80", "1.2.3:80", "80:81:82", "1.2.3.4.5:80", "80/", "80/tcp/udp", "::1:80", "127.0.0.1:80/tcp6",
    "[::1]:80/udp4", "unix:", "unix:/x", "fd:99:80", "fd:none:80"])
def test_rules_that_are_none(helper, rule):
    """One line that quotes it, and the program does not start."""
    with pytest.raises(HelperFailed) as caught:
        helper("-p", rule)
    one = caught.value.helper
    assert one.process.returncode == 1
    lines = one.stderr().splitlines()
    assert len(lines) == 1 and (rule or "publish") in lines[0], lines


def test_port_of_the_command_line_that_is_busy(host, helper):
    """Said with the port and the reason."""
    with listener(host.user, "127.0.0.1") as (_, port):
        with pytest.raises(HelperFailed) as caught:
            helper("-p", f"127.0.0.1:{port}:80")
    one = caught.value.helper
    assert one.process.returncode == 1
    assert f"{port}" in one.stderr() and os.strerror(errno.EADDRINUSE) in one.stderr()


def test_forbidden_port(host, helper):
    """An ordinary user is told which setting is in the way, and what he can do without it."""
    one = helper()
    reply = one.api("add_hostfwd", proto="tcp", host_port=81, guest_port=80)
    assert reply["error"]["errno"] == "EACCES"
    assert (reply["error"]["field"], reply["error"]["port"]) == ("host_port", 81)
    assert "ip_unprivileged_port_start" in reply["error"]["message"]
    assert reply["error"]["desc"] == "bad request: add_hostfwd: slirp_add_hostfwd failed"


# --- sockets in the file system

def unix_listener(host, name):
    path = host.path(name)
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    sock.listen(64)
    sock.settimeout(DEADLINE)
    os.chmod(path, 0o666)
    host.own(path)
    return sock, path


@pytest.mark.parametrize("options", [[], ["--enable-sandbox", "--enable-seccomp"]],
                         ids=["plain", "sandbox"])
def test_unix_socket_of_the_host(host, container, helper, options):
    """A listener made at start, before anything is hidden; and gone at the end."""
    path = host.path("web.sock")
    with listener(container, "0.0.0.0") as (server, guest_port):
        one = helper("-p", f"unix:{path}:{guest_port}", *options)
        for _ in range(2):
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(DEADLINE)
            client.connect(path)
            serves(client, server)
        entry = one.api("list_hostfwd")["entries"][0]
        assert (entry["host_addr"], entry["host_port"]) == (f"unix:{path}", None)
        assert one.api("remove_hostfwd", id=entry["id"]) == {"return": {}}
        with socket.socket(socket.AF_UNIX) as client, pytest.raises(OSError):
            client.connect(path)


def test_large_set(host, helper):
    """The C library's qsort(3) asks how much memory there is when there is much to sort."""
    one = helper()
    first = free_row(host.user, 500)
    rules = [{"proto": "tcp", "host_addr": "127.0.0.1", "host_port": port, "guest_port": 80}
             for port in reversed(range(first, first + 500))]
    assert one.api("add_hostfwd", rules=rules)["return"]["ids"] == list(range(1, 501))
    assert one.counters()["syscalls_refused"] == 0, one.stderr()


@pytest.mark.parametrize("options", [
    [], ["--sandbox=off"], ["--disable-feature=landlock"], ["--disable-feature=empty-root"],
    ["--enable-sandbox", "--enable-seccomp"]],
    ids=["plain", "off", "no-landlock", "no-root", "sandbox"])
@pytest.mark.parametrize("api", [True, False], ids=["api", "alone"])
def test_unix_sockets_are_gone_at_the_end(host, helper, options, api):
    """Those that are there then, wherever they lie."""
    folders = [host.path("one"), host.path("two")]
    for folder in folders:
        os.mkdir(folder)
        host.own(folder)
    paths = [f"{folder}/{name}.sock" for folder in folders for name in "ab"]
    one = helper(*(word for path in paths for word in ("-p", f"unix:{path}:80")), *options, api=api)
    assert all(os.path.lexists(path) for path in paths)
    one.stop()
    assert [path for path in paths if os.path.lexists(path)] == []


@pytest.mark.parametrize("options", [[], ["--enable-sandbox", "--enable-seccomp"]],
                         ids=["plain", "sandbox"])
@pytest.mark.parametrize("by", ["option", "api"])
def test_unix_socket_as_target(host, helper, options, by):
    """A port that leads to a socket of the host; also one that was made later."""
    port = free_port(host.user)
    path = host.path("service.sock")
    if by == "option":
        helper("-p", f"127.0.0.1:{port}:unix:{path}", *options, api=False)
    else:
        one = helper(*options)
        assert "return" in one.api("add_hostfwd", proto="tcp", host_addr="127.0.0.1",
                                   host_port=port, guest_addr=f"unix:{path}")
    assert is_refused(lambda: connect(host.user, port))
    server, _ = unix_listener(host, "service.sock")
    with server:
        serves(connect(host.user, port), server)


# --- sockets that were passed

def bound(host, address="127.0.0.1", kind=socket.SOCK_STREAM, listens=True):
    sock = host.user.socket(socket.AF_INET, kind)
    sock.bind((address, 0))
    if listens and kind == socket.SOCK_STREAM:
        sock.listen(64)
    return sock


ACTIVATE = 'n=$1; shift; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=$n; exec "$@" 3<&"$passed"'


@pytest.mark.parametrize("name", ["3", "web"])
@pytest.mark.parametrize("options", [[], ["--enable-sandbox", "--enable-seccomp"]],
                         ids=["plain", "sandbox"])
def test_socket_activation(host, container, helper, name, options):
    """As systemd starts it: descriptor 3, whose number and name are in the environment."""
    with bound(host) as passed, listener(container, "0.0.0.0") as (server, guest_port):
        port = passed.getsockname()[1]
        number = os.dup(passed.fileno())
        try:
            one = helper("-p", f"fd:{name}:{guest_port}", *options, pass_fds=[number], launcher=[
                "env", f"passed={number}", "bash", "-c", ACTIVATE, "bash", "web"])
        finally:
            os.close(number)
        passed.close()
        serves(connect(host.user, port), server)
        entry = one.api("list_hostfwd")["entries"][0]
        assert (entry["host_addr"], entry["host_port"]) == ("127.0.0.1", port)
        assert one.api("remove_hostfwd", id=entry["id"]) == {"return": {}}
        with pytest.raises(ConnectionRefusedError):
            connect(host.user, port)


def test_listen_fds_of_another_process(helper, host):
    """LISTEN_PID says whom they are for."""
    with bound(host) as passed, pytest.raises(HelperFailed) as caught:
        helper("-p", "fd:3:80", pass_fds=[passed.fileno()], launcher=[
            "env", f"passed={passed.fileno()}", "bash", "-c",
            ACTIVATE.replace("LISTEN_PID=$$", "LISTEN_PID=1"), "bash", "web"])
    assert caught.value.helper.process.returncode == 1


def request_with(one, descriptors, *parts, **arguments):
    """One request to add a rule, with descriptors beside its first byte."""
    text = json.dumps({"execute": "add_hostfwd", "arguments": arguments}).encode()
    with one.connect() as client:
        socket.send_fds(client, [text[:1]], [sock.fileno() for sock in descriptors])
        with contextlib.suppress(BrokenPipeError):  # it was answered before all of it was sent
            client.sendall(text[1:])
        return json.loads(read_all(client))


def test_passed_with_a_request(host, container, helper):
    """A listener by SCM_RIGHTS."""
    one = helper()
    with bound(host) as passed, listener(container, "0.0.0.0") as (
            server, guest_port):
        port = passed.getsockname()[1]
        reply = request_with(one, [passed], proto="tcp", host_fd=0, guest_port=guest_port)
        assert "return" in reply, reply
        passed.close()
        serves(connect(host.user, port), server)
        rule = reply["return"]["id"]
        assert entry_of(one, rule)["host_port"] == port
        assert one.api("remove_hostfwd", id=rule) == {"return": {}}
        with pytest.raises(ConnectionRefusedError):
            connect(host.user, port)


def test_udp_passed_with_a_request(host, container, helper):
    one = helper()
    with bound(host, kind=socket.SOCK_DGRAM) as passed, FOUR.socket(container, "0.0.0.0") as server:
        port = passed.getsockname()[1]
        reply = request_with(one, [passed], proto="udp", host_fd=0,
                             guest_port=server.getsockname()[1])
        assert "return" in reply, reply
        passed.close()
        with FOUR.socket(host.user) as client:
            echo = Thread(echo_udp, server, 1)
            client.sendto(b"hello", ("127.0.0.1", port))
            assert client.recv(10) == b"hello"
            echo.result()


def test_what_is_no_listener(host, helper):
    """Sockets of other kinds, files, numbers without a descriptor: an error; nothing is leaked."""
    one = helper()
    one.api("list_hostfwd")
    descriptors = one.descriptors()
    near, far = socket.socketpair()
    unbound = host.user.socket()
    with near, far, unbound, open("/dev/null", "rb") as file, bound(host) as good, \
            bound(host, listens=False) as silent, bound(host, kind=socket.SOCK_DGRAM) as udp:
        for passed, number, proto in (([near], 0, "tcp"), ([unbound], 0, "tcp"), ([file], 0, "tcp"),
                                      ([silent], 0, "tcp"),
                                      ([udp], 0, "tcp"), ([good], 0, "udp"), ([good], 1, "tcp"),
                                      ([], 0, "tcp"), ([good], -1, "tcp"), ([good], "0", "tcp")):
            reply = request_with(one, passed, proto=proto, host_fd=number, guest_port=80)
            assert reply.get("error", {}).get("field") == "host_fd", (reply, passed, number)
        request_with(one, [good] * 20, proto="tcp", host_port="no", guest_port=80)
    assert one.api("list_hostfwd")["entries"] == []
    until(lambda: one.descriptors() <= descriptors, "what was passed is closed")


# --- ranges and sets

def test_range(host, container, helper):
    """Each port leads to its own."""
    one = helper()
    first, guest_first = free_row(host.user, 5), free_row(host.user, 5)
    rule = one.api("add_hostfwd", proto="tcp", host_addr="127.0.0.1", host_port=f"{first}-{first + 4}",
                   guest_port=f"{guest_first}-{guest_first + 4}")["return"]["id"]
    for number in range(5):
        with listener(container, "0.0.0.0", guest_first + number) as (server, _):
            serves(connect(host.user, first + number), server)
    assert one.api("remove_hostfwd", id=rule) == {"return": {}}
    for number in range(5):
        with pytest.raises(ConnectionRefusedError):
            connect(host.user, first + number)


def test_all_or_nothing(host, helper):
    """The third of a set is busy: none is there, and the error names it."""
    one = helper()
    first = free_row(host.user, 5)
    with listener(host.user, "127.0.0.1", first + 2):
        reply = one.api("add_hostfwd", rules=[{
            "proto": "tcp", "host_addr": "127.0.0.1", "host_port": first + number,
            "guest_port": 80} for number in range(5)])
        assert (reply["error"]["index"], reply["error"]["port"], reply["error"]["errno"]) == (
            2, first + 2, "EADDRINUSE")
        reply = one.api("add_hostfwd", proto="tcp", host_addr="127.0.0.1",
                        host_port=f"{first}-{first + 4}", guest_port="1-5")
        assert (reply["error"]["port"], reply["error"]["errno"]) == (first + 2, "EADDRINUSE")
        assert one.api("list_hostfwd")["entries"] == []
        for number in (0, 1, 3, 4):
            with listener(host.user, "127.0.0.1", first + number):
                pass
    reply = one.api("add_hostfwd", rules=[{
        "proto": "tcp", "host_addr": "127.0.0.1", "host_port": first + number,
        "guest_port": 80} for number in range(5)])
    assert reply["return"]["ids"] == [1, 2, 3, 4, 5]


def test_overlapping_ranges(host, helper):
    one = helper()
    first = free_row(host.user, 10)
    one.forward("1-5", f"{first}-{first + 4}", host_addr="127.0.0.1")
    for ports, guests in ((f"{first + 4}-{first + 8}", "1-5"), (f"{first + 2}", 1)):
        reply = one.api("add_hostfwd", proto="tcp", host_addr="127.0.0.1", guest_port=guests,
                        host_port=int(ports) if "-" not in ports else ports)
        assert reply["error"]["errno"] == "EADDRINUSE"
    assert len(one.api("list_hostfwd")["entries"]) == 1
    one.forward("1-5", f"{first + 5}-{first + 9}", host_addr="127.0.0.1")


@pytest.mark.parametrize("ports,guests,field", [
    ("10-5", "1-6", "host_port"), ("0-5", "1-6", "host_port"), ("65530-65540", "1-11", "host_port"),
    ("8000-8010", "1-5", "guest_port"), ("8000-8010", 80, "guest_port"), ("8000-", "1", "host_port"),
    ("8000-8010", "x", "guest_port"), ("-8000", "1", "host_port"), ("8000-8001-8002", "1-3", "host_port")])
def test_ranges_that_are_none(helper, ports, guests, field):
    one = helper()
    reply = one.api("add_hostfwd", proto="tcp", host_port=ports, guest_port=guests)
    assert reply["error"]["desc"] == f"bad request: add_hostfwd: bad arguments.{field}"


@pytest.mark.parametrize("how", ["range", "set"])
def test_ten_thousand_ports(host, container, helper, many_descriptors, how):
    """In one request: a tenth of a second is what is wanted. Here the helper has fifty times as much, of
    which others' work is no part."""
    n = min(10_000, many_descriptors // 2)
    one = helper()
    descriptors = one.descriptors()
    before = cpu_ticks(one.pid)
    if how == "range":
        reply = one.api("add_hostfwd", proto="tcp", host_addr="127.0.0.1",
                        host_port=f"20000-{20000 + n - 1}", guest_port=f"20000-{20000 + n - 1}")
    else:
        reply = one.api("add_hostfwd", rules=[{
            "proto": "tcp", "host_addr": "127.0.0.1", "host_port": port, "guest_port": port}
            for port in range(20000, 20000 + n)])
    took = (cpu_ticks(one.pid) - before) / os.sysconf("SC_CLK_TCK")
    assert "return" in reply, reply
    print(f"{n} ports, {how}: {took * 1000:.0f} ms")
    assert took < (5 if "sanitizer: no" in run_binary(host.user, "--features").stdout else 50)
    for port in (20000, 20000 + n // 2, 20000 + n - 1):
        with listener(container, "0.0.0.0", port) as (server, _):
            serves(connect(host.user, port), server)
    removed = one.api("list_hostfwd")["entries"][:100]
    for entry in removed:
        assert one.api("remove_hostfwd", id=entry["id"]) == {"return": {}}
    left = 0 if how == "range" else n - len(removed)
    until(lambda: one.descriptors() <= descriptors + left + 64, "they are closed")


# --- listening only while the container does

@pytest.mark.parametrize("how", ["rule", "option"])
def test_lazy(host, container, helper, how):
    """Refused until somebody listens, and again when nobody does; what is open goes on."""
    port = free_port(host.user)
    one = helper(*(["--lazy-listen"] if how == "option" else []))
    guest_port = free_port(container)
    rule = one.forward(guest_port, port, **({"lazy": True} if how == "rule" else {}))
    assert entry_of(one, rule)["state"] == "waiting" and entry_of(one, rule)["lazy"] is True
    for _ in range(2):
        with pytest.raises(ConnectionRefusedError):
            connect(host.user, port)
        with listener(container, "0.0.0.0", guest_port) as (server, _):
            wait_entry(one, rule, "it listens", state="listening")
            client = connect(host.user, port)
            far, _ = server.accept()
            far.settimeout(DEADLINE)
        wait_entry(one, rule, "it waits", state="waiting")
        with pytest.raises(ConnectionRefusedError):
            connect(host.user, port)
        with client, far:
            transfer(client, far, 10_000)


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1"])
def test_nobody_steals_a_lazy_port(host, helper, address):
    """Neither while it waits nor for ever: it is free when the rule is gone."""
    one = helper()
    port = free_port(host.user)
    rule = one.forward(9, port, lazy=True, host_addr=address)
    with host.user.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError) as caught:
            thief.bind(("127.0.0.1", port))
            thief.listen()
        assert caught.value.errno == errno.EADDRINUSE
    one.api("remove_hostfwd", id=rule)
    with listener(host.user, "127.0.0.1", port):
        pass


def test_lazy_is_about_others_than_loopback(host, container, helper):
    """What listens on the container's loopback alone does not count."""
    one = helper()
    port = free_port(host.user)
    with listener(container, "127.0.0.1") as (_, guest_port):
        rule = one.forward(guest_port, port, lazy=True)
        marker = one.forward(guest_port, free_port(host.user), lazy=True, guest_addr="127.0.0.1")
        one.pause(0.6)  # two looks of the helper's; and if it had not looked, that is waiting as well
        assert entry_of(one, rule)["state"] == "waiting"
        assert marker
        with listener(container, GUEST4, guest_port):
            wait_entry(one, rule, "it listens", state="listening")


@pytest.mark.dad
def test_lazy_for_ipv6(host, container, helper):
    """Whether the container's own address is named or not."""
    one = helper("--enable-ipv6", "--lazy-listen")
    guest = guest6_of(container)
    port = free_port(container)
    ports = {named: free_port(host.user) for named in ("", guest)}
    rules = {named: one.forward(port, ports[named], "tcp6", guest_addr=named) for named in ports}
    for rule in rules.values():
        wait_entry(one, rule, "nobody listens", state="waiting")
    with listener(container, "::", port) as (server, _):
        for named, rule in rules.items():
            wait_entry(one, rule, "somebody listens", state="listening")
            serves(connect(host.user, ports[named], "::1"), server)
    for rule in rules.values():
        wait_entry(one, rule, "nobody listens again", state="waiting")


def test_lazy_range(host, container, helper):
    """Each port of a range by itself."""
    one = helper()
    first, guest_first = free_row(host.user, 3), free_row(container, 3)
    one.forward(f"{guest_first}-{guest_first + 2}", f"{first}-{first + 2}", lazy=True)
    with listener(container, "0.0.0.0", guest_first + 1) as (server, _):
        def reached():
            with contextlib.suppress(ConnectionRefusedError):
                return connect(host.user, first + 1)
        serves(until(reached, "the second listens"), server)
        for other in (first, first + 2):
            with pytest.raises(ConnectionRefusedError):
                connect(host.user, other)


def test_lazy_for_an_address_behind_the_container(host, helper):
    """Nobody can know whether somebody listens there: it listens always."""
    one = helper()
    rule = one.forward(80, free_port(host.user), lazy=True, guest_addr="172.30.0.2")
    wait_entry(one, rule, "it listens", state="listening")


# --- several requests in a connection

def test_keep_open(host, helper):
    """A connection stays once a request has asked for it, until one says that it is the last."""
    one = helper()
    port = free_port(host.user)
    with one.connect() as client, client.makefile("rb") as lines:
        def ask(**request):
            client.sendall(json.dumps(request).encode() + b"\n")
            return json.loads(lines.readline())
        first = ask(execute="add_hostfwd", keep_open=True,
                    arguments={"proto": "tcp", "host_port": port, "guest_port": 80})
        assert first == {"return": {"id": 1}}
        assert len(ask(execute="list_hostfwd")["entries"]) == 1
        assert "error" in ask(execute="nonsense")
        assert ask(execute="remove_hostfwd", arguments={"id": 1}, keep_open=False) == {
            "return": {}}
        assert lines.read() == b""
    assert one.api("list_hostfwd")["entries"] == []
