# SPDX-License-Identifier: Apache-2.0
"""What benchmarks/run has measured, as values and as text. Pure: a results.json in, figures and Markdown out.

A figure is a median. It is shown only when every round that was planned has given one and they agree: the
interquartile range is at most 15 % of it. Otherwise the cell says what is wrong instead.
"""
import fnmatch
import statistics

NOISY = 0.15
ROUNDS_MIN = 3  # for a spread
NAMES = {"slirp": "slirp4netns"}


def number(value):
    if value is None:
        return ""
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 or not size else 4
    return f"{value:.{digits}f}"


class Cell:
    """One row of one program. `state` is figure, noisy, few (rounds), failed or none."""

    def __init__(self, samples, planned):
        self.values = [value for value in samples if not isinstance(value, str)]
        self.reasons = [value for value in samples if isinstance(value, str)]
        self.n, self.planned = len(samples), planned
        self.state = self.judge()

    def judge(self):
        if not self.n:
            return "none"
        if self.reasons:
            return "failed"
        if self.n < self.planned:
            return "few"
        return "noisy" if self.spread is not None and self.spread > NOISY else "figure"

    @property
    def spread(self):
        """The interquartile range as a part of the median; None: too few rounds, or nothing to divide by."""
        middle = statistics.median(self.values) if self.values else 0
        if len(self.values) < ROUNDS_MIN or not middle:
            return None
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return (high - low) / abs(middle)

    @property
    def figure(self):
        """What may be compared; None when there is no such figure."""
        return statistics.median(self.values) if self.state == "figure" else None

    def text(self):
        if self.state == "none":
            return ""
        if self.state == "failed":
            return f"failed ({len(self.reasons)} of {self.n})"
        if self.state == "few":
            return f"only {self.n} of {self.planned} rounds"
        if self.state == "noisy":
            return f"noisy: {number(min(self.values))} to {number(max(self.values))}"
        if self.spread is None:
            return number(self.figure) + (" (one round)" if self.n == 1 else "")
        return f"{number(self.figure)} ±{self.spread * 50:.0f} %"


class Results:
    def __init__(self, data):
        self.data = data
        self.rows = {row["name"]: row for row in data["rows"]}
        self.roles = {one["name"]: one["role"] for one in data["programs"]}

    def names(self, *roles):
        return [name for name, role in self.roles.items() if role in roles]

    @property
    def helper(self):
        """The one that is compared with the others."""
        return next(iter(self.names("helper")), None)

    def cell(self, row, program):
        row = self.rows.get(row)
        return Cell(row["samples"].get(program, []), row["planned"]) if row else Cell([], 0)

    def figure(self, row, program):
        return self.cell(row, program).figure

    def best_peer(self, row):
        """(figure, name) or (None, None). Peers that failed are no peers here, one that is noisy makes it unknown."""
        cells = {name: self.cell(row, name) for name in self.names("peer")}
        if any(cell.state in ("noisy", "few") for cell in cells.values()):
            return None, None
        found = [(cell.figure, name) for name, cell in cells.items() if cell.figure is not None]
        if not found:
            return None, None
        return (max if self.rows[row]["more"] else min)(found)

    def reference(self, row, of, program):
        """What a figure is held against, and how that is called."""
        if of == "peer":
            value, name = self.best_peer(row)
            return value, name or "the best peer"
        if of in ("slirp", "loopback") or of in self.roles:
            return self.figure(row, NAMES.get(of, of)), NAMES.get(of, of)
        return self.figure(of, program), f"`{of}`"

    def ratio(self, row, of, program=None):
        ours = self.figure(row, program or self.helper)
        theirs, name = self.reference(row, of, program or self.helper)
        return (None, name) if ours is None or not theirs else (ours / theirs, name)

    def targets(self, row):
        """(text, True met, False missed, None not known) of each."""
        ours = self.figure(row, self.helper)
        for of, factor in self.rows[row].get("targets", []):
            more = self.rows[row]["more"]
            theirs, name = (1, "") if of == "fixed" else self.reference(row, of, self.helper)
            text = f"{'>=' if more else '<='} {factor:g}" + (f"x {name}" if name else "")
            if ours is None or theirs is None:
                yield text, None
            else:
                yield text, ours >= factor * theirs if more else ours <= factor * theirs

    def matching(self, patterns):
        """In the order of the patterns, then of the rows."""
        found = [name for pattern in patterns for name in self.rows if fnmatch.fnmatchcase(name, pattern)]
        return list(dict.fromkeys(name for name in found if not self.rows[name].get("series")))

    def trouble(self):
        """What has to be said before any figure."""
        said = []
        if self.data.get("interrupted"):
            said.append("This run was interrupted: rows without all of their rounds have no figure.")
        if self.data.get("out_of_time"):
            said.append("The time was up before all rounds: rows without all of theirs have no figure.")
        unsteady = [f"{name} ({program})" for name, row in self.rows.items() if not row.get("series")
                    for program in row["samples"] if self.cell(name, program).state == "noisy"]
        if unsteady:
            said.append(f"Too noisy for a figure (interquartile range over {NOISY * 100:.0f} % of the median): "
                        + ", ".join(unsteady) + ".")
        return said

    def failures(self, patterns=("*",)):
        """(row, program, why), the first reason of each."""
        for name in self.matching(patterns):
            for program in self.rows[name]["samples"]:
                cell = self.cell(name, program)
                if cell.reasons:
                    yield name, program, cell.reasons[0]


