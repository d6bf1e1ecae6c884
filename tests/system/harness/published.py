# SPDX-License-Identifier: Apache-2.0
"""Published ports: where clients are, and whom the server in the container sees."""
import contextlib
import select
import socket
import struct

from .chain import chain
from .helper import Helper
from .ns import HOST4, HOST6, Host, listener
from .traffic import free_port
from .udp import FOUR, SIX
from .util import DEADLINE, counters, until

GUEST4 = "10.0.2.100"
FAMILIES = {"ipv4": FOUR, "ipv6": SIX}
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close() is a reset


def guest6_of(container, tap="tap0"):
    """The container's global IPv6 address."""
    container.wait_ipv6(tap)
    words = container.run("ip", "-6", "-o", "address", "show", "dev", tap, "scope",
                          "global").stdout.split()
    return words[words.index("inet6") + 1].split("/")[0]


class Place:
    """A host, a host beside it (`far`), a container, and its helper."""

    def __init__(self, host, far, container, helper):
        self.host, self.far, self.container, self.helper = host, far, container, helper
        self.guest = {FOUR: GUEST4, SIX: guest6_of(container)}

    def client(self, where, family):
        """(world, the address that it has, the address that it dials)"""
        if where == "local":
            return self.host.user, family.loopback, family.loopback
        if where == "other":  # this host, by another of its addresses
            own = HOST6 if family is SIX else HOST4
            return self.host.user, own, own
        own, near = self.far.addresses(family.any)
        return self.far, own, near

    def publish(self, family, guest_port, proto="tcp", host_port=None, guest_addr=None,
                host_addr=None, **arguments):
        """A rule for every address of a family, unless it is told other things; (id, port)"""
        kind = socket.SOCK_STREAM if proto == "tcp" else socket.SOCK_DGRAM
        port = host_port or free_port(self.host.user, kind)
        rule = self.helper.forward(
            guest_port, port, proto + ("6" if family is SIX else ""),
            host_addr=host_addr or family.any, guest_addr=guest_addr or self.guest[family],
            **arguments)
        return rule, port

    @contextlib.contextmanager
    def published(self, *args, **kwargs):
        """publish() for a while; yields the port."""
        rule, port = self.publish(*args, **kwargs)
        try:
            yield port
        finally:
            assert self.helper.api("remove_hostfwd", id=rule) == {"return": {}}


@contextlib.contextmanager
def place_of(*options, **kwargs):
    """One that is shared by tests: with IPv6, and the container's address is known at once."""
    host = Host()
    one = None
    try:
        container = host.container()
        container.shell("echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad", check=False)
        with chain(host, 1500) as (far,):
            one = Helper(host, ["--configure", "--enable-ipv6", *options],
                         [container.pid, "tap0"], **kwargs)
            yield Place(host, far, container, one)
            one.stop()
    finally:
        if one:
            one.discard()
        host.close()


class Cell:
    """One combination of the matrix."""

    def __init__(self, place, path, family, where):
        self.place, self.path, self.where = place, path, where
        self.family = FAMILIES[family]
        self.world, self.address, self.dialled = place.client(where, self.family)
        self.guest = place.guest[self.family]

    def seen(self, port):
        """What the server must see of a client with this port; port None: any."""
        by_splice = self.path == "splice" or self.path == "auto" and self.where == "local"
        if by_splice:
            return self.guest, None
        return (self.family.gateway if self.where == "local" else self.address), port

    def check_seen(self, name, client):
        address, port = self.seen(client.getsockname()[1])
        assert name[0] == address, f"the server sees {name}, not {address}"
        assert port is None or name[1] == port, f"the server sees {name}, not port {port}"

    @contextlib.contextmanager
    def served(self, listen_address=None, **arguments):
        """(listening socket in the container, port of the host that leads to it)"""
        with listener(self.place.container, listen_address or self.family.any) as (server, guest_port):
            server.settimeout(DEADLINE)
            with self.place.published(self.family, guest_port, path=self.path, **arguments) as port:
                yield server, port

    def dial(self, port):
        client = self.world.socket(self.family.family)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.connect((self.dialled, port))
        return client

    @contextlib.contextmanager
    def connection(self, **arguments):
        """Both ends of a connection: the client's, and the server's in the container."""
        with self.served(**arguments) as (server, port), self.dial(port) as near:
            far, name = server.accept()
            with far:
                far.settimeout(DEADLINE)
                far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.check_seen(name, near)
                yield near, far

    @contextlib.contextmanager
    def datagrams(self):
        """(client, which is connected to the published port; server in the container)"""
        with self.family.socket(self.place.container, self.family.any) as server, \
                self.family.socket(self.world, self.address) as client:
            with self.place.published(self.family, server.getsockname()[1], "udp",
                                      path=self.path) as port:
                client.connect((self.dialled, port))
                yield client, server


def exchange(host, address, port, server):
    """A client and the server that it gets to; the address that the server sees."""
    with host.user.socket() as client:
        client.connect((address, port))
        far, peer = server.accept()
        with far:
            far.settimeout(DEADLINE)
            client.sendall(b"question")
            assert far.recv(100) == b"question"
            far.sendall(b"answer")
            assert client.recv(100) == b"answer"
    return peer[0]


def reset(sock):
    """Closes it with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


def is_reset(sock):
    """Waits for the end of a connection and tells of which kind it was."""
    try:
        while sock.recv(65536):
            pass
        return False
    except (ConnectionResetError, BrokenPipeError):
        return True


def fill(sock, most, quiet_s=0.3):
    """Sends counters until nothing is taken any more for a while; how many bytes were."""
    sent = 0
    sock.setblocking(False)
    while sent < most and select.select([], [sock], [], quiet_s)[1]:
        with contextlib.suppress(BlockingIOError):
            first = sent & ~7
            sent += sock.send(counters(first, 1 << 18)[sent - first:])
    sock.settimeout(DEADLINE)
    return sent


def is_refused(dial):
    """A connection by dial() ends in a reset, which may overtake the news that it is there."""
    try:
        client = dial()
    except ConnectionResetError:
        return True
    with client:
        return is_reset(client)


def entry_of(helper, rule):
    """The entry of a rule in the list."""
    return next(entry for entry in helper.api("list_hostfwd")["entries"] if entry["id"] == rule)


def wait_entry(helper, rule, what, **wanted):
    def matches():
        entry = entry_of(helper, rule)
        return all(entry.get(key) == value for key, value in wanted.items())
    until(matches, what)
