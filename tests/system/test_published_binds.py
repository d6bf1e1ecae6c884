# SPDX-License-Identifier: Apache-2.0
"""Published ports: which addresses of the host lead where, and clients whose own address is odd."""
import contextlib
import errno
import socket

import pytest

from harness.ns import HOST4, HOST6, listener
from harness.published import GUEST4, Cell, guest6_of, is_refused, place_of
from harness.traffic import MIB, free_port, transfer
from harness.udp import FOUR, SIX, family_of
from harness.util import DEADLINE

pytestmark = pytest.mark.relay_only
SECOND4, SECOND6 = "192.0.2.11", "2001:db8::11"
both_families = pytest.mark.parametrize("family", [FOUR, SIX], ids=["ipv4", "ipv6"])
both_paths = pytest.mark.parametrize("path", ["splice", "tap"])


@pytest.fixture(scope="module")
def place():
    with place_of() as made:
        made.host.root.shell(f"""
            ip address add {SECOND4}/24 dev ext0
            ip -6 address add {SECOND6}/64 dev ext0 nodad
            """)
        near4, near6 = (made.far.addresses(address)[1] for address in ("", ":"))
        made.far.shell(f"ip route add 192.0.2.0/24 via {near4}; "
                       f"ip -6 route add 2001:db8::/64 via {near6}")
        yield made


# --- the host's side

IPV4 = {"127.0.0.1", "127.0.0.2", HOST4, SECOND4}
IPV6 = {"::1", HOST6, SECOND6}
BINDS = {"127.0.0.1": {"127.0.0.1"}, "127.0.0.2": {"127.0.0.2"}, "::1": {"::1"}, HOST4: {HOST4},
         HOST6: {HOST6}, "0.0.0.0": IPV4, "::": IPV6, "*": IPV4 | IPV6}


def dial(world, address, port):
    """Connected, or None when the host itself refuses it."""
    client = world.socket(family_of(address).family)
    try:
        client.connect((address, port))
        return client
    except ConnectionRefusedError:
        client.close()
        return None


@contextlib.contextmanager
def servers(place, *addresses):
    """Listeners of the container at these addresses and one port."""
    with contextlib.ExitStack() as stack:
        made, port = {}, 0
        for address in addresses:
            sock, port = stack.enter_context(listener(place.container, address, port))
            sock.settimeout(DEADLINE)
            made[address] = sock
        yield made, port


def said_hello(client, server):
    far, name = server.accept()
    with client, far:
        far.settimeout(DEADLINE)
        client.sendall(b"hello")
        assert far.recv(100) == b"hello"
    return name


@pytest.mark.parametrize("path", ["auto", "tap"])
@pytest.mark.parametrize("bind", BINDS, ids=["lo", "lo2", "lo6", "other4", "other6", "any4", "any6",
                                             "dual"])
def test_binds(place, bind, path):
    """Each address of the host leads to the container, or is refused by the host itself."""
    six = family_of(bind) is SIX
    guest = place.guest[SIX if six else FOUR]
    with servers(place, "::" if six else "0.0.0.0") as (server, guest_port):
        server = server["::" if six else "0.0.0.0"]
        port = free_port(place.host.user)
        rule = place.helper.forward(guest_port, port, host_addr=bind, guest_addr=guest, path=path)
        reached = set()
        for address in sorted(IPV4 | IPV6):
            if client := dial(place.host.user, address, port):
                said_hello(client, server)
                reached.add(address)
        assert reached == BINDS[bind]
        place.helper.api("remove_hostfwd", id=rule)
        for address in reached:
            assert not dial(place.host.user, address, port)


