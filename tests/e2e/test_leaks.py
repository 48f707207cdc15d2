# test_leaks.py - a hundred starts and a hundred reloads leave nothing behind.
# SPDX-License-Identifier: Apache-2.0

import json
import os
import subprocess

from servers import Gopherd, wait_until


def in_kernel():
    """How many programs, maps and links there are on this machine."""
    count = {}
    for kind in ("prog", "map", "link"):
        listed = subprocess.run(["bpftool", "-j", kind, "list"], capture_output=True, check=True).stdout
        count[kind] = len(json.loads(listed) or [])
    return count


def of_process(daemon):
    return len(os.listdir(f"/proc/{daemon.pid}/fd"))


def config(device, slow_ms):
    return f"""daemon = {{ interval_s = 0.2; }};
filter = {{ devices = ["{device.name}"]; }};
probes = {{ io = {{ slow_ms = {slow_ms}; }}; }};"""


def restarts(daemon):
    return daemon.scrape().value("gopher_probe_restarts_total", probe="io")


def test_a_hundred_reloads(gopherd, loop_device):
    device = loop_device(2048)
    daemon = gopherd(config(device, 1000))
    daemon.wait_sample(lambda s: s.sum("gopher_probe_up", probe="io") == 1, "the io probe runs")

    def reload(n):
        daemon.reload(config(device, 1000 + n))
        wait_until(lambda: restarts(daemon) == n, f"restart {n}")

    for n in range(1, 11):
        reload(n)
    fds, kernel = of_process(daemon), in_kernel()
    memory = daemon.scrape().value("gopher_process_resident_memory_bytes")
    for n in range(11, 111):
        reload(n)
    grown = daemon.scrape().value("gopher_process_resident_memory_bytes") - memory
    print(f"RSS {memory / 2**20:.1f} MiB, after 100 reloads {grown / 1024:+.0f} KiB")
    assert in_kernel() == kernel
    assert of_process(daemon) <= fds + 2  # a scrape's own connection may be open
    assert grown < 4 << 20


def test_a_hundred_starts(loop_device, tmp_path):
    device = loop_device(2048)
    before = in_kernel()
    for n in range(100):
        with Gopherd(tmp_path / "g", config(device, 1000)) as daemon:
            wait_until(lambda: "ready" in daemon.log, f"start {n}", interval=0.01)
    # Fewer is well, too: what an earlier test left is freed by the kernel when it finds the time.
    wait_until(lambda: all(n <= before[kind] for kind, n in in_kernel().items()),
               f"the kernel has no more than before: {before}")
