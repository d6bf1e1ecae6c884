# SPDX-License-Identifier: Apache-2.0
"""Real programs. Files, pages and git are served on the host's side and fetched by the container;
databases serve in the container, on a published port, and are asked from the host's side."""
import contextlib
import glob
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time

from common import Container, Failure
from links import Setting, user_folder
from rows import Row

KIND, SAMPLED, ALONE = "tcp", "of files and repositories the size", ()
MIB = 1 << 20
BLOBS = 16
# Of the package whose program it is.
PACKAGES = {
    "iperf3": "iperf3", "nginx": "nginx-light", "wrk": "wrk", "h2load": "nghttp2-client",
    "curl": "curl", "git": "git", "redis-server": "redis-server", "redis-benchmark": "redis-tools",
    "pgbench": "postgresql-client-common postgresql-contrib", "initdb": "postgresql",
}
REDIS_PORT, POSTGRES_PORT, WEB_PORT = 6379, 5432, 8080

ROWS = [
    Row("iperf3 up", "Gbit/s", True),
    Row("iperf3 down", "Gbit/s", True),
    Row("wrk", "pages of 1 KB/s, nginx, 16 connections", True),
    Row("wrk published", "the same, nginx in the container", True),
    Row("h2load", "pages of 1 KB/s, nginx, 4 connections with 8 streams each", True),
    Row("redis set", "requests/s, 16 clients, redis in the container", True),
    Row("redis get", "requests/s, 16 clients, redis in the container", True),
    Row("pgbench", "SELECT transactions/s, 4 clients, PostgreSQL in the container", True),
    Row("curl", "MB/s, one large file from nginx", True),
    Row("git clone", "MB/s, from git's daemon", True),
    Row("blobs", f"MB/s, {BLOBS} blobs at a time from nginx, as from a registry", True),
]


