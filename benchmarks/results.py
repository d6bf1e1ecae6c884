# SPDX-License-Identifier: Apache-2.0
"""What benchmarks/run has measured, as values and as text. Pure: a results.json in, figures and Markdown out.

A figure is the median of the rounds, and a ratio that of the ratios within each round. Both are shown with their
interval (stats.py). Where that is wide there is the interval and no figure, and where rounds are missing or have
failed, the cell says so.
"""
import fnmatch

from stats import CONFIDENCE, ROUNDS_MIN, WIDE, Estimate, is_figure, ratios

NAMES = {"slirp": "slirp4netns"}
VERDICTS = {True: "met", False: "**missed**", None: "not decided"}


def number(value):
    if value is None:
        return ""
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 or not size else 4
    return f"{value:.{digits}f}"


def with_interval(estimate, unit=""):
    """A figure as far as it is one."""
    if estimate.is_wide or not estimate.median and estimate.high:
        return f"{number(estimate.low)}{unit} to {number(estimate.high)}{unit}"
    text = number(estimate.median) + unit
    if not estimate.median:
        return text + (f" (once {number(estimate.largest)})" if estimate.largest else "")
    return text + (f" ±{max(estimate.percent, 1):.0f} %" if estimate.percent else "")


class Cell:
    """One row of one program. `state` is figure, uncertain, few (rounds), failed or none."""

    def __init__(self, samples, planned, confidence=CONFIDENCE):
        self.values = [value for value in samples if is_figure(value)]
        self.reasons = [value for value in samples if isinstance(value, str)]
        self.n, self.planned = len(self.values) + len(self.reasons), planned
        self.estimate = Estimate(self.values, planned, confidence)
        self.state = self.judge()

    def judge(self):
        if not self.n:
            return "none"
        if self.reasons:
            return "failed"
        if not self.estimate.is_known:
            return "few"
        return "uncertain" if self.estimate.is_wide else "figure"

    @property
    def figure(self):
        """None when there is no such figure."""
        return self.estimate.median if self.state == "figure" else None

    @property
    def is_comparable(self):
        """One failure in many does not make a program's other rounds worthless to who is compared with it."""
        return len(self.values) > len(self.reasons)

    def text(self):
        if self.state == "none":
            return ""
        if self.state == "failed":
            return f"failed ({len(self.reasons)} of {self.n})"
        if self.state == "few":
            between = f"{number(min(self.values))} to {number(max(self.values))}, " if self.n > 1 else ""
            return f"{between}only {self.n} of {self.planned} rounds"
        rounds = "" if self.n >= ROUNDS_MIN else " (one round)" if self.n == 1 else f" ({self.n} rounds)"
        return with_interval(self.estimate) + rounds


