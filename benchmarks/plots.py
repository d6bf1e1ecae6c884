# SPDX-License-Identifier: Apache-2.0
"""Pictures of a results.json, by matplotlib or gnuplot, whichever there is."""
import dataclasses
import importlib.util
import os
import shutil
import subprocess

from stats import is_figure

COLOURS = ["#777777", "#b8b8b8", "#d95f02", "#7570b3", "#e7298a", "#66a61e", "#e6ab02"]
OURS = "#1b6ca8"
# Of the generators' distributions; evenly spaced in the picture, for what is rare is what matters.
PERCENTS = [1, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.99, 100]


@dataclasses.dataclass
class Chart:
    """`lines` are (label, [(x, y, low, high)]); of bars x is the number of one of `ticks`."""
    name: str
    title: str
    x: str
    y: str
    lines: list
    log_x: bool = False
    log_y: bool = False
    ticks: tuple = ()
    is_bars: bool = False

    @property
    def is_empty(self):
        return not any(points for _, points in self.lines)


def point(results, row, program, x):
    """None when a round has failed or is missing; uncertain ones are there, with their interval."""
    cell = results.cell(row, program)
    if cell.state not in ("figure", "uncertain"):
        return None
    return x, cell.estimate.median, cell.estimate.low, cell.estimate.high


def lines_of(results, places, programs=None):
    """`places` are (x, row)."""
    lines = []
    for program in programs or results.roles:
        points = [point(results, row, program, x) for x, row in places]
        lines.append((program, [one for one in points if one]))
    return [one for one in lines if one[1]]


def by_percent(results, row):
    """The distribution of the round whose median is the median one."""
    lines = []
    for program, rounds in results.rows.get(row, {"samples": {}})["samples"].items():
        good = sorted(filter(is_figure, rounds),
                      key=lambda one: dict(map(tuple, one)).get(50, 0))
        if good:
            lines.append((program, [(PERCENTS.index(percent), us, us, us) for percent, us in good[len(good) // 2]
                                    if percent in PERCENTS]))
    return lines


def by_second(results, row):
    lines = []
    for program, rounds in results.rows.get(row, {"samples": {}})["samples"].items():
        good = list(filter(is_figure, rounds))
        if good:
            lines.append((program, [(i + 1, value, value, value) for i, value in enumerate(good[0])]))
    return lines


def charts(results):
    """All pictures for which there is something."""
    mtus, delays = (576, 1280, 1500, 9000, 65520), (2, 20, 80)
    found = []
    for way in ("up", "down"):
        found.append(Chart(f"throughput-by-mtu-{way}", f"TCP {way} by MTU", "MTU, bytes", "Gbit/s",
                           lines_of(results, [(i, f"{way} {mtu}") for i, mtu in enumerate(mtus)]),
                           ticks=tuple(map(str, mtus))))
        found.append(Chart(f"throughput-by-delay-{way}", f"TCP {way} by round-trip time, MTU 1500",
                           "round-trip time, ms", "Gbit/s", lines_of(results, [(ms, f"delay {ms} {way}") for ms in delays]),
                           log_x=True, log_y=True))
        found.append(Chart(f"minute-{way}", f"TCP {way} over a minute, MTU 1500", "second", "Gbit/s",
                           by_second(results, f"minute {way} seconds")))
    found.append(Chart("latency-tcp", "TCP requests of 1 byte", "% of the requests are faster",
                       "microseconds", by_percent(results, "exchanges latency"), log_y=True,
                       ticks=tuple(map(str, PERCENTS))))
    found.append(Chart("latency-udp", "UDP requests of 64 bytes", "% of the requests are faster", "microseconds",
                       by_percent(results, "udp exchanges latency"), log_y=True,
                       ticks=tuple(map(str, PERCENTS))))
    found.append(Chart("memory-by-connections", "Memory by idle TCP connections", "connections",
                       "MB (PSS, all processes)",
                       lines_of(results, [(n, f"idle {n} pss") for n in (100, 1000, 5000)],
                                results.names("peer", "helper")),
                       log_x=True, log_y=True))
    places = [f"cpu {way} {mtu}" for mtu in (1500, 65520) for way in ("up", "down")]
    found.append(Chart("cpu-per-gib", "CPU time of the helper", "TCP, by direction and MTU",
                       "CPU seconds per GiB",
                       lines_of(results, list(enumerate(places)), results.names("peer", "helper")),
                       ticks=tuple(name[4:] for name in places), is_bars=True))
    main = ["up 1500", "down 1500", "up 65520", "down 65520"]
    found.append(Chart("throughput", "TCP throughput", "by direction and MTU", "Gbit/s",
                       lines_of(results, list(enumerate(main))), ticks=tuple(main), is_bars=True))
    return [chart for chart in found if not chart.is_empty]


def colours(results):
    """Of each program that is in any picture."""
    others = iter(COLOURS)
    drawn = {label for chart in charts(results) for label, _ in chart.lines}
    return {label: OURS if role == "helper" else next(others, "#000000")
            for label, role in results.roles.items() if label in drawn}


# --- matplotlib

def with_matplotlib(chart, palette, paths):
    import matplotlib  # only here: it need not be installed
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = chart.name  # the same file for the same figures
    from matplotlib import pyplot, ticker
    figure, axes = pyplot.subplots(figsize=(9, 4.5))
    width = 0.8 / max(len(chart.lines), 1)
    for i, (label, points) in enumerate(chart.lines):
        x, y = [one[0] for one in points], [one[1] for one in points]
        error = [[one[1] - one[2] for one in points], [one[3] - one[1] for one in points]]
        if chart.is_bars:
            axes.bar([at + (i - (len(chart.lines) - 1) / 2) * width for at in x], y, width, yerr=error, label=label,
                     color=palette[label], capsize=2)
        else:
            axes.errorbar(x, y, yerr=error, label=label, color=palette[label], capsize=2,
                          marker="o" if len(points) < 20 else None)
    axes.set(title=chart.title, xlabel=chart.x, ylabel=chart.y)
    if chart.log_x:
        axes.set_xscale("log")
        places = sorted({one[0] for _, points in chart.lines for one in points})
        axes.set_xticks(places, [str(place) for place in places])
        axes.minorticks_off()
    if chart.log_y:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(ticker.NullFormatter())
    else:
        axes.set_ylim(bottom=0)
    if chart.ticks:
        axes.set_xticks(range(len(chart.ticks)), chart.ticks)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)  # beside the picture: it hides nothing
    figure.tight_layout()
    for path in paths:
        figure.savefig(path, dpi=120, metadata={"Date": None} if path.endswith(".svg") else None)
    pyplot.close(figure)


