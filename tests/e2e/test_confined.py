# test_confined.py - gopherd under what systemd/gopherd.service gives it: enough, and nothing too much.
# SPDX-License-Identifier: Apache-2.0

import re
import sys
from pathlib import Path

import pytest

import confine
import servers
from cgroup import Cgroup

UNIT = servers.ROOT / "systemd/gopherd.service"
WRITES, SIZE = 16, 4096


class Confined(servers.Gopherd):
    def __init__(self, directory, config, unit=UNIT):
        super().__init__(directory, config)
        self.unit = unit

    def start(self, deadline=30):
        self.spawn([sys.executable, servers.ROOT / "tests/e2e/confine.py", self.unit, self.build, self.dir, self.state_dir,
                    "--config", "/run/gopher/etc/gopher.conf", "--plugin-dir", "/run/gopher/build/probes",
                    "--state-dir", "/run/gopher/state"])
        self.wait_ready(lambda: servers.answers(self.port) and "ready" in self.log, deadline)

    def status(self, field):
        return re.search(rf"^{field}:\s*(.*)$", Path(f"/proc/{self.pid}/status").read_text(), re.M)[1]


@pytest.fixture
def group():
    with Cgroup() as group:
        yield group


def write(device, group):
    """Known writes by a process in a cgroup."""
    group.run("dd", f"of={device.path}", "if=/dev/zero", f"bs={SIZE}", f"count={WRITES}", "oflag=direct")


def config(device):
    return f'daemon = {{ interval_s = 0.2; }}; filter = {{ devices = ["{device.name}"]; }}; probes = {{ io = {{ }}; }};'


def bytes_written(samples):
    return samples.sum("gopher_io_process_bytes_total", operation="write")


def test_runs_and_names_as_the_unit_confines_it(tmp_path, loop_device, group):
    device = loop_device(2048)
    with Confined(tmp_path, config(device)) as daemon:
        write(device, group)
        samples = daemon.wait_sample(lambda s: bytes_written(s) >= WRITES * SIZE, "the writes are counted")
        assert samples.value("gopher_io_process_bytes_total", device=device.name, cgroup=group.path, comm="dd",
                             operation="write") == WRITES * SIZE
        assert samples.value("gopher_probe_up", probe="io") == 1
        assert "Operation not permitted" not in daemon.log and "Permission denied" not in daemon.log
        # It was confined indeed.
        assert daemon.status("Uid").split() == [str(confine.UID)] * 4
        assert (daemon.status("NoNewPrivs"), daemon.status("Seccomp")) == ("1", "2")
        numbers = dict(re.findall(r"#define (CAP_\w+)\s+(\d+)$", Path("/usr/include/linux/capability.h").read_text(), re.M))
        mask = sum(1 << int(numbers[c]) for c in confine.capabilities(confine.read_unit(UNIT)))
        for kind in ("CapEff", "CapPrm", "CapBnd", "CapAmb"):
            assert int(daemon.status(kind), 16) == mask, kind
        # A reload works there, too.
        daemon.reload(config(device) + " history = { max_mib = 64; };")
        servers.wait_until(lambda: "reloaded" in daemon.log, "it is reloaded")
        daemon.stop()
    assert (daemon.state_dir / "events.db").stat().st_uid == confine.UID
    assert (daemon.state_dir / "events.db").stat().st_mode & 0o077 == 0


def needed():
    found = confine.capabilities(confine.read_unit(UNIT))
    # The kernel takes CAP_SYS_ADMIN for either of these.
    return [c for c in found if "CAP_SYS_ADMIN" not in found or c not in ("CAP_BPF", "CAP_PERFMON")]


@pytest.mark.parametrize("capability", needed())
def test_needs_each_capability_of_the_unit(tmp_path, loop_device, group, capability):
    unit = tmp_path / "gopherd.service"
    unit.write_text(re.sub(rf"^((?:AmbientCapabilities|CapabilityBoundingSet)=.*?)\b{capability}\b", r"\1",
                           UNIT.read_text(), flags=re.M))
    assert capability not in confine.capabilities(confine.read_unit(unit))
    device = loop_device(2048)
    daemon = Confined(tmp_path / "daemon", config(device), unit)
    if capability == "CAP_BPF":
        with pytest.raises(AssertionError, match="ended with 1 at start(?s:.*)may not use BPF"):
            daemon.start()
        return
    with daemon:
        if capability == "CAP_DAC_READ_SEARCH":
            write(device, group)
            samples = daemon.wait_sample(lambda s: bytes_written(s) >= WRITES * SIZE, "the writes are counted")
            assert samples.value("gopher_io_process_bytes_total", comm="dd", operation="write", cgroup="")
            return
        samples = daemon.scrape()
        assert samples.value("gopher_probe_up", probe="io") == 0
        assert "does not load: Operation not permitted" in daemon.log
