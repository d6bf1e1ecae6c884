# SPDX-License-Identifier: Apache-2.0
"""What benchmarks/frames measures, and the baseline that it is compared with."""
import collections
import json
import os
import re
import shutil
import subprocess
import tempfile

from common import Failure

GROWTH_MAX = 0.05
N_TIMED = 200000
REPEATS = 3

Case = collections.namedtuple("Case", "name per what")
CASES = [
    Case("parse", "frame", "the checked parse of a TCP frame"),
    Case("lookup", "frame", "finding its flow among 1000"),
    Case("tcp-up", "frame", "1460 bytes of TCP from the container to a socket"),
    Case("tcp-up-run", "frame", "64,240 bytes of TCP from the container in one frame (TSO)"),
    Case("tcp-down", "frame", "1460 bytes from a socket to the container, and their acknowledgement"),
    Case("tcp-down-run", "frame", "64,240 bytes from a socket to the container, and their acknowledgement"),
    Case("tcp-exchange", "exchange", "a byte up and a byte down, the container's acknowledgement"),
    Case("udp-up", "datagram", "1400 bytes of UDP from the container to a socket"),
    Case("udp-down", "datagram", "1400 bytes from a socket to the container, 32 at a time"),
]
# Steps under valgrind; whole turns of all cases.
N_COUNTED = 3200
# What the C library chooses by the processor it finds would make two machines differ.
PLAIN_LIBC = "glibc.cpu.hwcaps=-AVX2,-AVX512F,-AVX512VL,-AVX512BW,-ERMS,-FSRM,-AVX_Fast_Unaligned_Load"


class NoValgrind(Exception):
    pass


def case_named(name):
    for case in CASES:
        if case.name == name:
            return case
    raise Failure(f"no case is called {name}: {', '.join(case.name for case in CASES)}")


def program(build):
    return os.path.join(os.path.abspath(build), "benchmarks", "frame-steps")


def first_line(command):
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return ((found.stdout or found.stderr).splitlines() or ["unknown"])[0]


def made_with(build):
    """What the number of instructions depends on, beside the source."""
    folder = os.path.join(build, "meson-info")
    try:
        with open(os.path.join(folder, "intro-targets.json"), encoding="utf-8") as file:
            target = next(one for one in json.load(file) if one["name"] == "frame-steps")
        with open(os.path.join(folder, "intro-buildoptions.json"), encoding="utf-8") as file:
            options = {one["name"]: one["value"] for one in json.load(file)}
    except FileNotFoundError:
        raise Failure(f"{build} is no build folder of meson") from None
    return {
        "compiler": first_line([*target["target_sources"][0]["compiler"], "--version"]),
        "libc": " ".join(os.confstr("CS_GNU_LIBC_VERSION").split()),
        "machine": os.uname().machine,
        "optimization": options["optimization"],
    }


def release_of(build):
    with open(os.path.join(build, "meson-info", "intro-projectinfo.json"), encoding="utf-8") as file:
        return json.load(file)["version"]


def run(command, **environment):
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})
    if done.returncode:
        raise Failure(f"{' '.join(command)}: {(done.stdout + done.stderr).strip()}")
    return done.stdout


def callgrind(build, case, profile):
    valgrind = shutil.which("valgrind")
    if not valgrind:
        raise NoValgrind("valgrind is not installed: apt-get install valgrind")
    run([valgrind, "--quiet", "--tool=callgrind", f"--callgrind-out-file={profile}",
         "--toggle-collect=frame_steps_run", program(build), case.name, str(N_COUNTED)],
        GLIBC_TUNABLES=PLAIN_LIBC)


def total_of(profile):
    with open(profile, encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith(("totals:", "summary:")):
                return int(line.split()[1])
    raise Failure("callgrind has counted nothing")


def measure(build, case):
    """Instructions and nanoseconds of one step."""
    with tempfile.TemporaryDirectory() as folder:
        profile = os.path.join(folder, "profile")
        callgrind(build, case, profile)
        instructions = total_of(profile) / N_COUNTED
    runs = [json.loads(run([program(build), case.name, str(N_TIMED)])) for _ in range(REPEATS)]
    return {"instructions": instructions, "ns": min(one["ns"] / one["steps"] for one in runs)}


# --- where they are

FUNCTION = re.compile(r"^\s*([\d,]+) \(\s*([\d.]+)%\)\s+(\S+):(\S+)(?: \[(.*)\])?$")


def part_of(path, image):
    """To which folder of src/ a source file belongs."""
    found = re.search(r"(?:^|/)src/((?:\w+/)*)\w+\.[ch]$", path)
    if found:
        return "src/" + found[1].rstrip("/")
    if path.endswith("frame-steps.c"):
        return "the generator"
    # A function of its headers that was inlined counts for the C library.
    is_foreign = path.startswith("/usr/include") or path == "???" or image and "frame-steps" not in image
    return "C library" if is_foreign else "other"


def shares(annotated):
    """[(folder, share of all)] of what callgrind_annotate prints, largest first."""
    parts = collections.Counter()
    total = 0
    for line in annotated.splitlines():
        found = re.match(r"^\s*([\d,]+) .*PROGRAM TOTALS", line)
        if found:
            total = int(found[1].replace(",", ""))
        found = FUNCTION.match(line)
        if found:
            parts[part_of(found[3], found[5])] += int(found[1].replace(",", ""))
    if not total:
        raise Failure("callgrind_annotate says nothing")
    return [(part, n / total) for part, n in parts.most_common()]


def functions(annotated, most=15):
    """[(folder, function, share of all)], largest first."""
    found = [(part_of(one[3], one[5]), one[4], float(one[2]) / 100)
             for one in map(FUNCTION.match, annotated.splitlines()) if one]
    return found[:most]


def annotate(build, case):
    with tempfile.TemporaryDirectory() as folder:
        profile = os.path.join(folder, "profile")
        callgrind(build, case, profile)
        return run(["callgrind_annotate", "--threshold=100", "--auto=no", profile])


def breakdown(build, case):
    return shares(annotate(build, case))


# --- the baseline: a list of releases, each with the tools it was built with

def read_baseline(path):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return []


def same_tools(baseline, tools):
    """The newest entry of these tools, or None."""
    return next((one for one in reversed(baseline) if one["made_with"] == tools), None)


def grown(before, figures):
    return [name for name, figure in figures.items()
            if name in before and figure["instructions"] > before[name] * (1 + GROWTH_MAX)]


def with_entry(baseline, release, tools, figures):
    """The baseline with these figures in place of the same release's."""
    kept = [one for one in baseline if (one["release"], one["made_with"]) != (release, tools)]
    return [*kept, {"release": release, "made_with": tools,
                    "instructions": {name: round(one["instructions"], 1) for name, one in figures.items()}}]


def store(path, baseline, tools, figures, release):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(with_entry(baseline, release, tools, figures), file, indent=1)
        file.write("\n")
