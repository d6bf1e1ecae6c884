# SPDX-License-Identifier: Apache-2.0
"""How it ends, and that nothing is left."""
import errno
import fcntl
import os
import re
import signal
import struct
import termios

import pytest

from harness.helper import Helper, run_binary
from harness.ns import CLEAN_ENV, listener
from harness.traffic import connected, free_port, inbound, outbound
from harness.util import until, wait_readable

MODES = [[], ["--enable-sandbox", "--enable-seccomp"]]


@pytest.mark.parametrize("options", MODES)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal(helper, options, number):
    one = helper(*options)
    family = one.children()
    one.process.send_signal(number)
    one.check_end(family)


def fill(sock):
    """Sends until nothing more is taken."""
    sock.setblocking(False)
    n_bytes = 0
    try:
        while True:
            n_bytes += sock.send(bytes(65536))
    except BlockingIOError:
        return n_bytes


def unacknowledged(sock):
    return struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0]


@pytest.mark.relay_only
def test_acknowledged_bytes_arrive_after_the_end(host, container, helper):
    """Also when the host has sent something that nobody will read any more."""
    one = helper()
    near, far = connected(container, host.user, "127.0.0.1", "10.0.2.2")
    with near, far:
        fill(far)
        near.sendall(bytes(200_000))
        until(lambda: unacknowledged(near) == 0, "all was acknowledged")
        family = one.children()
        one.process.terminate()
        far.setblocking(True)
        far.settimeout(60)
        got = 0
        while got < 200_000:
            piece = far.recv(65536)
            assert piece, f"the end comes after {got} bytes"
            got += len(piece)
        one.check_end(family)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_agent_ignores_signals_to_the_group(helper, number):
    """Callers signal the process group; only the relay's end is the agent's."""
    one = helper(start_new_session=True)
    os.kill(one.agent(), number)
    assert one.api("list_hostfwd")["entries"] == []
    assert one.agent()


@pytest.mark.parametrize("options", MODES)
def test_kill_of_the_relay(helper, options):
    """No chance to clean up; still no process stays."""
    one = helper(*options)
    family = one.processes()
    one.expect_status, one.api_path = -signal.SIGKILL, None
    one.process.kill()
    one.check_end(family)


def test_kill_of_the_agent(host, container, helper):
    """Costs a warning; the relay goes on."""
    one = helper()
    agent = one.agent()
    os.kill(agent, signal.SIGKILL)
    one.wait_gone([agent])
    outbound(container, host)
    inbound(container, one)


@pytest.mark.parametrize("options", MODES)
def test_parent_death_signal(helper, options):
    """Buildah and RootlessKit set it; it must reach both processes."""
    one = helper(*options, launcher=[
        "python3", "-c", "import os, subprocess, sys\n"
        "child = subprocess.Popen(['setpriv', '--pdeathsig', 'KILL', '--', *sys.argv[1:]],\n"
        "                         close_fds=False)\n"
        "os.closerange(3, 1024)\n"
        "child.wait()"])
    family = one.children()
    assert len(family) == 2
    one.expect_status, one.api_path = -signal.SIGKILL, None
    one.process.kill()
    one.check_end(family)


@pytest.mark.parametrize("options", MODES)
def test_tap_deleted(container, helper, options):
    """One line and status 1, no busy loop."""
    one = helper(*options)
    family = one.children()
    before = one.stderr()
    container.run("ip", "link", "delete", "tap0")
    one.expect_status = 1
    one.check_end(family)
    lines = one.stderr()[len(before):].splitlines()
    assert len(lines) == 1 and "tap" in lines[0]


def test_network_namespace_destroyed(host, helper):
    """The last process leaves: the helper's own tap keeps the namespace, so it lives on."""
    container = host.container()
    one = helper(target=[container.pid, "tap0"])
    container.close()
    assert one.api("list_hostfwd")["entries"] == []


@pytest.mark.parametrize("options", MODES)
def test_quit_with_target(host, helper, options):
    container = host.container()
    one = helper("--quit-with-target", *options, target=[container.pid, "tap0"])
    family = one.children()
    assert one.api("list_hostfwd")["entries"] == []
    container.close()
    one.check_end(family)


def test_quit_with_target_by_path(host, helper):
    container = host.container()
    one = helper("--quit-with-target", "--netns-type=path",
                 f"--userns-path=/proc/{container.pid}/ns/user",
                 target=[f"/proc/{container.pid}/ns/net", "tap0"])
    family = one.children()
    container.close()
    one.check_end(family)


def test_quit_with_target_needs_a_process(host, container, helper):
    done = run_binary(host.user, "--quit-with-target", "--netns-type=path", "/etc/passwd", "tap0")
    assert done.returncode == 1 and "quit-with-target" in done.stderr


def test_tap_vanishes_with_us(container, helper):
    one = helper()
    one.stop()
    until(lambda: "tap0" not in container.run("ip", "link").stdout, "the tap is gone")


def test_fifty_restarts(host, container, helpers):
    """Each starts the moment that its predecessor's exit-fd was closed, on the same tap name."""
    old = Helper(host, ["-c"], [container.pid, "tap0"])
    helpers.append(old)
    for _ in range(50):
        family = old.children()
        old.hang_up()
        new = Helper(host, ["-c"], [container.pid, "tap0"])
        helpers.append(new)
        old.check_end(family)
        old = new
    outbound(container, host, 100_000)


