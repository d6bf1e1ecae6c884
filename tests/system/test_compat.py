# SPDX-License-Identifier: Apache-2.0
"""What callers of slirp4netns rely on at start: configuration, targets, descriptors."""
import os
import re
import socket

import pytest

from harness.helper import Helper, HelperFailed
from harness.ns import ends
from harness.traffic import inbound, outbound
from harness.util import until, wait_readable


def test_configure(container, helper):
    helper()
    text = container.configured()
    assert re.search(r"inet 10\.0\.2\.100/24 ", text)
    assert "mtu 1500 " in text and "UP" in text
    assert "default via 10.0.2.2 dev tap0" in container.run("ip", "route").stdout
    assert "UP" in container.run("ip", "link", "show", "dev", "lo").stdout


def test_without_configure_nothing_is_configured(container, helper):
    helper(configure=False)
    text = container.configured()
    assert "inet" not in text and "UP" not in text
    assert container.run("ip", "route").stdout == ""


def test_mtu_and_mac(container, helper):
    helper("--mtu=9000", "--macaddress=0e:d4:18:d9:38:fb")
    text = container.configured()
    assert "mtu 9000 " in text and "link/ether 0e:d4:18:d9:38:fb" in text


def test_cidr(container, helper):
    helper("--cidr=10.0.135.128/25")
    assert "inet 10.0.135.228/25 " in container.configured()
    assert "default via 10.0.135.130 " in container.run("ip", "route").stdout
    assert container.run("ping", "-c", "1", "-W", "20", "10.0.135.130")


def test_tap_name_is_cut(container, helper):
    helper(tap="a-name-that-is-too-long")
    assert "inet 10.0.2.100" in container.configured("a-name-that-is-")


def test_options_between_and_after_positionals(host, container, helpers):
    helpers.append(Helper(host, [], ["-c", container.pid, "--mtu", "2000", "tap7"]))
    assert "mtu 2000 " in container.configured("tap7")


def test_surplus_arguments_only_warn(host, container, helpers):
    helpers.append(Helper(host, ["-c"], [container.pid, "tap0", "surplus", "more"]))
    assert "inet 10.0.2.100" in container.configured()


def test_last_of_a_repeated_option_wins(container, helper):
    helper("--mtu=3000", "-m", "2500", "--mtu", "2600")
    assert "mtu 2600 " in container.configured()


def test_dhcp(host, container, helper):
    helper(configure=False)
    container.shell("ip link set lo up; ip link set tap0 up")
    script = host.path("dhcp-script")
    with open(script, "w", encoding="ascii") as file:
        file.write('#!/bin/sh\n[ "$1" != bound ] || echo "$ip $subnet $router $dns $serverid '
                   '$lease"\n')
    os.chmod(script, 0o755)
    done = container.run("busybox", "udhcpc", "-i", "tap0", "-t", "15", "-n", "-q", "-f", "-s", script)
    assert "10.0.2.15 255.255.255.0 10.0.2.2 10.0.2.3 10.0.2.2 86400" in done.stdout


def test_banner_names_the_addresses(helper, helpers):
    one = helper("--cidr=10.9.0.0/24")
    one.stop()
    out = one.stdout()
    for word in ("MTU", "1500", "10.9.0.0", "255.255.255.0", "10.9.0.2", "10.9.0.3", "10.9.0.100",
                 one.api_path):
        assert word in out
    assert out.count("10.9.0.100") == 1, "the banner must not be printed twice"


# --- targets

def test_path_with_userns_path(container, helper):
    helper("--netns-type=path", f"--userns-path=/proc/{container.pid}/ns/user",
           target=[f"/proc/{container.pid}/ns/net", "tap11"])
    assert "inet 10.0.2.100" in container.configured("tap11")


def test_unknown_netns_type_means_path(container, helper):
    helper("--netns-type=whatever", f"--userns-path=/proc/{container.pid}/ns/user",
           target=[f"/proc/{container.pid}/ns/net", "tap0"])
    assert "inet 10.0.2.100" in container.configured()


def test_path_inside_the_user_namespace(host, container, helpers):
    helpers.append(Helper(host, ["-c", "--netns-type=path"],
                          [f"/proc/{container.pid}/ns/net", "tap11"], world=container.userns))
    assert "inet 10.0.2.100" in container.configured("tap11")


def test_pid_with_userns_path_by_descriptor(container, helper):
    """As bubblejail does: a /proc/self/fd path, which must be opened before descriptors close."""
    fd = os.open(f"/proc/{container.pid}/ns/user", os.O_RDONLY)
    try:
        helper(f"--userns-path=/proc/self/fd/{fd}", pass_fds=[fd])
    finally:
        os.close(fd)
    assert "inet 10.0.2.100" in container.configured()


