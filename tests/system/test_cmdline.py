# SPDX-License-Identifier: Apache-2.0
"""What is printed and refused before anything starts. PID and DIR stand for the container's."""
import os
import re
import socket
import subprocess

import pytest

from harness.helper import BINARY, Helper, run_binary, feature_names
from harness.ns import World

GREPPED = ["--netns-type", "--enable-ipv6", "--cidr", "--disable-host-loopback", "--api-socket",
           "--enable-sandbox", "--enable-seccomp", "--mtu", "--outbound-addr"]


def program(tmp_path, name):
    """The program under another name."""
    link = tmp_path / name
    if not link.is_symlink():
        link.symlink_to(BINARY)
    return str(link)


@pytest.mark.parametrize("name", ["netns-helper", "slirp4netns"])
@pytest.mark.parametrize("option", ["--help", "-h", "--hel"])
def test_help(tmp_path, name, option):
    done = World([]).run(program(tmp_path, name), option)
    assert done.stderr == ""
    for word in GREPPED:
        assert re.search(rf"(?<![\w-]){word}(?![\w-])", done.stdout), word


@pytest.mark.parametrize("option", ["--version", "-v", "--ver", "-vh"])
def test_version_as_slirp4netns(tmp_path, option):
    done = World([]).run(program(tmp_path, "slirp4netns"), option)
    first = done.stdout.splitlines()[0]
    found = re.match(r"slirp4netns version (\d+)\.(\d+)\.(\d+)", first)
    assert found and (int(found[1]), int(found[2])) >= (1, 3)
    assert int(re.search(r"^SLIRP_CONFIG_VERSION_MAX: (\d+)$", done.stdout, re.M)[1]) >= 4
    assert re.search(r"^libslirp: \d", done.stdout, re.M)
    assert re.search(r"^libseccomp: \d", done.stdout, re.M)


def test_version_of_our_own(tmp_path):
    ours = World([]).run(program(tmp_path, "netns-helper"), "--version").stdout
    theirs = World([]).run(program(tmp_path, "slirp4netns"), "--version").stdout
    assert ours.startswith("netns-helper")
    assert "netns-helper" in theirs
    by_option = World([]).run(program(tmp_path, "netns-helper"), "--personality=slirp4netns",
                              "--version").stdout
    assert by_option.splitlines()[0] == theirs.splitlines()[0]


def test_features():
    lines = World([]).run(BINARY, "--features").stdout.splitlines()
    rows = dict(re.match(r"([\w-]+): (yes|no)", line).groups() for line in lines)
    for name in feature_names():
        assert name in rows
    for line in lines:
        if ": no" in line:
            assert re.search(r"\(.+\)", line), "a feature that is missing needs its reason"


def test_missing_positionals_print_the_usage_on_stdout():
    for args in ([], ["-c"], ["1"]):
        done = run_binary(World([]), *args)
        assert done.returncode == 1 and done.stderr == "" and "Usage" in done.stdout


