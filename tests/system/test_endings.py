# SPDX-License-Identifier: Apache-2.0
"""How connections fail and end. The measure is the host's own TCP: each case is played once on the
host's loopback, or by the host itself, and must look the same to the container and its peer."""
import errno
import os
import select
import socket

import pytest

from harness.ns import HOST4, HOST6, Held, listener
from harness.traffic import MIB, connect_errno, connected, recv_counters, send_counters
from harness.util import DEADLINE, Thread, until

FAMILIES = {"ipv4": ("127.0.0.1", "10.0.2.2"), "ipv6": ("::1", "fd00::2")}
RESET = b"\1\0\0\0\0\0\0\0"  # struct linger: on, 0 seconds


def ends_of(host, container=None, family="ipv4"):
    """(near, far): through the helper, or on the host's loopback without a container."""
    inside, gateway = FAMILIES[family]
    if container is None:
        return connected(host.user, host.user, inside, inside)
    return connected(container, host.user, inside, gateway)


def name_of(error):
    return errno.errorcode[error]


def wait_for(sock, events):
    poll = select.poll()
    poll.register(sock, events)
    assert poll.poll(DEADLINE * 1000), "nothing is seen on the other side"


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


def seen_by(sock):
    """What a reader finds until the end or an error; then what a writer finds."""
    seen = []
    try:
        while data := sock.recv(65536):
            seen.append(data)
        seen = [b"".join(seen), "end"]
    except OSError as error:
        seen = [b"".join(seen), name_of(error.errno)]
    return seen


def exchange(one, other):
    """Both know that the connection stands, and all is acknowledged."""
    for source, sink in ((one, other), (other, one)):
        source.sendall(b"x" * 1000)
        assert sink.recv(1000, socket.MSG_WAITALL) == b"x" * 1000


# --- one resets, what does the other see? Each takes (one, other) and returns what was seen.

def reset_at_once(one, other):
    reset(one)
    wait_for(other, select.POLLERR)
    return seen_by(other)


def reset_after_data(one, other):
    exchange(one, other)
    reset(one)
    wait_for(other, select.POLLERR)
    return seen_by(other)


def reset_after_own_end(one, other):
    """The other has read the end when the reset comes."""
    one.shutdown(socket.SHUT_WR)
    assert other.recv(1) == b""
    reset(one)
    wait_for(other, select.POLLERR)
    return [name_of(other.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)), seen_by(other)]


def reset_after_the_others_end(one, other):
    other.shutdown(socket.SHUT_WR)
    assert one.recv(1) == b""
    reset(one)
    wait_for(other, select.POLLERR)
    return seen_by(other)


def closed_with_unread_data(one, other):
    """What a close is when the program has not read all: RFC 2525 2.17."""
    exchange(one, other)
    other.sendall(b"unread")
    wait_for(one, select.POLLIN)
    one.close()
    wait_for(other, select.POLLERR)
    return seen_by(other)


def closed_then_written_to(one, other):
    """An ordinary close; the other goes on writing."""
    one.close()
    assert other.recv(1) == b""
    other.sendall(b"x")
    wait_for(other, select.POLLERR)
    with pytest.raises(OSError) as caught:
        other.sendall(b"x")
        other.sendall(b"x")
    return name_of(caught.value.errno)


def reset_under_load(one, other):
    """While more waits for the other than all buffers hold. It reads what had come, then hears."""
    fill(one)
    reset(one)
    return seen_by(other)[1]


def fill(sock):
    sock.setblocking(False)
    try:
        while True:
            wait = select.poll()
            wait.register(sock, select.POLLOUT)
            if not wait.poll(300):  # so long nothing moves: all buffers are full
                return
            sock.send(bytes(MIB))
    finally:
        sock.settimeout(DEADLINE)


