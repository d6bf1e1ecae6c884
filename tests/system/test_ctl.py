# SPDX-License-Identifier: Apache-2.0
"""`netns-helper ctl`, and --publish: what people write becomes rules."""
import json
import os
import re
import signal
import socket

import pytest

from harness.helper import BINARY, HelperFailed
from harness.ns import HOST4, listener
from harness.published import exchange
from harness.traffic import free_port
from harness.util import until

COLUMNS = ["ID", "STATE", "PATH", "PROTO", "HOST", "GUEST", "CONNS", "IN", "OUT"]


@pytest.fixture
def one(helper):
    return helper()


@pytest.fixture
def ctl(host, one):
    """ctl(words...) -> what the command did; check=False lets it fail."""
    def run(*words, binary=BINARY, **kwargs):
        return host.user.run(binary, "ctl", one.api_path, *words, **kwargs)
    return run


@pytest.fixture
def port(host):
    return free_port(host.user)


def table(text):
    """The rows of a list as dicts."""
    lines = text.splitlines()
    assert lines[0].split() == COLUMNS
    assert all(line == line.rstrip() for line in lines)
    return [dict(zip(COLUMNS, line.split())) for line in lines[1:]]


def test_add_list_remove(host, container, ctl, port):
    with listener(container, "0.0.0.0") as (server, guest_port):
        done = ctl("add", f"127.0.0.1:{port}:{guest_port}")
        assert (done.stdout, done.stderr) == ("1\n", "")
        exchange(host, "127.0.0.1", port, server)
        [row] = table(ctl("list").stdout)
        assert row["ID"] == "1" and row["STATE"] == "listening" and row["PROTO"] == "tcp"
        assert row["HOST"] == f"127.0.0.1:{port}" and row["GUEST"].endswith(f":{guest_port}")
        until(lambda: (table(ctl("list").stdout)[0]["IN"], table(ctl("list").stdout)[0]["OUT"])
              == ("8", "6"), "both ways counted")
        done = ctl("remove", f"127.0.0.1:{port}")
        assert (done.stdout, done.stderr) == ("", "")
        assert table(ctl("list").stdout) == []
        with host.user.socket() as client, pytest.raises(ConnectionRefusedError):
            client.connect(("127.0.0.1", port))


def test_several_rules_and_json(one, ctl, port):
    done = ctl("add", f"127.0.0.1:{port}", f"{port}/udp", "--path=tap")
    assert done.stdout == "1\n2\n"
    reply = json.loads(ctl("list", "--json").stdout)
    assert reply == one.api("list_hostfwd")
    assert [(entry["proto"], entry["path"]) for entry in reply["entries"]] == [
        ("tcp", "tap"), ("udp", "tap")]
    assert json.loads(ctl("remove", "1", "--json").stdout) == {"return": {}}
    assert [row["ID"] for row in table(ctl("list").stdout)] == ["2"]


def test_ranges(host, container, ctl):
    with listener(container, "0.0.0.0") as (server, guest_port):
        first = free_port(host.user)
        ctl("add", f"127.0.0.1:{first}-{first + 2}:{guest_port - 1}-{guest_port + 1}")
        exchange(host, "127.0.0.1", first + 1, server)
        [row] = table(ctl("list").stdout)
        assert row["HOST"] == f"127.0.0.1:{first}-{first + 2}"
        ctl("remove", f"127.0.0.1:{first}-{first + 2}")


def test_all_or_nothing(host, ctl, port):
    with listener(host.user, "127.0.0.1") as (_, busy):
        done = ctl("add", f"127.0.0.1:{port}:80", f"127.0.0.1:{busy}:81", check=False)
        assert done.returncode == 1 and done.stdout == ""
        assert re.fullmatch(rf"netns-helper ctl: 127\.0\.0\.1:{busy}:81: host_port {busy}: .* "
                            r"\(EADDRINUSE\)\n", done.stderr), done.stderr
    assert table(ctl("list").stdout) == []
    with listener(host.user, "127.0.0.1", port):
        pass  # it is free


def test_forbidden_port(ctl):
    """The message says what can be done."""
    done = ctl("add", "127.0.0.1:81:80", check=False)
    assert done.returncode == 1
    assert "net.ipv4.ip_unprivileged_port_start" in done.stderr and "EACCES" in done.stderr
    assert done.stderr.count("\n") == 1


