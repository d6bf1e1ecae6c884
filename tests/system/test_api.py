# SPDX-License-Identifier: Apache-2.0
"""The API socket's contract: requests, replies, errors, the socket file."""
import contextlib
import json
import os
import socket
import stat

import pytest

from harness.helper import BINARY, Helper
from harness.ns import HOST4, listener
from harness.traffic import free_port

def desc(reply):
    return (json.loads(reply) if isinstance(reply, bytes) else reply)["error"]["desc"]


@pytest.fixture
def one(helper):
    return helper()


@pytest.fixture
def port(one):
    return free_port(one.host.user)


def test_add_list_remove(one, port):
    first = one.api("add_hostfwd", proto="tcp", host_addr="", host_port=port, guest_addr="",
                    guest_port=80)
    assert first == {"return": {"id": 1}}
    second = one.api("add_hostfwd", proto="udp", host_addr="127.0.0.1", host_port=port,
                     guest_addr="10.0.2.77", guest_port=53)
    assert second == {"return": {"id": 2}}
    entries = [
        {"id": 1, "proto": "tcp", "host_addr": "0.0.0.0", "host_port": port,
         "guest_addr": "10.0.2.100", "guest_port": 80},
        {"id": 2, "proto": "udp", "host_addr": "127.0.0.1", "host_port": port,
         "guest_addr": "10.0.2.77", "guest_port": 53}]
    listed = one.api("list_hostfwd")
    assert listed == {"entries": listed["entries"], "return": {"entries": listed["entries"]}}
    # slirp4netns's members come first, in its order.
    assert [list(entry.items())[:6] for entry in listed["entries"]] == \
        [list(entry.items()) for entry in entries]
    assert listed["entries"][0]["state"] == "listening"
    assert one.api("remove_hostfwd", id=1) == {"return": {}}
    assert one.api("list_hostfwd")["entries"] == listed["entries"][1:]
    third = one.api("add_hostfwd", proto="tcp", host_port=port, guest_port=81)
    assert third == {"return": {"id": 3}}, "ids are never used again"


def test_rule_works_at_once_and_ends_at_once(host, one, port):
    rule = one.forward(80, port)
    for address in ("127.0.0.1", HOST4):
        with host.user.socket() as client, contextlib.suppress(ConnectionResetError):
            client.connect((address, port))  # nobody serves: a reset may come before it returns
    one.api("remove_hostfwd", id=rule)
    with host.user.socket() as client:
        with pytest.raises(ConnectionRefusedError):
            client.connect(("127.0.0.1", port))


def test_wildcard_is_ipv4_only(host, one, port):
    one.forward(80, port)
    with host.user.socket(socket.AF_INET6) as client:
        with pytest.raises(OSError):
            client.connect(("::1", port))


def test_connections_survive_the_removal_of_their_rule(host, container, one, port):
    with listener(container, "0.0.0.0") as (server, guest_port), host.user.socket() as client:
        rule = one.forward(guest_port, port)
        client.connect(("127.0.0.1", port))
        far, _ = server.accept()
        with far:
            one.api("remove_hostfwd", id=rule)
            client.send(b"still here")
            assert far.recv(100) == b"still here"


@pytest.mark.parametrize("request_text,wanted", [
    (b"", "bad request: cannot parse JSON"),
    (b"{", "bad request: cannot parse JSON"),
    (b"{]", "bad request: cannot parse JSON"),
    (b"hello\n", "bad request: cannot parse JSON"),
    (b'{"execute": "list_hostfwd", "execute": "x"}', "bad request: cannot parse JSON"),
    (b"[1]", "bad request: json_object() failed"),
    (b'"list_hostfwd"', "bad request: json_object() failed"),
    (b"{}", "bad request: no execute found"),
    (b'{"execute": 3}', "bad request: no execute found"),
    (b'{"execute": "reboot"}', "bad request: unknown execute"),
    (b'{"execute": "' + b"x" * 4096 + b'"}', "bad request: unknown execute"),
    (b'{"execute": "' + b"x" * (1 << 20) + b'"}', "bad request: too large message"),
], ids=range(12))
def test_errors(one, request_text, wanted):
    assert desc(one.api_bytes(request_text, half_close=True)) == wanted
    assert one.api("list_hostfwd")["entries"] == []


@pytest.mark.parametrize("change,field", [
    ({"proto": None}, "proto"), ({"proto": "sctp"}, "proto"), ({"proto": "TCP"}, "proto"),
    ({"proto": 6}, "proto"), ({"proto": ""}, "proto"),
    ({"host_addr": "[::1]"}, "host_addr"), ({"host_addr": "localhost"}, "host_addr"),
    ({"host_addr": "1.2.3"}, "host_addr"), ({"host_addr": 5}, "host_addr"),
    ({"host_port": None}, "host_port"), ({"host_port": "80"}, "host_port"),
    ({"host_port": 0}, "host_port"), ({"host_port": 70000}, "host_port"),
    ({"host_port": -3}, "host_port"), ({"host_port": 8084.7}, "host_port"),
    ({"host_port": 2**62}, "host_port"), ({"host_port": True}, "host_port"),
    ({"guest_addr": "[::1]"}, "guest_addr"), ({"guest_addr": "x"}, "guest_addr"),
    ({"guest_port": None}, "guest_port"), ({"guest_port": 65536}, "guest_port"),
    ({"guest_port": []}, "guest_port"),
    ({"proto": None, "host_port": None}, "proto"),
    ({"host_addr": "x", "host_port": 0}, "host_addr"),
    ({"guest_addr": "x", "guest_port": 0}, "guest_addr"),
], ids=str)
def test_bad_arguments(one, port, change, field):
    arguments = {"proto": "tcp", "host_port": port, "guest_port": 80, **change}
    arguments = {key: value for key, value in arguments.items() if value is not None}
    reply = one.api("add_hostfwd", **arguments)
    assert desc(reply) == f"bad request: add_hostfwd: bad arguments.{field}"
    assert one.api("list_hostfwd")["entries"] == []