# --- gnuplot

def quoted(text):
    return '"' + str(text).replace("\\", "\\\\").replace('"', "'") + '"'


def gnuplot_script(chart, palette, path):
    terminal = "svg size 800,450 background 'white'" if path.endswith(".svg") else "pngcairo size 960,540"
    said = [f"set terminal {terminal} noenhanced", f"set output {quoted(path)}", f"set title {quoted(chart.title)}",
            f"set xlabel {quoted(chart.x)}", f"set ylabel {quoted(chart.y)}", "set grid ytics", "set key outside"]
    if chart.log_x:
        said.append("set logscale x")
    said.append("set logscale y" if chart.log_y else "set yrange [0:*]")
    if chart.ticks:
        said.append("set xtics (" + ", ".join(f"{quoted(text)} {i}" for i, text in enumerate(chart.ticks)) + ")")
        said.append(f"set xrange [-0.5:{len(chart.ticks) - 0.5}]")
    plots, data = [], []
    width = 0.8 / max(len(chart.lines), 1)
    for i, (label, points) in enumerate(chart.lines):
        shift = (i - (len(chart.lines) - 1) / 2) * width if chart.is_bars else 0
        style = f"boxes fill solid lc rgb {quoted(palette[label])}" if chart.is_bars else \
            f"linespoints lc rgb {quoted(palette[label])}"
        plots.append(f"'-' using 1:2 with {style} title {quoted(label)}")
        data += [f"{x + shift} {y}" for x, y, *_ in points] + ["e"]
    if chart.is_bars:
        said.append(f"set boxwidth {width}")
    return "\n".join([*said, "plot " + ", ".join(plots), *data]) + "\n"


def with_gnuplot(chart, palette, paths):
    for path in paths:
        subprocess.run(["gnuplot"], input=gnuplot_script(chart, palette, path), text=True, check=True,
                       stderr=subprocess.DEVNULL)


def renderer():
    """How pictures can be drawn here, or None."""
    if importlib.util.find_spec("matplotlib"):
        return with_matplotlib
    return with_gnuplot if shutil.which("gnuplot") else None


def draw(results, folder, render, kinds=("svg", "png")):
    """Writes all of them; [(title, file name of the first kind)]."""
    os.makedirs(folder, exist_ok=True)
    palette, made = colours(results), []
    for chart in charts(results):
        render(chart, palette, [os.path.join(folder, f"{chart.name}.{kind}") for kind in kinds])
        made.append((chart.title, f"{chart.name}.{kinds[0]}"))
    return made
