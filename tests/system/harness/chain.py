# SPDX-License-Identifier: Apache-2.0
"""Hosts in a row behind the host: each forwards to the next."""
import contextlib

from .ns import Held


class Hop(Held):
    """A network namespace; `near`, `near6` face the host, `address`, `address6` are its own."""

    def __init__(self, host, number):
        super().__init__(host.root, "net", 0, lambda pid: [
            *host.root.prefix, "nsenter", "-t", str(pid), "-n", "--"])
        self.number = number
        self.near, self.address = (f"198.51.{100 + number}.{last}" for last in (1, 2))
        self.near6, self.address6 = (f"2001:db8:{100 + number}::{last}" for last in (1, 2))

    def addresses(self, family_of):
        """(its own address, that of the one before it) of the family of an address."""
        return (self.address6, self.near6) if ":" in family_of else (self.address, self.near)


def dress(world, name, four, six, mtu):
    """Errors are not limited: tests cause many in a second. The masks are about the limit that older
    kernels have for all namespaces together."""
    world.shell(f"""
        ip link set lo up
        echo 0 >/proc/sys/net/ipv4/icmp_ratelimit
        echo 0 >/proc/sys/net/ipv4/icmp_ratemask
        echo 0 >/proc/sys/net/ipv6/icmp/ratelimit 2>/dev/null || :
        echo >/proc/sys/net/ipv6/icmp/ratemask 2>/dev/null || :
        echo 1 >/proc/sys/net/ipv4/ip_forward
        echo 1 >/proc/sys/net/ipv6/conf/all/forwarding 2>/dev/null || :
        echo 0 >/proc/sys/net/ipv6/conf/{name}/accept_dad 2>/dev/null || :
        ip link set {name} mtu {mtu} up
        ip address add {four}/24 dev {name}
        ip -6 address add {six}/64 dev {name} nodad 2>/dev/null || :
        """)


def string(host, before, hop, mtu):
    """The link between two of them."""
    near, far = f"down{hop.number}", f"up{hop.number}"
    before.shell(f"ip link add {near} type veth peer name {far} netns {hop.pid}")
    for world, name, four, six in ((before, near, hop.near, hop.near6),
                                   (hop, far, hop.address, hop.address6)):
        dress(world, name, four, six, mtu)
    hop.shell(f"""
        ip route add default via {hop.near}
        ip -6 route add default via {hop.near6} 2>/dev/null || :
        """)


def lead_on(world, hop, first, last):
    """The way through `hop` to the ones behind it."""
    for number in range(first, last + 1):
        world.shell(f"""
            ip route add 198.51.{100 + number}.0/24 via {hop.address}
            ip -6 route add 2001:db8:{100 + number}::/64 via {hop.address6} 2>/dev/null || :
            """)


@contextlib.contextmanager
def chain(host, *mtus):
    """A hop for each MTU, which is that of the link to it; the first is next to the host."""
    hops = []
    try:
        for number, mtu in enumerate(mtus):
            hops.append(Hop(host, number))
            string(host, hops[-2] if number else host.root, hops[-1], mtu)
        for number, world in enumerate([host.root, *hops[:-2]]):
            lead_on(world, hops[number], number + 1, len(hops) - 1)
        yield hops
    finally:
        if hops:  # its name is free at once, not when the kernel gets round to it
            host.root.run("ip", "link", "delete", "down0", check=False)
        for hop in hops:
            hop.close()
