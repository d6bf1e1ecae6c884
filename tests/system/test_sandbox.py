# SPDX-License-Identifier: Apache-2.0
"""What the two processes have given up when they are ready."""
import os

import pytest

from harness.helper import BINARY, Helper, HelperFailed
from harness.ns import is_root
from harness.traffic import free_port, inbound, outbound
from harness.util import status_of

NET_BIND_SERVICE = 1 << 10
SETS = ("CapInh", "CapPrm", "CapEff", "CapAmb")

# mounts and limits are changed here
pytestmark = pytest.mark.fresh


@pytest.fixture
def as_slirp4netns(host):
    """The program under that name."""
    link = host.path("slirp4netns")
    os.symlink(BINARY, link)
    return link


def root_of(one):
    return sorted(os.listdir(f"/proc/{one.pid}/root"))


def capabilities(pid):
    status = status_of(pid)
    return {name: int(status[name], 16) for name in SETS}


def check_confined(pid, capability=0):
    status = status_of(pid)
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    found = capabilities(pid)
    assert all(value & ~capability == 0 for value in found.values()), found


@pytest.mark.parametrize("options", [
    [], ["--enable-sandbox"], ["--enable-sandbox", "--enable-seccomp"], ["--sandbox=off"]])
def test_both_processes_are_confined(host, container, helper, options):
    one = helper(*options)
    for pid in one.processes():
        check_confined(pid)
    outbound(container, host, 100_000)


def test_confined_as_root(host, helpers):
    """Real root keeps what published ports below 1024 need, and nothing else."""
    container = host.container("net", maker=host.root)
    one = Helper(host, ["-c"], [container.pid, "tap0"], world=host.root)
    helpers.append(one)
    check_confined(one.pid, NET_BIND_SERVICE)
    assert capabilities(one.pid)["CapEff"] == NET_BIND_SERVICE
    assert int(status_of(one.pid)["CapBnd"], 16) & ~NET_BIND_SERVICE == 0
    check_confined(one.agent())
    assert "return" in one.api("add_hostfwd", proto="tcp", host_port=81, guest_port=80)


def test_low_port_without_the_capability(helper):
    reply = helper().api("add_hostfwd", proto="tcp", host_port=81, guest_port=80)
    assert reply["error"]["desc"] == "bad request: add_hostfwd: slirp_add_hostfwd failed"


@pytest.mark.parametrize("options", [[], ["--enable-seccomp"]])
def test_sandbox_as_slirp4netns(host, container, helper, as_slirp4netns, options):
    """What slirp4netns's own test looks at."""
    one = helper("--enable-sandbox", *options, binary=as_slirp4netns)
    assert root_of(one) == ["etc", "run"]
    assert capabilities(one.pid)["CapEff"] == NET_BIND_SERVICE
    assert "cap_net_bind_service" in host.root.run("getpcaps", one.pid).stdout + \
        host.root.run("getpcaps", one.pid).stderr
    check_confined(one.pid, NET_BIND_SERVICE)
    outbound(container, host)
    inbound(container, one)


def test_no_empty_root_as_slirp4netns_unasked(helper, as_slirp4netns):
    assert "usr" in root_of(helper(binary=as_slirp4netns))


def test_empty_root_by_default(host, container, helper):
    one = helper()
    assert root_of(one) == ["etc", "run"]
    inbound(container, one, 100_000)
    outbound(container, host, 100_000)


def test_sandbox_off(helper):
    one = helper("--sandbox=off")
    assert "usr" in root_of(one)


def test_root_is_read_only(host, helper):
    """Not even /etc, /run or the root itself can be written from there."""
    one = helper("--enable-sandbox")
    with open(f"/proc/{one.pid}/mountinfo", encoding="ascii") as file:
        mounts = [line.split() for line in file]
    assert mounts
    for mount in mounts:
        assert "ro" in mount[5].split(","), mount
        if mount[4] != "/":
            assert {"nosuid", "nodev", "noexec"} <= set(mount[5].split(",")), mount


def test_namespaces_that_stay(helper):
    """Network and pid namespace are the caller's, not the container's."""
    one = helper("--enable-sandbox")
    assert os.readlink(f"/proc/{one.pid}/ns/pid") == os.readlink("/proc/self/ns/pid")
    host_net = one.world.run("readlink", "/proc/self/ns/net").stdout.strip()
    assert os.readlink(f"/proc/{one.pid}/ns/net") == host_net


def test_disable_seccomp(helper):
    one = helper("--disable-seccomp")
    assert status_of(one.pid)["Seccomp"] == "0"
    assert status_of(one.pid)["NoNewPrivs"] == "1"


def test_seccomp_with_userns_path(host, container, helper):
    one = helper("--enable-seccomp", f"--userns-path=/proc/{container.pid}/ns/user")
    check_confined(one.pid)
    outbound(container, host, 100_000)


def test_mounts_of_the_host_stay(host, helpers):
    """A shared mount below /run is not unmounted by the sandbox's detaching."""
    container = host.container("net", maker=host.root)
    host.root.shell("mkdir /run/shared; mount -t tmpfs none /run/shared; "
                    "mount --make-rshared /run; mount --make-rshared /run/shared")
    one = Helper(host, ["-c", "--enable-sandbox", "--netns-type=path"],
                 [f"/proc/{container.pid}/ns/net", "tap0"], world=host.root)
    helpers.append(one)
    host.root.run("findmnt", "/run/shared")
    one.stop()
    host.root.run("findmnt", "/run/shared")
    host.root.run("umount", "/run/shared")


@pytest.fixture
def no_mounts(container):
    """In the container's user namespace no mount namespace can be made."""
    container.userns.shell("echo 0 >/proc/sys/user/max_mnt_namespaces")
    return container.userns


def path_target(container):
    return {"target": [f"/proc/{container.pid}/ns/net", "tap0"], "world": container.userns}


@pytest.mark.parametrize("options", [["--enable-sandbox"], ["--sandbox=require"]])
def test_refused_sandbox_that_was_asked_for(container, helper, no_mounts, options):
    with pytest.raises(HelperFailed) as caught:
        helper("--netns-type=path", *options, **path_target(container))
    assert caught.value.helper.process.returncode == 1
    assert len(caught.value.helper.stderr().splitlines()) == 1
    assert "tap0" not in container.run("ip", "link").stdout


def test_refused_sandbox_of_our_own(host, container, helper, no_mounts):
    """One warning with the reason."""
    one = helper("--netns-type=path", **path_target(container))
    assert len([line for line in one.stderr().splitlines() if "mount" in line]) == 1
    outbound(container, host, 100_000)


@pytest.mark.skipif(is_root, reason="the limit would be the machine's")
def test_no_user_namespaces(host, container, helper):
    host.root.shell("echo 0 >/proc/sys/user/max_user_namespaces")
    one = helper()
    outbound(container, host, 100_000)
    check_confined(one.pid)


def test_unlisted_calls_do_not_happen(host, container, helper):
    """A full round of work asks for nothing that the table lacks."""
    one = helper("--enable-ipv6", "--enable-sandbox", "--enable-seccomp")
    outbound(container, host)
    inbound(container, one)
    container.run("ping", "-c", "1", "-W", "20", "192.0.2.10")
    container.run("busybox", "nslookup", "a.example", "10.0.2.3", check=False, timeout=100)
    one.api("add_hostfwd", proto="udp", host_port=free_port(host.user), guest_port=1)
    assert one.counters()["syscalls_refused"] == 0
