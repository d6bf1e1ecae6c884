# SPDX-License-Identifier: Apache-2.0
"""In the machine's own namespaces, as RootlessKit and people start it; loopback only."""
import pytest

from harness.helper import Helper
from harness.traffic import MIB, inbound, outbound
from harness.util import status_of


@pytest.fixture
def container(real_host):
    return real_host.container()


@pytest.fixture
def start(real_host, container, helpers):
    def start_one(*options):
        helpers.append(Helper(real_host, ["-c", *options], [container.pid, "tap0"]))
        return helpers[-1]
    return start_one


@pytest.mark.parametrize("options", [
    [], ["--mtu=65520", "--enable-sandbox", "--enable-seccomp"], ["--disable-feature=agent"]])
def test_both_ways(real_host, container, start, options):
    one = start(*options)
    outbound(container, real_host, 4 * MIB)
    inbound(container, one, 4 * MIB)


def test_as_rootlesskit_does(real_host, container, helpers):
    """The tap is there and up; we get no -c; the caller configures afterwards."""
    container.shell("ip tuntap add name tap0 mode tap; ip link set tap0 up")
    one = Helper(real_host, ["--mtu=65520", "--disable-host-loopback", "--enable-sandbox",
                             "--enable-seccomp"], [container.pid, "tap0"], exit_fd=False)
    helpers.append(one)
    container.shell("ip link set lo up; ip link set tap0 mtu 65520; ip address add 10.0.2.100/24 "
                    "dev tap0; ip route add default via 10.0.2.2")
    inbound(container, one, 4 * MIB)
    one.expect_status = -9
    one.process.kill()  # that is how RootlessKit ends it
    one.check_end(one.children())


def test_confined(start):
    one = start("--enable-sandbox", "--enable-seccomp")
    for pid in one.processes():
        status = status_of(pid)
        assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
        assert int(status["CapEff"], 16) == 0