# --- Markdown

def line(cells):
    return "| " + " | ".join(cells) + " |"


def markdown(head, body):
    return "\n".join([line(head), line(["---"] * len(head)), *(line(cells) for cells in body)])


def escape(text):
    return str(text).replace("|", "\\|").replace("\n", " ")


def table(results, patterns, with_targets=False):
    """One line per row, one column per program, and the helper's ratios."""
    names = results.matching(patterns)
    programs = [program for program in results.roles
                if any(results.cell(name, program).state != "none" for name in names)]
    if not names or not programs:
        return "Not measured."
    head = ["", "unit", *programs, "to the best peer", "to loopback"] + (["target"] if with_targets else [])
    body = []
    for name in names:
        cells = [name, escape(results.rows[name]["unit"]), *(results.cell(name, one).text() for one in programs)]
        for of in ("peer", "loopback"):
            ratio, whose = results.ratio(name, of)
            cells.append("" if ratio is None else f"{number(ratio)}x" + (f" ({whose})" if of == "peer" else ""))
        if with_targets:
            words = {True: "met", False: "**missed**", None: "not known"}
            cells.append("; ".join(f"{text}: {words[met]}" for text, met in results.targets(name)))
        body.append(cells)
    return markdown(head, body)


def made(results):
    """How and where: the paragraph before any table."""
    run = results.data["run"]
    parts = [f"{run['date']}, commit {run['commit']}", run["machine"], f"Linux {run['kernel']}",
             f"{run['mode']} run of {run['minutes']:.0f} minutes, as {run['user']}"]
    return "; ".join(parts) + "."


def versions(results):
    return markdown(["program", "version"], [[one["name"], escape(one["version"])] for one in results.data["programs"]
                                             if one.get("version")] +
                    [[name, escape(version)] for name, version in results.data["run"].get("tools", {}).items()])


def failure_list(results, patterns=("*",)):
    """The first words of each reason, rows with the same one together."""
    reasons = {}
    for row, program, why in results.failures(patterns):
        reasons.setdefault((program, why), []).append(row)
    return "\n".join(f"- {program}, {', '.join(rows)}: {escape(why)}" for (program, why), rows in reasons.items())


def report(results, groups, pictures=()):
    """results.md: everything there is. `groups` are (title, patterns)."""
    parts = ["# netns-helper beside its peers", made(results)]
    parts += [f"**{text}**" for text in results.trouble()]
    parts.append("Medians, and half the interquartile range in percent of them. Ratios are of medians of this run.")
    for title, patterns in groups:
        if results.matching(patterns):
            parts += [f"## {title}", table(results, patterns, with_targets=True)]
            failed = failure_list(results, patterns)
            if failed:
                parts.append("Without a figure:\n\n" + failed)
    parts += [f"![{title}]({path})" for title, path in pictures]
    if results.data.get("micro"):
        parts += ["## Frames", micro_table(results)]
    return "\n\n".join([*parts, "## Versions", versions(results)]) + "\n"


def micro_table(results):
    micro = results.data.get("micro")
    if not micro:
        return "Not measured: valgrind was not installed."
    return markdown(["", "what", "instructions", "ns"],
                    [[name, f"{one['what']} (per {one['per']})", number(one["instructions"]), number(one["ns"])]
                     for name, one in micro["figures"].items()])


def breakdown_table(results):
    found = (results.data.get("micro") or {}).get("breakdown")
    if not found:
        return "Not measured: valgrind was not installed."
    parts = list(dict.fromkeys(part for shares in found.values() for part, _ in shares))
    return markdown(["of the instructions", *found],
                    [[part, *(f"{dict(shares).get(part, 0) * 100:.0f} %" for shares in found.values())]
                     for part in parts])
