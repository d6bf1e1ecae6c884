# SPDX-License-Identifier: Apache-2.0
"""The DNS address: the host's resolver, whatever resolv.conf says while we run."""
import os
import shutil
import socket
import subprocess

import pytest

from harness.dns import Server, ask, query
from harness.udp import SOL_UDP, UDP_SEGMENT
from harness.util import until

relay_only = pytest.mark.relay_only
ONE, TWO = "203.0.113.1", "203.0.113.2"


@pytest.fixture
def resolver(host):
    with Server(host.root, "127.0.0.1", ONE) as server:
        yield server


@pytest.fixture
def other(host):
    """Another resolver, on 127.0.0.2."""
    with Server(host.root, "127.0.0.2", TWO) as server:
        yield server


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("options", [[], ["--disable-host-loopback"], ["--enable-sandbox"],
                                     ["--disable-host-loopback", "--enable-sandbox"]])
def test_loopback_resolver(container, helper, resolver, tcp, options):
    helper(*options)
    assert ask(container, "10.0.2.3", 7, tcp) == resolver.says


@pytest.mark.parametrize("tcp", [False, True])
def test_ipv6_resolver(host, container, helper, tcp):
    host.resolv_conf("nameserver ::1\n")
    with Server(host.root, "::1", ONE):
        helper("--enable-ipv6", "--disable-host-loopback")
        container.wait_ipv6()
        assert ask(container, "fd00::3", 8, tcp) == ONE


@relay_only
@pytest.mark.parametrize("tcp", [False, True])
def test_crosswise(host, container, helper, tcp):
    """A nameserver of one family is there for both."""
    with Server(host.root, "127.0.0.1", ONE), Server(host.root, "::1", TWO):
        helper("--enable-ipv6")
        container.wait_ipv6()
        assert ask(container, "fd00::3", 8, tcp) == ONE
        host.resolv_conf("# the other one\nnameserver ::1\n")
        until(lambda: ask(container, "10.0.2.3", 9, tcp) == TWO, "the other one is asked")


def make_fifo(path):
    os.mkfifo(path)


def make_dangling(path):
    os.symlink("nowhere", path)


def make_huge(path):
    with open(path, "w", encoding="ascii") as file:
        file.write("# nameserver 127.0.0.9\n" * 100_000 + "nameserver 127.0.0.9\n")


def make_nameless(path):
    with open(path, "w", encoding="ascii") as file:
        file.write("# nothing\n")


@relay_only
@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("make", [make_fifo, os.mkdir, make_dangling, make_huge, make_nameless, None])
def test_no_nameserver_means_loopback(host, container, helper, resolver, make, tcp):
    """Also when it becomes so."""
    host.resolv_conf("nameserver 127.0.0.9\n")
    helper()
    os.unlink(host.etc("resolv.conf"))
    if make:
        make(host.etc("resolv.conf"))
    try:
        until(lambda: ask(container, "10.0.2.3", 5, tcp, timeout=1) == resolver.says,
              "loopback is asked")
    finally:
        if os.path.isdir(host.etc("resolv.conf")):
            os.rmdir(host.etc("resolv.conf"))
        elif make and make is not os.mkdir:
            os.unlink(host.etc("resolv.conf"))


@pytest.mark.parametrize("tcp", [False, True])
def test_disabled(container, helper, resolver, tcp):
    """The address is as any other, and leads nowhere here."""
    helper("--disable-dns")
    assert ask(container, "10.0.2.3", 5, tcp, timeout=1) is None


# refuses, is silent (nobody answers ARP for it), has no route
DEAD = ["127.0.0.9", "192.0.2.77", "203.0.113.77", "2001:db8::77"]


@relay_only
@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("dead", DEAD)
def test_failover(host, container, helper, resolver, dead, tcp):
    host.resolv_conf(f"nameserver {dead}\nnameserver 127.0.0.1\n")
    one = helper()

    def failed_over():
        assert ask(container, "10.0.2.3", 7, tcp) == resolver.says
        return tcp or one.counters()["dns_failed_over"]
    until(failed_over, "the list is known, and the second one of it is asked")
    # It is remembered, whoever asks: else ten more would be counted. The living one loses its place, too,
    # for half a second without a processor.
    before = one.counters()["dns_failed_over"]
    for ident in range(10):
        assert ask(container, "10.0.2.3", ident) == resolver.says
        assert ask(container, "10.0.2.3", ident, tcp=True) == resolver.says
    assert one.counters()["dns_failed_over"] - before < 5


