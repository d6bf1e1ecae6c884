# SPDX-License-Identifier: Apache-2.0
"""Private hosts and containers.

A private host is a network and a mount namespace (for an ordinary user in a user namespace) with
its own /etc and /run and addresses that lead nowhere. Two users live there: `host.root`, and
`host.user`, who has no privileges and starts helpers and containers.
"""
import contextlib
import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile

import pytest

from .util import DEADLINE, until, wait_readable

HOLDER = os.path.join(os.path.dirname(__file__), "holder.py")
# Who is "the ordinary user" when root runs the tests; needs no entry in /etc/passwd.
OTHER_UID = 64321
HOST4, HOST6 = "192.0.2.10", "2001:db8::10"
CLEAN_ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8",
             "PYTHONDONTWRITEBYTECODE": "1"}
# A sanitized build cannot look for leaks from inside its sandbox; test_life does it without one.
CLEAN_ENV["ASAN_OPTIONS"] = "detect_leaks=0:quarantine_size_mb=4"
if "UBSAN_OPTIONS" in os.environ:
    CLEAN_ENV["UBSAN_OPTIONS"] = os.environ["UBSAN_OPTIONS"]

is_root = os.geteuid() == 0


def refused(error, what):
    """A kernel or a policy that does not let us make namespaces is a reason to skip."""
    if error in (errno.EPERM, errno.EACCES, errno.ENOSPC, errno.EUSERS, errno.EINVAL):
        pytest.skip(f"{what}: {os.strerror(error)}")
    raise OSError(error, os.strerror(error), what)


class World:
    """Somewhere to run programs and to make sockets: namespaces plus a user."""

    def __init__(self, prefix):
        self.prefix = prefix

    def popen(self, command, **kwargs):
        kwargs.setdefault("env", CLEAN_ENV)
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.Popen(self.prefix + [str(word) for word in command], **kwargs)

    def run(self, *command, check=True, timeout=DEADLINE, **kwargs):
        """Runs a program to its end; the result has returncode, stdout and stderr (text)."""
        kwargs.setdefault("stdout", subprocess.PIPE)
        kwargs.setdefault("stderr", subprocess.PIPE)
        with self.popen(command, text=True, **kwargs) as process:
            try:
                out, err = process.communicate(timeout=timeout)
            except BaseException:
                process.kill()
                raise
        done = subprocess.CompletedProcess(command, process.returncode, out, err)
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{out}{err}"
        return done

    def python(self, program, *args, **kwargs):
        """Runs a Python program given as text."""
        return self.run("/usr/bin/python3", "-c", program, *args, **kwargs)

    def shell(self, script, **kwargs):
        return self.run("sh", "-euc", script, **kwargs)


class Held(World):
    """Namespaces that a holder process keeps; gone when it is closed."""

    def __init__(self, outside, flags, uid, prefix_of):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.holder = outside.popen(
                ["/usr/bin/python3", HOLDER, theirs.fileno(), flags, uid],
                pass_fds=[theirs.fileno()])
        self.control = ours
        self.pid = self.holder.pid
        ours.settimeout(DEADLINE)
        answer = ours.recv(4096)
        if answer != b"ok":
            self.close()
            refused(json.loads(answer)[0] if answer else errno.EPERM, f"namespaces ({flags})")
        super().__init__(prefix_of(self.pid))

    def socket(self, family=socket.AF_INET, kind=socket.SOCK_STREAM, protocol=0):
        """A socket of this network namespace, with the deadline as its time-out."""
        self.control.send(json.dumps([[int(family), int(kind), int(protocol)]]).encode())
        answer, fds, _, _ = socket.recv_fds(self.control, 4096, 1)
        self.control.recv(4096)  # the holder's copy is closed: ours alone decides over the port
        if not fds:
            error = json.loads(answer)
            raise OSError(error[0], error[1])
        made = socket.socket(fileno=fds[0])
        made.settimeout(DEADLINE)
        return made

    def close(self):
        self.control.close()
        try:
            self.holder.wait(DEADLINE)
        finally:
            self.holder.kill()
            self.holder.wait()


class Container(Held):
    """A container: user and network namespace, made by `maker` and owned by it."""

    def __init__(self, maker, flags="user,net"):
        letters = {"user": "-U", "net": "-n", "mount": "-m"}
        words = [letters[flag] for flag in flags.split(",")]

        def prefix(pid, wanted):
            return maker.prefix + ["nsenter", "--preserve-credentials", "-t", str(pid),
                                   *wanted, "--"]
        super().__init__(maker, flags, 0, lambda pid: prefix(pid, words))
        # Root of the container's user namespace, but on the host's network.
        self.userns = World(prefix(self.pid, ["-U"]))

    def configured(self, tap="tap0"):
        """`ip address` of the tap as text."""
        return self.run("ip", "address", "show", "dev", tap).stdout

    def wait_ipv6(self, tap="tap0"):
        until(lambda: "fd00:" in self.run(
            "ip", "-6", "address", "show", "dev", tap, "scope", "global", "-tentative").stdout,
              f"a global IPv6 address on {tap}")