@pytest.mark.parametrize("proto", ["tcp", "udp"])
def test_binds_may_stand_side_by_side(place, proto):
    """One port at several addresses: a rule each, and each leads to its own place."""
    kind = socket.SOCK_STREAM if proto == "tcp" else socket.SOCK_DGRAM
    port = free_port(place.host.user, kind)
    binds = ["127.0.0.1", "127.0.0.2", HOST4, "::1"]
    rules = [place.helper.forward(9, port, proto, host_addr=bind,
                                  guest_addr=place.guest[family_of(bind)]) for bind in binds]
    reply = place.helper.api("add_hostfwd", proto=proto, host_addr="0.0.0.0", host_port=port,
                             guest_port=9)
    assert reply["error"]["errno"] == "EADDRINUSE" and reply["error"]["port"] == port
    for rule in rules:
        place.helper.api("remove_hostfwd", id=rule)
    rule = place.helper.forward(9, port, proto, host_addr="0.0.0.0")
    place.helper.api("remove_hostfwd", id=rule)


def test_a_family_says_which_wildcard(place):
    """tcp4 and tcp6 without an address are the wildcard of theirs."""
    for proto, own, other in (("tcp4", "127.0.0.1", "::1"), ("tcp6", "::1", "127.0.0.1")):
        port = free_port(place.host.user)
        rule = place.helper.forward(9, port, proto, guest_addr=place.guest[family_of(own)])
        assert is_refused(lambda: dial(place.host.user, own, port))  # by the container
        assert not dial(place.host.user, other, port)
        place.helper.api("remove_hostfwd", id=rule)
        reply = place.helper.api("add_hostfwd", proto=proto, host_addr=other, host_port=port,
                                 guest_port=9)
        assert reply["error"]["desc"] == "bad request: add_hostfwd: bad arguments.host_addr"


# --- the container's side

@both_families
@pytest.mark.parametrize("path", ["auto", "splice", "tap"])
@pytest.mark.parametrize("service", ["loopback-only", "tap-only", "any"])
def test_services(place, family, path, service):
    """What listens on the container's loopback alone is for the container alone."""
    address = {"loopback-only": family.loopback, "tap-only": place.guest[family],
               "any": family.any}[service]
    with servers(place, address) as (server, guest_port):
        with place.published(family, guest_port, path=path) as port:
            if service == "loopback-only":
                assert is_refused(lambda: dial(place.host.user, family.loopback, port))
            else:
                said_hello(dial(place.host.user, family.loopback, port), server[address])


@both_families
@pytest.mark.parametrize("path", ["auto", "splice"])
def test_loopback_by_name(place, family, path):
    """Who names the container's loopback means it."""
    with servers(place, family.loopback) as (server, guest_port):
        with place.published(family, guest_port, path=path, guest_addr=family.loopback) as port:
            name = said_hello(dial(place.host.user, family.loopback, port), server[family.loopback])
            assert name[0] == family.loopback


def test_guest_outside_the_network(place):
    """An address that the namespace routes itself, as that of a bridge of Docker's."""
    place.container.run("ip", "address", "add", "172.30.0.1/32", "dev", "lo")
    with servers(place, "172.30.0.1") as (server, guest_port):
        for path in ("splice", "tap"):
            with place.published(FOUR, guest_port, path=path, guest_addr="172.30.0.1") as port:
                said_hello(dial(place.host.user, "127.0.0.1", port), server["172.30.0.1"])


def test_ipv6_client_of_an_ipv4_guest(place):
    """It has no address there that it could be shown as."""
    with servers(place, "0.0.0.0") as (server, guest_port):
        with place.published(FOUR, guest_port, path="tap", host_addr="*") as port:
            for where, family, seen in (("remote", SIX, "10.0.2.2"), ("local", SIX, "10.0.2.2"),
                                        ("remote", FOUR, None)):
                world, own, dialled = place.client(where, family)
                name = said_hello(dial(world, dialled, port), server["0.0.0.0"])
                assert name[0] == (seen or own)


@pytest.mark.dad
def test_ipv6_guest_that_is_not_named(host, container, helper):
    """It is the address at which the container was last seen; nobody has been asked for it."""
    one = helper("--enable-ipv6")
    port = free_port(host.user)
    container.wait_ipv6()
    guest = guest6_of(container)
    with listener(container, guest) as (server, guest_port):
        one.forward(guest_port, port, "tcp6", host_addr="::1")
        said_hello(dial(host.user, "::1", port), server)


