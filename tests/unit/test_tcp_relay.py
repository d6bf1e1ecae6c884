#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""That benchmarks/tcp-relay, the limit that others are held against, passes on all that it gets (TAP).

Usage: test_tcp_relay.py PROGRAM
"""
import contextlib
import json
import select
import socket
import struct
import subprocess
import sys
import traceback

PROGRAM = sys.argv[1]
PATIENCE_S = 60
BUFFER = 64 << 10
MORE_THAN_FITS = 256 << 20  # what sockets may hold anywhere


class Relay:
    """The relay with a service each of two listeners, and how to have a connection through it."""

    def __init__(self, stack):
        self.listeners = {}
        for name in ("one", "two"):
            listener = self.listeners[name] = stack.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            listener.settimeout(PATIENCE_S)
        command = [PROGRAM, "127.0.0.1", *(f"{name}={one.getsockname()[1]}" for name, one in self.listeners.items())]
        self.process = stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        stack.callback(self.process.kill)
        self.ports = json.loads(self.process.stdout.readline())

    def connect(self, stack, name="one"):
        """(the client's socket, the server's)."""
        client = stack.enter_context(socket.socket())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        client.settimeout(PATIENCE_S)
        client.connect(("127.0.0.1", self.ports[name]))
        server = stack.enter_context(self.listeners[name].accept()[0])
        server.settimeout(PATIENCE_S)
        return client, server


def same(found, expected):
    assert found == expected, f"{found!r}, not {expected!r}"


def exchange(client, server):
    for sender, receiver in ((client, server), (server, client)):
        sender.sendall(b"x")
        same(receiver.recv(10), b"x")


def fill(client):
    """Sends until nothing more is taken; how many bytes that were."""
    block = bytes(range(256)) * 256
    sent = 0
    client.setblocking(False)
    while sent < MORE_THAN_FITS and select.select([], [client], [], 0.2)[1]:
        with contextlib.suppress(BlockingIOError):
            sent += client.send(block[sent % 256:])
    client.settimeout(PATIENCE_S)
    return sent


def drain(server):
    """How many bytes there are up to the end; they count from 0 to 255 again and again."""
    received = 0
    expected = bytes(range(256)) * 258
    while data := server.recv(BUFFER):
        at = received % 256
        assert data == expected[at:at + len(data)], f"other bytes than were sent, after {received}"
        received += len(data)
    return received


def test_services(relay, stack):
    same(sorted(relay.ports), ["one", "two"])
    for name in relay.ports:
        exchange(*relay.connect(stack, name))


def test_half_close(relay, stack):
    for a, b in (relay.connect(stack), relay.connect(stack)[::-1]):
        a.sendall(b"question")
        a.shutdown(socket.SHUT_WR)
        same(b.makefile("rb").read(), b"question")
        b.sendall(b"answer")
        b.shutdown(socket.SHUT_WR)
        same(a.makefile("rb").read(), b"answer")


def test_who_takes_nothing(relay, stack):
    """Stops the one who sends to it, nobody else, and gets every byte in the end."""
    client, server = relay.connect(stack)
    sent = fill(client)
    assert sent < MORE_THAN_FITS, "the relay takes what nobody wants"
    exchange(*relay.connect(stack))
    server.sendall(b"x")
    same(client.recv(10), b"x")
    client.shutdown(socket.SHUT_WR)
    same(drain(server), sent)


def test_both_take_nothing(relay, stack):
    both = relay.connect(stack)
    sent = [fill(one) for one in both]
    for one in both:
        one.shutdown(socket.SHUT_WR)
    same([drain(one) for one in both[::-1]], sent)


def test_reset(relay, stack):
    """Also by one who is not read from at the moment, or who takes nothing."""
    for is_full in (False, True):
        for by_client in (False, True):
            client, server = relay.connect(stack)
            if is_full:
                fill(client)
            gone, other = (client, server) if by_client else (server, client)
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            gone.close()
            with contextlib.suppress(ConnectionResetError):
                drain(other)
            exchange(*relay.connect(stack))


def test_end(relay, _):
    relay.process.stdin.close()
    same(relay.process.wait(PATIENCE_S), 0)


def main():
    tests = [(name, function) for name, function in globals().items() if name.startswith("test_")]
    print(f"1..{len(tests)}")
    failed = 0
    for i, (name, function) in enumerate(tests, 1):
        try:
            with contextlib.ExitStack() as stack:
                function(Relay(stack), stack)
            print(f"ok {i} {name[5:]}")
        except Exception:
            failed += 1
            print(f"not ok {i} {name[5:]}")
            print("\n".join("# " + text for text in traceback.format_exc().splitlines()))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
