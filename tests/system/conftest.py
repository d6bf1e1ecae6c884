# SPDX-License-Identifier: Apache-2.0
"""Fixtures. Everything happens in namespaces that the tests make, and is checked to be gone."""
import ctypes
import os
import sys

import pytest

from harness import ns, util
from harness.helper import Helper

PR_SET_CHILD_SUBREAPER = 36
EXPECTED_SKIPS = os.path.join(os.path.dirname(__file__), "../expected-skips")


def pytest_configure(config):
    config.addinivalue_line("markers", "soak: takes minutes; runs in the suite of that name")
    # Whatever a helper leaves behind becomes our child.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def pytest_terminal_summary(terminalreporter, exitstatus, config):
    """With NETNS_STRICT_SKIPS=1 a skip that tests/expected-skips does not name is a failure."""
    skipped = terminalreporter.stats.get("skipped", [])
    with open(EXPECTED_SKIPS, encoding="utf-8") as file:
        expected = {line.split()[0] for line in file if line.strip() and line[0] != "#"}
    names = {report.nodeid.split("tests/system/")[-1].split("[")[0]: report for report in skipped}
    config.unexpected_skips = sorted(set(names) - expected)
    for name in config.unexpected_skips:
        terminalreporter.write_line(f"skip that tests/expected-skips does not name: {name}")
    config.nothing_ran = skipped and not any(
        terminalreporter.stats.get(kind) for kind in ("passed", "failed", "error"))


def pytest_unconfigure(config):
    """Exit status 77 tells meson that every test of the file was skipped."""
    if getattr(config, "unexpected_skips", None) and os.environ.get("NETNS_STRICT_SKIPS"):
        config.exit_instead = 1
    elif getattr(config, "nothing_ran", False):
        config.exit_instead = 77
    if hasattr(config, "exit_instead") and not config.option.collectonly:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.exit_instead)


@pytest.fixture(autouse=True)
def no_orphans():
    """No process that a test caused outlives it."""
    before = set(util.children_of(os.getpid()))
    yield
    left = set(util.children_of(os.getpid())) - before
    assert not left, f"processes left behind: {left}"


@pytest.fixture
def host(no_orphans):
    """A private host."""
    made = ns.Host()
    yield made
    made.close()


@pytest.fixture
def real_host(no_orphans):
    """The machine's own namespaces; only loopback may be used."""
    made = ns.RealHost()
    yield made
    made.close()


@pytest.fixture
def container(host):
    """A container of the host's ordinary user."""
    return host.container()


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
