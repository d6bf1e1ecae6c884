# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks share: a private host, containers, helpers of all makes, medians.

Nothing touches the machine's own network: the host is a network namespace with an interface that
leads nowhere. When root runs a benchmark, helpers and containers belong to an ordinary user.
"""
import contextlib
import json
import os
import select
import shlex
import shutil
import signal
import subprocess
import time

USER = 64321  # needs no entry in /etc/passwd
GATEWAY, DNS = "10.0.2.2", "10.0.2.3"
is_root = os.geteuid() == 0

# Short connections must not run out of ports: that is not what is measured. Nor may they have those of servers.
SERVER_PORTS = "5201,5432,6379,7777,8080-8083,9418,30000-30031"
MANY_PORTS = f"""
    echo "1024 65535" >/proc/sys/net/ipv4/ip_local_port_range
    echo "{SERVER_PORTS}" >/proc/sys/net/ipv4/ip_local_reserved_ports
    echo 1 >/proc/sys/net/ipv4/tcp_tw_reuse
"""
HOST_SETUP = MANY_PORTS + """
    ip link set lo up
    ip link add ext0 type veth peer name ext1
    ip link set ext1 up
    ip link set ext0 up
    ip address add 192.0.2.10/24 dev ext0
    ip route add default via 192.0.2.1
"""


class Failure(Exception):
    """Why a figure could not be had."""


def as_user():
    if not is_root:
        return []
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--inh-caps=-all",
            "--"]


def read_line(process, seconds, what):
    """One line of a process's standard output, which is read by nobody else."""
    if not select.select([process.stdout], [], [], seconds)[0]:
        raise Failure(f"{what}: nothing within {seconds} s")
    return process.stdout.readline()


class Process(subprocess.Popen):
    """A process that is killed at the end of its block, if it has not ended."""

    def __exit__(self, *what):
        if self.poll() is None:
            self.kill()
        with contextlib.suppress(BrokenPipeError):  # what its input still held
            if self.stdin:
                self.stdin.close()
        super().__exit__(*what)


