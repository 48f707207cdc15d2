#!/usr/bin/python3
# live.py - fio's IOPS without gopherd, with io, and with by_process, in turn; and gopherd at rest.
# SPDX-License-Identifier: Apache-2.0
"""Usage: tests/bench/live.py [--rounds N] [--idle SECONDS]; needs root and build/release (or GOPHER_BUILD_DIR).
Prints medians and ratios of alternating runs on a loop device in memory; only that device is watched."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))
from servers import Gopherd, LoopDevice  # noqa: E402

MODES = {"without gopherd": None, "by_process off": "by_process = false;", "by_process on": "by_process = true;"}


def config(device, options):
    return f'filter = {{ devices = ["{device.name}"]; }};\nprobes = {{ io = {{ {options} }}; }};'


def started(folder, device, options):
    daemon = Gopherd(folder, config(device, options))
    daemon.start()
    daemon.wait_sample(lambda s: s.sum("gopher_probe_up", probe="io") == 1, "the io probe runs")
    return daemon


def iops(device):
    done = subprocess.run(["fio", "--name=t", f"--filename={device.path}", "--direct=1", "--rw=randread", "--bs=4k",
                           "--ioengine=psync", "--runtime=2", "--time_based", "--size=64M", "--output-format=json"],
                          capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["jobs"][0]["read"]["iops"]


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=10)
    arguments.add_argument("--idle", type=float, default=60)
    given = arguments.parse_args()
    seen = {mode: [] for mode in MODES}
    with tempfile.TemporaryDirectory() as folder, LoopDevice(64 * 2048) as device:
        iops(device)  # the file's pages come into being
        for _ in range(given.rounds):
            for mode, options in MODES.items():
                daemon = started(Path(folder) / "g", device, options) if options else None
                seen[mode].append(iops(device))
                if daemon:
                    daemon.stop()
        base = seen["without gopherd"]
        for mode, values in seen.items():
            ratio = statistics.median(v / b for v, b in zip(values, base))
            print(f"{mode:16} {statistics.median(values):9.0f} IOPS, {ratio:.3f} of the run without beside it")
        daemon = started(Path(folder) / "g", device, "by_process = true;")
        before = cpu_seconds(daemon.pid)
        time.sleep(given.idle)  # what is measured is this time itself
        used = cpu_seconds(daemon.pid) - before
        samples = daemon.scrape()
        print(f"at rest: {100 * used / given.idle:.2f} % of a core, "
              f"RSS {samples.value('gopher_process_resident_memory_bytes') / 2**20:.1f} MiB, "
              f"peak {samples.value('gopher_process_resident_memory_peak_bytes') / 2**20:.1f} MiB, "
              f"maps {samples.sum('gopher_probe_map_bytes') / 2**20:.1f} MiB")
        daemon.stop()


main()
