#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What benchmarks/ makes of figures: medians, intervals, ratios, tables, pictures and pages (TAP).

Usage: test_benchmarks.py FOLDER, that of the benchmarks.
"""
import argparse
import copy
import io
import itertools
import os
import re
import sys
import tempfile
import traceback

sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
import docs
import groups
import links
import micro
import plots
import results
import rows
import runner
import stats
import tcp_rows

FOLDER = sys.argv[1]
STEADY = [10.0, 10.4, 9.6, 10.0, 10.2, 9.8]
NOISY = [10.0, 14.0, 5.0, 10.0, 10.0, 10.0]


def six(*values):
    """Of six rounds."""
    return [values[i % len(values)] for i in range(6)]


def row(name, samples, more=True, planned=6, series=False, targets=()):
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
        row("up 1500", {"loopback": six(50.0, 50.1, 49.9), "veth": six(40.0), "slirp4netns": six(2.0, 2.0, 2.01),
                        "pasta": six(1.0, "the stream stalled", 1.0), "netns-helper": six(40.0, 41.0, 40.5)},
            targets=[("slirp", 15), ("loopback", 0.9), ("up 65520", 1)]),
        row("up 65520", {"loopback": six(50.0), "slirp4netns": six(4.0), "pasta": NOISY, "netns-helper": NOISY}),
        row("exchanges p99", {"slirp4netns": six(30.0), "pasta": six(20.0), "netns-helper": six(10.0)}, more=False,
            targets=[("peer", 1.1), ("fixed", 5)]),
        row("down 1500", {"slirp4netns": [3.0, 3.0], "netns-helper": [30.0, 30.0]}),
        row("idle 100 pss", {"netns-helper": six(2.0), "slirp4netns": six(5.0)}, more=False),
        row("idle 1000 pss", {"netns-helper": six(3.0)}, more=False),
        row("minute up seconds", {"netns-helper": [[30.0, 31.0, 2.0]]}, planned=1, series=True),
        row("exchanges latency", series=True, samples={
            "netns-helper": [[[50, 9.0], [99, 20.0]], [[50, 7.0], [99, 90.0]], [[50, 8.0], [99, 10.0]]]}),
    ],
    "micro": {"figures": {"parse": {"instructions": 600.0, "ns": 90.0, "per": "frame", "what": "the parse"}},
              "breakdown": {"tcp-up": [["src/wire", 0.25], ["src/flow", 0.75]]},
              "functions": {"tcp-up": [["src/wire", "packet_parse", 0.125]]}},
}


def of(**changes):
    data = copy.deepcopy(DATA)
    data.update(changes)
    return results.Results(data)


def same(found, expected):
    assert found == expected, f"{found!r}, not {expected!r}"


# --- figures

def test_coverage():
    """Against all ways in which n coins fall."""
    for n in (5, 6, 9):
        for k in (1, 2):
            between = sum(k <= bin(coins).count("1") <= n - k for coins in range(2 ** n))
            same(stats.coverage(n, k), between / 2 ** n)


def test_interval():
    same(stats.interval([1, 2, 3, 4]), None)
    same(stats.interval([3, 1, 2, 6, 5, 4]), (1, 6))
    same(stats.interval(list(range(9))), (1, 7))
    same(stats.interval(list(range(9)), stats.CONFIDENCE_AGAIN), (0, 8))
    same(stats.ROUNDS_MIN, min(n for n in range(1, 20) if stats.interval([1] * n)))


def test_few_outliers_move_nothing():
    same(stats.interval([10.0] * 10 + [99.0, 0.1]), (10.0, 10.0))


def test_verdict():
    found = stats.Estimate(STEADY)
    same([found.meets(bound, True) for bound in (9.6, 9.7, 10.4, 10.5)], [True, None, None, False])
    same([found.meets(bound, False) for bound in (10.4, 10.3, 9.6, 9.5)], [True, None, None, False])
    same(stats.Estimate([1.0]).meets(0, True), None)


def test_ratios():
    same(stats.ratios([1, 2, None, "failed", 5], [2, 1, 3, 4, None]), [0.5, 2])
    # What the machine does to both of a round is in no ratio.
    drifting = [1.0, 9.0, 2.0, 5.0, 3.0, 7.0]
    found = stats.Estimate(stats.ratios([2 * one for one in drifting], drifting))
    same((found.low, found.median, found.high), (2, 2, 2))


def test_figure():
    cell = results.Cell(STEADY, 6)
    same((cell.state, cell.figure, cell.text()), ("figure", 10.0, "10.0 ±4 %"))
    same(results.Cell(STEADY + [None], 6).text(), "10.0 ±4 %")


def test_uncertain():
    cell = results.Cell(NOISY, 6)
    same((cell.state, cell.figure), ("uncertain", None))
    same(cell.text(), "5.00 to 14.0")
    same(results.Cell([8.0, 10, 10, 10, 10, 12.0], 6).state, "figure")
    same(results.Cell([7.9, 10, 10, 10, 10, 12.0], 6).state, "uncertain")
    # More rounds make it sure.
    same(results.Cell(NOISY + [10.0] * 6, 6).text(), "10.0")


def test_missing_rounds():
    same(results.Cell([10, 10], 6).state, "few")
    same(results.Cell([10, 12, None], 6).text(), "10.0 to 12.0, only 2 of 6 rounds")
    same(results.Cell([10], 6).text(), "only 1 of 6 rounds")
    same(results.Cell([], 3).text(), "")
    same(results.Cell([10], 1).text(), "10.0 (one round)")
    same(results.Cell([10, 11, 10], 3).text(), "10.0 ±5 % (3 rounds)")
    same(results.Cell([10, 15, 10], 3).text(), "10.0 to 15.0 (3 rounds)")


def test_failed_round():
    cell = results.Cell([10, "no answer", 10], 3)
    same((cell.state, cell.figure, cell.text()), ("failed", None, "failed (1 of 3)"))


def test_zero():
    same(results.Cell([0] * 6, 6).text(), "0.00")
    same(results.Cell([0] * 11 + [3], 6).text(), "0.00 (once 3.00)")
    same(results.Cell([0] * 5 + [3], 6).text(), "0.00 to 3.00")


def test_numbers():
    same([results.number(x) for x in (0, 0.01234, 0.5, 5, 50, 500.4, 12345.6)],
         ["0.00", "0.0123", "0.50", "5.00", "50.0", "500", "12,346"])


# --- comparisons

def test_best_peer():
    same(of().best_peer("exchanges p99"), "pasta")
    # An uncertain one may be the best, too; who fails every second time is none.
    same(of().best_peer("up 65520"), "pasta")
    failing = row("up 1500", {"slirp4netns": six(2.0), "pasta": six(3.0, "no answer")})
    same(of(rows=[failing]).best_peer("up 1500"), "slirp4netns")


def test_ratio():
    found, whose = of().ratio("up 1500", "peer")
    same((round(found.median, 2), found.low, whose), (20.15, 20.0, "slirp4netns"))
    same(of().ratio("up 65520", "loopback")[0].is_wide, True)
    same(of().ratio("down 1500", "peer")[0], None)


def test_targets():
    same(list(of().targets("up 1500")),
         [(">= 15x slirp4netns", True), (">= 0.9x loopback", False), (">= 1x `up 65520`", True)])
    same(list(of().targets("exchanges p99")), [("<= 1.1x pasta", True), ("<= 5", False)])
    near = row("x", {"netns-helper": STEADY}, targets=[("fixed", 10)])
    same(list(of(rows=[near]).targets("x")), [(">= 10", None)])
    # A third member: for whom only.
    near["targets"] = [("fixed", 9, "splice")]
    same(list(of(rows=[near]).targets("x")), [])


def test_what_more_rounds_may_give():
    def lacks(samples, **more):
        return of(rows=[row("x", samples, **more)]).lacks("x")

    same(lacks({"netns-helper": STEADY}, targets=[("fixed", 10)]), 2)
    same(lacks({"netns-helper": STEADY}, targets=[("fixed", 9)]), 0)
    same(lacks({"netns-helper": NOISY}), 1)
    # A steady ratio of unsteady figures is what counts.
    same(lacks({"netns-helper": NOISY, "loopback": NOISY}), 0)
    same(lacks({"netns-helper": six("failed")}, targets=[("fixed", 9)]), 0)


# --- text

def test_table():
    text = results.table(of(), ("up *",), with_targets=True)
    lines = text.splitlines()
    same(len(lines), 4)
    assert "| 40.5 ±1 % | 20.1x ±1 % (slirp4netns) | 0.81x ±1 % |" in lines[2], lines[2]
    assert "failed (2 of 6)" in lines[2] and "**missed**" in lines[2], lines[2]
    assert "5.00 to 14.0 | 1.00x (pasta) | 0.10x to 0.28x |" in lines[3], lines[3]
    same({line.count("|") for line in lines}, {lines[0].count("|")})
    same(results.table(of(), ("no such row",)), "Not measured.")


def with_relay():
    """A program that has figures in few rows."""
    beside = row("beside up", {"loopback": six(1.0), "relay": six(10.0), "netns-helper": six(11.0)}, more=False,
                 targets=[("loopback", 2)])
    programs = [DATA["programs"][0], {"name": "relay", "role": "limit"}, *DATA["programs"][1:]]
    return of(rows=[*DATA["rows"], beside], programs=programs)


def test_relay_has_a_column_only_where_it_is_measured():
    data = with_relay()
    found = [name for name, (_, patterns) in groups.TABLES.items() if "relay" in results.table(data, patterns)]
    same(found, ["beside"])
    line = results.table(data, ("beside *",), with_targets=True).splitlines()[-1]
    same(line, "| beside up | Gbit/s | 1.00 | 10.0 | 11.0 |  | 11.0x | <= 2x loopback: **missed** |")
    assert "relay" not in results.versions(data)


def test_series_are_no_rows():
    assert "minute" not in results.table(of(), ("*",))


def test_trouble():
    said = " ".join(of().trouble())
    assert "2 of 17 medians are uncertain" in said and "interrupted" not in said, said
    assert "interrupted" in of(interrupted=True).trouble()[0]
    assert "time was up" in of(out_of_time=True).trouble()[0]


def test_report():
    text = results.report(of(interrupted=True), groups.REPORT, [("a picture", "a.svg")])
    assert "**This run was interrupted" in text and "![a picture](a.svg)" in text
    assert "- pasta, up 1500: the stream stalled" in text and "| parse | the parse (per frame) | 600 | 90.0 |" in text
    assert "iperf 3.12" in text and "only 2 of 6 rounds" in text


# --- pictures

def test_charts():
    found = {chart.name: chart for chart in plots.charts(of())}
    lines = dict(found["throughput-by-mtu-up"].lines)
    # The uncertain one with its interval, the failed one not at all.
    same(lines["netns-helper"], [(2, 40.5, 40.0, 41.0), (4, 10.0, 5.0, 14.0)])
    same(lines["pasta"], [(4, 10.0, 5.0, 14.0)])
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


def test_colours_are_of_those_in_pictures():
    same(plots.colours(with_relay()), plots.colours(of()))


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
    assert "| `packet_parse` | src/wire | 12.5 % |" in page
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
                    row(name("mtu", "65520", "TCP up"), {"netns-helper": [1.2 * one for one in STEADY]}),
                    row(name("mtu", "9000", "TCP up"), {"netns-helper": NOISY})])
    same(docs.effect(data, "mtu | 65520 | TCP up"), "1.20x")
    same(docs.effect(data, "mtu | 9000 | TCP up"), "0.52x to 1.35x")
    same(docs.effect(data, "mtu | 9000 | TCP down"), "not known")


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


class FakeModule:
    """Measures what is in `values`, by program; says what was asked for."""
    ROWS = [rows.Row("a", "x/s", True, ("loopback", 0.5)), rows.Row("b", "x/s", True, ("a", 1)),
            rows.Row("c", "x/s", True)]

    def __init__(self, values):
        self.values, self.asked = values, []

    def measurements(self, _):
        return [(["a"], 1500, None, ()), (["b"], 1500, None, ()), (["c"], 1500, None, ())]

    def measure(self, args, program, record):
        self.asked.append(sorted(args.wanted))
        for name in args.wanted:
            record(name, self.values(program, name, len(self.asked)))


def run_fake(values, planned=6, deadline=1e9):
    module = FakeModule(values)
    group = groups.Group("fake", module, groups.Plan(planned, ("*",), {}))
    args = argparse.Namespace(many=1, build="", may_halt=False, rounds=None)
    helper = argparse.Namespace(name="netns-helper")
    running = runner.Running(group, module.ROWS, group.full, [None, helper], args)
    programs = [{"name": "loopback", "role": "limit"}, {"name": "netns-helper", "role": "helper"}]
    late = runner.run_all([running], deadline, runner.Progress(io.StringIO()), programs)
    found = []
    running.as_data(found)
    return module.asked[::2], results.Results({"rows": found, "programs": programs}), late


def test_decided_rows_get_no_more_rounds():
    asked, found, late = run_fake(lambda program, name, _: 10.0 if program else 12.0)
    same((asked, late), ([["a", "b", "c"]] * 6, False))
    same(list(found.targets("a")), [(">= 0.5x loopback", True)])


def test_undecided_rows_get_more_rounds():
    """With what they are held against, and no others."""
    wave = itertools.cycle([9.0, 11.0])
    asked, found, _ = run_fake(lambda program, name, _: next(wave) if program and name == "b" else 10.0)
    same(asked[:6], [["a", "b", "c"]] * 6)
    same(asked[6:], [["a", "b"]] * 12)
    same((found.cell("b", "netns-helper").n, found.cell("c", "netns-helper").n), (18, 6))
    same(len(found.samples("c", "netns-helper")), 18)


def test_out_of_time():
    asked, _, late = run_fake(lambda *_: 10.0, deadline=1)  # of a clock that began with the machine
    same((asked, late), ([], True))


def test_hopeless():
    samples = {"a": [None, "no"], "b": []}
    same(rows.is_hopeless(samples, ["a", "b"]), False)
    samples["a"].append("no")
    same(rows.is_hopeless(samples, ["a", "b"]), True)
    same(rows.is_hopeless(samples, ["b"]), False)
    same(rows.is_hopeless({"series": [[1, 2], [2, 3]]}, ["series"]), False)
    samples["a"] += [5.0, 5.0]
    same(rows.is_hopeless(samples, ["a", "b"]), True)
    samples["a"].append(5.0)
    same(rows.is_hopeless(samples, ["a", "b"]), False)


class FakeSide:
    """Of a program that is not made when its name is in `broken`; `made` are all that were asked for."""
    helper, broken, made = None, (), ()

    def __init__(self, loads, program, setting):
        self.name = runner.name_of(program)
        self.made.append(self.name)
        if self.name in self.broken:
            raise rows.Failure("broken")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def measured(wanted, broken=()):
    """What one round records with a helper, a relay and loopback, and whom it has made."""
    def measure(side, args, row):
        yield row, side.name

    before, rows.Side = rows.Side, type("Side", (FakeSide,), {"broken": broken, "made": []})
    try:
        found = []
        rows.measure_round(None, [None, links.Relay(), argparse.Namespace(name="netns-helper")],
                           argparse.Namespace(wanted=wanted, hopeless=lambda *_: False),
                           [([row], 1500, measure, (row,)) for row in ("up 1500", "beside up")],
                           lambda program, row, value: found.append((runner.name_of(program), row, value)))
        return found, rows.Side.made
    finally:
        rows.Side = before


def test_relay_takes_part_in_few_rows():
    same(measured({"up 1500", "beside up"})[0],
         [(name, "up 1500", name) for name in ("loopback", "netns-helper")] +
         [(name, "beside up", name) for name in ("loopback", "relay", "netns-helper")])
    # Where it has nothing to do, it is not even made.
    same(measured({"up 1500"})[1], ["loopback", "netns-helper"])
    broken, _ = measured({"up 1500", "beside up"}, broken=("relay",))
    same([one for one in broken if one[0] == "relay"], [("relay", "beside up", "broken")])
    names = [one.name for one in tcp_rows.ROWS if links.takes_part(links.Relay(), [one.name])]
    same(names, ["beside up", "beside down"])


def test_relay_is_a_limit_of_the_run():
    helpers = [argparse.Namespace(name="netns-helper", command=["true"])]
    args = argparse.Namespace(many=1, build="", may_halt=False, rounds=None)
    for is_quick, patterns, expected in ((False, None, ["loopback", "relay", "netns-helper"]),
                                         (False, ["up *"], ["loopback", "netns-helper"]),
                                         (True, None, ["loopback", "netns-helper"])):
        group = next(one for one in groups.all_groups() if one.name == "TCP")
        running = runner.Running(group, group.rows(is_quick, patterns), group.plan(is_quick),
                                 runner.choose(group, helpers, [], None), args)
        same([runner.name_of(one) for one in running.programs], expected)
        found = runner.programs_of([running], helpers, [], None)
        same([(one["name"], one["role"]) for one in found],
             [(name, "helper" if name == "netns-helper" else "limit") for name in expected])


def test_guess_of_a_round():
    """Counts a program only in the rows that it takes part in."""
    group = next(one for one in groups.all_groups() if one.name == "TCP")
    args = argparse.Namespace(many=1, build="", may_halt=False, rounds=None)
    running = runner.Running(group, group.rows(False, None), group.full, [None, links.Relay()], args)
    plain = runner.Running(group, group.rows(False, None), group.full, [None], args)
    same(round(running.round_s({"up 1500"}) - plain.round_s({"up 1500"}), 6), 0)
    same(round(running.round_s({"beside up"}) - 2 * plain.round_s({"beside up"}), 6), 0)


def test_syscalls_are_those_of_an_exchange():
    """Not those that begin and end the connection, or the tracing."""
    amounts = []
    before, tcp_rows.count_syscalls = tcp_rows.count_syscalls, lambda helper, work: 20 + 6 * work()
    try:
        side = argparse.Namespace(helper=True, run=lambda mode, service, n: amounts.append(n) or n)
        same(list(tcp_rows.measure_syscalls(side, None)), [("syscalls", 6)])
    finally:
        tcp_rows.count_syscalls = before
    same(amounts, [tcp_rows.N_TRACED, 3 * tcp_rows.N_TRACED])


def test_groups():
    for group in groups.all_groups():
        names = [one.name for one in group.module.ROWS]
        same(len(names), len(set(names)))
        args = argparse.Namespace(many=1, advice_far=None, build=".")
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
    same(micro.functions(text, 2), [("src/wire", "packet_parse", 0.6), ("src/wire", "packet_parse", 0.2)])


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
