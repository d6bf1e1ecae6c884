# SPDX-License-Identifier: Apache-2.0
"""Taps that others made, descriptors that others left, and the features' fallbacks."""
import json
import os

import pytest

from harness.helper import feature_names, run_binary
from harness.traffic import MIB, inbound, outbound
from harness.util import wait_readable

CONFIGURE = ("ip link set lo up; ip address add 10.0.2.100/24 dev tap0; "
             "ip route add default via 10.0.2.2")


def link_of(container):
    text = container.run("ip", "-d", "-json", "link", "show", "dev", "tap0").stdout
    link = json.loads(text)[0]
    return {name: link[name] for name in ("ifname", "address", "mtu", "txqlen", "group")} | {
        "flags": sorted(set(link["flags"]) - {"NO-CARRIER", "LOWER_UP"}),
        "tun": {name: link["linkinfo"]["info_data"][name] for name in ("type", "pi", "persist",
                                                                       "multi_queue")}}


@pytest.fixture
def foreign(container):
    """As RootlessKit makes it: persistent, single-queue, up."""
    container.shell("ip tuntap add name tap0 mode tap; "
                    "ip link set tap0 address 02:50:00:00:00:01 mtu 1400 txqueuelen 777 up; " +
                    CONFIGURE)
    return link_of(container)


@pytest.mark.parametrize("rounds", [1, 3])
def test_foreign_tap_stays_as_it_is(host, container, helper, foreign, rounds):
    assert foreign["mtu"] == 1400 and foreign["txqlen"] == 777 and "UP" in foreign["flags"]
    for _ in range(rounds):
        one = helper("--mtu=1500", configure=False)
        assert link_of(container) == foreign
        outbound(container, host)
        inbound(container, one)
        one.stop()
        assert link_of(container) == foreign


def test_after_a_killed_predecessor(host, container, helper, foreign):
    """What it had set on the tap must not confuse the next one."""
    one = helper(configure=False)
    family = one.processes()
    one.expect_status, path, one.api_path = -9, one.api_path, None
    one.process.kill()
    one.check_end(family)
    os.unlink(path)
    container.run("ip", "link", "show", "dev", "tap0")
    helper("--disable-feature=vnet-hdr", configure=False)
    outbound(container, host)


def test_configure_on_a_foreign_tap_twice(host, container, helper):
    container.run("ip", "tuntap", "add", "name", "tap0", "mode", "tap")
    for _ in range(2):
        one = helper()
        assert "inet 10.0.2.100/24" in container.configured()
        outbound(container, host, 100_000)
        one.stop()


@pytest.mark.parametrize("configure", [True, False])
def test_queue_of_a_tap_of_our_own(container, helper, configure):
    helper(configure=configure)
    assert link_of(container)["txqlen"] == 4096


@pytest.mark.parametrize("stack", ["auto", "libslirp"])
def test_stack(host, container, helper, stack):
    one = helper(f"--stack={stack}", "--mtu=65520")
    outbound(container, host, 4 * MIB)
    inbound(container, one, MIB)
    assert one.counters()["tcp_opened"] == (1 if stack == "auto" else 0)
    one.stop()
    assert ("tcp_opened=" in one.stderr()) == (stack == "auto"), "the exit line"


def has_feature(host, name):
    return f"\n{name}: yes" in run_binary(host.user, "--features").stdout


@pytest.mark.parametrize("options, offloads", [
    ([], "0x6f"), (["--disable-feature=uso"], "0xf"), (["--stack=libslirp"], "0")])
def test_offloads(host, helper, options, offloads):
    """libslirp takes ordinary frames only; USO4 and USO6 are 0x60."""
    if offloads == "0x6f" and not has_feature(host, "uso"):
        offloads = "0xf"
    one = helper("--log-level=debug", *options)
    one.stop()
    assert f"header of 12 bytes, offloads {offloads}," in one.stderr()


def test_inherited_descriptors_are_closed(helper):
    """What a shell leaked into us must not be held for days."""
    pipes = [os.pipe() for _ in range(5)]
    one = helper(pass_fds=[write for _, write in pipes])
    for read, write in pipes:
        os.close(write)
        assert wait_readable(read) and os.read(read, 1) == b""
        os.close(read)
    assert one.process.poll() is None


@pytest.mark.parametrize("name", feature_names())
def test_without_feature(host, container, helper, name):
    """Each has a fallback, or is refused with the reason; IPv4 TCP works without any."""
    one = helper(f"--disable-feature={name}", "--mtu=65520")
    outbound(container, host, 4 * MIB)
    inbound(container, one, MIB)


def test_without_any_feature(host, container, helper):
    one = helper("--disable-feature=" + ",".join(feature_names()))
    outbound(container, host)
    inbound(container, one)


def test_features_says_what_is_disabled(host):
    for name in feature_names():
        done = run_binary(host.user, f"--disable-feature={name}", "--features")
        line = next(line for line in done.stdout.splitlines() if line.startswith(name + ":"))
        assert line.startswith(name + ": no"), line


def test_agent_off_leaves_one_process(helper):
    assert helper("--disable-feature=agent").children() == []
