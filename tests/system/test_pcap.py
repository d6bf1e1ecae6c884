# SPDX-License-Identifier: Apache-2.0
"""--pcap: what went over the tap is in the file, also where the sandbox is on."""
import os
import re
import struct
import time

import pytest

from harness.frames import ETH_ARP, ETH_IP, ETH_IPV6
from harness.helper import HelperFailed
from harness.traffic import inbound, outbound
from harness.util import counters, until

SANDBOX = ["--enable-sandbox", "--enable-seccomp"]
HEADER, RECORD = struct.Struct("=IHHiIII"), struct.Struct("=4I")
N_BYTES = 300_000


def read_capture(path):
    """(time in ns, frame) of every record; the file must be whole."""
    with open(path, "rb") as file:
        data = file.read()
    assert HEADER.unpack_from(data) == (0xa1b23c4d, 2, 4, 0, 0, 262144, 1)
    at, found = HEADER.size, []
    while at < len(data):
        seconds, nanoseconds, length, original = RECORD.unpack_from(data, at)
        at += RECORD.size
        assert length == original and at + length <= len(data) and nanoseconds < 10**9
        found.append((seconds * 10**9 + nanoseconds, data[at:at + length]))
        at += length
    return found


def check_frame(frame, mac):
    """Plausible headers, and one of the two ends is the container."""
    kind = struct.unpack("!H", frame[12:14])[0]
    assert mac in (frame[:6], frame[6:12]), frame[:14].hex()
    assert kind in (ETH_IP, ETH_ARP, ETH_IPV6)
    if kind == ETH_IP:
        assert frame[14] == 0x45 and 20 <= struct.unpack("!H", frame[16:18])[0] <= len(frame) - 14


def payloads(frames):
    """Of each TCP connection, by (source, ports): the bytes at their sequence numbers."""
    streams = {}
    for frame in frames:
        if frame[12:14] != b"\x08\x00" or frame[23] != 6:
            continue
        packet = frame[14:14 + struct.unpack("!H", frame[16:18])[0]]
        ports, sequence = packet[20:24], struct.unpack("!I", packet[24:28])[0]
        pieces = streams.setdefault((packet[12:16], ports), {})
        if packet[33] & 2:
            pieces["first"] = sequence + 1
        else:
            # who hears nothing for a while says the first part of it again
            piece = packet[20 + (packet[32] >> 4) * 4:]
            pieces[sequence] = max(pieces.get(sequence, b""), piece, key=len)
    return streams


def stream_of(pieces):
    """The bytes of one direction; the SYN must be there, and everything after it."""
    first, data = pieces.pop("first"), b""
    for sequence, piece in sorted(pieces.items(), key=lambda item: (item[0] - first) % 2**32):
        offset = (sequence - first) % 2**32
        assert not piece or offset <= len(data), f"nothing is captured at {len(data)}"
        data = data[:offset] + piece + data[offset + len(piece):] if piece else data
    return data


def mac_of(container):
    text = container.run("ip", "link", "show", "tap0").stdout
    return bytes.fromhex(re.search(r"link/ether (\S+)", text)[1].replace(":", ""))


def end_counters(one):
    """The last line's."""
    last = one.stderr().splitlines()[-1]
    return {name: int(value) for name, value in re.findall(r" (\w+)=(\d+)", last)}


@pytest.mark.parametrize("mtu", [1500, 65520])
def test_everything_is_there(host, container, helper, mtu):
    """Both directions of a transfer can be put together again from the file."""
    path, start = host.path("capture"), time.time_ns()
    one = helper(f"--mtu={mtu}", f"--pcap={path}", *SANDBOX)
    mac = mac_of(container)
    outbound(container, host, N_BYTES)
    assert one.counters()["syscalls_refused"] == 0
    one.stop()
    records = read_capture(path)
    times = [stamp for stamp, _ in records]
    assert times == sorted(times)
    # an hour: whoever sets the clock in between does not set it further
    assert start - 3600 * 10**9 < times[0] and times[-1] < time.time_ns() + 3600 * 10**9
    for _, frame in records:
        check_frame(frame, mac)
    found = end_counters(one)
    assert len(records) == found["frames_in"] + found["frames_out"]
    assert "pcap_dropped" not in found
    whole = [stream_of(pieces) for pieces in payloads(f for _, f in records).values()]
    assert whole.count(counters(0, N_BYTES)) == 2, [len(data) for data in whole]
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert read_capture(path + ".1") == []