class Namespace:
    """Namespaces kept by a process, which ends with us, and how to run something in them."""

    def __init__(self, maker, flags, setup, enter):
        self.holder = Process(
            [*maker, "unshare", *flags, "sh", "-euc", setup + "\necho up; read end"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if self.holder.stdout.readline() != b"up\n":
            raise Failure(self.holder.stderr.read().decode().strip() or "unshare failed")
        self.pid = self.holder.pid
        self.prefix = [*enter, "nsenter", "-t", str(self.pid), "--preserve-credentials",
                       *(flag for flag in flags if flag in ("--user", "--net", "--mount")), "--"]

    def popen(self, command, **kwargs):
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        return Process([*self.prefix, *(str(word) for word in command)], **kwargs)

    def shell(self, script):
        subprocess.run([*self.prefix, "sh", "-euc", script], check=True, stdin=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.holder.kill()
        self.holder.wait()


NEW_USER = ["--user", "--map-root-user"]


class Host(Namespace):
    """The host: helpers and servers run in it by `user`, which for root is an ordinary one.

    With a resolv_conf, a path, its mount namespace has that as /etc/resolv.conf.
    """

    def __init__(self, resolv_conf=None):
        flags = ["--net"] if is_root else [*NEW_USER, "--net"]
        setup = HOST_SETUP
        if resolv_conf:
            flags.append("--mount")
            setup += f"mount --bind {shlex.quote(resolv_conf)} /etc/resolv.conf\n"
        super().__init__([], flags, setup, [])
        self.user = [*self.prefix, *as_user()]

    def popen_user(self, command, **kwargs):
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        return Process([*self.user, *(str(word) for word in command)], **kwargs)


class Container(Namespace):
    def __init__(self, host):
        super().__init__(host.user, [*NEW_USER, "--net"], MANY_PORTS + "ip link set lo up", as_user())

    def tap_counters(self, tap="tap0"):
        """The line of /proc/net/dev as numbers; None without the tap."""
        with open(f"/proc/{self.pid}/net/dev", encoding="ascii") as file:
            for line in file:
                if line.strip().startswith(tap + ":"):
                    return [int(word) for word in line.split(":")[1].split()]
        return None

    def tx_drops(self):
        return self.tap_counters()[11]

    def has_default_route(self):
        with open(f"/proc/{self.pid}/net/route", encoding="ascii") as file:
            return any(line.split()[1] == "00000000" for line in file.readlines()[1:])


class FarHost(Namespace):
    """A host behind a delay line; `address` is its own, and it routes back."""

    def __init__(self, host, delay_line, number, delay_ms, loss):
        maker = [] if is_root else host.prefix
        super().__init__(maker, ["--net"], "ip link set lo up", maker)
        name, self.address = f"line{number}", f"198.51.{100 + number}.2"
        self.line = host.popen(
            [delay_line, f"--delay-ms={delay_ms}", f"--loss={loss}", f"--name={name}",
             f"/proc/{host.pid}/ns/net", f"/proc/{self.pid}/ns/net"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if read_line(self.line, 10, "the delay line") != b"ready\n":
            raise Failure("the delay line does not start")
        for world, last in ((host, 1), (self, 2)):
            world.shell(f"ip link set {name} addrgenmode none txqueuelen 10000 up; "
                        f"ip address add {self.address[:-1]}{last}/24 dev {name}")

    def __exit__(self, *what):
        self.line.stdin.close()
        self.line.wait()
        super().__exit__(*what)


class Program:
    """A helper's name and how it is started; `options` come before those of the benchmark."""

    def __init__(self, name, command):
        self.name = name
        words = shlex.split(command)
        found = shutil.which(words[0])
        if not found:
            raise Failure(f"{words[0]} is not installed")
        self.command = [os.path.abspath(found), *words[1:]]
        self.is_pasta = os.path.basename(self.command[0]) == "pasta"


def pasta_options(mtu, publish=None):
    """An address, a gateway that means the host's loopback, a resolver, no forwarded ports but
    `publish`: as slirp4netns."""
    ports = f"127.0.0.1/{publish}" if publish else "none"
    return ["--foreground", "--quiet", "--config-net", "--ipv4-only", "--mtu", mtu, "--ns-ifname",
            "tap0", "--address", "10.0.2.100", "--netmask", "24", "--gateway", GATEWAY, "-t",
            ports, "-u", "none", "-T", "none", "-U", "none", "--dns-forward", DNS]


SHELL = 'echo; read go; exec "$@" </dev/null >/dev/null'


class Helper:
    """One run of a program under test, from its ready byte to its end.

    `options` are those programs' that understand slirp4netns's; `publish` is a port of the host's
    loopback that is to be pasta's and the container's, and `options` see to it with the others.
    """

    def __init__(self, program, host, container, mtu, options=(), publish=None):
        if program.is_pasta:
            self.start(program, host, [*pasta_options(mtu, publish), container.pid])
            self.wait_configured(container)
        else:
            ready, ready_write = os.pipe()
            with os.fdopen(ready, "rb") as file:
                self.start(program, host, ["-c", f"--mtu={mtu}", f"--ready-fd={ready_write}",
                                           *options, container.pid, "tap0"], [ready_write])
                os.close(ready_write)
                byte = os.read(file.fileno(), 1)
            if byte != b"1":
                self.close()
                raise Failure(f"{program.name} did not become ready")
        self.ready_ms = (time.monotonic() - self.started) * 1000

    def start(self, program, host, options, pass_fds=()):
        """The clock starts when the program takes the place of a shell that is there already."""
        self.process = host.popen_user(["sh", "-c", SHELL, "sh", *program.command, *options],
                                       pass_fds=pass_fds, stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        with self.process.stdin as go, self.process.stdout as up:
            up.readline()
            self.started = time.monotonic()
            go.write(b"\n")

    def wait_configured(self, container):
        """pasta tells nobody that it is ready."""
        end = time.monotonic() + 10
        while not container.has_default_route():
            if self.process.poll() is not None or time.monotonic() > end:
                self.close()
                raise Failure("pasta did not configure its interface")
            time.sleep(0.005)

    def pids(self):
        """The helper and all that it has forked."""
        found = [self.process.pid]
        for pid in found:
            found += Helper.children(pid)
        return found

    @staticmethod
    def children(pid):
        with contextlib.suppress(OSError), \
                open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
        return []

    def cpu_seconds(self):
        """The time that all its processes have had processors for."""
        return sum(Helper.ran_seconds(pid, sum(Helper.ticks(pid))) for pid in self.pids())

    @staticmethod
    def ticks(pid):
        """utime and stime."""
        with contextlib.suppress(ProcessLookupError, FileNotFoundError), open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rsplit(b")", 1)[1].split()
            return int(fields[11]), int(fields[12])
        return 0, 0

    @staticmethod
    def ran_seconds(pid, ticks):
        """To the nanosecond, where the kernel was built to say so."""
        ns = 0
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as file:
                    ns += int(file.read().split()[0])
        return ns / 1e9 if ns else ticks / os.sysconf("SC_CLK_TCK")

    def cpu_ticks(self):
        """In user space and in the kernel."""
        return [sum(column) for column in zip(*(Helper.ticks(pid) for pid in self.pids()))]

    def switches(self):
        """How often its processes have waited: voluntary switches."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError, FileNotFoundError), \
                    open(f"/proc/{pid}/status", encoding="ascii") as file:
                total += next(int(line.split()[1]) for line in file if line.startswith("voluntary"))
        return total

    def memory_kib(self, field="Pss"):
        """Pss or Rss of all its processes."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError, FileNotFoundError), \
                    open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:  # it may have ended just now
                total += next(int(line.split()[1]) for line in file if line.startswith(field + ":"))
        return total

    def close(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def count_syscalls(helper, work):
    """How many system calls the helper makes while work() runs."""
    strace = shutil.which("strace")
    if not strace:
        raise Failure("strace is not installed")
    attach = [word for pid in helper.pids() for word in ("-p", str(pid))]
    with Process([strace, "-f", "-c", "-U", "calls,name", *attach],
                 stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as tracer:
        for _ in helper.pids():
            line = tracer.stderr.readline().decode()
            if "attached" not in line:
                raise Failure(line.strip() or "strace does not attach")
        work()
        tracer.send_signal(signal.SIGINT)
        table = tracer.stderr.read().decode()
    total = [line.split()[0] for line in table.splitlines() if line.endswith("total")]
    if not total:
        raise Failure("strace counted nothing")
    return int(total[0])


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
