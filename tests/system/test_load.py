# SPDX-License-Identifier: Apache-2.0
"""Very many connections, short or silent, and memory that comes back; a 64th of the soak."""
import pytest

from harness.helper import run_binary
from harness.ns import listener
from harness.traffic import MIB, Connections, Streams, answering, connected, transfer
from harness.util import until

PORT, N_PORTS = 20000, 64


def rss_kb(one):
    return int(one.status()["VmRSS"].split()[0])


def slack_kb(host):
    """What may stay: a megabyte; a sanitizer keeps freed memory for a while."""
    said = run_binary(host.user, "--features").stdout
    return 1024 if "sanitizer: no" in said else 16384


def dial(container, count, parallel=64):
    """The numbers of connections that were answered, and refused."""
    with Connections(container, "dial", "10.0.2.2", PORT, N_PORTS, count, parallel) as client:
        numbers = client.numbers()
        client.end()
        return numbers


@pytest.mark.parametrize("count", [
    pytest.param(1_000_000 // 64, id="16k"),
    pytest.param(1_000_000, id="1m", marks=pytest.mark.soak)])
def test_short_connections(host, container, helper, count):
    """Half of them the container closes first, half the host."""
    one = helper()
    descriptors = one.descriptors()
    with answering(host.user, port=PORT, n_ports=N_PORTS):
        assert dial(container, 2000) == [2000, 0]
        before = rss_kb(one)
        assert dial(container, count) == [count, 0]
    until(lambda: one.descriptors() <= descriptors, "the descriptors are back")
    allowed = before + slack_kb(host)
    until(lambda: rss_kb(one) <= allowed, f"memory is back at {before} KiB")
    assert one.counters()["tcp_refused"] == 0


def test_ended_connections_are_in_nobodys_way(host, container, helper):
    """Those in TIME_WAIT give way when there is no room for new ones."""
    one = helper(launcher=["prlimit", "--nofile=512:512"])
    with answering(host.user, port=PORT, n_ports=N_PORTS):
        assert dial(container, 4000) == [4000, 0]
    assert one.counters()["tcp_refused"] == 0


# --- idle connections

def hold(host, container, helper, count):
    one = helper()
    with answering(host.user, port=PORT, n_ports=N_PORTS), Connections(
            container, "hold", "10.0.2.2", PORT, N_PORTS, count, 64) as client:
        assert client.numbers() == [count, 0]
        print(f"{count} idle connections: {rss_kb(one)} KiB, {one.descriptors()} descriptors")
        assert client.again() == [count, 0]
        near, far = connected(container, host.user, "127.0.0.1", "10.0.2.2")
        with near, far:
            transfer(near, far)
        client.end()
    until(lambda: one.descriptors() < 100, "the descriptors are back")


def test_2000_silent_connections(host, container, helper):
    hold(host, container, helper, 2000)


@pytest.mark.soak
def test_20000_silent_connections(host, container, helper, many_descriptors):
    """Or a quarter of the limit, where it cannot be 65536; the number is printed."""
    hold(host, container, helper, min(20000, many_descriptors // 4))


# --- memory

def flows(host, container, count):
    """(near, far) of connections to one listener."""
    pairs = []
    with listener(host.user) as (server, port):
        for _ in range(count):
            near = container.socket()
            near.connect(("10.0.2.2", port))
            far, _ = server.accept()
            pairs.append((near, far))
    return pairs


def is_stopped(one):
    """Nothing moves but retransmissions and probes."""
    before = one.counters()
    one.pause(0.3)
    after = one.counters()
    return after["frames_in"] - before["frames_in"] < 200


def run_stopped(one, pairs, size, direction, least_kb=0):
    """All senders send until nothing moves, then the readers read. Returns the RSS in between, which
    is to be least_kb at least: nothing moves, too, while the senders wait for a processor."""
    if direction == "down":
        pairs = [(far, near) for near, far in pairs]
    with Streams(*(("send", source, size) for source, _ in pairs)) as senders:
        until(lambda: is_stopped(one) and rss_kb(one) >= least_kb, "everything is full")
        full = rss_kb(one)
        assert senders.process.poll() is None
        Streams(*(("recv", sink, size) for _, sink in pairs)).result()
        senders.result()
    for pair in pairs:
        for sock in pair:
            sock.close()
    return full


@pytest.mark.fresh
@pytest.mark.parametrize("direction", ["up", "down"])
def test_1_mib_for_100_flows(host, container, helper, small_sockets, direction):
    """Into readers that have stopped; then each stream arrives whole."""
    one = helper("--buffers=1M", "--mtu=65520")
    pairs = flows(host, container, 100)
    before = rss_kb(one)
    full = run_stopped(one, pairs, MIB, direction)
    assert full - before < 4096, "the limit is no limit"
    assert one.counters()["tcp_given_up"] == 0


@pytest.mark.fresh
@pytest.mark.parametrize("direction", ["up", "down"])
def test_memory_comes_back_after_a_burst(host, container, helper, small_sockets, direction):
    one = helper("--mtu=65520")
    run_stopped(one, flows(host, container, 4), 4 * MIB, direction)
    until(lambda: is_stopped(one), "quiet")
    before = rss_kb(one)
    # Towards the container no more is taken from the host than it can be sent.
    run_stopped(one, flows(host, container, 64), 4 * MIB, direction,
                before + 16384 if direction == "up" else 0)
    allowed = before + slack_kb(host)
    until(lambda: rss_kb(one) <= allowed, f"memory is back at {before} KiB")