def test_readable_while_it_grows(host, container, helper):
    path = host.path("capture")
    helper(f"--pcap={path}", *SANDBOX)
    container.run("ping", "-c", "1", "-W", "20", "-p", "6e6574776f726b", "10.0.2.2")
    until(lambda: sum(b"networknetwork" in frame for _, frame in read_capture(path)) == 2,
          "request and reply in the file")


def times_of(path):
    """Of its last and of its first frame: the newer file is later in the one, or, when it begins with
    the last turn's second frame, in the other."""
    records = read_capture(path)
    return records[-1][0], records[0][0]


def test_rotation(host, container, helper):
    """By turns, each a capture of its own, and nothing between the two is missing."""
    path, size = host.path("capture"), 128 * 1024
    one = helper(f"--pcap={path}", "--pcap-size=128k", *SANDBOX)
    mac = mac_of(container)
    outbound(container, host)
    inbound(container, one)
    # frames of one turn have one time: this one's is later than all others'
    container.run("ping", "-c", "1", "-W", "20", "10.0.2.2")
    assert one.counters()["syscalls_refused"] == 0
    one.stop()
    assert "warning" not in one.stderr()
    older, newer = sorted((path, path + ".1"), key=times_of)
    first, second = read_capture(older), read_capture(newer)
    assert os.stat(older).st_size <= size and os.stat(newer).st_size <= size
    assert first[-1][0] <= second[0][0]
    assert os.stat(older).st_mtime_ns <= os.stat(newer).st_mtime_ns
    for _, frame in first + second:
        check_frame(frame, mac)
    # the older was left when the next frame had no room
    assert os.stat(older).st_size + RECORD.size + len(second[0][1]) > size


def test_disk_full(host, container, helper):
    """Costs a warning, not the network."""
    path = host.path("capture")
    one = helper(f"--pcap={path}", *SANDBOX, launcher=["prlimit", f"--fsize={N_BYTES}", "--"])
    mac = mac_of(container)
    outbound(container, host)
    until(lambda: one.counters()["pcap_dropped"], "frames left out")
    outbound(container, host)
    inbound(container, one)
    assert one.counters()["syscalls_refused"] == 0
    one.stop()
    assert len([line for line in one.stderr().splitlines() if "capture ends here" in line]) == 1
    records = read_capture(path)
    assert N_BYTES // 2 < os.stat(path).st_size <= N_BYTES
    for _, frame in records:
        check_frame(frame, mac)
    found = end_counters(one)
    assert len(records) + found["pcap_dropped"] == found["frames_in"] + found["frames_out"]


@pytest.mark.parametrize("name, why", [
    ("fifo", "not a regular file"), ("missing/capture", "No such file or directory")])
def test_refused_at_the_start(host, container, helper, name, why):
    """One line, and no tap is left."""
    os.mkfifo(host.path("fifo"), 0o666)
    host.own(host.path("fifo"))
    with pytest.raises(HelperFailed) as caught:
        helper(f"--pcap={host.path(name)}")
    failed = caught.value.helper
    assert failed.process.returncode == 1
    assert re.fullmatch(rf"\S+: --pcap={host.path(name)}: {why}\n", failed.stderr())
    until(lambda: "tap0" not in container.run("ip", "link").stdout, "the tap gone")


def test_two_captures_to_one_file(host, helper):
    """Callers may give every container the same options."""
    path = host.path("capture")
    helper(f"--pcap={path}")
    other = host.container()
    with pytest.raises(HelperFailed) as caught:
        helper(f"--pcap={path}", target=[other.pid, "tap0"])
    assert "another capture is being written there" in caught.value.helper.stderr()
