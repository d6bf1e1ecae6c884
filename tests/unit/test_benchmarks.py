#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What benchmarks/ makes of figures: medians, noise, ratios, tables, pictures and pages (TAP).

Usage: test_benchmarks.py FOLDER, that of the benchmarks.
"""
import argparse
import copy
import io
import os
import re
import sys
import tempfile
import traceback

sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
import docs
import groups
import micro
import plots
import results
import rows
import runner

FOLDER = sys.argv[1]
STEADY = [10.0, 10.4, 9.6]
NOISY = [10.0, 14.0, 5.0]


def row(name, samples, more=True, planned=3, series=False, targets=()):
    return {"name": name, "group": "TCP", "unit": "Gbit/s", "more": more, "series": series, "planned": planned,
            "targets": list(targets), "samples": samples}


DATA = {
    "format": 1, "interrupted": False, "out_of_time": False,
    "run": {"date": "2001-02-03", "commit": "0123456789ab", "machine": "2 processors", "kernel": "6.1", "mode": "full",
            "minutes": 30, "user": "root", "tools": {"iperf3": "iperf 3.12"}},
    "programs": [{"name": "loopback", "role": "limit"}, {"name": "veth", "role": "kernel", "version": "Linux 6.1"},
                 {"name": "slirp4netns", "role": "peer", "version": "1.2.0"},
                 {"name": "pasta", "role": "peer", "version": "2023"},
                 {"name": "netns-helper", "role": "helper", "version": "0.1"}],
    "rows": [
        row("up 1500", {"loopback": [50.0, 50.1, 49.9], "veth": [40.0] * 3, "slirp4netns": [2.0, 2.0, 2.01],
                        "pasta": [1.0, "the stream stalled", 1.0], "netns-helper": [40.0, 41.0, 40.5]},
            targets=[("slirp", 15), ("loopback", 0.9), ("up 65520", 1)]),
        row("up 65520", {"loopback": [50.0] * 3, "slirp4netns": [4.0] * 3, "pasta": NOISY, "netns-helper": NOISY}),
        row("exchanges p99", {"slirp4netns": [30.0] * 3, "pasta": [20.0] * 3, "netns-helper": [10.0] * 3}, more=False,
            targets=[("peer", 1.1), ("fixed", 5)]),
        row("down 1500", {"slirp4netns": [3.0, 3.0], "netns-helper": [30.0, 30.0]}),
        row("idle 100 pss", {"netns-helper": [2.0] * 3, "slirp4netns": [5.0] * 3}, more=False),
        row("idle 1000 pss", {"netns-helper": [3.0] * 3}, more=False),
        row("minute up seconds", {"netns-helper": [[30.0, 31.0, 2.0]]}, planned=1, series=True),
        row("exchanges latency", series=True, samples={
            "netns-helper": [[[50, 9.0], [99, 20.0]], [[50, 7.0], [99, 90.0]], [[50, 8.0], [99, 10.0]]]}),
    ],
    "micro": {"figures": {"parse": {"instructions": 600.0, "ns": 90.0, "per": "frame", "what": "the parse"}},
              "breakdown": {"tcp-up": [["src/wire", 0.25], ["src/flow", 0.75]]}},
}


def of(**changes):
    data = copy.deepcopy(DATA)
    data.update(changes)
    return results.Results(data)


def same(found, expected):
    assert found == expected, f"{found!r}, not {expected!r}"


# --- figures

def test_median_and_spread():
    cell = results.Cell(STEADY, 3)
    same((cell.state, cell.figure), ("figure", 10.0))
    same(round(cell.spread, 3), 0.04)
    same(cell.text(), "10.0 ±2 %")


def test_noise():
    cell = results.Cell(NOISY, 3)
    same((cell.state, cell.figure), ("noisy", None))
    same(cell.text(), "noisy: 5.00 to 14.0")
    # The bound: quartiles at 92.5 and 107.5 are 15 % of 100.
    same(results.Cell([85, 92.5, 100, 107.5, 115], 5).state, "figure")
    same(results.Cell([85, 92.4, 100, 107.6, 115], 5).state, "noisy")


def test_missing_rounds():
    same(results.Cell([10, 10], 3).state, "few")
    same(results.Cell([10, 10], 3).text(), "only 2 of 3 rounds")
    same(results.Cell([], 3).text(), "")
    same(results.Cell([10], 1).text(), "10.0 (one round)")


def test_failed_round():
    cell = results.Cell([10, "no answer", 10], 3)
    same((cell.state, cell.figure, cell.text()), ("failed", None, "failed (1 of 3)"))


def test_zero():
    cell = results.Cell([0, 0, 0], 3)
    same((cell.figure, cell.spread, cell.text()), (0, None, "0.00"))


def test_numbers():
    same([results.number(x) for x in (0, 0.01234, 0.5, 5, 50, 500.4, 12345.6)],
         ["0.00", "0.0123", "0.50", "5.00", "50.0", "500", "12,346"])


# --- comparisons

def test_best_peer():
    same(of().best_peer("exchanges p99"), (20.0, "pasta"))
    # One that failed is no peer; one that is noisy makes it unknown.
    same(of().best_peer("up 1500"), (2.0, "slirp4netns"))
    same(of().best_peer("up 65520"), (None, None))


def test_ratio():
    same(of().ratio("up 1500", "peer"), (20.25, "slirp4netns"))
    same(of().ratio("up 65520", "loopback")[0], None)
    same(of().ratio("down 1500", "peer")[0], None)


def test_targets():
    same(list(of().targets("up 1500")),
         [(">= 15x slirp4netns", True), (">= 0.9x loopback", False), (">= 1x `up 65520`", None)])
    same(list(of().targets("exchanges p99")), [("<= 1.1x pasta", True), ("<= 5", False)])


# --- text

def test_table():
    text = results.table(of(), ("up *",), with_targets=True)
    lines = text.splitlines()
    same(len(lines), 4)
    assert "| 40.5 ±1 % | 20.2x (slirp4netns) | 0.81x |" in lines[2], lines[2]
    assert "failed (1 of 3)" in lines[2] and "**missed**" in lines[2], lines[2]
    assert "noisy: 5.00 to 14.0 |  |  |" in lines[3], lines[3]
    same({line.count("|") for line in lines}, {lines[0].count("|")})
    same(results.table(of(), ("no such row",)), "Not measured.")


def test_series_are_no_rows():
    assert "minute" not in results.table(of(), ("*",))


def test_trouble():
    said = " ".join(of().trouble())
    assert "up 65520 (pasta)" in said and "interrupted" not in said, said
    assert "interrupted" in of(interrupted=True).trouble()[0]
    assert "time was up" in of(out_of_time=True).trouble()[0]


def test_report():
    text = results.report(of(interrupted=True), groups.REPORT, [("a picture", "a.svg")])
    assert "**This run was interrupted" in text and "![a picture](a.svg)" in text
    assert "- pasta, up 1500: the stream stalled" in text and "| parse | the parse (per frame) | 600 | 90.0 |" in text
    assert "iperf 3.12" in text and "only 2 of 3 rounds" in text


# --- pictures

def test_charts():
    found = {chart.name: chart for chart in plots.charts(of())}
    lines = dict(found["throughput-by-mtu-up"].lines)
    # The noisy one with its range, the failed one not at all.
    same(lines["netns-helper"], [(1500, 40.5, 40.0, 41.0), (65520, 10.0, 5.0, 14.0)])
    same(lines["pasta"], [(65520, 10.0, 5.0, 14.0)])
    same(dict(found["memory-by-connections"].lines)["slirp4netns"], [(100, 5.0, 5.0, 5.0)])
    same(found["minute-up"].lines,
         [("netns-helper", [(1, 30.0, 30.0, 30.0), (2, 31.0, 31.0, 31.0), (3, 2.0, 2.0, 2.0)])])
    # Of three distributions the one in the middle.
    same(found["latency-tcp"].lines[0][1], [(3, 8.0, 8.0, 8.0), (7, 10.0, 10.0, 10.0)])
    assert "throughput-by-delay-up" not in found


def test_gnuplot_script():
    chart = next(one for one in plots.charts(of()) if one.name == "throughput")
    text = plots.gnuplot_script(chart, plots.colours(of()), "x.svg")
    same(text.count("\ne\n"), len(chart.lines))
    assert 'set output "x.svg"' in text and '"up 1500" 0' in text and plots.OURS in text


def test_drawing():
    render = plots.renderer()
    if not render:
        return "neither matplotlib nor gnuplot is installed"
    with tempfile.TemporaryDirectory() as folder:
        data = of(rows=DATA["rows"][:1])
        made = plots.draw(data, folder, render)
        assert made, "no picture"
        for _, name in made:
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                assert "<svg" in file.read(), name
            assert os.path.getsize(os.path.join(folder, name.replace(".svg", ".png"))) > 1000
    return None


# --- pages

def test_template():
    with open(os.path.join(FOLDER, "performance.template.md"), encoding="utf-8") as file:
        template = file.read()
    page = docs.fill(template, of())
    assert "{{" not in page, page
    assert "0123456789ab" in page and "| src/wire | 25 % |" in page
    # Every figure comes from a field: the prose has none that looks like a measurement.
    prose = re.sub(r"\{\{.*?\}\}", "", template, flags=re.S)
    same(re.findall(r"\d+(?:\.\d+)?x\b|\d+ ?(?:Gbit/s|us\b|ms\b|MB/s)", prose.replace("1.00x", "")), [])


def test_unknown_field():
    for field in ("{{nonsense}}", "{{table nonsense}}"):
        try:
            docs.fill(field, of())
        except LookupError:
            continue
        raise AssertionError(field)


def test_effect():
    name = groups.advice_rows.row_name
    data = of(rows=[row(name("mtu", "1500", "TCP up"), {"netns-helper": STEADY}),
                    row(name("mtu", "65520", "TCP up"), {"netns-helper": [12.0] * 3}),
                    row(name("mtu", "9000", "TCP up"), {"netns-helper": NOISY})])
    same(docs.effect(data, "mtu | 65520 | TCP up"), "1.20x")
    same(docs.effect(data, "mtu | 9000 | TCP up"), "not known")


def test_readme():
    before = f"top\n{docs.BEGIN}\nold\n{docs.END}\nbottom\n"
    after = docs.between(before, docs.readme_part(of()))
    assert after.startswith("top\n") and after.endswith("\nbottom\n") and "old" not in after
    same(docs.between(after, docs.readme_part(of())), after)
    try:
        docs.between("no marks", "x")
    except ValueError:
        return
    raise AssertionError("marks that are missing go unnoticed")


# --- rounds

def test_order():
    same(["".join(rows.order_of(list("abc"), i)) for i in range(4)], ["abc", "bac", "cab", "acb"])
    same(rows.order_of([1], 5), [1])


def test_progress():
    now = [0.0]
    stream = io.StringIO()
    progress = runner.Progress(stream, lambda: now[0])
    now[0] = 30
    same(progress.bar(90, "up"), "[#####...............]  25 %  1:30 left  up")
    progress.show(90, "a row")
    same(stream.getvalue(), "")
    progress.show(90, "a round", is_new_round=True)
    same(stream.getvalue().count("\n"), 1)


def test_groups():
    for group in groups.all_groups():
        names = [one.name for one in group.module.ROWS]
        same(len(names), len(set(names)))
        args = argparse.Namespace(many=1, advice_far=None)
        measured = {name for members in group.module.measurements(args) for name in members[0]}
        for is_quick in (False, True):
            for one in group.rows(is_quick, None):
                assert one.name in measured, f"nothing measures {one.name}"
            plan = group.plan(is_quick)
            for pattern in plan.patterns if plan else ():
                assert any(groups.matches(name, [pattern]) for name in names), f"{pattern} is no row"
    everything = [group.named(one.name) for group in groups.all_groups() for one in group.rows(False, ["*"])]
    same(len(everything), len(set(everything)))


def test_failed_measurement():
    found = []

    def broken():
        yield "a", 1
        raise ValueError("odd output")

    rows.attempt(["b"], broken, {"a", "b"}, lambda *what: found.append(what))
    same(found, [("a", 1), ("b", "odd output")])


# --- instructions

def test_baseline():
    tools = {"compiler": "cc 12", "libc": "glibc 2.36"}
    first = micro.with_entry([], "1", tools, {"parse": {"instructions": 100.0}})
    same(micro.same_tools(first, {**tools, "libc": "glibc 2.37"}), None)
    before = micro.same_tools(first, tools)["instructions"]
    same(micro.grown(before, {"parse": {"instructions": 105.0}, "new": {"instructions": 9}}), [])
    same(micro.grown(before, {"parse": {"instructions": 105.1}}), ["parse"])
    again = micro.with_entry(first, "1", tools, {"parse": {"instructions": 90.0}})
    same([one["instructions"]["parse"] for one in again], [90.0])
    same(len(micro.with_entry(first, "2", tools, {})), 2)


def test_breakdown():
    text = "\n".join([
        "1,000 (100.0%)  PROGRAM TOTALS",
        "  600 (60.00%)  build/../src/wire/packet.c:packet_parse [/b/benchmarks/frame-steps]",
        "  200 (20.00%)  ../src/wire/cursor.h:packet_parse",
        "  100 (10.00%)  /b/benchmarks/frame-steps.c:step_parse [/b/benchmarks/frame-steps]",
        "  100 (10.00%)  ???:__memcpy [/usr/lib/libc.so.6]"])
    same(micro.shares(text), [("src/wire", 0.8), ("the generator", 0.1), ("C library", 0.1)])


def main():
    tests = [(name, function) for name, function in globals().items() if name.startswith("test_")]
    print(f"1..{len(tests)}")
    failed = 0
    for i, (name, function) in enumerate(tests, 1):
        try:
            skipped = function()
            print(f"ok {i} {name[5:]}" + (f" # SKIP {skipped}" if skipped else ""))
        except Exception:
            failed += 1
            print(f"not ok {i} {name[5:]}")
            print("\n".join("# " + text for text in traceback.format_exc().splitlines()))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
