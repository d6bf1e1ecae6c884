# SPDX-License-Identifier: Apache-2.0
"""Streams of 8-byte counters over TCP, and numbered datagrams over UDP."""
import contextlib
import os
import re
import socket
import subprocess

from .helper import TOOLS
from .ns import listener
from .util import Thread, counters

CHUNK = 1 << 17
MIB = 1 << 20


def send_counters(sock, n_bytes):
    sent = 0
    while sent < n_bytes:
        size = min(CHUNK, n_bytes - sent)
        sock.sendall(counters(sent, size))
        sent += size
    sock.shutdown(socket.SHUT_WR)


def recv_counters(sock, n_bytes):
    """Reads to the end of the stream and compares every byte."""
    got = 0
    rest = b""
    while True:
        data = sock.recv(CHUNK)
        if not data:
            break
        data = rest + data
        whole = len(data) & ~7
        assert data[:whole] == counters(got, whole), f"wrong content after byte {got}"
        got += whole
        rest = data[whole:]
    assert rest == counters(got, len(rest))
    assert got + len(rest) == n_bytes, f"{got + len(rest)} bytes of {n_bytes} arrived"


def transfer(near, far, n_bytes=MIB):
    """From one connected socket to the other and back, one direction after the other."""
    for source, sink in ((near, far), (far, near)):
        reader = Thread(recv_counters, sink, n_bytes)
        send_counters(source, n_bytes)
        reader.result(deadline=600)


class Streams:
    """`stream` of tests/support at work: jobs are (kind, socket, number of bytes)."""

    def __init__(self, *jobs):
        self.process = subprocess.Popen(
            [os.path.join(TOOLS, "stream"),
             *(f"{kind}:{sock.fileno()}:{n_bytes}" for kind, sock, n_bytes in jobs)],
            pass_fds=[sock.fileno() for _, sock, _ in jobs],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def result(self, deadline=1800):
        """What it has printed."""
        try:
            out, err = self.process.communicate(timeout=deadline)
        except BaseException:
            self.close()
            raise
        assert self.process.returncode == 0, err
        return out

    def close(self):
        self.process.kill()  # its jobs die with it
        self.process.communicate()

    def __enter__(self):
        return self

    def __exit__(self, *what):
        if self.process.poll() is None:
            self.close()


def stream(source, sink, n_bytes, deadline=1800):
    """One direction, every byte compared by a program that is faster than we are."""
    return Streams(("recv", sink, n_bytes), ("send", source, n_bytes)).result(deadline)


class Connections:
    """`connections` of tests/support in a world."""

    def __init__(self, world, *args):
        self.process = world.popen([os.path.join(TOOLS, "connections"), *args], text=True,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)

    def line(self):
        text = self.process.stdout.readline()
        assert text, self.process.communicate()[1]
        return text.strip()

    def numbers(self):
        """The numbers of the next line."""
        return [int(word) for word in re.findall(r"\d+", self.line())]

    def again(self):
        """`hold` asks all of its connections once more."""
        self.process.stdin.write("again\n")
        self.process.stdin.flush()
        return self.numbers()

    def end(self):
        """It ends by itself, or with its standard input."""
        _, err = self.process.communicate(timeout=600)
        assert self.process.returncode == 0, err

    def __enter__(self):
        return self

    def __exit__(self, *what):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@contextlib.contextmanager
def answering(world, address="127.0.0.1", port=20000, n_ports=1):
    """A server that answers words on a range of ports; see connections.c."""
    with Connections(world, "serve", address, port, n_ports) as server:
        assert server.line() == "ready"
        yield server
        server.end()


def connected(client_world, server_world, listen_address, dial_address, dial_port=None):
    """A TCP connection from client_world to a listener of server_world; both ends."""
    with listener(server_world, listen_address) as (server, port):
        family = socket.AF_INET6 if ":" in dial_address else socket.AF_INET
        client = client_world.socket(family)
        client.connect((dial_address, dial_port or port))
        far, _ = server.accept()
        far.settimeout(client.gettimeout())
        return client, far


def outbound(container, host, n_bytes=MIB, listen_address="127.0.0.1", dial_address="10.0.2.2"):
    """A transfer over a connection that the container opens."""
    near, far = connected(container, host.user, listen_address, dial_address)
    with near, far:
        transfer(near, far, n_bytes)


def connect_errno(sock, address):
    """0 when it is connected. Linux wakes who waits a moment before the error can be read, and
    Python then takes the socket for connected."""
    try:
        sock.connect(address)
        sock.getpeername()
    except TimeoutError:
        raise
    except OSError as error:
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or error.errno
    return 0


def free_port(world, kind=socket.SOCK_STREAM):
    """A port that nothing in this world's network uses just now."""
    with world.socket(socket.AF_INET, kind) as sock:
        sock.bind(("0.0.0.0", 0))
        return sock.getsockname()[1]


def inbound(container, helper, n_bytes=MIB, **rule):
    """A transfer over a published port."""
    port = free_port(helper.host.user)
    with listener(container, "0.0.0.0") as (server, guest_port):
        rule_id = helper.forward(guest_port, port, host_addr="127.0.0.1", **rule)
        with helper.host.user.socket() as near:
            near.connect(("127.0.0.1", port))
            far, _ = server.accept()
            with far:
                far.settimeout(near.gettimeout())
                transfer(near, far, n_bytes)
    assert helper.api("remove_hostfwd", id=rule_id) == {"return": {}}


def echo_udp(sock, n_datagrams):
    for _ in range(n_datagrams):
        data, peer = sock.recvfrom(65535)
        sock.sendto(data, peer)


def ping_pong_udp(client, address, server, sizes):
    """Datagrams of the sizes there and back, content compared."""
    echo = Thread(echo_udp, server, len(sizes))
    for size in sizes:
        payload = counters(8 * size, size)
        client.sendto(payload, address)
        got, _ = client.recvfrom(65535)
        assert got == payload, f"datagram of {size} bytes came back as {len(got)}"
    echo.result()
