# test_cost.py - what the daemon takes of memory and threads; of time only a figure, for the machine is shared.
# SPDX-License-Identifier: Apache-2.0

import os
import subprocess
import time
from pathlib import Path

MIB = 1 << 20
THREADS = 8  # main, a worker, those of the HTTP server, the history; Kafka is off


def status(daemon, name):
    """A size of /proc/PID/status in bytes."""
    text = Path(f"/proc/{daemon.pid}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith(name + ":")).split()[1]) * 1024


def cpu_seconds(daemon):
    fields = Path(f"/proc/{daemon.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_memory_and_threads_with_io_on(gopherd, loop_device):
    device = loop_device(64 * 2048)
    daemon = gopherd(f"""filter = {{ devices = ["{device.name}"]; }};
probes = {{ io = {{ }}; }};""")
    daemon.wait_sample(lambda s: s.sum("gopher_probe_up", probe="io") == 1, "the io probe runs")
    subprocess.run(["fio", "--name=t", f"--filename={device.path}", "--direct=1", "--rw=randrw", "--bs=4k",
                    "--size=32M", "--output=/dev/null"], check=True)
    for _ in range(20):
        daemon.scrape()
    now, peak = status(daemon, "VmRSS"), status(daemon, "VmHWM")
    threads = sorted((p / "comm").read_text().strip() for p in Path(f"/proc/{daemon.pid}/task").iterdir())
    used, begun = cpu_seconds(daemon), time.monotonic()
    time.sleep(5)  # what is measured is this time itself
    idle = (cpu_seconds(daemon) - used) / (time.monotonic() - begun)
    print(f"RSS {now / MIB:.1f} MiB, peak {peak / MIB:.1f} MiB; {idle:.2%} of a core at rest; "
          f"{len(threads)} threads: {', '.join(threads)}")
    assert now <= 30 * MIB and peak <= 30 * MIB
    assert len(threads) <= THREADS
    samples = daemon.scrape()
    assert abs(samples.value("gopher_process_resident_memory_bytes") - now) < MIB
    assert samples.value("gopher_process_resident_memory_peak_bytes") >= peak
    assert samples.value("gopher_process_threads") == len(threads)