def test_remove_what_is_not_there(ctl, port):
    ctl("add", f"127.0.0.1:{port}")
    done = ctl("remove", "99", "1", check=False)
    assert done.returncode == 1 and done.stderr.startswith("netns-helper ctl: 99: id: ")
    assert table(ctl("list").stdout) == [], "the other one is removed"


@pytest.mark.parametrize("close", [False, True])
def test_connections_of_removed_rules(host, container, ctl, port, close):
    with listener(container, "0.0.0.0") as (server, guest_port), host.user.socket() as client:
        ctl("add", f"127.0.0.1:{port}:{guest_port}")
        client.connect(("127.0.0.1", port))
        far, _ = server.accept()
        with far:
            ctl("remove", "1", *(["--close"] if close else []))
            if close:
                with pytest.raises(ConnectionResetError):
                    client.recv(1)
            else:
                client.sendall(b"still here")
                assert far.recv(100) == b"still here"


def test_lazy(host, container, ctl, port):
    guest_port = free_port(container)
    ctl("add", f"127.0.0.1:{port}:{guest_port}", "--lazy")
    assert table(ctl("list").stdout)[0]["STATE"] == "waiting"
    with host.user.socket() as client, pytest.raises(ConnectionRefusedError):
        client.connect(("127.0.0.1", port))
    with listener(container, "0.0.0.0", guest_port) as (server, _):
        until(lambda: table(ctl("list").stdout)[0]["STATE"] == "listening", "it listens")
        exchange(host, "127.0.0.1", port, server)
    until(lambda: table(ctl("list").stdout)[0]["STATE"] == "waiting", "it listens no longer")


@pytest.mark.parametrize("path,seen", [("auto", "10.0.2.100"), ("splice", "10.0.2.100"),
                                       ("tap", "10.0.2.2")])
def test_paths(host, container, ctl, port, path, seen):
    with listener(container, "0.0.0.0") as (server, guest_port):
        ctl("add", f"127.0.0.1:{port}:{guest_port}", f"--path={path}")
        assert exchange(host, "127.0.0.1", port, server) == seen


def test_a_socket_is_passed(host, container, one, ctl):
    """A port that the helper may not open."""
    with host.root.socket() as low, listener(container, "0.0.0.0") as (server, guest_port):
        low.bind((HOST4, 80))
        low.listen()
        fd = low.fileno()
        ctl("add", f"fd:{fd}:{guest_port}", pass_fds=[fd])
        assert table(ctl("list").stdout)[0]["HOST"] == f"{HOST4}:80"
        low.close()
        assert exchange(host, HOST4, 80, server) == HOST4
        ctl("remove", "1")
        with host.user.socket() as client, pytest.raises(ConnectionRefusedError):
            client.connect((HOST4, 80))


@pytest.mark.parametrize("kind", ["pipe", "no listener", "connected"])
def test_what_is_no_listener_is_refused(host, ctl, kind):
    with host.user.socket() as sock, listener(host.user) as (_, busy):
        if kind == "connected":
            sock.connect(("127.0.0.1", busy))
        fd = os.pipe()[0] if kind == "pipe" else sock.fileno()
        done = ctl("add", f"fd:{fd}:80", pass_fds=[fd], check=False)
        assert done.returncode == 1 and done.stderr.startswith(f"netns-helper ctl: fd:{fd}:80: ")
        assert done.stderr.count("\n") == 1
    assert table(ctl("list").stdout) == []


