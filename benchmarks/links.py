# SPDX-License-Identifier: Apache-2.0
"""How a side of a benchmark is set up: its settings, published ports, the kernel's own link, and a plain relay."""
import contextlib
import dataclasses
import fnmatch
import itertools
import json
import os
import shutil
import socket
import tempfile

from common import USER, Failure, is_root


@dataclasses.dataclass(frozen=True)
class Setting:
    """`publish` is a TCP port of the host's loopback that leads to the same one of the container;
    the helper's command stands behind `prefix`."""
    mtu: int = 1500
    options: tuple = ()
    publish: int = 0
    prefix: tuple = ()


def as_setting(value):
    return value if isinstance(value, Setting) else Setting(mtu=value)


@contextlib.contextmanager
def user_folder():
    """A folder of the ordinary user's."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        if is_root:
            os.chown(folder, USER, USER)
        yield folder


def publish(path, port):
    """A rule by the API socket at `path`."""
    request = {"execute": "add_hostfwd", "arguments": {
        "proto": "tcp", "host_addr": "127.0.0.1", "host_port": port, "guest_port": port}}
    with socket.socket(socket.AF_UNIX) as api:
        api.settimeout(10)
        api.connect(path)
        api.sendall(json.dumps(request).encode())
        api.shutdown(socket.SHUT_WR)
        reply = b"".join(iter(lambda: api.recv(4096), b""))
    if b'"return"' not in reply:
        raise Failure(f"the port is not published: {reply.decode(errors='replace').strip()}")


class Veth:
    """A peer that is the kernel's: a pair of interfaces, which root alone can make on a real host."""

    name, is_pasta = "veth", False


class VethLink:
    numbers = itertools.count()

    def __init__(self, host, container, mtu):
        if not shutil.which("ip"):
            raise Failure("ip is not installed")
        self.host, self.name = host, f"veth{next(self.numbers)}"
        self.host_address, self.container_address = "192.0.3.1", "192.0.3.2"
        host.shell(f"ip link add {self.name} mtu {mtu} type veth peer name tap0 mtu {mtu} netns {container.pid}; "
                   f"ip address add {self.host_address}/24 dev {self.name}; ip link set {self.name} up")
        container.shell(f"ip address add {self.container_address}/24 dev tap0; ip link set tap0 up; "
                        f"ip route add default via {self.host_address}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(Exception):  # it goes with the container, too
            self.host.shell(f"ip link delete {self.name} 2>/dev/null")


class Relay:
    """A limit: tcp-relay on the host, one thread that copies between two sockets of the loopback. No container.

    What it loses to loopback a helper loses by being one thread, not by what it does. It takes part in the rows that
    this shows in, whose names are like one of `patterns`.
    """

    name, is_pasta, patterns = "relay", False, ("beside *",)


def takes_part(program, rows):
    """Whether any of the rows is measured with that program: most are for all."""
    patterns = getattr(program, "patterns", ("*",))
    return any(fnmatch.fnmatchcase(row, one) for row in rows for one in patterns)