@relay_only
def test_all_refuse(host, container, helper):
    host.resolv_conf("nameserver 127.0.0.9\nnameserver ::1\n")
    helper("--enable-ipv6")
    container.wait_ipv6()
    for family, address in ((socket.AF_INET, "10.0.2.3"), (socket.AF_INET6, "fd00::3")):
        with container.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((address, 53))
            sock.send(query("some.example", 1))
            with pytest.raises(ConnectionRefusedError):
                sock.recv(512)
        with container.socket(family) as sock:
            with pytest.raises(ConnectionRefusedError):
                sock.connect((address, 53))


@relay_only
def test_many_at_once(container, helper, resolver):
    """Whatever they take is given back."""
    one = helper()
    before = one.descriptors()
    with container.socket(kind=socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        sock.connect(("10.0.2.3", 53))
        for ident in range(1000):
            sock.send(query("some.example", ident))
        for _ in range(100):  # what is lost on the way is UDP's affair
            assert sock.recv(512)
    until(lambda: one.descriptors() <= before, "all sockets are closed")


@relay_only
def test_run(container, helper, resolver):
    """Queries that leave the container as one frame, to be cut by the tap, are several."""
    one = helper()
    one.counters()
    queries = [query(f"{chr(97 + i) * 5}.example", i) for i in range(10)]
    with container.socket(kind=socket.SOCK_DGRAM) as sock:
        sock.connect(("10.0.2.3", 53))
        sock.setsockopt(SOL_UDP, UDP_SEGMENT, len(queries[0]))
        sock.send(b"".join(queries))
        ids = {sock.recv(512)[:2] for _ in queries}
    assert ids == {q[:2] for q in queries}
    assert one.counters()["dns_queries"] == len(queries)


@pytest.fixture
def dnsmasq(host, tmp_path):
    program = shutil.which("dnsmasq", path="/usr/sbin:/usr/bin")
    if not program or not shutil.which("dig"):
        pytest.skip("no dnsmasq or no dig")
    texts = ",".join("x" * 250 for _ in range(12))
    with host.root.popen([
            program, "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts",
            "--listen-address=127.0.0.1", "--bind-interfaces", "--user=", "--group=", "--pid-file=",
            "--edns-packet-max=4096", "--address=/some.example/203.0.113.1",
            f"--txt-record=large.example,{texts}"],
                         stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            until(lambda: ask(host.root, "127.0.0.1", timeout=1) == ONE, "dnsmasq answers")
            yield process
        finally:
            process.terminate()


@pytest.mark.parametrize("address", ["10.0.2.3", pytest.param("fd00::3", marks=relay_only)])
def test_dig(container, helper, dnsmasq, address):
    helper("--enable-ipv6")
    container.wait_ipv6()

    def dig(*words):
        return container.run("dig", "+tries=1", "+time=20", f"@{address}", *words).stdout

    assert dig("+short", "some.example").strip() == ONE
    assert dig("+short", "+tcp", "some.example").strip() == ONE
    large = dig("+bufsize=4096", "+ignore", "large.example", "TXT")
    assert "x" * 250 in large and "flags: qr aa rd ra;" in large and "udp: 4096" in large
    truncated = dig("+bufsize=512", "+ignore", "large.example", "TXT")
    assert " tc" in truncated and "x" * 250 not in truncated
    assert dig("+bufsize=512", "large.example", "TXT").count("x" * 250) == 12


def test_other_ports_of_the_dns_address_are_closed(container, helper, resolver):
    helper()
    with container.socket() as sock:
        with pytest.raises(OSError):
            sock.connect(("10.0.2.3", 54))


def rewrite(host, text):
    host.resolv_conf(text)


def rename_over(host, text):
    with open(host.etc("resolv.new"), "w", encoding="ascii") as file:
        file.write(text)
    os.rename(host.etc("resolv.new"), host.etc("resolv.conf"))


def change_link(host, text):
    """As systemd-resolved and resolvconf do: a link into /run."""
    with open(host.path("run/resolv.conf"), "w", encoding="ascii") as file:
        file.write(text)
    os.symlink("../run/resolv.conf", host.etc("resolv.new"))
    os.rename(host.etc("resolv.new"), host.etc("resolv.conf"))


def change_absolute_link(host, text):
    with open(host.path("run/resolv.abs"), "w", encoding="ascii") as file:
        file.write(text)
    os.symlink("/run/resolv.abs", host.etc("resolv.new"))
    os.rename(host.etc("resolv.new"), host.etc("resolv.conf"))


def change_link_elsewhere(host, text):
    """Out of /etc and /run, as with WSL or Nix."""
    os.makedirs(host.path("elsewhere"), exist_ok=True)
    with open(host.path("elsewhere/resolv.conf"), "w", encoding="ascii") as file:
        file.write(text)
    os.symlink(host.path("elsewhere/resolv.conf"), host.etc("resolv.new"))
    os.rename(host.etc("resolv.new"), host.etc("resolv.conf"))


# The last link leads out of what the relay's own root has: the agent follows it.
CHANGES = [rewrite, rename_over, change_link, change_absolute_link,
           pytest.param(change_link_elsewhere, marks=relay_only)]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("options", [[], ["--enable-sandbox", "--enable-seccomp"]])
def test_change_is_followed(host, container, helper, resolver, other, change, options):
    def says(number, who):
        return all(ask(container, "10.0.2.3", number, tcp) == who.says for tcp in (False, True))
    helper(*options)
    assert says(1, resolver)
    change(host, "# a longer file, so that its size differs, too\nnameserver 127.0.0.2\n")
    until(lambda: says(2, other), "the new resolver is used")
    rewrite(host, "nameserver 127.0.0.1\n")
    until(lambda: says(3, resolver), "the old one is used again")


def test_without_agent(host, container, helper, resolver, other):
    """The relay looks itself, and when the agent is gone it goes on with what it knows."""
    helper("--disable-feature=agent", "--enable-sandbox")
    assert ask(container, "10.0.2.3") == resolver.says
    rename_over(host, "nameserver 127.0.0.2\n")
    until(lambda: ask(container, "10.0.2.3") == other.says, "the new resolver is used")


@relay_only
def test_agent_is_killed(host, container, helper, resolver, other):
    one = helper()
    assert ask(container, "10.0.2.3") == resolver.says
    os.kill(one.agent(), 9)
    until(lambda: "agent is gone" in one.stderr(), "the relay has noticed")
    rename_over(host, "nameserver 127.0.0.2\n")
    for tcp in (False, True):
        assert ask(container, "10.0.2.3", 4, tcp) == resolver.says


def test_change_behind_a_link(host, container, helper, resolver, other):
    """The link stays, its target is replaced."""
    change_link(host, "nameserver 127.0.0.1\n")
    helper("--enable-sandbox", "--enable-seccomp")
    assert ask(container, "10.0.2.3") == resolver.says
    with open(host.path("run/new"), "w", encoding="ascii") as file:
        file.write("# longer\nnameserver 127.0.0.2\n")
    os.rename(host.path("run/new"), host.path("run/resolv.conf"))
    until(lambda: ask(container, "10.0.2.3") == other.says, "the new resolver is used")


@pytest.mark.parametrize("rubbish", ["", "nameserver\n", "nameserver x.y.z\n", "\0\0\0",
                                     "n" * 9000],
                         ids=["empty", "no address", "no number", "zeros", "long"])
def test_rubbish_in_resolv_conf(host, container, helper, resolver, rubbish):
    helper("--enable-sandbox")
    assert ask(container, "10.0.2.3") == resolver.says
    host.resolv_conf(rubbish)
    ask(container, "10.0.2.3", timeout=1)  # answered or not: it must live on
    host.resolv_conf("# well again\nnameserver 127.0.0.1\n")
    until(lambda: ask(container, "10.0.2.3") == resolver.says, "the resolver is used again")