def test_a_unix_socket_as_target(host, ctl, port):
    path = host.path("target.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        os.chmod(path, 0o777)
        server.settimeout(60)
        ctl("add", f"127.0.0.1:{port}:unix:{path}")
        with host.user.socket() as client:
            client.connect(("127.0.0.1", port))
            far, _ = server.accept()
            with far:
                client.sendall(b"hello")
                assert far.recv(100) == b"hello"


def test_under_the_other_name(tmp_path, ctl):
    os.chmod(tmp_path, 0o755)
    link = tmp_path / "slirp4netns"
    link.symlink_to(BINARY)
    assert table(ctl("list", binary=str(link)).stdout) == []


def test_with_libslirp(host, container, helper, port):
    one = helper("--stack=libslirp")
    with listener(container, "0.0.0.0") as (server, guest_port):
        done = host.user.run(BINARY, "ctl", one.api_path, "add", f"127.0.0.1:{port}:{guest_port}")
        assert done.stdout == "1\n"
        assert exchange(host, "127.0.0.1", port, server) == "10.0.2.2"
    done = host.user.run(BINARY, "ctl", one.api_path, "add", f"[::1]:{port}:80", check=False)
    assert done.returncode == 1 and "host_addr" in done.stderr


def test_usage(host, one):
    done = host.user.run(BINARY, "ctl", "--help")
    assert done.stdout.startswith("Usage: netns-helper ctl SOCKET add") and done.stderr == ""
    done = host.user.run(BINARY, "ctl", one.api_path, "frobnicate", check=False)
    assert done.returncode == 2 and "frobnicate" in done.stderr and done.stdout == ""


def test_server_that_does_not_answer(host, one, ctl):
    one.process.send_signal(signal.SIGSTOP)
    try:
        done = ctl("list", check=False)
    finally:
        one.process.send_signal(signal.SIGCONT)
    assert done.returncode == 1
    assert done.stderr == f"netns-helper ctl: {one.api_path}: no answer within 5 s\n"


def test_server_that_has_gone(host, one, ctl):
    one.expect_status = -signal.SIGKILL
    one.process.kill()
    one.stop()
    done = ctl("list", check=False)
    assert done.returncode == 1 and "nobody listens there" in done.stderr
    os.unlink(one.api_path)
    done = ctl("list", check=False)
    assert done.returncode == 1 and "no such socket" in done.stderr


# --- the same from the start

def test_publish(host, container, helper, port):
    with listener(container, "0.0.0.0") as (server, guest_port):
        one = helper("-p", f"127.0.0.1:{port}:{guest_port}", f"--publish={port}/udp",
                     "--forward-path=tap")
        entries = one.api("list_hostfwd")["entries"]
        assert [(entry["proto"], entry["host_port"], entry["path"]) for entry in entries] == [
            ("tcp", port, "tap"), ("udp", port, "tap")]
        assert exchange(host, "127.0.0.1", port, server) == "10.0.2.2"


def test_publish_a_unix_socket(host, container, helper):
    """It is made at the start and gone at the end."""
    path = host.path("web.sock")
    with listener(container, "0.0.0.0") as (server, guest_port):
        one = helper("-p", f"unix:{path}:{guest_port}")
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(60)
            client.connect(path)
            far, _ = server.accept()
            with far:
                client.sendall(b"hello")
                assert far.recv(100) == b"hello"
        one.stop()
    assert not os.path.lexists(path)


def test_publish_and_lazy_listen(host, container, helper, port):
    guest_port = free_port(container)
    one = helper("-p", f"127.0.0.1:{port}:{guest_port}", "--lazy-listen")
    assert one.api("list_hostfwd")["entries"][0]["state"] == "waiting"
    with host.user.socket() as client, pytest.raises(ConnectionRefusedError):
        client.connect(("127.0.0.1", port))


@pytest.mark.parametrize("rule,words", [
    ("{busy}:80", ["{busy}", "Address already in use"]),
    ("127.0.0.1:81:80", ["81", "net.ipv4.ip_unprivileged_port_start"]),
    ("203.0.113.9:8080", ["203.0.113.9", "Cannot assign requested address"]),
    ("", [""]), ("70000", ["70000"]), ("80/sctp", ["80/sctp"]), ("8000-8001:80", ["8000-8001:80"]),
    ("fd:3:80", ["fd:3:80", "descriptor"]), ("fd:web:80", ["fd:web:80", "descriptor"]),
], ids=str)
def test_publish_what_cannot_be(host, container, helper, rule, words):
    """One line, status 1, and nothing stays."""
    with listener(host.user, "0.0.0.0") as (_, busy):
        with pytest.raises(HelperFailed) as failed:
            helper("-p", rule.replace("{busy}", str(busy)))
    one = failed.value.helper
    assert one.process.returncode == 1
    errors = [line for line in one.stderr().splitlines() if "publish" in line]
    assert len(errors) == 1, one.stderr()
    for word in words:
        assert word.replace("{busy}", str(busy)) in errors[0], errors
    assert not os.path.lexists(one.api_path)
    assert "tap0" not in container.run("ip", "link").stdout
