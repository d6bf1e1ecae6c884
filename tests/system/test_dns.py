# SPDX-License-Identifier: Apache-2.0
"""The DNS address: the host's resolver, whatever resolv.conf says while we run."""
import os

import pytest

from harness.dns import Server, ask
from harness.helper import libslirp_version
from harness.util import until

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


def test_no_nameserver_means_loopback(host, container, helper, resolver):
    if libslirp_version() < (4, 8):
        pytest.skip("libslirp before 4.8 has no such default")
    host.resolv_conf("# nothing\n")
    helper()
    assert ask(container, "10.0.2.3") == resolver.says


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


@pytest.mark.parametrize("change", [rewrite, rename_over, change_link, change_absolute_link])
@pytest.mark.parametrize("options", [[], ["--enable-sandbox", "--enable-seccomp"]])
def test_change_is_followed(host, container, helper, resolver, other, change, options):
    helper(*options)
    assert ask(container, "10.0.2.3") == resolver.says
    change(host, "# a longer file, so that its size differs, too\nnameserver 127.0.0.2\n")
    until(lambda: ask(container, "10.0.2.3") == other.says, "the new resolver is used")
    rewrite(host, "nameserver 127.0.0.1\n")
    until(lambda: ask(container, "10.0.2.3") == resolver.says, "the old one is used again")


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