class Results:
    def __init__(self, data, confidence=CONFIDENCE):
        self.data, self.confidence = data, confidence
        self.rows = {row["name"]: row for row in data["rows"]}
        self.roles = {one["name"]: one["role"] for one in data["programs"]}

    def names(self, *roles):
        return [name for name, role in self.roles.items() if role in roles]

    @property
    def helper(self):
        """The one that is compared with the others."""
        return next(iter(self.names("helper")), None)

    def samples(self, row, program):
        """One of each round of its group; None: not measured in that one."""
        return self.rows[row]["samples"].get(program, []) if row in self.rows else []

    def cell(self, row, program):
        return Cell(self.samples(row, program), self.rows[row]["planned"] if row in self.rows else 0, self.confidence)

    def figure(self, row, program):
        return self.cell(row, program).figure

    def best_peer(self, row):
        """The name of the one with the best median, or None. Who fails every second time is no peer here."""
        cells = {name: self.cell(row, name) for name in self.names("peer")}
        found = [(cell.estimate.median, name) for name, cell in cells.items() if cell.is_comparable]
        return (max if self.rows[row]["more"] else min)(found)[1] if found else None

    def reference(self, row, of, program):
        """(row, program) that a figure is held against, and how that is called."""
        if of == "peer":
            name = self.best_peer(row)
            return (row, name), name or "the best peer"
        if of in ("slirp", "loopback") or of in self.roles:
            name = NAMES.get(of, of)
            return (row, name), name
        return (of, program), f"`{of}`"

    def compare(self, row, of, program):
        """(Estimate of the ratio, of whom), or (None, of whom): nothing that can be compared."""
        theirs, name = self.reference(row, of, program)
        if self.cell(row, program).reasons or not self.cell(*theirs).is_comparable:
            return None, name
        return Estimate(ratios(self.samples(row, program), self.samples(*theirs)), self.rows[row]["planned"],
                        self.confidence), name

    def ratio(self, row, of, program=None):
        """The same, and None also when there are too few rounds."""
        found, name = self.compare(row, of, program or self.helper)
        return (found if found and found.is_known else None), name

    def targets(self, row, program=None):
        """(text, True met, False missed, None not decided) of each."""
        program = program or self.helper
        ours, more = self.cell(row, program), self.rows[row]["more"]
        for of, factor, *only in self.rows[row].get("targets", []):
            if only and not program.endswith(only[0]):
                continue
            found, name = (ours.estimate, "") if of == "fixed" else self.ratio(row, of, program)
            text = f"{'>=' if more else '<='} {factor:g}" + (f"x {name}" if name else "")
            yield text, found.meets(factor, more) if found and not ours.reasons else None

    def lacks(self, row):
        """What more rounds may give: 2 a target that is not decided, 1 a figure or ratio that is wide, else 0."""
        ours = self.cell(row, self.helper)
        if ours.state == "none" or ours.reasons:
            return 0
        undecided = [of for of, factor, *_ in self.rows[row].get("targets", [])
                     if (found := ours.estimate if of == "fixed" else self.compare(row, of, self.helper)[0])
                     and found.meets(factor, self.rows[row]["more"]) is None]
        if undecided:
            return 2
        shown = [found for of in ("peer", "loopback") if (found := self.ratio(row, of)[0])] or [ours.estimate]
        return 1 if any(found.is_wide for found in shown) else 0

    def matching(self, patterns):
        """In the order of the patterns, then of the rows."""
        found = [name for pattern in patterns for name in self.rows if fnmatch.fnmatchcase(name, pattern)]
        return list(dict.fromkeys(name for name in found if not self.rows[name].get("series")))

    def trouble(self):
        """What has to be said before any figure."""
        said = []
        if self.data.get("interrupted"):
            said.append("This run was interrupted: some rows have fewer rounds than planned, or no figure.")
        if self.data.get("out_of_time"):
            said.append("The time was up before all rounds: some rows have fewer than planned, or no figure.")
        found = [self.cell(name, program).state for name, row in self.rows.items() if not row.get("series")
                 for program in row["samples"]]
        if "uncertain" in found:
            said.append(f"{found.count('uncertain')} of {len(found)} medians are uncertain by more than {WIDE * 100:.0f} %: "
                        "their cells show an interval in place of a figure.")
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


def ratio_text(ratio, whose, with_name=False):
    return "" if ratio is None else with_interval(ratio, "x") + (f" ({whose})" if with_name else "")


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
        cells += [ratio_text(*results.ratio(name, of), with_name=of == "peer") for of in ("peer", "loopback")]
        if with_targets:
            cells.append("; ".join(f"{text}: {VERDICTS[met]}" for text, met in results.targets(name)))
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
    parts.append("Medians of the rounds, and ratios as medians of the ratios of each round. ± is half of their interval "
                 f"of {CONFIDENCE * 100:.0f} %; where it is wide, there is the interval and no figure.")
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
        return "Not measured in this run."
    return markdown(["", "what", "instructions", "ns"],
                    [[name, f"{one['what']} (per {one['per']})", number(one["instructions"]), number(one["ns"])]
                     for name, one in micro["figures"].items()])


def functions_table(results, case):
    found = (results.data.get("micro") or {}).get("functions", {}).get(case)
    if not found:
        return "Not measured in this run."
    return markdown([case, "in", "of the instructions"],
                    [[f"`{name}`", part, f"{share * 100:.1f} %"] for part, name, share in found])


def breakdown_table(results):
    found = (results.data.get("micro") or {}).get("breakdown")
    if not found:
        return "Not measured in this run."
    parts = list(dict.fromkeys(part for shares in found.values() for part, _ in shares))
    return markdown(["of the instructions", *found],
                    [[part, *(f"{dict(shares).get(part, 0) * 100:.0f} %" for shares in found.values())]
                     for part in parts])