def test_ipv6_without_a_guest(helper):
    """Without IPv6 there is no address to lead to."""
    one = helper()
    reply = one.api("add_hostfwd", proto="tcp6", host_addr="::1",
                    host_port=free_port(one.host.user), guest_port=80)
    assert reply["error"]["field"] == "guest_addr", reply
    assert one.api("list_hostfwd")["entries"] == []


# --- replies leave from the address that the client spoke to

@both_families
@both_paths
@pytest.mark.parametrize("where", ["local", "remote"])
def test_two_addresses(place, family, path, where):
    """Of a host with several, over TCP and UDP; clients in between do not mix them up."""
    world, own, dialled = place.client(where, family)
    theirs = [dialled, HOST6, SECOND6] if family is SIX else [dialled, HOST4, SECOND4]
    with family.socket(place.container, family.any) as server, family.socket(world, own) as client:
        with place.published(family, server.getsockname()[1], "udp", path=path) as port:
            for address in theirs * 2:
                client.sendto(b"to " + address.encode(), (address, port))
                data, name = server.recvfrom(100)
                assert data == b"to " + address.encode()
                server.sendto(data, name)
                assert client.recvfrom(100)[1][:2] == (address, port)
    with servers(place, family.any) as (server, guest_port):
        with place.published(family, guest_port, path=path) as port:
            for address in theirs:
                said_hello(dial(world, address, port), server[family.any])


# --- clients with odd addresses

@pytest.fixture
def neighbour(place):
    """A client in a network that has the addresses of the container's."""
    place.host.root.shell("""
        ip address add 10.0.2.1/24 dev down0
        ip -6 address add fd00::1/64 dev down0 nodad
        """)
    place.far.shell("""
        ip address add 10.0.2.50/24 dev up0
        ip address add 10.0.2.100/24 dev up0
        ip -6 address add fd00::50/64 dev up0 nodad
        """)
    yield place.far
    place.host.root.shell("ip address del 10.0.2.1/24 dev down0; ip -6 address del fd00::1/64 dev down0")
    place.far.shell("""
        ip address del 10.0.2.50/24 dev up0
        ip address del 10.0.2.100/24 dev up0 2>/dev/null || :
        ip -6 address del fd00::50/64 dev up0
        """)


@pytest.mark.parametrize("own,seen", [("10.0.2.50", "10.0.2.50"), (GUEST4, "10.0.2.2"),
                                      ("fd00::50", "fd00::50")])
def test_client_of_the_containers_own_network(place, neighbour, own, seen):
    """It is on the link for the container, which asks for its Ethernet address; the container's own
    address would be a martian."""
    family = family_of(own)
    near = "fd00::1" if family is SIX else "10.0.2.1"
    with servers(place, family.any) as (server, guest_port):
        with place.published(family, guest_port, path="tap") as port:
            with neighbour.socket(family.family) as client:
                client.bind((own, 0))
                client.connect((near, port))
                far, name = server[family.any].accept()
                assert name[0] == seen
                with far:
                    far.settimeout(DEADLINE)
                    transfer(client, far, MIB)
    with family.socket(place.container, family.any) as server, family.socket(neighbour, own) as client:
        with place.published(family, server.getsockname()[1], "udp", path="tap") as port:
            client.sendto(b"hello", (near, port))
            data, name = server.recvfrom(100)
            assert (data, name[0]) == (b"hello", seen)
            server.sendto(b"answer", name)
            assert client.recv(100) == b"answer"


def link_local(world, name):
    words = world.run("ip", "-6", "-o", "address", "show", "dev", name, "scope", "link").stdout.split()
    return words[words.index("inet6") + 1].split("/")[0]


def index_of(world, name):
    return int(world.run("ip", "-o", "link", "show", "dev", name).stdout.split(":")[0])


