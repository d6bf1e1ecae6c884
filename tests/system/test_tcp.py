# SPDX-License-Identifier: Apache-2.0
"""TCP both ways, every byte compared."""
import socket

import pytest

from harness.ns import HOST4, HOST6, listener
from harness.traffic import MIB, connected, free_port, inbound, outbound
from harness.util import counters


@pytest.mark.parametrize("mtu", [1500, 65520])
@pytest.mark.parametrize("size", [MIB, 16 * MIB])
def test_outbound(host, container, helper, mtu, size):
    helper(f"--mtu={mtu}")
    outbound(container, host, size)


@pytest.mark.parametrize("mtu", [1500, 65520])
@pytest.mark.parametrize("size", [MIB, 16 * MIB])
def test_inbound(container, helper, mtu, size):
    inbound(container, helper(f"--mtu={mtu}"), size)