def test_add_without_arguments(one):
    assert desc(one.api("add_hostfwd")) == "bad request: add_hostfwd: bad arguments.proto"


@pytest.mark.parametrize("arguments", [{}, {"id": 1}, {"id": 99}, {"id": "1"}, {"id": -1}], ids=str)
def test_remove_of_what_is_not_there(one, arguments):
    reply = one.api("remove_hostfwd", **arguments)
    assert desc(reply) == "bad request: remove_hostfwd: bad arguments.id"


def test_busy_port(host, one, port):
    wanted = "bad request: add_hostfwd: slirp_add_hostfwd failed"
    with listener(host.user, "127.0.0.1", port):
        reply = one.api("add_hostfwd", proto="tcp", host_addr="127.0.0.1", host_port=port,
                        guest_port=1)
        assert desc(reply) == wanted
        assert {key: reply["error"][key] for key in ("field", "port", "errno")} == \
            {"field": "host_port", "port": port, "errno": "EADDRINUSE"}
    one.forward(80, port, host_addr="127.0.0.1")
    reply = one.api("add_hostfwd", proto="tcp", host_addr="127.0.0.1", host_port=port, guest_port=1)
    assert desc(reply) == wanted
    assert "return" in one.api("add_hostfwd", proto="udp", host_port=port, guest_port=1)


def test_address_that_is_not_the_hosts(one, port):
    reply = one.api("add_hostfwd", proto="tcp", host_addr="203.0.113.9", host_port=port,
                    guest_port=1)
    assert desc(reply) == "bad request: add_hostfwd: slirp_add_hostfwd failed"


@pytest.mark.parametrize("text", [
    b' \n\t{"execute": "list_hostfwd"}', b'\xef\xbb\xbf{"execute": "list_hostfwd"}',
    b'{"execute": "list_hostfwd"}\r\n', b'{"execute": "list_hostfwd"} and junk',
    b'{"execute": "list_hostfwd", "more": {"a": [1, "}"]}}',
    b'{"execute": "list_hostfwd", "pad": "' + b"x" * 4000 + b'"}'])
def test_accepted_spellings(one, text):
    assert json.loads(one.api_bytes(text))["entries"] == []


def test_unknown_arguments_are_ignored(one, port):
    assert "return" in one.api("add_hostfwd", proto="tcp", host_ip="192.0.2.99", host_port=port,
                               guest_port=1)


def test_reply_is_one_small_piece(one, port):
    """Podman reads once, at most 2048 bytes."""
    with one.connect() as client:
        client.sendall(json.dumps({"execute": "add_hostfwd", "arguments": {
            "proto": "tcp", "host_port": port, "guest_port": 80}}).encode() + b"\n")
        reply = client.recv(2048)
        assert json.loads(reply) == {"return": {"id": 1}} and not reply.endswith(b"\n")
        assert client.recv(1) == b""


def test_many_rules(host, one):
    """The list of 200 rules is larger than a page and arrives whole."""
    for number in range(200):
        one.forward(number + 1, 20000 + number, "udp", host_addr="127.0.0.1")
    entries = one.api("list_hostfwd")["entries"]
    assert [entry["guest_port"] for entry in entries] == list(range(1, 201))
    for entry in entries:
        assert one.api("remove_hostfwd", id=entry["id"]) == {"return": {}}


def test_socket_file(one):
    mode = os.stat(one.api_path).st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600


@pytest.mark.parametrize("options", [[], ["--enable-sandbox"], ["--enable-sandbox",
                                                                "--enable-seccomp"]])
@pytest.mark.parametrize("how", ["exit-fd", "SIGTERM"])
def test_socket_file_is_unlinked(helper, options, how):
    one = helper(*options)
    family = one.children()
    if how == "SIGTERM":
        one.process.terminate()
    else:
        one.hang_up()
    one.check_end(family)
    assert not os.path.lexists(one.api_path)


def test_foreign_file_at_the_path_stays(helper):
    """Only what we made is unlinked at the end."""
    one = helper()
    os.unlink(one.api_path)
    with open(one.api_path, "w", encoding="ascii") as file:
        file.write("somebody else's")
    path, one.api_path = one.api_path, None
    one.stop()
    assert os.path.exists(path)


def test_stale_socket_is_replaced(host, container, helper):
    stale = host.path(f"helper{Helper.serial + 1}.api")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(stale)
    host.own(stale)
    one = helper()
    assert one.api_path == stale
    assert one.api("list_hostfwd")["entries"] == []


def test_relative_path(host, container, helpers):
    script = f'cd {host.work} && exec "$@"'
    binary = host.path("start")
    with open(binary, "w", encoding="ascii") as file:
        file.write(f"#!/bin/sh\nset -- {BINARY} \"$@\"\n{script}\n")
    os.chmod(binary, 0o755)
    one = Helper(host, ["-c", "-a", "relative.sock"], [container.pid, "tap0"], api=False,
                 binary=binary)
    helpers.append(one)
    one.api_path = host.path("relative.sock")
    assert one.api("list_hostfwd")["entries"] == []
