# SPDX-License-Identifier: Apache-2.0
"""Connections of the API that do more than slirp4netns's: several requests, and descriptors."""
import json
import socket

import pytest

from harness.traffic import free_port
from harness.util import until

LIST = {"execute": "list_hostfwd"}


@pytest.fixture
def one(helper):
    return helper("--enable-sandbox", "--enable-seccomp")


def ask_all(one, requests):
    """All at once; the replies, a line each."""
    with one.connect() as client:
        client.sendall(b"".join(json.dumps(request).encode() for request in requests))
        with client.makefile() as lines:
            return [json.loads(line) for line in lines]


def pass_fds(one, fds, request=None):
    request = request or {"execute": "add_hostfwd",
                          "arguments": {"proto": "tcp", "host_fd": 0, "guest_port": 80}}
    with one.connect() as client:
        socket.send_fds(client, [json.dumps(request).encode()], fds)
        return json.loads(b"".join(iter(lambda: client.recv(65536), b"")))


def test_requests_in_a_row(one):
    port = free_port(one.host.user)
    add = {"execute": "add_hostfwd", "keep_open": True,
           "arguments": {"proto": "tcp", "host_port": port, "guest_port": 80}}
    remove = {"execute": "remove_hostfwd",
              "arguments": {"proto": "tcp", "host_port": port}}
    replies = ask_all(one, [add, remove] * 200 + [LIST, dict(LIST, keep_open=False), LIST])
    assert len(replies) == 402, "the one that asks for no more is the last"
    assert [reply["return"] for reply in replies[:-2:2]] == [{"id": n} for n in range(1, 201)]
    assert all(reply == {"return": {}} for reply in replies[1:-2:2])
    assert replies[-1] == replies[-2] == {"entries": [], "return": {"entries": []}}


def test_descriptors_that_are_no_listeners(one):
    before = one.descriptors()
    with socket.socket() as idle, socket.socket(type=socket.SOCK_DGRAM) as udp, \
            open("/dev/null", "rb") as null:
        for fd, errno in ((idle, "EINVAL"), (udp, "EPROTOTYPE"), (null, "ENOTSOCK")):
            error = pass_fds(one, [fd.fileno()])["error"]
            assert error["desc"] == "bad request: add_hostfwd: bad arguments.host_fd"
            assert (error["field"], error["errno"]) == ("host_fd", errno)
    until(lambda: one.descriptors() <= before, "as many descriptors as before")


def test_too_many_descriptors(one):
    before = one.descriptors()
    with open("/dev/null", "rb") as null:
        assert "entries" in pass_fds(one, [null.fileno()] * 16, LIST)
        error = pass_fds(one, [null.fileno()] * 17, LIST)["error"]
        assert error["desc"] == "bad request: too many descriptors"
        clients = []
        for _ in range(40):
            clients.append(one.connect())
            socket.send_fds(clients[-1], [b" "], [null.fileno()] * 16)
            # they are not on their way for long, which counts for all programs of the user
            assert one.api("list_hostfwd")["entries"] == []
        assert one.descriptors() < before + 40 + 64 + 16
        for client in clients:
            client.close()
    until(lambda: one.descriptors() <= before, "as many descriptors as before")


def test_ten_megabytes(one):
    with one.connect() as client:
        try:
            client.sendall(b'{"execute": "' + b"x" * 10_000_000)
        except (BrokenPipeError, ConnectionResetError):
            pass
        else:
            raise AssertionError("ten megabytes were taken")
    assert one.api("list_hostfwd")["entries"] == []


def test_large_request_in_small_pieces(one):
    """1 MiB, 1,000 bytes at a time: each byte is looked at once."""
    text = json.dumps(LIST).encode().rjust(1 << 20)
    with one.connect() as client:
        for at in range(0, len(text), 1000):
            client.sendall(text[at:at + 1000])
        assert json.loads(client.recv(4096))["entries"] == []


def test_all_or_nothing(one):
    ports = [free_port(one.host.user) for _ in range(3)]
    with one.host.user.socket() as busy:
        busy.bind(("127.0.0.1", ports[2]))
        busy.listen()
        error = one.api("add_hostfwd", rules=[
            {"proto": "tcp", "host_addr": "127.0.0.1", "host_port": port, "guest_port": 80}
            for port in ports])["error"]
    assert (error["index"], error["port"], error["errno"]) == (2, ports[2], "EADDRINUSE")
    assert one.api("list_hostfwd")["entries"] == []
    with one.host.user.socket() as free:
        free.bind(("127.0.0.1", ports[0]))