def cases():
    for case in (reset_at_once, reset_after_data, reset_after_own_end, reset_after_the_others_end,
                 closed_with_unread_data, closed_then_written_to, reset_under_load):
        for by in ("container", "host"):
            # libslirp passes on no reset of the container's, and of the host's only these
            same = by == "host" and case in (reset_at_once, reset_after_data,
                                             reset_after_the_others_end, closed_with_unread_data)
            yield pytest.param(case, by, id=f"{case.__name__}-{by}",
                               marks=[] if same else [pytest.mark.relay_only])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("case,by", cases())
def test_reset_as_on_loopback(host, container, helper, case, by, family):
    one = helper("--mtu=65520", "--enable-ipv6")
    if family == "ipv6":
        container.wait_ipv6()
    saw = []
    for near, far in (ends_of(host, None, family), ends_of(host, container, family)):
        with near, far:
            saw.append(case(near, far) if by == "container" else case(far, near))
    assert saw[0] == saw[1]
    until(lambda: not tcp_sockets(one), "the relay has no socket left")


def tcp_sockets(one):
    """The relay's TCP sockets, by their inodes."""
    inodes = set()
    for name in os.listdir(f"/proc/{one.pid}/fd"):
        try:
            link = os.readlink(f"/proc/{one.pid}/fd/{name}")
        except FileNotFoundError:
            continue
        if link.startswith("socket:["):
            inodes.add(link[8:-1])
    found = []
    for table in ("tcp", "tcp6"):
        with open(f"/proc/{one.pid}/net/{table}", encoding="ascii") as file:
            found += [line for line in file.readlines()[1:] if line.split()[9] in inodes]
    return found


# --- half-closes

@pytest.mark.parametrize("first", ["container", "host"])
def test_long_answer_after_the_end_of_the_request(host, container, helper, first):
    helper("--mtu=65520")
    near, far = ends_of(host, container)
    one, other = (near, far) if first == "container" else (far, near)
    with near, far:
        reader = Thread(recv_counters, other, MIB)
        send_counters(one, MIB)
        reader.result()
        reader = Thread(recv_counters, one, 16 * MIB)
        send_counters(other, 16 * MIB)
        reader.result()


@pytest.mark.parametrize("first", ["container", "host"])
def test_end_follows_the_last_byte(host, container, helper, first):
    """The writer has closed long before the reader begins."""
    helper("--mtu=65520")
    near, far = ends_of(host, container)
    one, other = (near, far) if first == "container" else (far, near)
    with other:
        with one:
            send_counters(one, 256 * 1024)
        recv_counters(other, 256 * 1024)


def test_both_end_at_once(host, container, helper):
    one = helper()
    for _ in range(50):
        near, far = ends_of(host, container)
        with near, far:
            near.shutdown(socket.SHUT_WR)
            far.shutdown(socket.SHUT_WR)
            assert near.recv(1) == b"" and far.recv(1) == b""
    until(lambda: not tcp_sockets(one), "the relay has no socket left")


# --- connections that fail

class Router(Held):
    """A router one hop away from the host, which answers for the rest of the world."""

    def __init__(self, host):
        super().__init__(host.root, "net", 0, lambda pid: [
            *host.root.prefix, "nsenter", "-t", str(pid), "-n", "--"])
        host.add(self)
        host.root.shell(f"""
            ip link set ext1 netns {self.pid}
            ip link set ext0 up
            ip route replace default via 192.0.2.1
            ip -6 route replace default via 2001:db8::1
            for f in /proc/sys/net/ipv[46]/neigh/ext0/retrans_time_ms; do
                echo 100 >$f || : # a neighbour that is not there is given up sooner
            done""")
        self.shell("""
            ip link set lo up
            ip link set ext1 up
            ip address add 192.0.2.1/24 dev ext1
            ip -6 address add 2001:db8::1/64 dev ext1 nodad
            echo 1 >/proc/sys/net/ipv4/ip_forward
            echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
            echo 0 >/proc/sys/net/ipv4/icmp_ratelimit
            echo 0 >/proc/sys/net/ipv4/icmp_ratemask
            echo 0 >/proc/sys/net/ipv6/icmp/ratelimit
            echo >/proc/sys/net/ipv6/icmp/ratemask || : # since Linux 5.3
            for t in unreachable:1 prohibit:2 throw:3 blackhole:4; do
                ip route add ${t%:*} 198.51.100.${t#*:}
                ip -6 route add ${t%:*} 2001:db8:1::${t#*:}
            done""")
        host.root.shell("""
            for t in unreachable:1 prohibit:2 throw:3 blackhole:4; do
                ip route add ${t%:*} 203.0.113.${t#*:}
                ip -6 route add ${t%:*} 2001:db8:2::${t#*:}
            done""")