def test_path_with_sandbox(host, container, helper):
    """Not possible with slirp4netns (its issue 317)."""
    one = helper("--enable-sandbox", "--enable-seccomp", "--netns-type=path",
                 f"--userns-path=/proc/{container.pid}/ns/user",
                 target=[f"/proc/{container.pid}/ns/net", "tap0"])
    outbound(container, host)
    inbound(container, one)


def test_root_helps_a_namespace_of_its_own(host, helpers):
    """Without a user namespace between: setns(2) to the one it is in must not be fatal."""
    container = host.container("net", maker=host.root)
    helpers.append(Helper(host, ["-c"], [container.pid, "tap0"], world=host.root))
    assert "inet 10.0.2.100" in container.configured()
    outbound(container, host)


def test_tapfd(host, container, helper):
    container.shell("ip tuntap add name tap0 mode tap; ip link set lo up; ip link set tap0 up; "
                    "ip address add 10.0.2.100/24 dev tap0; ip route add default via 10.0.2.2")
    fd = tap_of(container)
    try:
        one = helper("--netns-type=tapfd", target=[fd], pass_fds=[fd], configure=False)
    finally:
        os.close(fd)
    outbound(container, host)
    inbound(container, one)


def tap_of(container):
    """An attached tap's descriptor, from a process in the container."""
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        container.python(
            "import fcntl, os, socket, struct, sys\n"
            "tap = os.open('/dev/net/tun', os.O_RDWR)\n"
            "fcntl.ioctl(tap, 0x400454ca, struct.pack('16sH22x', b'tap0', 0x1002))\n"
            "socket.send_fds(socket.socket(fileno=int(sys.argv[1])), [b'x'], [tap])\n",
            theirs.fileno(), pass_fds=[theirs.fileno()])
        return socket.recv_fds(ours, 1, 1)[1][0]


# --- ready descriptor

def test_ready_file(host, container, helpers):
    name = host.path("ready")
    fd = os.open(name, os.O_WRONLY | os.O_CREAT)
    helpers.append(Helper(host, ["-c", "-r", str(fd)], [container.pid, "tap0"], pass_fds=[fd],
                          ready=False, wait=False))
    os.close(fd)
    with open(name, "rb") as file:
        until(lambda: file.read() == b"1", "the byte in the file")


def test_ready_fifo(host, container, helpers):
    name = host.path("ready")
    os.mkfifo(name)
    reader = os.open(name, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(name, os.O_WRONLY | os.O_NONBLOCK)
    helpers.append(Helper(host, ["-c", f"--ready={writer}"], [container.pid, "tap0"], ready=False,
                          pass_fds=[writer], wait=False))
    os.close(writer)
    assert wait_readable(reader) and os.read(reader, 9) == b"1"
    assert wait_readable(reader) and os.read(reader, 9) == b"", "the descriptor is to be closed"
    os.close(reader)


def test_ready_fd_that_is_not_open_is_ignored(host, container, helpers):
    one = Helper(host, ["-c", "--ready-fd=77"], [container.pid, "tap0"], ready=False, wait=False)
    helpers.append(one)
    until(lambda: one.api_path and os.path.exists(one.api_path), "API socket")
    until(lambda: "inet 10.0.2.100" in container.configured(), "address")
    assert one.process.poll() is None


# --- exit descriptor

def test_exit_fd_hang_up(helper):
    one = helper()
    family = one.children()
    os.write(one.exit_write, b"data is no reason")
    assert one.api("list_hostfwd")["entries"] == []  # a turn of the loop after the data
    assert one.process.poll() is None
    one.hang_up()
    one.check_end(family)


def test_exit_fd_as_write_end(helper):
    read, write = os.pipe()
    one = helper(f"--exit-fd={write}", pass_fds=[write])
    family = one.children()
    os.close(write)
    os.close(read)
    one.check_end(family)


@pytest.mark.parametrize("name", ["/dev/null", "file"])
def test_exit_fd_that_cannot_hang_up(host, helper, name):
    path = host.path("exit") if name == "file" else name
    fd = os.open(path, os.O_RDONLY | os.O_CREAT)
    one = helper(f"--exit-fd={fd}", pass_fds=[fd])
    os.close(fd)
    for _ in range(20):
        assert one.api("list_hostfwd")["entries"] == []
    one.hang_up()  # of the first --exit-fd, which is not the one that counts
    assert one.api("list_hostfwd")["entries"] == []
    one.stop()


def test_exit_fd_that_is_not_open(helper):
    """Ready first, then the end, with status 0."""
    one = helper("--exit-fd=77")
    assert ends(one.process) == 0


def test_failed_start_gives_no_ready_byte(host, container, helpers):
    one = Helper(host, ["-c"], [container.pid, "tap0"])
    helpers.append(one)
    with pytest.raises(HelperFailed) as caught:
        Helper(host, ["-c"], [container.pid, "tap0"])
    assert caught.value.helper.process.returncode == 1
    assert "busy" in caught.value.helper.stderr()