class Host:
    """See the top of the file. Everything on disk is below `host.work`."""

    def __init__(self):
        self.worlds = []
        self.work = tempfile.mkdtemp(prefix="nh-", dir="/tmp")  # short: sockets go below it
        # root without capabilities can write here, too, and unlink what is its own
        os.chmod(self.work, 0o1777)
        try:
            self.setup()
            self.n_own = len(self.worlds)
            self.files = {os.path.join(folder, name) for folder in ("", "etc", "run")
                          for name in os.listdir(os.path.join(self.work, folder))}
        except BaseException:
            self.close()
            raise

    def setup(self):
        outside = World([])
        if is_root:
            self.root = self.add(Held(outside, "net,mount", 0, lambda pid: [
                "nsenter", "-t", str(pid), "-n", "-m", "--"]))
            self.user = World(self.root.prefix + user_prefix())
            self.user_uid = OTHER_UID
        else:
            self.root = self.add(Held(outside, "user,net,mount", 0, lambda pid: [
                "nsenter", "--preserve-credentials", "-t", str(pid), "-U", "-n", "-m", "--"]))
            # Without a capability over the host's network, as on a real one.
            self.user = self.add(Held(self.root, "user", 1000, lambda pid: self.root.prefix + [
                "nsenter", "--preserve-credentials", "-t", str(pid), "-U", "--"]))
            self.user_uid = os.geteuid()
        self.user.socket = self.root.socket
        self.make_etc()
        self.root.shell(f"""
            cd {self.work}
            {MAKE_TUN if is_root else ""}
            mount --bind {self.work}/etc /etc
            mount --bind {self.work}/run /run
            ip link set lo up
            ip link add ext0 type veth peer name ext1
            ip link set ext1 up
            ip link set ext0 up
            ip address add {HOST4}/24 dev ext0
            ip -6 address add {HOST6}/64 dev ext0 nodad 2>/dev/null || :
            echo "{'0 2147483647' if is_root else '0 0'}" >/proc/sys/net/ipv4/ping_group_range
            """)
        self.own(self.work)
        if self.user.run("test", "-w", "/dev/net/tun", check=False).returncode != 0:
            pytest.skip("/dev/net/tun is not writable for an ordinary user")

    def make_etc(self):
        """A small /etc that the tests may change while helpers run."""
        for folder in ("etc", "run", "dev"):
            os.mkdir(os.path.join(self.work, folder))
        for name in ("passwd", "group", "nsswitch.conf", "hosts", "ld.so.cache", "ld.so.conf",
                     "alternatives", "protocols", "services", "udhcpc", "crypto-policies"):
            source, target = "/etc/" + name, os.path.join(self.work, "etc", name)
            if os.path.isdir(source):
                shutil.copytree(source, target, symlinks=True)
            elif os.path.exists(source):
                shutil.copy(source, target)
        self.resolv_conf("nameserver 127.0.0.1\n")

    def resolv_conf(self, text):
        """Rewrites the file in place; a link, which may point out of here, is replaced."""
        if os.path.islink(self.etc("resolv.conf")):
            os.unlink(self.etc("resolv.conf"))
        with open(self.etc("resolv.conf"), "w", encoding="ascii") as file:
            file.write(text)

    def etc(self, name):
        return os.path.join(self.work, "etc", name)

    def path(self, name):
        return os.path.join(self.work, name)

    def own(self, path):
        if is_root:
            os.chown(path, OTHER_UID, OTHER_UID)

    def add(self, world):
        self.worlds.append(world)
        return world

    def container(self, flags="user,net", maker=None):
        return self.add(Container(maker or self.user, flags))

    def reset(self):
        """As it was when it was made, but for what a test did as host.root."""
        while len(self.worlds) > self.n_own:
            self.worlds.pop().close()
        for path in self.files_of_tests():
            shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)
        self.resolv_conf("nameserver 127.0.0.1\n")

    def files_of_tests(self):
        for folder in ("", "etc", "run"):
            for name in os.listdir(os.path.join(self.work, folder)):
                if os.path.join(folder, name) not in self.files:
                    yield os.path.join(self.work, folder, name)

    def close(self):
        while self.worlds:
            self.worlds.pop().close()
        shutil.rmtree(self.work)


# A device node of our own: the machine's /dev/net/tun keeps its mode.
MAKE_TUN = """
    mount -t tmpfs -o mode=755 none dev
    mknod -m 0666 dev/tun c 10 200
    mount --bind dev/tun /dev/net/tun
"""


def user_prefix():
    if not is_root:
        return []
    return ["setpriv", f"--reuid={OTHER_UID}", f"--regid={OTHER_UID}", "--clear-groups",
            "--inh-caps=-all", "--"]


class RealHost(Host):
    """The machine's own namespaces, as RootlessKit uses them: loopback only."""

    def setup(self):
        for folder in ("etc", "run"):
            os.mkdir(os.path.join(self.work, folder))
        self.root = None
        self.user = World(user_prefix())
        self.user.socket = plain_socket
        self.user_uid = OTHER_UID if is_root else os.geteuid()
        self.own(self.work)
        if self.user.run("test", "-w", "/dev/net/tun", check=False).returncode != 0:
            pytest.skip("/dev/net/tun is not writable for an ordinary user")


def plain_socket(family=socket.AF_INET, kind=socket.SOCK_STREAM, protocol=0):
    made = socket.socket(family, kind, protocol)
    made.settimeout(DEADLINE)
    return made


@contextlib.contextmanager
def listener(world, address="127.0.0.1", port=0, backlog=512):
    """A listening TCP socket; yields it and its port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with world.socket(family) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        sock.listen(backlog)
        yield sock, sock.getsockname()[1]


def ends(process, deadline=DEADLINE):
    """Waits for a child's end, by its pidfd; its exit status."""
    with contextlib.suppress(ProcessLookupError):
        fd = os.pidfd_open(process.pid)
        try:
            assert wait_readable(fd, deadline), f"process {process.pid} lives on"
        finally:
            os.close(fd)
    return process.wait()


assert sys.version_info >= (3, 9), "socket.send_fds"