def find(name):
    """Debian keeps the programs of PostgreSQL apart."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin") or \
        next(iter(sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"), reverse=True)), None)
    if not found:
        raise Failure(f"{name} is not installed: apt-get install {PACKAGES.get(name, name)}")
    return found


def bound_ports(pid):
    """TCP ports on which something listens in the network namespace of a process."""
    ports = set()
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError), open(f"/proc/{pid}/net/{name}", encoding="ascii") as file:
            ports |= {int(line.split()[1].rsplit(":", 1)[1], 16) for line in file.readlines()[1:]
                      if line.split()[3] == "0A"}
    return ports


def holders(pid, port):
    """What has a port that nobody listens on: states as in include/net/tcp_states.h."""
    with open(f"/proc/{pid}/net/tcp", encoding="ascii") as file:
        found = {line.split()[3] for line in file.readlines()[1:] if int(line.split()[1].rsplit(":", 1)[1], 16) == port}
    return f" (sockets with port {port} in states {', '.join(sorted(found))})" if found else ""


def wait_listening(server, namespace, port, what, log=None):
    end = time.monotonic() + 20
    while port not in bound_ports(namespace.pid):
        if server.poll() is not None or time.monotonic() > end:
            why = holders(namespace.pid, port)
            if log and os.path.exists(log):
                with open(log, encoding="utf-8", errors="replace") as file:
                    why += ": " + file.read().strip()[-200:]
            raise Failure(f"{what} does not start{why}")
        time.sleep(0.01)


def output_of(process, what, seconds=120):
    try:
        text = process.communicate(timeout=seconds)[0].decode(errors="replace")
    except subprocess.TimeoutExpired:
        raise Failure(f"{what}: nothing within {seconds} s") from None
    if process.returncode:
        raise Failure(f"{what}: {text.strip()[-200:]}")
    return text


def figure_in(pattern, text, what):
    found = re.search(pattern, text)
    if not found:
        raise Failure(f"{what}: {text.strip()[-200:] or 'no output'}")
    return float(found[1])


# --- iperf3, which benchmarks/dropin has, too

def iperf3(popen, address, seconds, *options):
    """The report's "end". iperf3 loses its own control messages in a flood now and then: tried again."""
    for _ in range(5):
        with popen([find("iperf3"), "-J", "-c", address, "-t", math.ceil(seconds), *options],
                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as client:
            report = json.loads(client.stdout.read())
        if "error" not in report:
            return report["end"]
        print(f"iperf3: {report['error']}; once more", file=sys.stderr)
        time.sleep(1)
    raise Failure("iperf3 does not get through")


def measure_iperf3(side, args, way):
    args.servers.start("iperf3", side.address)
    report = iperf3(side.popen, side.address, args.seconds, *(["-R"] if way == "down" else []))
    yield f"iperf3 {way}", report["sum_received"]["bits_per_second"] / 1e9


# --- servers

NGINX = """
user root; daemon off; master_process off; pid {folder}/pid; error_log {folder}/log;
worker_rlimit_nofile 4096; events {{ worker_connections 2048; }}
http {{
    access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{ listen {address}:{port}; root {files}; }}
    server {{ listen {address}:{http2} http2; root {files}; }}
}}
"""


def nginx_command(folder, address, files, port=WEB_PORT):
    """Started by an ordinary user, with everything in `folder`."""
    os.makedirs(folder, exist_ok=True)
    os.chmod(folder, 0o777)
    path = os.path.join(folder, "conf")
    with open(path, "w", encoding="ascii") as file:
        file.write(NGINX.format(folder=folder, address=address, files=files, port=port, http2=port + 1))
    return [find("nginx"), "-e", os.path.join(folder, "log"), "-c", path]


class Servers:
    """On the host's side, started when they are first asked for, and what they serve."""

    def __init__(self, host, stack, folder, bulk):
        self.host, self.stack, self.folder, self.bulk = host, stack, folder, bulk
        self.running = {}
        self.files = os.path.join(folder, "files")

    def need_files(self):
        """Sparse, and read once: what is measured is no disk, nor who is the first to have them in memory."""
        if os.path.exists(self.files):
            return
        find("git")
        os.makedirs(os.path.join(self.files, "repositories"), exist_ok=True)
        with open(os.path.join(self.files, "page"), "wb") as file:
            file.write(b"x" * 1024)
        for name, size in (("large", self.bulk), *((f"blob{i}", self.bulk // 4 // BLOBS) for i in range(BLOBS))):
            with open(os.path.join(self.files, name), "wb") as file:
                file.truncate(size)
        repository = os.path.join(self.files, "repositories", "repo")
        script = """git init -q -b main "$1"; cd "$1"; head -c $2 /dev/urandom | split -b 1M - part
            export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=core.compression GIT_CONFIG_VALUE_0=0
            git add .; git -c user.name=b -c user.email=b@example commit -qm x; git repack -adq --window=0"""
        subprocess.run(["sh", "-euc", script, "sh", repository, str(self.bulk // 32)], check=True)
        subprocess.run(["sh", "-euc", 'cat "$1"/large "$1"/blob* >/dev/null', "sh", self.files], check=True)
        subprocess.run(["chmod", "-R", "a+rX", self.files], check=True)

    def command(self, kind, address):
        if kind == "iperf3":
            return [find("iperf3"), "-s", "-B", address], 5201
        self.need_files()
        if kind == "nginx":
            return nginx_command(os.path.join(self.folder, f"nginx-{address}"), address, self.files), WEB_PORT
        base = os.path.join(self.files, "repositories")
        return ["env", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
                find("git"), "daemon", "--reuseaddr", "--export-all", f"--base-path={base}",
                f"--listen={address}", base], 9418

    def start(self, kind, side_address):
        """A helper's gateway is the loopback."""
        address = "127.0.0.1" if side_address == "10.0.2.2" else side_address
        if (kind, address) in self.running:
            return
        command, port = self.command(kind, address)
        log = os.path.join(self.folder, f"{kind}-{address}.log")
        with open(log, "wb") as file:
            server = self.stack.enter_context(self.host.popen_user(command, stdout=file, stderr=file))
        wait_listening(server, self.host, port, kind, log)
        self.running[kind, address] = server


# --- what is measured

def fetch(side, name, seconds, command):
    with side.popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as client:
        return output_of(client, name, seconds)


def measure_wrk(side, args):
    wrk = find("wrk")
    args.servers.start("nginx", side.address)
    text = fetch(side, "wrk", args.seconds + 30, [wrk, "-t", 2, "-c", 16, "-d", math.ceil(args.seconds),
                                                  f"http://{side.address}:{WEB_PORT}/page"])
    refuse_errors(text)
    yield "wrk", figure_in(r"Requests/sec: *([\d.]+)", text, "wrk")


def refuse_errors(text):
    found = re.search(r"(Non-2xx.*|Socket errors:.*)", text)
    if found:
        raise Failure(f"wrk: {found[1]}")


def measure_h2load(side, args):
    h2load = find("h2load")
    args.servers.start("nginx", side.address)
    text = fetch(side, "h2load", args.seconds + 60, [
        h2load, "-n", int(args.seconds * 10000), "-c", 4, "-m", 8, f"http://{side.address}:{WEB_PORT + 1}/page"])
    if "0 failed" not in text:
        raise Failure(f"h2load: {text.strip()[-200:]}")
    yield "h2load", figure_in(r"([\d.]+) req/s", text, "h2load")


def measure_curl(side, args):
    curl = find("curl")
    args.servers.start("nginx", side.address)
    text = fetch(side, "curl", 120, [curl, "-sS", "-o", "/dev/null", "-w", "%{size_download} %{time_total}",
                                     f"http://{side.address}:{WEB_PORT}/large"])
    size, seconds = (float(word) for word in text.split())
    if size != args.servers.bulk:
        raise Failure(f"curl: {size:.0f} bytes of {args.servers.bulk}")
    yield "curl", size / seconds / 1e6


def measure_blobs(side, args):
    curl = find("curl")
    args.servers.start("nginx", side.address)
    begin = time.monotonic()
    text = fetch(side, "curl", 120, [curl, "-s", "--no-progress-meter", "-Z", "--parallel-max", BLOBS,
                                     "-w", "%{size_download}\n",
                                     f"http://{side.address}:{WEB_PORT}/blob[0-{BLOBS - 1}]",
                                     "-o", "/dev/null"])
    seconds = time.monotonic() - begin
    size = sum(float(word) for word in text.split())
    if size != args.servers.bulk // 4 // BLOBS * BLOBS:
        raise Failure(f"curl: {size:.0f} bytes of {args.servers.bulk // 4}")
    yield "blobs", size / seconds / 1e6


def measure_git(side, args):
    git = find("git")
    args.servers.start("git", side.address)
    with user_folder() as folder:
        begin = time.monotonic()
        fetch(side, "git", 120, [git, "-c", "gc.auto=0", "clone", "-q", "--bare", "--single-branch",
                                 f"git://{side.address}/repo", f"{folder}/clone"])
        seconds = time.monotonic() - begin
        size = sum(os.path.getsize(path) for path in glob.glob(f"{folder}/clone/objects/pack/*.pack"))
    if size < args.servers.bulk // 32:
        raise Failure(f"git: a pack of {size} bytes")
    yield "git clone", size / seconds / 1e6


@contextlib.contextmanager
def served(side, command, port, what, log):
    """A server in the container, or where there is none on the host itself; the address to ask."""
    namespace = side.container or side.loads.host
    with open(log, "wb") as file, side.popen(command, stdout=file, stderr=file) as server:
        wait_listening(server, namespace, port, what, log)
        yield side.published_address()
        server.terminate()
        server.wait()


def ask(side, what, command, seconds=30):
    with side.loads.host.popen_user(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as client:
        return output_of(client, what, seconds)


def measure_wrk_published(side, args):
    wrk = find("wrk")
    args.servers.need_files()
    with user_folder() as folder:
        command = nginx_command(os.path.join(folder, "nginx"), "0.0.0.0", args.servers.files, WEB_PORT + 2)
        with served(side, command, WEB_PORT + 2, "nginx", f"{folder}/log") as address:
            text = ask(side, "wrk", [wrk, "-t", 2, "-c", 16, "-d", math.ceil(args.seconds),
                                     f"http://{address}:{WEB_PORT + 2}/page"])
    refuse_errors(text)
    yield "wrk published", figure_in(r"Requests/sec: *([\d.]+)", text, "wrk")


def measure_redis(side, args):
    server, benchmark = find("redis-server"), find("redis-benchmark")
    command = [server, "--port", REDIS_PORT, "--bind", "0.0.0.0", "--protected-mode", "no", "--save", "",
               "--appendonly", "no"]
    with user_folder() as folder, served(side, command, REDIS_PORT, "redis", f"{folder}/log") as address:
        text = ask(side, "redis-benchmark", [benchmark, "-h", address, "-p", REDIS_PORT, "-c", 16, "-n",
                                             int(10000 * args.seconds), "-t", "set,get", "--csv"])
    for name in ("SET", "GET"):
        yield f"redis {name.lower()}", figure_in(rf'"{name}","([\d.]+)"', text, "redis-benchmark")


# PostgreSQL refuses root, and whom no line of /etc/passwd names.
NOBODY = ["unshare", "--user", "--map-user=65534", "--map-group=65534", "--"]


def database(args, host):
    """A folder with a small database, made when it is first asked for; one server after another has it."""
    if not args.database:
        folder = f"{args.servers.folder}/postgres"
        initdb = [*NOBODY, find("initdb"), "-N", "-A", "trust", "-U", "bench", "-D", folder]
        with host.popen_user(initdb, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            output_of(process, "initdb")
        with open(f"{folder}/pg_hba.conf", "a", encoding="ascii") as file:
            file.write("host all all all trust\n")
        args.database = folder
    return args.database


def measure_pgbench(side, args):
    postgres = find("postgres")
    pgbench = max(glob.glob("/usr/lib/postgresql/*/bin/pgbench"), default=None) or find("pgbench")
    with user_folder() as folder:
        data = database(args, side.loads.host)
        command = [*NOBODY, postgres, "-D", data, "-p", POSTGRES_PORT, "-c", "listen_addresses=0.0.0.0", "-c",
                   f"unix_socket_directories={folder}", "-c", "fsync=off"]
        with served(side, command, POSTGRES_PORT, "postgres", f"{folder}/log") as address:
            whom = ["-h", address, "-p", POSTGRES_PORT, "-U", "bench"]
            ask(side, "pgbench", [pgbench, *whom, "-i", "-q", "-s", 1, "postgres"])
            text = ask(side, "pgbench", [pgbench, *whom, "-S", "-n", "-c", 4, "-T", math.ceil(args.seconds),
                                         "postgres"])
    yield "pgbench", figure_in(r"tps = ([\d.]+)", text, "pgbench")


def published(port):
    return Setting(mtu=1500, publish=port)


def measurements(args):
    for way in ("up", "down"):
        yield [f"iperf3 {way}"], 1500, measure_iperf3, (way,)
    yield ["wrk"], 1500, measure_wrk, ()
    yield ["h2load"], 1500, measure_h2load, ()
    yield ["curl"], 1500, measure_curl, ()
    yield ["blobs"], 1500, measure_blobs, ()
    yield ["git clone"], 1500, measure_git, ()
    yield ["wrk published"], published(WEB_PORT + 2), measure_wrk_published, ()
    yield ["redis set", "redis get"], published(REDIS_PORT), measure_redis, ()
    yield ["pgbench"], published(POSTGRES_PORT), measure_pgbench, ()


def add_options(parser):
    parser.add_argument("--bulk-mib", type=int, default=1024, help="of the large file; all blobs together have a quarter of it")


def prepare(args, loads, peers, stack):
    folder = stack.enter_context(user_folder())
    args.servers = Servers(loads.host, stack, folder, args.bulk_mib * MIB)
    args.database = None
