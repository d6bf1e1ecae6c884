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
    many = ("* idle many *",)
    plain = tuple(row.name for row in published_rows.ROWS if not matches(row.name, many))
    return [Group("published", published_rows, Plan(5, plain, {"seconds": 0.3}),
                  Plan(6, ("splice in", "splice out"), {"seconds": 0.15}), prefix="published "),
            Group("published, many", published_rows, Plan(3, many, {}), prefix="published ")]


def all_groups():
    """Many short rounds tell more than few long ones: on a machine that drifts, a longer sample is no surer one."""
    main_tcp = ("up 1500", "up 65520", "down 1500", "down 65520", "cpu * 1500", "cpu * 65520", "switches * 1500",
                "tx drops 1500", "exchanges*", "connects*", "memory at start")
    return [
        Group("minute", tcp_rows, Plan(1, ("minute *",), {"minute_seconds": 60}), others=("peer",)),
        Group("TCP", tcp_rows, Plan(5, (*main_tcp, "up *", "down *", "cpu *", "switches *", "tx drops *", "beside *"),
                                    {"seconds": 0.3}, ("stream *",)),
              Plan(6, main_tcp, {"seconds": 0.15}), others=("loopback", "relay", "veth", "peer")),
        Group("connections", tcp_rows, Plan(5, ("idle *",), {}), Plan(6, ("idle 1000 *",), {})),
        Group("UDP", udp_rows, Plan(5, ("flood *", "runs *", "half *", "exchanges*", "dns*"), {"seconds": 0.4},
                                    ("small *",)),
              Plan(6, ("flood *", "exchanges*"), {"seconds": 0.15}), prefix="udp "),
        Group("calls", tcp_rows, Plan(5, ("syscalls*", "kernel share *", "ready"), {"seconds": 0.4, "spawns": 5}),
              others=("peer",)),
        Group("real", real_rows, Plan(5, ("*",), {"seconds": 1, "bulk_mib": 1024}),
              Plan(6, ("curl",), {"seconds": 0.3, "bulk_mib": 64})),
        *published(),
        Group("delay", tcp_rows, Plan(5, ("delay *", "wire lossy * 1500"), {"wire_seconds": 1.2}, ("wire *",)),
              others=("loopback", "peer")),
        Group("advice", advice_rows, Plan(5, ("*",), {"seconds": 0.4, "wire_seconds": 1.5}), others=()),
    ]


# Titles and patterns of tables, in results.md and by name in the template of docs/performance.md.
MAIN = ("up 1500", "down 1500", "up 65520", "down 65520", "cpu up 1500", "cpu down 1500", "exchanges", "connects",
        "udp exchanges", "udp flood up", "udp flood down", "idle 1000 opens", "idle 1000 rss", "published splice in",
        "published splice out", "published splice exchanges", "published splice connects",
        "wrk", "wrk published", "redis get", "pgbench", "curl", "git clone", "blobs")
TABLES = {
    "main": ("In short", MAIN),
    "throughput": ("TCP throughput", ("up *", "down *", "stream *", "minute *")),
    "cost": ("What it costs", ("cpu *", "switches *", "syscalls*", "kernel share *", "tx drops *")),
    "latency": ("TCP requests and connections", ("exchanges*", "connects*", "ready")),
    "beside": ("TCP requests beside a bulk flow", ("beside *",)),
    "connections": ("Many connections, and memory", ("memory *", "idle *")),
    "delay": ("Over a long way", ("delay *", "wire *")),
    "udp": ("UDP and DNS", ("udp *",)),
    "published": ("Published ports", ("published *",)),
    "real": ("Real programs", tuple(row.name for row in real_rows.ROWS)),
    "advice": ("Choices", ("advice *",)),
}
REPORT = [TABLES[name] for name in TABLES if name != "main"]
