# SPDX-License-Identifier: Apache-2.0
"""Which rows benchmarks/run measures together, how often and how long; and the tables they are shown in."""
import dataclasses
import fnmatch

import advice_rows
import published_rows
import real_rows
import tcp_rows
import udp_rows


@dataclasses.dataclass
class Plan:
    """`options` are of the rows' module: seconds, wire_seconds, ...; `asked` are rows only for who asks for them."""
    rounds: int
    patterns: tuple
    options: dict
    asked: tuple = ()


def matches(name, patterns):
    return any(fnmatch.fnmatchcase(name, one) for one in patterns)


@dataclasses.dataclass
class Group:
    """`prefix` tells its rows from those of another module with the same names."""
    name: str
    module: object
    full: Plan
    quick: Plan = None
    prefix: str = ""
    others: tuple = ("loopback", "veth", "peer")  # whom else, beside the helpers

    def plan(self, is_quick):
        return self.quick if is_quick else self.full

    def rows(self, is_quick, wanted):
        """The rows of its module that are to be measured. `wanted` are patterns of names with the prefix, or None."""
        plan = self.plan(is_quick)
        if not plan:
            return []
        patterns = (*plan.patterns, *plan.asked) if wanted else plan.patterns
        return [row for row in self.module.ROWS if matches(row.name, patterns)
                and (not wanted or matches(self.prefix + row.name, wanted))]

    def named(self, name):
        return self.prefix + name


def published():
    """Rows of published ports, where there are any."""
    if not published_rows.ROWS:
        return []
    return [Group("published", published_rows, Plan(3, ("*",), {"seconds": 0.8}),
                  Plan(3, ("splice in", "splice out"), {"seconds": 0.3}), prefix="published ")]


def all_groups():
    quick_tcp = ("up 1500", "up 65520", "down 1500", "down 65520", "cpu * 1500", "cpu * 65520", "switches * 1500",
                 "tx drops 1500", "exchanges*", "connects*", "memory at start", "idle 100 *", "idle 1000 *")
    return [
        Group("TCP", tcp_rows, Plan(4, (*quick_tcp, "up *", "down *", "cpu *", "switches *", "tx drops *",
                                        "beside *", "idle *"), {"seconds": 0.8}, ("stream *",)),
              Plan(3, quick_tcp, {"seconds": 0.3})),
        Group("UDP", udp_rows, Plan(4, ("flood *", "runs *", "half *", "exchanges*", "dns*"), {"seconds": 0.8},
                                    ("small *",)),
              Plan(3, ("flood *", "exchanges*"), {"seconds": 0.3}), prefix="udp "),
        Group("calls", tcp_rows, Plan(3, ("syscalls*", "kernel share *", "ready"), {"seconds": 1, "spawns": 10}),
              Plan(3, ("syscalls up 1500",), {"seconds": 0.3}), others=("peer",)),
        Group("real", real_rows, Plan(3, ("*",), {"seconds": 1, "bulk_mib": 1024}),
              Plan(3, ("curl",), {"seconds": 0.3, "bulk_mib": 128})),
        *published(),
        Group("delay", tcp_rows, Plan(3, ("delay *", "wire lossy * 1500"), {"wire_seconds": 2.5}, ("wire *",)),
              others=("loopback", "peer")),
        Group("advice", advice_rows, Plan(3, ("*",), {"seconds": 1, "wire_seconds": 3}), others=()),
        Group("minute", tcp_rows, Plan(1, ("minute up*",), {"minute_seconds": 60}, ("minute down*",)), others=("loopback", "peer")),
    ]


# Titles and patterns of tables, in results.md and by name in the template of docs/performance.md.
MAIN = ("up 1500", "down 1500", "up 65520", "down 65520", "cpu up 1500", "cpu down 1500", "exchanges", "connects",
        "udp exchanges", "udp flood up", "udp flood down", "idle 1000 opens", "idle 1000 rss", "published *",
        "wrk", "wrk published", "redis get", "pgbench", "curl", "git clone", "blobs")
TABLES = {
    "main": ("In short", MAIN),
    "throughput": ("TCP throughput", ("up *", "down *", "stream *", "minute *")),
    "cost": ("What it costs", ("cpu *", "switches *", "syscalls*", "kernel share *", "tx drops *")),
    "latency": ("TCP requests and connections", ("exchanges*", "connects*", "beside *", "ready")),
    "connections": ("Many connections, and memory", ("memory *", "idle *")),
    "delay": ("Over a long way", ("delay *", "wire *")),
    "udp": ("UDP and DNS", ("udp *",)),
    "published": ("Published ports", ("published *",)),
    "real": ("Real programs", tuple(row.name for row in real_rows.ROWS)),
    "advice": ("Choices", ("advice *",)),
}
REPORT = [TABLES[name] for name in TABLES if name != "main"]