@pytest.mark.parametrize("same", ["tap", "socket"])
def test_successor_waits(host, container, helpers, same):
    """A predecessor that has been told to end may wait for a processor for a second."""
    paths = [host.path("one.sock"), host.path("one.sock" if same == "socket" else "other.sock")]
    taps = ["tap0", "tap0" if same == "tap" else "tap1"]
    old = Helper(host, ["-a", paths[0]], [container.pid, taps[0]], api=False)
    helpers.append(old)
    family = old.children()
    old.process.send_signal(signal.SIGSTOP)
    old.hang_up()
    try:
        new = Helper(host, ["-a", paths[1]], [container.pid, taps[1]], api=False, wait=False)
        helpers.append(new)
        assert not wait_readable(new.ready_read, 1), new.stderr()
    finally:
        old.process.send_signal(signal.SIGCONT)
    new.wait_ready()
    old.check_end(family)
    assert os.path.exists(paths[1])


def test_ports_are_free_at_once(host, container, helpers):
    """Listeners close first; the successor publishes the same ports."""
    ports = [free_port(host.user) for _ in range(10)]
    for _ in range(20):
        one = Helper(host, ["-c"], [container.pid, "tap0"])
        helpers.append(one)
        for port in ports:
            one.forward(80, port)
        family = one.children()
        one.hang_up()
        # 10 ms is the aim; what a busy machine may make of it is still less than any TIME_WAIT
        with host.user.socket() as sock:
            until(lambda: can_bind(sock, ports[0]), "the port is free", deadline=30)
        one.check_end(family)


def can_bind(sock, port):
    try:
        sock.bind(("0.0.0.0", port))
        return True
    except OSError as error:
        assert error.errno == errno.EADDRINUSE
        return False


def test_hundred_starts_and_stops(host, container):
    """Leave no process, namespace or file. A limit on namespaces makes a leak fail the start; the kernel
    frees those of the last ones in its own time."""
    inner = container.userns
    inner.shell("for kind in mnt net user; do echo 90 >/proc/sys/user/max_${kind}_namespaces; done")
    fds, files = len(os.listdir("/proc/self/fd")), None
    for number in range(100):
        one = Helper(host, ["-c", "--sandbox=require", "--netns-type=path"],
                     [f"/proc/{container.pid}/ns/net", "tap0"], world=inner)
        try:
            one.stop()
            assert "cannot" not in one.stderr()
        finally:
            one.discard()
            for name in (".out", ".err"):
                os.unlink(one.base + name)
        if number == 0:
            files = os.listdir(host.work)
    assert os.listdir(host.work) == files
    assert len(os.listdir("/proc/self/fd")) == fds


def test_idle_costs_nothing(host, container, helper):
    """Half a second of silence: hardly a tick of processor time."""
    one = helper()
    outbound(container, host, 100_000)
    one.wait_rest()


def test_no_leaks(host, container, helper):
    """Sees something in a build with AddressSanitizer, which ends with an error of its own then."""
    one = helper("--sandbox=off", "--disable-seccomp", "--enable-ipv6",
                 env={**CLEAN_ENV, "ASAN_OPTIONS": "detect_leaks=1"})
    outbound(container, host, 100_000)
    inbound(container, one, 100_000)
    one.forward(1, free_port(host.user))
    assert "error" in one.api("no_such_thing")
    one.stop()
    assert "Sanitizer" not in one.stderr()


def test_counters_and_exit_line(host, container, helper):
    one = helper()
    outbound(container, host, 100_000)
    counters = one.counters()
    assert counters["frames_in"] > 5 and counters["frames_out"] > 5
    one.stop()
    last = one.stderr().splitlines()[-1]
    assert re.search(r"\bframes_in\b", last) and "frames_out_dropped" not in last


def test_stderr_full(host, container, helper):
    """Standard error is a pipe that nobody reads: 1,000 API errors do not stop the traffic."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        while True:
            os.write(write, b"x" * 4096)
    except BlockingIOError:
        pass
    os.set_blocking(write, True)
    one = helper(stderr=write, stdout=write)
    for _ in range(1000):
        assert "error" in one.api("no_such_thing")
    outbound(container, host)
    assert os.get_blocking(write), "the caller's pipe must keep its mode"
    one.stop()
    os.close(write)
    os.close(read)


def test_stdio_closed(host, container, helpers):
    one = Helper(host, ["-c"], [container.pid, "tap0"],
                 launcher=["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"])
    helpers.append(one)
    outbound(container, host, 100_000)
    for name in ("0", "1", "2"):
        target = os.readlink(f"/proc/{one.pid}/fd/{name}")
        assert target == "/dev/null", f"descriptor {name} is {target}"


def test_sigchld_ignored_by_the_caller(host, container, helpers):
    one = Helper(host, ["-c"], [container.pid, "tap0"],
                 launcher=["python3", "-c", "import os, signal, sys\n"
                           "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
                           "os.execvp(sys.argv[1], sys.argv[1:])"])
    helpers.append(one)
    outbound(container, host, 100_000)


def test_client_of_a_port_is_reset_at_the_end(host, container, helper):
    """A connection over a published port does not hang when we go."""
    one = helper()
    port = free_port(host.user)
    with listener(container, "0.0.0.0") as (server, guest_port), host.user.socket() as client:
        one.forward(guest_port, port)
        client.connect(("127.0.0.1", port))
        far, _ = server.accept()
        with far:
            one.stop()
            try:
                assert client.recv(1) == b""
            except ConnectionResetError:
                pass
