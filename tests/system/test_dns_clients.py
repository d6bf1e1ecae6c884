# SPDX-License-Identifier: Apache-2.0
"""dig and dnsperf against dnsmasq through the helper."""
import re
import shutil
import socket

import pytest

from harness.util import until

ADDRESS, NAME = "192.0.2.99", "some.example"


@pytest.fixture
def dnsmasq(host):
    if not shutil.which("dnsmasq"):
        pytest.skip("dnsmasq is not installed")
    with host.root.popen([
            "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts",
            "--listen-address=127.0.0.1", "--bind-interfaces", f"--address=/example/{ADDRESS}",
            "--txt-record=long.example," + ",".join(["x" * 250] * 6), "--edns-packet-max=4096",
            "--cache-size=0"], stderr=-3) as server:
        try:
            until(lambda: is_taken(host), "dnsmasq listens")
            yield
        finally:
            server.kill()


def is_taken(host):
    with host.root.socket(kind=socket.SOCK_STREAM) as sock:
        return sock.connect_ex(("127.0.0.1", 53)) == 0


def dig(container, *words):
    return container.run("dig", "@10.0.2.3", "+tries=1", "+timeout=20", *words).stdout


@pytest.mark.parametrize("options", [[], ["--disable-host-loopback", "--enable-sandbox",
                                          "--enable-seccomp"]], ids=["open", "sandboxed"])
@pytest.mark.parametrize("words", [[], ["+tcp"], ["+noedns"]], ids=["udp", "tcp", "noedns"])
def test_dig(container, helper, dnsmasq, options, words):
    if not shutil.which("dig"):
        pytest.skip("dig is not installed")
    helper(*options)
    assert dig(container, "+short", NAME, *words).split() == [ADDRESS]


def test_sizes_and_truncation_are_the_clients(container, helper, dnsmasq):
    """A long answer is cut at what the client takes, and comes whole when it asks for more."""
    if not shutil.which("dig"):
        pytest.skip("dig is not installed")
    helper()
    cut = dig(container, "+noedns", "+ignore", "long.example", "TXT")
    assert re.search(r"flags:[^;]* tc", cut), cut
    for words in (["+bufsize=4096", "+ignore"], ["+tcp"], ["+noedns"]):
        whole = dig(container, *words, "long.example", "TXT")
        assert whole.count("x" * 250) == 6 and not re.search(r"flags:[^;]* tc", whole), whole


def test_dnsperf(host, container, helper, dnsmasq):
    """10,000 queries, so few at a time that no socket's queue is too short, each answered."""
    if not shutil.which("dnsperf"):
        pytest.skip("dnsperf is not installed")
    one = helper()
    path = host.path("names")
    with open(path, "w", encoding="ascii") as file:
        file.write("".join(f"host{i}.example A\n" for i in range(1000)))
    before = one.descriptors()
    done = container.run("dnsperf", "-s", "10.0.2.3", "-d", path, "-n", "10", "-c", "8", "-q", "50",
                         "-t", "30", timeout=600)
    assert re.search(r"Queries completed: +10000 \(100", done.stdout), done.stdout
    assert "Response codes:       NOERROR 10000" in done.stdout, done.stdout
    until(lambda: one.descriptors() <= before + 8, "the sockets are closed again")
