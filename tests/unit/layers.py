#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The layers of src/, checked over its #include lines (TAP).

base < wire < {link, host} < flow < {tcpflow, udpflow, icmpflow, dns, gateway, splice, forward, slirp} <
publish < {api, agent, ctl} < the files of src/ itself, with the exceptions that the table below spells out. The
check is tried on trees with violations first.
"""
import pathlib
import re
import sys
import tempfile

# Who may include whom, besides itself.
ALLOWED = {
    "base": set(),
    "wire": {"base"},
    "flow": {"base", "wire", "link", "host"},
    "link": {"base", "wire"},
    "host": {"base", "wire"},
    "tcpflow": {"base", "wire", "flow", "link", "host"},
    "gateway": {"base", "wire", "flow", "link", "host"},
    "udpflow": {"base", "wire", "flow", "link", "host"},
    "icmpflow": {"base", "wire", "flow", "link", "host"},
    "dns": {"base", "wire", "flow", "link", "host"},
    "splice": {"base", "wire", "flow", "host"},
    "forward": {"base", "wire", "host", "flow"},
    "publish": {"base", "wire", "flow", "link", "host", "forward", "tcpflow", "splice"},
    "slirp": {"base", "wire", "flow", "link", "host", "forward"},
    "setup": {"base"},
    "agent": {"base", "setup"},
    "api": {"base", "wire", "forward"},
    "ctl": {"base", "wire", "forward"},
}
# Libraries that stay in one folder, and the files that may look at them nevertheless.
CONFINED = {
    "glib.h": ("slirp", set()),
    "slirp/libslirp.h": ("slirp", {"setup/build_info.c"}),
    "libslirp.h": ("slirp", {"setup/build_info.c"}),
}
INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)')


def fault(relative, own, system):
    """What is wrong with one #include of the file `relative`, or None."""
    layer = relative.parts[0] if len(relative.parts) > 1 else None
    name = own or system
    if name in CONFINED:
        folder, others = CONFINED[name]
        if layer != folder and relative.as_posix() not in others:
            return f"{name} belongs to {folder}/ only"
        return None
    if not own:
        return None
    target = own.split("/")[0] if "/" in own else None
    if target is None:
        return None if layer is None or own == "config.h" else f"{own} is not named by its folder"
    if layer is not None and layer not in ALLOWED:
        return f"{layer}/ is in no layer"
    if target not in ALLOWED:
        return f"{own} is in no layer"
    if layer is None or target == layer or target in ALLOWED[layer]:
        return None
    return f"{layer} may not know {target} ({own})"


def check(src):
    """All violations below `src`, as "file:line: reason"."""
    found = []
    for path in sorted(src.rglob("*.[ch]")):
        relative = path.relative_to(src)
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = INCLUDE.match(line)
            reason = match and fault(relative, match[1], match[2])
            if reason:
                found.append(f"{path}:{number}: {reason}")
    return found


# (file, line, is it a violation)
TRIALS = [
    ("base/a.h", '#include "wire/types.h"', True),
    ("base/a.h", '#include "base/util.h"', False),
    ("wire/a.c", '#include "flow/policy.h"', True),
    ("flow/a.c", '  #  include "tcpflow/states.h"', True),
    ("flow/a.c", '#include "link/link.h"', False),
    ("dns/a.c", '#include "udpflow/udpflow.h"', True),
    ("flow/a.c", '#include "wire/packet.h"', False),
    ("forward/a.c", '#include "slirp/filter.h"', True),
    ("forward/a.c", '#include "host/host.h"', False),
    ("slirp/a.c", "#include <glib.h>", False),
    ("slirp/a.c", '#include "api/server.h"', True),
    ("api/a.c", "#include <glib.h>", True),
    ("api/a.c", '#include "forward/forward.h"', False),
    ("agent/a.c", '#include "setup/netconf.h"', False),
    ("agent/a.c", '#include "link/link.h"', True),
    ("setup/a.c", '#include "agent/agent.h"', True),
    ("setup/a.c", '#include "wire/types.h"', True),
    ("setup/a.c", "#include <slirp/libslirp.h>", True),
    ("setup/build_info.c", "#include <slirp/libslirp.h>", False),
    ("setup/a.c", "#include <sys/mount.h>", False),
    ("setup/a.c", '#include "config.h"', False),
    ("relay.c", '#include "api/server.h"', False),
    ("relay.c", '#include "relay.h"', False),
    ("relay.c", "#include <glib.h>", True),
    ("base/a.c", '#include "relay.h"', True),
    ("attic/a.c", '#include "base/util.h"', True),
    ("relay.c", '#include "attic/a.h"', True),
]


def try_out():
    """The trials that the check got wrong."""
    wrong = []
    for name, line, expected in TRIALS:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, name)
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"/* one */\n{line}\n")
            found = check(pathlib.Path(folder))
            if expected != (len(found) == 1 and found[0].startswith(f"{path}:2: ")):
                wrong.append(f"{name}: {line}: {found or 'not found'}")
            elif not expected and found:
                wrong.append(f"{name}: {line}: {found}")
    return wrong


def report(number, name, faults):
    print(f"{'not ok' if faults else 'ok'} {number} - {name}")
    for line in faults:
        print(f"# {line}")
    return not faults


def main():
    src = pathlib.Path(sys.argv[1])
    print("1..3")
    passed = report(1, "the check finds violations", try_out())
    files = list(src.rglob("*.[ch]"))
    passed &= report(2, "there are files", [] if files else [f"{src} holds no source"])
    passed &= report(3, "no layer knows one above it", check(src))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