@pytest.fixture
def routed(host):
    if host.root.run("test", "-w", "/proc/sys/net/ipv4/ip_forward", check=False).returncode != 0:
        pytest.skip("routes of a private host cannot be set up here")
    return Router(host)


# Who says no: the router (198.51.100.0/24, 2001:db8:1::/64) or the host's own routes.
FAILURES = {
    "refused": (HOST4, HOST6),
    "router-host-unreachable": ("198.51.100.1", "2001:db8:1::1"),
    "router-prohibited": ("198.51.100.2", "2001:db8:1::2"),
    "router-net-unreachable": ("198.51.100.9", "2001:db8:1::9"),
    "own-host-unreachable": ("203.0.113.1", "2001:db8:2::1"),
    "own-prohibited": ("203.0.113.2", "2001:db8:2::2"),
    "own-net-unreachable": ("203.0.113.3", "2001:db8:2::3"),
    "no-neighbour": ("192.0.2.77", "2001:db8::77"),
}


def connect_error(sock, address):
    with sock:
        try:
            error = connect_errno(sock, (address, 9))
        except TimeoutError:
            return "silence"
    return name_of(error) if error else "connected"


def connect_errors(world, addresses):
    """All at once: a neighbour that is not there takes three seconds."""
    threads = {}
    for address in addresses:
        sock = world.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        threads[address] = Thread(connect_error, sock, address)
    return {address: thread.result(2 * DEADLINE) for address, thread in threads.items()}


@pytest.mark.fresh
@pytest.mark.relay_only
@pytest.mark.parametrize("family", [0, 1], ids=FAMILIES)
def test_connect_fails_as_on_the_host(host, routed, container, helper, family):
    helper("--enable-ipv6")
    container.wait_ipv6()
    names = {pair[family]: name for name, pair in FAILURES.items()}
    there, here = (connect_errors(world, names) for world in (host.user, container))
    # No ICMP error becomes EACCES; a router's prohibition is EHOSTUNREACH, too.
    if there[FAILURES["own-prohibited"][family]] == "EACCES" and family == 0:
        there[FAILURES["own-prohibited"][family]] = "EHOSTUNREACH"
    assert {names[a]: here[a] for a in here} == {names[a]: there[a] for a in there}
    assert set(here.values()) >= {"ECONNREFUSED", "ENETUNREACH", "EHOSTUNREACH"}


@pytest.mark.fresh
@pytest.mark.parametrize("address", ["198.51.100.4", "2001:db8:1::4"])
def test_silence_stays_silence(host, routed, container, helper, address):
    """Nobody answers there, so nobody answers here; until the container has enough of it."""
    one = helper("--enable-ipv6")
    container.wait_ipv6()
    with container.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as sock:
        sock.settimeout(1.5)  # the container's kernel has asked twice by then
        with pytest.raises(TimeoutError):
            sock.connect((address, 9))
        until(lambda: tcp_sockets(one), "the relay dials")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


def test_refused_at_once(host, container, helper):
    helper("--enable-ipv6")
    container.wait_ipv6()
    for inside, gateway in FAMILIES.values():
        with listener(host.user, inside) as (_, port):
            pass  # nobody listens there any more
        with container.socket(socket.AF_INET6 if ":" in inside else socket.AF_INET) as sock:
            with pytest.raises(ConnectionRefusedError):
                sock.connect((gateway, port))
