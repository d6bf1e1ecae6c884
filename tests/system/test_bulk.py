# SPDX-License-Identifier: Apache-2.0
"""Large TCP transfers through the relay, every byte compared. A 64th of the sizes of the soak."""
import json
import signal

import pytest

from harness.ns import listener
from harness.traffic import MIB, Streams, connected, stream
from harness.util import until

GIB = 1024 * MIB
FAMILIES = {"ipv4": ("127.0.0.1", "10.0.2.2"), "ipv6": ("::1", "fd00::2")}
SIZES = [pytest.param(64 * MIB, id="64m"), pytest.param(4 * GIB, id="4g", marks=pytest.mark.soak)]


def connect(host, container, family="ipv4"):
    return connected(container, host.user, *FAMILIES[family])


def link_statistics(container):
    """Of the tap, as the container sees it: its tx is what goes to the helper."""
    text = container.run("ip", "-s", "-json", "link", "show", "dev", "tap0").stdout
    return json.loads(text)[0]["stats64"]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("mtu,family", [
    (576, "ipv4"), (1280, "ipv4"), (1280, "ipv6"), (1500, "ipv4"), (1500, "ipv6"), (9000, "ipv4"),
    (9000, "ipv6"), (65520, "ipv4"), (65520, "ipv6")])
def test_transfer(host, container, helper, mtu, family, direction, size):
    """IPv6 has no smaller MTU than 1280. Nothing is lost between us and the container."""
    helper(f"--mtu={mtu}", "--enable-ipv6")
    if family == "ipv6":
        container.wait_ipv6()
    near, far = connect(host, container, family)
    with near, far:
        stream(*((near, far) if direction == "up" else (far, near)), size)
    seen = link_statistics(container)
    assert seen["tx"]["dropped"] == 0 and seen["rx"]["dropped"] == 0
    assert seen["tx" if direction == "up" else "rx"]["bytes"] > size


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name,is_cut", [
    ("csum", True), ("tso4", False), ("tso6", False), ("tso-ecn", False), ("vnet-hdr", True)])
def test_without_offload(host, container, helper, name, is_cut, family):
    """Small frames, and checksums that somebody must compute. `is_cut`: in both families."""
    is_cut |= name == {"ipv4": "tso4", "ipv6": "tso6"}[family]
    one = helper(f"--disable-feature={name}", "--mtu=1500", "--enable-ipv6")
    if family == "ipv6":
        container.wait_ipv6()
    near, far = connect(host, container, family)
    size = 16 * MIB
    with near, far:
        before = one.counters()
        stream(near, far, size)
        between = one.counters()
        stream(far, near, size)
        after = one.counters()
    assert after["drop_checksum"] == 0
    n_segments = size // 1500
    up = between["frames_in"] - before["frames_in"]
    down = after["frames_out"] - between["frames_out"]
    assert (up > n_segments) == is_cut and (down > n_segments) == is_cut, (up, down, n_segments)


@pytest.mark.parametrize("size", [
    pytest.param(2 * MIB, id="2m"), pytest.param(128 * MIB, id="128m", marks=pytest.mark.soak)])
def test_32_streams_each_way(host, container, helper, size):
    one = helper("--mtu=65520")
    jobs, sockets = [], []
    with listener(host.user) as (server, port):
        for _ in range(32):
            near = container.socket()
            near.connect(("10.0.2.2", port))
            far, _ = server.accept()
            sockets += [near, far]
            for source, sink in ((near, far), (far, near)):
                jobs += [("recv", sink, size), ("send", source, size)]
    Streams(*jobs).result()
    for sock in sockets:
        sock.close()
    assert one.counters()["tcp_given_up"] == 0


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("size", SIZES)
def test_reader_that_sleeps(host, container, helper, direction, size):
    """The sender is stopped by the reader alone; the helper neither spins nor hoards meanwhile."""
    one = helper("--mtu=65520")
    near, far = connect(host, container)
    source, sink = (near, far) if direction == "up" else (far, near)
    with near, far:
        sender = Streams(("send", source, size))
        with sender:
            until(lambda: is_still(one), "everything is full")
            assert sender.process.poll() is None, "somebody buffers without limit"
            Streams(("recv", sink, size)).result()
            sender.result()


def is_still(one):
    """Nothing was sent either way in 200 ms, but for probes."""
    def frames():
        now = one.counters()
        return now["frames_in"] + now["frames_out"]
    before = frames()
    one.pause(0.2)
    return 0 <= frames() - before < 10


@pytest.mark.soak
@pytest.mark.parametrize("mtu", [1500, 65520])
@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_minute(host, container, helper, direction, mtu):
    """Steady: no second far below the median. The tight bound, a half, is a figure for a machine
    that does nothing else; this one has ten times slack."""
    helper(f"--mtu={mtu}")
    near, far = connect(host, container)
    source, sink = (near, far) if direction == "up" else (far, near)
    with near, far:
        size = 1 << 62
        with Streams(("send", source, size)), Streams(("sample", sink, size)) as reader:
            seconds = [int(reader.process.stdout.readline()) for _ in range(60)]
    seconds.sort()
    median = seconds[len(seconds) // 2]
    print(f"per second: least {seconds[0]}, median {median}, most {seconds[-1]} bytes")
    assert seconds[0] * 20 > median


@pytest.mark.relay_only
def test_stopped_helper(host, container, helper):
    """What is sent again since time went by is not lost: frames stay as large as they were."""
    one = helper("--mtu=1500")
    near, far = connect(host, container)
    with near, far:
        receiver = Streams(("recv", near, 256 * MIB))
        sender = Streams(("send", far, 256 * MIB))
        with receiver, sender:
            for _ in range(5):
                one.process.send_signal(signal.SIGSTOP)
                one.pause(0.3)  # three times the retransmission timeout
                one.process.send_signal(signal.SIGCONT)
            receiver.result()
            sender.result()
    assert one.counters()["tcp_big_lost"] == 0
