# SPDX-License-Identifier: Apache-2.0
"""The container's root, who sees both processes, can neither trace them nor reach through them."""
import pytest

from harness.util import until

# Prints what succeeded, one per line. Runs as root of the container, in its user namespace.
ATTEMPTS = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long
PTRACE_ATTACH, PTRACE_SEIZE = 16, 0x4206
assert os.geteuid() == 0
for pid in map(int, sys.argv[1:]):
    assert os.path.exists(f"/proc/{pid}"), "the pid namespace is not shared"
    for request in (PTRACE_SEIZE, PTRACE_ATTACH):
        if libc.ptrace(request, pid, None, None) == 0:
            print(pid, "traced")
    for name in ("root/", "fd/", "cwd/", "map_files/"):
        try:
            os.listdir(f"/proc/{pid}/{name}")
            print(pid, "listed", name)
        except OSError:
            pass
    for name in ("exe", "fd/0", "fd/3", "ns/mnt", "ns/net", "ns/user"):
        try:
            print(pid, "followed", name, os.readlink(f"/proc/{pid}/{name}"))
        except OSError:
            pass
    for name in ("root/etc/passwd", "environ", "mem", "maps", "auxv", "fd/3", "fd/4"):
        try:
            with open(f"/proc/{pid}/{name}", "rb") as file:
                print(pid, "opened", name)
        except OSError:
            pass
    try:
        fd = os.pidfd_open(pid)
        for number in range(3, 20):
            if libc.syscall(438, fd, number, 0) >= 0:
                print(pid, "took descriptor", number)
    except OSError:
        pass
"""


def check_refused(container, one):
    """That descriptor numbers of the relay can be listed is the file system's permission for the
    same user; what they are cannot be seen, and they cannot be opened."""
    relay, agent = one.processes()
    lines = container.python(ATTEMPTS, relay, agent).stdout.splitlines()
    assert set(lines) <= {f"{relay} listed fd/"}, lines


@pytest.mark.parametrize("options", [[], ["--enable-sandbox"], ["--sandbox=off"],
                                     ["--disable-seccomp", "--sandbox=off"],
                                     ["--disable-feature=user-namespace"]])
def test_nothing_succeeds(container, helper, options):
    check_refused(container, helper(*options))


def test_attempts_can_succeed(container):
    """The same program, against a process of the container's own: the test sees what it can."""
    with container.popen(["sleep", "1000"]) as own:
        try:
            until(lambda: name_of(own.pid) == "sleep", "the prefix has run the program")
            done = container.python(ATTEMPTS, own.pid)
        finally:
            own.kill()
    for word in ("traced", "listed root/", "listed fd/", "opened mem", "followed fd/0"):
        assert word in done.stdout


def name_of(pid):
    with open(f"/proc/{pid}/comm", encoding="ascii") as file:
        return file.read().strip()


@pytest.mark.parametrize("options", [[], ["--enable-sandbox"]])
def test_nothing_succeeds_against_a_path_target(container, helper, options):
    one = helper("--netns-type=path", f"--userns-path=/proc/{container.pid}/ns/user", *options,
                 target=[f"/proc/{container.pid}/ns/net", "tap0"])
    check_refused(container, one)


def test_agent_holds_next_to_nothing(host, helper):
    """Its socket and three times /dev/null."""
    one = helper()
    done = host.root.run("ls", "-l", f"/proc/{one.agent()}/fd", check=False)
    if done.returncode != 0:
        pytest.skip("only root may look at the agent's descriptors")
    targets = [line.split(" -> ")[1] for line in done.stdout.splitlines() if " -> " in line]
    assert sorted(target.split(":")[0] for target in targets) == ["/dev/null"] * 3 + ["socket"]
