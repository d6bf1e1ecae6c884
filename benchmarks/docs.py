# SPDX-License-Identifier: Apache-2.0
"""docs/performance.md and the table in README.md, from a results.json: no figure in them is typed."""
import os
import re

import advice_rows
import plots
import results as text_of
from groups import TABLES
from stats import Estimate, ratios

BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
PICTURES = "docs/pictures"
FIELD = re.compile(r"\{\{ *(\w+)(?: +([^}]*?))? *\}\}")


def effect(results, argument):
    """How much a choice changes: "TOPIC | VARIANT | WHAT" against the topic's first variant, round by round."""
    topic, variant, what = (word.strip() for word in argument.split("|"))
    first = next(one.variants[0] for one in advice_rows.TOPICS if one.name == topic)
    names = [advice_rows.row_name(topic, one, what) for one in (variant, first)]
    cells = [results.cell(name, results.helper) for name in names]
    found = Estimate(ratios(*(results.samples(name, results.helper) for name in names)), cells[0].planned)
    if any(cell.reasons for cell in cells) or not found.is_known:
        return "not known"
    return text_of.with_interval(found, "x")


def advice(results, _):
    """One table per choice."""
    parts = []
    for topic in advice_rows.TOPICS:
        body = [[what, *(results.cell(advice_rows.row_name(topic.name, one, what), results.helper).text()
                         for one in topic.variants),
                 *(effect(results, f"{topic.name} | {one} | {what}") for one in topic.variants[1:])]
                for what in topic.whats]
        head = [topic.title, *topic.variants, *(f"effect of {one}" for one in topic.variants[1:])]
        parts.append(text_of.markdown(head, body))
    return "\n\n".join(parts)


def cell(results, argument):
    """The helper's figure of a row, in a sentence."""
    found = results.cell(argument, results.helper)
    return text_of.with_interval(found.estimate) if found.state in ("figure", "uncertain") else "not known"


def ratio(results, argument):
    """ROW | peer or loopback."""
    row, of = (word.strip() for word in argument.split("|"))
    value, whose = results.ratio(row, of) if row in results.rows else (None, of)
    return "not known" if value is None else f"{text_of.with_interval(value, 'x')} {whose}"


def picture(results, name):
    found = next((one for one in plots.charts(results) if one.name == name), None)
    return f"![{found.title}](pictures/{name}.svg)" if found else f"*No picture of {name}: not measured in this run.*"


FIELDS = {
    "made": lambda results, _: text_of.made(results),
    "trouble": lambda results, _: "\n\n".join(f"**{one}**" for one in results.trouble())
    or "No figure is uncertain.",
    "versions": lambda results, _: text_of.versions(results),
    "table": lambda results, name: text_of.table(results, TABLES[name][1], with_targets=name != "main"),
    "failures": lambda results, name: text_of.failure_list(results, TABLES[name][1] if name else ("*",)) or "None.",
    "picture": picture,
    "frames": lambda results, _: text_of.micro_table(results),
    "breakdown": lambda results, _: text_of.breakdown_table(results),
    "functions": lambda results, case: text_of.functions_table(results, case),
    "about": lambda results, name: str(results.data["run"].get(name, "not known")),
    "advice": advice,
    "effect": effect,
    "cell": cell,
    "ratio": ratio,
    "counted": lambda results, _: results.data["run"].get("counted_by", "strace"),
}


def fill(template, results):
    """A field that nobody knows is a mistake of the template."""
    return FIELD.sub(lambda found: FIELDS[found[1]](results, found[2] or ""), template)


def between(text, inner):
    """What is between the marks, and they stay."""
    before, mark, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise ValueError(f"the marks {BEGIN} and {END} are missing")
    return f"{before}{BEGIN}\n{inner}\n{END}{after}"


def readme_part(results):
    parts = [text_of.table(results, TABLES["main"][1])]
    if any(one.name == "throughput" for one in plots.charts(results)):
        parts.append(f"![TCP throughput]({PICTURES}/throughput.svg)")
    parts += [f"**{one}**" for one in results.trouble()]
    parts.append("Medians of many short rounds, ± half of their interval of 90 %; ratios are medians of the rounds' ratios. "
                 "Where the interval is wide it stands in place of a figure.")
    parts.append(text_of.made(results) + " More in [docs/performance.md](docs/performance.md); "
                 "`benchmarks/run` takes all of it again.")
    return "\n\n".join(parts)


def update(source, results, render):
    """Writes them into the tree; the names of the files."""
    with open(os.path.join(source, "benchmarks", "performance.template.md"), encoding="utf-8") as file:
        page = fill(file.read(), results)
    with open(os.path.join(source, "README.md"), encoding="utf-8") as file:
        readme = between(file.read(), readme_part(results))
    for name, text in (("docs/performance.md", page), ("README.md", readme)):
        with open(os.path.join(source, name), "w", encoding="utf-8") as file:
            file.write(text)
    plots.draw(results, os.path.join(source, PICTURES), render, kinds=("svg",))
    return ["docs/performance.md", "README.md", PICTURES]
