# test_leaks.py - a hundred starts and a hundred reloads leave nothing behind.
# SPDX-License-Identifier: Apache-2.0

import os
from collections import Counter

from kernel_objects import KINDS, held_by, in_kernel, nobodys
from servers import Gopherd, wait_until


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
    before = in_kernel()
    fds, held = of_process(daemon), Counter(kind for kind, _ in held_by(daemon.pid))
    assert all(held[kind] for kind in KINDS), held
    memory = daemon.scrape().value("gopher_process_resident_memory_bytes")
    for n in range(11, 111):
        reload(n)
    grown = daemon.scrape().value("gopher_process_resident_memory_bytes") - memory
    print(f"RSS {memory / 2**20:.1f} MiB, after 100 reloads {grown / 1024:+.0f} KiB")
    assert Counter(kind for kind, _ in held_by(daemon.pid)) == held
    wait_until(lambda: not nobodys(before), "the kernel has no more than before")
    assert of_process(daemon) <= fds + 2  # a scrape's own connection may be open
    assert grown < 4 << 20


def test_a_hundred_starts(loop_device, tmp_path):
    device = loop_device(2048)
    before = in_kernel()
    ours = set()
    for n in range(100):
        with Gopherd(tmp_path / "g", config(device, 1000)) as daemon:
            wait_until(lambda: daemon.log.count(": ready") == n + 1, f"start {n}", interval=0.01)
            ours |= set(held_by(daemon.pid))
    assert {kind for kind, _ in ours} == set(KINDS) and len(ours) > 1000
    # The kernel frees them when it finds the time.
    wait_until(lambda: not ours & in_kernel(), "nothing of gopherd's is left in the kernel")
    wait_until(lambda: not nobodys(before), "the kernel has no more than before")