def test_link_local_client(place):
    """Its address has a scope that the container does not share."""
    near, scope = link_local(place.host.root, "down0"), index_of(place.far, "up0")
    with servers(place, "::") as (server, guest_port):
        with place.published(SIX, guest_port, path="tap") as port:
            with place.far.socket(socket.AF_INET6) as client:
                client.connect((near, port, 0, scope))
                far, name = server["::"].accept()
                with far:
                    far.settimeout(DEADLINE)
                    assert name[0] == "fd00::2"
                    transfer(client, far, 100_000)
    with SIX.socket(place.container, "::") as server, place.far.socket(
            socket.AF_INET6, socket.SOCK_DGRAM) as client:
        with place.published(SIX, server.getsockname()[1], "udp", path="tap") as port:
            client.connect((near, port, 0, scope))
            client.send(b"hello")
            data, name = server.recvfrom(100)
            assert (data, name[0]) == (b"hello", "fd00::2")
            server.sendto(b"answer", name)
            assert client.recv(100) == b"answer"


@both_families
def test_one_client_port_to_two_ports(place, family):
    """Both lead to one port of the container: the second connection has another port there."""
    world, own, dialled = place.client("remote", family)
    with servers(place, family.any) as (server, guest_port), \
            place.published(family, guest_port, path="tap") as one_port, \
            place.published(family, guest_port, path="tap") as other_port, \
            world.socket(family.family) as one, world.socket(family.family) as other:
        for client in (one, other):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((own, 0))
        one.connect((dialled, one_port))
        other.bind((own, one.getsockname()[1]))
        other.connect((dialled, other_port))
        pairs = [server[family.any].accept() for _ in range(2)]
        with pairs[0][0], pairs[1][0]:
            assert [name[0] for _, name in pairs] == [own, own]
            ports = {name[1] for _, name in pairs}
            assert len(ports) == 2 and one.getsockname()[1] in ports
            for number, client in enumerate((one, other)):
                client.sendall(b"%d" % number)
            assert {far.recv(10) for far, _ in pairs} == {b"0", b"1"}


@both_families
@pytest.mark.parametrize("first", ["client", "server"])
def test_a_port_that_is_used_again(place, family, first):
    """At once, while the container remembers the last connection (TIME_WAIT), or the host does."""
    world, own, dialled = place.client("remote", family)
    with servers(place, family.any) as (server, guest_port):
        with place.published(family, guest_port, path="tap") as port:
            client_port = 0
            for _ in range(5):
                with world.socket(family.family) as client:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    client.bind((own, client_port))
                    try:
                        client.connect((dialled, port))
                    except OSError as error:  # our own kernel's TIME_WAIT
                        assert first == "client" and error.errno == errno.EADDRNOTAVAIL
                        return
                    client_port = client.getsockname()[1]
                    far, name = server[family.any].accept()
                    with far:
                        far.settimeout(DEADLINE)
                        assert name[0] == own
                        # what ended first here is remembered here: another port then
                        assert name[1] == client_port or first == "client"
                        client.sendall(b"hello")
                        assert far.recv(10) == b"hello"
                        one, other = (client, far) if first == "client" else (far, client)
                        one.shutdown(socket.SHUT_WR)
                        assert other.recv(1) == b""
                        other.shutdown(socket.SHUT_WR)
                        assert one.recv(1) == b""


def test_who_is_seen_does_not_depend_on_the_rule_before(place):
    """Rules of both paths at once, and clients that take turns."""
    cells = [Cell(place, path, family, "remote") for path in ("splice", "tap")
             for family in ("ipv4", "ipv6")]
    with contextlib.ExitStack() as stack:
        served = [stack.enter_context(one.served()) for one in cells]
        for _ in range(3):
            for one, (server, port) in zip(cells, served):
                with one.dial(port) as near:
                    far, name = server.accept()
                    with far:
                        one.check_seen(name, near)
