#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Does each cell of the (state, event) matrix name the scripts that visit it, or why it is impossible? (TAP)

matrix.py PLAY MATRIX SCRIPT...: the program, the file of claims, and all scripts. The check is tried on false
claims first.
"""
import pathlib
import subprocess
import sys


def read_claims(text):
    """{(state, event): list of scripts, or the reason why it is impossible}, and what cannot be read."""
    claims, faults = {}, []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        words = line.split(None, 2)
        cell = tuple(words[:2])
        if len(words) < 3 or cell in claims:
            faults.append(f"line {number}: {'claimed twice' if cell in claims else 'claims nothing'}")
            continue
        key, colon, reason = words[2].partition(":")
        claims[cell] = reason.strip() if colon and key == "impossible" else words[2].split()
    return claims, faults


def faults_of(claims, is_possible, visited):
    """`is_possible`: {cell: bool} as the machine says; `visited`: {script: set of cells}."""
    faults = [f"{s} {e}: there is no such cell" for s, e in claims if (s, e) not in is_possible]
    for cell, possible in is_possible.items():
        name, claim = " ".join(cell), claims.get(cell)
        visitors = [script for script, cells in visited.items() if cell in cells]
        if claim is None:
            faults.append(f"{name}: no claim")
        elif isinstance(claim, str):
            if not claim:
                faults.append(f"{name}: impossible without a reason")
            if possible:
                faults.append(f"{name}: said to be impossible, but the machine has an answer")
            faults += [f"{name}: said to be impossible, but {script} visits it" for script in visitors]
        else:
            if not possible:
                faults.append(f"{name}: the machine has no answer")
            faults += [f"{name}: {script} does not visit it" for script in claim if script not in visitors]
    return faults


A, B = ("ONE", "SYN"), ("TWO", "SYN")
# (claims, is_possible, visited, how many faults)
TRIALS = [
    ("ONE SYN first\nTWO SYN impossible: so it is", {A: True, B: False}, {"first": {A}}, 0),
    ("ONE SYN first second", {A: True}, {"first": {A}, "second": set()}, 1),
    ("ONE SYN nobody", {A: True}, {"first": {A}}, 1),
    ("ONE SYN first", {A: True, B: True}, {"first": {A, B}}, 1),
    ("ONE SYN first\nTWO SYN impossible: so it is", {A: True, B: True}, {"first": {A}}, 1),
    ("ONE SYN first\nTWO SYN impossible: so it is", {A: True, B: False}, {"first": {A, B}}, 1),
    ("ONE SYN first\nTWO SYN impossible:", {A: True, B: False}, {"first": {A}}, 1),
    ("ONE SYN first", {A: False}, {"first": {A}}, 1),
    ("ONE SYN first\nTWO SYN first", {A: True}, {"first": {A, B}}, 1),
    ("ONE SYN first\nONE SYN first", {A: True}, {"first": {A}}, 1),
    ("ONE SYN", {A: True}, {"first": {A}}, 2),
]


def try_out():
    """The trials that the check got wrong."""
    wrong = []
    for text, is_possible, visited, n in TRIALS:
        claims, faults = read_claims(text)
        faults += faults_of(claims, is_possible, visited)
        if len(faults) != n:
            wrong.append(f"{text!r}: {faults}")
    return wrong


def run(*args):
    return subprocess.run(args, capture_output=True, text=True, timeout=60, check=False).stdout.splitlines()


def possible_cells(play):
    return {tuple(line.split()[:2]): line.endswith(" possible") for line in run(play, "--cells")}


def visited_cells(play, script):
    return {tuple(line.split()[2:]) for line in run(play, "--cells", script) if line.startswith("# visited ")}


def report(number, name, faults):
    print(f"{'not ok' if faults else 'ok'} {number} - {name}")
    for line in faults:
        print(f"# {line}")
    return not faults


def main():
    play, matrix, *scripts = sys.argv[1:]
    print("1..2")
    passed = report(1, "the check finds false claims", try_out())
    claims, faults = read_claims(pathlib.Path(matrix).read_text())
    visited = {pathlib.Path(script).stem: visited_cells(play, script) for script in scripts}
    is_possible = possible_cells(play)
    faults += faults_of(claims, is_possible, visited)
    if not is_possible or not visited:
        faults.append("there are no cells, or no scripts")
    passed &= report(2, "each cell names its scripts or why it is impossible", faults)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
