# SPDX-License-Identifier: Apache-2.0
"""Fixtures. Everything happens in namespaces that the tests make, and is checked to be gone."""
import contextlib
import ctypes
import os
import resource

import pytest

from harness import ns, util
from harness.helper import STACK, Helper

PR_SET_CHILD_SUBREAPER = 36


def pytest_configure(config):
    if not os.environ.get("NETNS_HELPER"):
        pytest.exit("NETNS_HELPER must name the program under test, such as "
                    "NETNS_HELPER=build/src/netns-helper; NETNS_HELPER_STACK its stack", 4)
    config.addinivalue_line("markers", "soak: takes minutes; runs in the suite of that name")
    config.addinivalue_line("markers", "relay_only: libslirp differs, see docs/design.md")
    config.addinivalue_line("markers", "dad: the container looks for its IPv6 address first, for seconds")
    config.addinivalue_line("markers", "fresh: wants a private host of its own")
    # Whatever a helper leaves behind becomes our child.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def pytest_collection_modifyitems(config, items):
    """What libslirp does in its own way is left out on it: each is in the list in docs/design.md."""
    if STACK != "libslirp":
        return
    left_out = [item for item in items if item.get_closest_marker("relay_only")]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


def orphans(before):
    """Children that were not there before; those that have ended are reaped."""
    left = set(util.children_of(os.getpid())) - before
    for pid in left:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return left


@pytest.fixture(autouse=True)
def no_orphans(module_host):
    """No process that a test caused outlives it."""
    before = set(util.children_of(os.getpid()))
    yield
    kept = {world.pid for one in module_host for world in one.worlds if hasattr(world, "pid")}
    util.until(lambda: not orphans(before | kept), "no process left behind")


@pytest.fixture(scope="module")
def module_host():
    """The host that the tests of a file share, one after another; made when one of them asks."""
    made = []
    yield made
    for one in made:
        one.close()


@pytest.fixture
def host(request, module_host, no_orphans):
    """A private host. Tests marked `fresh` change it in ways that reset() does not undo."""
    if request.node.get_closest_marker("fresh"):
        made = ns.Host()
        yield made
        made.close()
        return
    if not module_host:
        module_host.append(ns.Host())
    yield module_host[0]
    module_host[0].reset()


@pytest.fixture
def real_host(no_orphans):
    """The machine's own namespaces; only loopback may be used."""
    made = ns.RealHost()
    yield made
    made.close()


@pytest.fixture
def container(host, request):
    """A container of the host's ordinary user."""
    made = host.container()
    if not request.node.get_closest_marker("dad"):
        made.shell("echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad", check=False)
    return made


@pytest.fixture
def helpers():
    """The helpers that the test started; stopped and looked after at its end."""
    started = []
    yield started
    try:
        for one in started:
            if not one.ended:
                one.stop()
    finally:
        for one in started:
            one.discard()


@pytest.fixture
def helper(host, container, helpers):
    """helper(*options, target=..., tap=..., **see Helper): starts one and waits until it is ready.

    Without a target it serves the container by its pid, configures it, and calls its tap tap0.
    """
    def start(*options, target=None, tap="tap0", configure=True, **kwargs):
        if target is None:
            target = [container.pid, tap]
        words = (["--configure"] if configure else []) + list(options)
        one = Helper(host, words, target, wait=False, **kwargs)
        helpers.append(one)
        if one.ready_read is not None and kwargs.get("wait", True):
            one.wait_ready()
        return one
    return start


@pytest.fixture
def many_descriptors():
    """As root the hard limit becomes 65536; who may not raise it takes what there is."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (65536, 65536))
    yield resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
def small_sockets(host, container):
    """What waits does so in the helper, not in the kernels."""
    for world in (host.root, container):
        done = world.shell("""
            echo "4096 16384 32768" >/proc/sys/net/ipv4/tcp_rmem
            echo "4096 16384 32768" >/proc/sys/net/ipv4/tcp_wmem""", check=False)
        if done.returncode != 0:
            pytest.skip("net.ipv4.tcp_rmem of a private host cannot be set here")