# Options, words that the message must have. {pid} is the container's holder.
BAD = {
    "unknown option": (["--frobnicate", "{pid}", "tap0"], "frobnicate"),
    "argument missing": (["{pid}", "tap0", "--mtu"], "mtu"),
    "argument where none is": (["--configure=yes", "{pid}", "tap0"], "configure"),
    "ambiguous": (["--disable=1", "{pid}", "tap0"], "ambiguous"),
    "mtu word": (["--mtu=many", "{pid}", "tap0"], "mtu"),
    "mtu trailing": (["--mtu=1500x", "{pid}", "tap0"], "mtu"),
    "mtu zero": (["--mtu=0", "{pid}", "tap0"], "mtu"),
    "mtu empty": (["--mtu=", "{pid}", "tap0"], "mtu"),
    "mtu negative": (["--mtu=-1", "{pid}", "tap0"], "mtu"),
    "mtu above": (["--mtu=65522", "{pid}", "tap0"], "mtu"),
    "mtu overflow": (["--mtu=99999999999999999999", "{pid}", "tap0"], "mtu"),
    "mtu 67 cannot be set": (["-c", "--mtu=67", "{pid}", "tap0"], "MTU"),
    "mtu 67 without configure": (["--mtu=67", "{pid}", "tap0"], "67"),
    "exit-fd word": (["--exit-fd=x", "{pid}", "tap0"], "exit-fd"),
    "exit-fd negative": (["--exit-fd=-1", "{pid}", "tap0"], "exit-fd"),
    "ready-fd word": (["--ready-fd=x", "{pid}", "tap0"], "ready-fd"),
    "ready-fd negative": (["--ready-fd=-4", "{pid}", "tap0"], "ready-fd"),
    "cidr word": (["--cidr=network", "{pid}", "tap0"], "invalid CIDR"),
    "cidr without length": (["--cidr=10.0.2.0", "{pid}", "tap0"], "invalid CIDR"),
    "cidr v6": (["--cidr=fd00::/64", "{pid}", "tap0"], "invalid CIDR"),
    "cidr address": (["--cidr=10.0.999.0/24", "{pid}", "tap0"], "invalid network address"),
    "cidr prefix": (["--cidr=10.0.2.0/26", "{pid}", "tap0"], "prefix length needs to be 1-25"),
    "cidr prefix 0": (["--cidr=0.0.0.0/0", "{pid}", "tap0"], "prefix length needs to be 1-25"),
    "cidr prefix first": (["--cidr=10.0.2.1/30", "{pid}", "tap0"],
                          "prefix length needs to be 1-25"),
    "cidr host bits": (["--cidr=10.0.2.100/24", "{pid}", "tap0"],
                       "CIDR needs to be a network address like 10.0.2.0/24, not like "
                       "10.0.2.100/24"),
    "outbound": (["--outbound-addr=no-such-if", "{pid}", "tap0"], "outbound-addr"),
    "outbound6": (["--enable-ipv6", "--outbound-addr6=no-such-if", "{pid}", "tap0"],
                  "outbound-addr6"),
    "mac without configure": (["--macaddress=0e:d4:18:d9:38:fb", "{pid}", "tap0"], "mac"),
    "mac short": (["-c", "--macaddress=0e:d4:18", "{pid}", "tap0"], "mac"),
    "mac long": (["-c", "--macaddress=0e:d4:18:d9:38:fb:00", "{pid}", "tap0"], "mac"),
    "mac word": (["-c", "--macaddress=zz:d4:18:d9:38:fb", "{pid}", "tap0"], "mac"),
    "userns-path": (["--userns-path=/nonexistent/x", "{pid}", "tap0"], "/nonexistent/x"),
    "pid word": (["container", "tap0"], "container"),
    "pid zero": (["0", "tap0"], "PID"),
    "pid dead": (["{dead}", "tap0"], "{dead}"),
    "path missing": (["--netns-type=path", "/nonexistent/y", "tap0"], "/nonexistent/y"),
    "path is no namespace": (["--netns-type=path", "/etc/passwd", "tap0"], "/etc/passwd"),
    "path is another namespace": (["--netns-type=path", "/proc/{pid}/ns/uts", "tap0"],
                                  "/proc/{pid}/ns/uts"),
    "tapfd word": (["--netns-type=tapfd", "tap"], "tap"),
    "tapfd not open": (["--netns-type=tapfd", "77"], "77"),
    "tapfd is none": (["--netns-type=tapfd", "0"], "0"),
    "target-type": (["--target-type=vm", "{pid}", "tap0"], "target-type|vm"),
    "bess with configure": (["--target-type=bess", "-c", "{work}/bess"], "bess|configure"),
    "bess and a tap": (["--target-type=bess", "{work}/bess", "tap0"], "bess|tap|surplus|argument"),
    "bess folder missing": (["--target-type=bess", "/nonexistent/z/bess"], "/nonexistent/z/bess"),
    "socket path too long": (["-a", "{work}/" + "x" * 108, "{pid}", "tap0"], "path|socket"),
    "socket folder missing": (["-a", "/nonexistent/a.sock", "{pid}", "tap0"],
                              "/nonexistent/a.sock"),
    "socket is a folder": (["-a", "{work}", "{pid}", "tap0"], "{work}"),
    "disable-feature": (["--disable-feature=warp", "{pid}", "tap0"], "warp"),
    "stack": (["--stack=other", "{pid}", "tap0"], "other"),
    "log-level": (["--log-level=loud", "{pid}", "tap0"], "loud"),
    "sandbox": (["--sandbox=maybe", "{pid}", "tap0"], "maybe"),
    "personality": (["--personality=other", "{pid}", "tap0"], "other"),
}


def dead_pid():
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


