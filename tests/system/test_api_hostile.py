# SPDX-License-Identifier: Apache-2.0
"""Clients of the API socket that mean no good never cost a packet."""
import json
import select

import pytest

from harness.traffic import MIB, connected, outbound, transfer
from harness.util import Thread, until

LIST = b'{"execute": "list_hostfwd"}'


@pytest.fixture
def one(helper):
    return helper("--mtu=65520")


@pytest.fixture
def transfer_meanwhile(host, container, one):
    """A TCP transfer that begins before the test's clients come and must complete beside them."""
    near, far = connected(container, host.user, "127.0.0.1", "10.0.2.2")
    with near, far:
        job = Thread(transfer, near, far, 16 * MIB)
        yield job
        job.result()
    outbound(container, host, MIB)  # and once more while all of them still are there


def open_clients(one, n_clients, clients):
    for _ in range(n_clients):
        clients.append(one.connect())
    return clients


@pytest.fixture
def clients():
    made = []
    yield made
    for client in made:
        client.close()


def test_silent_clients(one, clients, transfer_meanwhile):
    open_clients(one, 200, clients)
    transfer_meanwhile.result()
    assert one.api("list_hostfwd")["entries"] == []


def test_more_silent_clients_than_there_is_room(one, clients, transfer_meanwhile):
    """The one that has been silent longest makes room."""
    open_clients(one, 600, clients)
    assert one.api("list_hostfwd")["entries"] == []
    transfer_meanwhile.result()
    assert select.select([clients[0]], [], [], 60)[0], "the oldest client is still connected"
    assert one.counters()["api_evicted"] > 0


def test_byte_at_a_time(one, clients, transfer_meanwhile):
    """Each of 20 clients sends its request byte by byte; all are answered, without half-close."""
    open_clients(one, 20, clients)
    for byte in LIST:
        for client in clients:
            client.send(bytes([byte]))
    for client in clients:
        assert json.loads(client.recv(4096))["entries"] == []


def test_split_in_two(one, clients):
    for cut in range(1, len(LIST)):
        client = open_clients(one, 1, clients)[-1]
        client.sendall(LIST[:cut])
        assert one.api("list_hostfwd")["entries"] == []  # the first part was read by now
        client.sendall(LIST[cut:])
        assert json.loads(client.recv(4096))["entries"] == []
        assert client.recv(1) == b""


def test_answer_does_not_wait_for_the_end(one):
    """Most clients never half-close."""
    with one.connect() as client:
        client.sendall(LIST)
        assert json.loads(client.recv(4096))["entries"] == []


def test_half_closed_before_complete(one):
    reply = one.api_bytes(LIST[:-1], half_close=True)
    assert json.loads(reply)["error"]["desc"] == "bad request: cannot parse JSON"


def test_gone_before_the_answer(one):
    for text in (b"", LIST, LIST[:5], b"x" * 5000):
        for _ in range(50):
            with one.connect() as client:
                try:
                    client.sendall(text)
                except (BrokenPipeError, ConnectionResetError):
                    pass
    assert one.api("list_hostfwd")["entries"] == []


def test_clients_that_never_read(host, one, clients, transfer_meanwhile):
    """A reply that is larger than the socket's buffer waits for its reader alone."""
    for number in range(1, 1201):
        one.forward(number, 20000 + number, "udp", host_addr="127.0.0.1")
    open_clients(one, 20, clients)
    for client in clients:
        client.sendall(LIST)
    assert len(one.api("list_hostfwd")["entries"]) == 1200
    data = b""
    while piece := clients[0].recv(1 << 16):  # late, but whole
        data += piece
    assert len(json.loads(data)["entries"]) == 1200


def test_endless_request(one):
    """Refused when it is too large, not collected for ever."""
    with one.connect() as client:
        try:
            for _ in range(1000):
                client.sendall(b"[" * 1000)
        except (BrokenPipeError, ConnectionResetError):
            pass
        else:
            raise AssertionError("a megabyte was taken")
    assert one.api("list_hostfwd")["entries"] == []


@pytest.mark.parametrize("text", [b"[" * 4000, b"{" * 4000, b'{"a":' * 800, b'"' + b"\\" * 4000,
                                  b"\0" * 100, bytes(range(256)), b"1e99999",
                                  b'{"execute": "\\u0000"}', b'{"execute": "\xff\xfe"}',
                                  b"\xef\xbb\xbf", b"null", b"true "],
                         ids=range(12))
def test_rubbish(one, text):
    reply = one.api_bytes(text, half_close=True)
    assert json.loads(reply)["error"]["desc"].startswith("bad request: ")
    assert one.api("list_hostfwd")["entries"] == []


def test_thousand_requests_leave_no_descriptor(one):
    before = one.descriptors()
    for _ in range(1000):
        one.api("list_hostfwd")
    until(lambda: one.descriptors() <= before, "as many descriptors as before")


def test_hundred_at_once(one):
    """A real backlog: nobody is turned away."""
    answers = [Thread(one.api, "list_hostfwd") for _ in range(100)]
    assert all(answer.result()["entries"] == [] for answer in answers)