def fill(text, host, container, dead):
    return text.replace("{pid}", str(container.pid)).replace("{work}", host.work).replace(
        "{dead}", str(dead))


@pytest.mark.parametrize("case", BAD)
def test_bad_input(host, container, case):
    words, message = BAD[case]
    dead = dead_pid()
    args = [fill(word, host, container, dead) for word in words]
    before = files_below(host.work)
    done = run_binary(host.user, *args)
    assert done.returncode == 1
    wanted = "|".join(re.escape(fill(part, host, container, dead)) for part in message.split("|"))
    assert re.search(wanted, done.stderr, re.IGNORECASE), done.stderr + done.stdout
    assert "\n" in done.stderr
    ours = [line for line in done.stderr.splitlines() if "warning" not in line.lower()]
    assert len(ours) <= 1 or "usage" in done.stdout.lower(), f"one line, please: {done.stderr}"
    assert files_below(host.work) == before, "something was left behind"
    assert "tap0" not in container.run("ip", "link").stdout


def files_below(folder):
    return sorted(os.path.join(place, name) for place, folders, files in os.walk(folder)
                  for name in folders + files)


def test_parse_errors_print_the_usage_on_stdout(host, container):
    done = run_binary(host.user, "--frobnicate", container.pid, "tap0")
    assert "Usage" in done.stdout and "Usage" not in done.stderr
    done = run_binary(host.user, "--cidr=x", container.pid, "tap0")
    assert "Usage" not in done.stdout


def test_tap_busy(helper, container, host):
    helper()
    done = run_binary(host.user, "-c", container.pid, "tap0")
    assert done.returncode == 1
    assert "tap0" in done.stderr and "busy" in done.stderr


def test_no_permission(host):
    """A namespace that belongs to somebody else."""
    container = host.container("user,net", maker=host.root)
    done = run_binary(host.user, "-c", container.pid, "tap0")
    assert done.returncode == 1
    assert re.search(r"ermission|ermitted", done.stderr)
    assert "tap0" not in container.run("ip", "link").stdout


@pytest.mark.fresh
def test_no_tun_device(host, container):
    """The message says what to do."""
    host.root.shell(f"mount --bind {host.work}/run /dev/net")
    done = run_binary(host.user, "-c", container.pid, "tap0")
    assert done.returncode == 1
    assert "/dev/net/tun" in done.stderr and "modprobe tun" in done.stderr


@pytest.mark.fresh
def test_tun_device_without_permission(host, container):
    # a file that nobody but the machine's root may open
    host.root.run("mount", "--bind", "/proc/1/environ", "/dev/net/tun")
    done = run_binary(host.user, "-c", container.pid, "tap0")
    assert done.returncode == 1
    assert "/dev/net/tun" in done.stderr and re.search(r"ermission|ermitted", done.stderr)


def test_live_api_socket_is_not_taken(host, container, helpers):
    with socket.socket(socket.AF_UNIX) as live:
        path = host.path("live.sock")
        live.bind(path)
        live.listen(1)
        os.chmod(path, 0o777)
        done = run_binary(host.user, "-a", path, container.pid, "tap0")
        assert done.returncode == 1 and path in done.stderr
        assert os.path.exists(path)
    # Nobody listens any more: it is replaced.
    host.own(path)
    helpers.append(Helper(host, ["-c", "-a", path], [container.pid, "tap0"], api=False))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
    helpers[0].stop()
    assert not os.path.exists(path)


def test_api_socket_path_that_is_a_file(host, container):
    path = host.path("file")
    with open(path, "w", encoding="ascii") as file:
        file.write("precious")
    done = run_binary(host.user, "-a", path, container.pid, "tap0")
    assert done.returncode == 1 and path in done.stderr
    with open(path, encoding="ascii") as file:
        assert file.read() == "precious"


def test_abbreviations_of_slirp4netns_stay():
    """The shortest that slirp4netns takes for each option; new options must not be in the way."""
    for word in ("ap", "a", "ci", "co", "cr", "disable-d", "disable-h", "enable-i", "enable-sa",
                 "enable-se", "ex", "exit", "h", "ma", "mt", "ne", "no", "r", "re", "t", "u", "v"):
        done = run_binary(World([]), "--" + word)
        assert "ambiguous" not in done.stderr, done.stderr
        assert "unrecognized" not in done.stderr, done.stderr
