# test_control.py - bad input and reloads: one clear sentence, and nothing is lost.
# SPDX-License-Identifier: Apache-2.0

import json
import shutil
import signal
import socket
import subprocess
import threading
from contextlib import contextmanager

import pytest

from kernel_objects import KINDS, held_by, in_kernel
from servers import Gopherd, free_port, http_get, wait_until, delivered


def io_config(device, slow_ms=1000, more=""):
    return f"""daemon = {{ interval_s = 0.2; }};
filter = {{ devices = ["{device.name}"]; }};
probes = {{ io = {{ slow_ms = {slow_ms}; }}; }};
{more}"""


def starts(samples):
    return samples.value("gopher_probe_restarts_total", probe="io")


def settled(daemon):
    """The bytes read, when the io probe has looked again: beside it, probe alpha counts the polls."""
    polls = lambda s: s.sum("gopher_alpha_polls_total")
    now = polls(daemon.scrape())
    samples = daemon.wait_sample(lambda s: polls(s) >= now + 3, "three polls")
    return samples.sum("gopher_io_bytes_total", operation="read")


def run(tmp_path, *args, config="", without_rights=False, state=None):
    """A gopherd that is expected to end by itself."""
    daemon = Gopherd(tmp_path / "run", config)
    argv = [daemon.binary, "--config", daemon.config_path, "--plugin-dir", daemon.plugin_dir,
            "--state-dir", state or daemon.state_dir, *args]
    if without_rights:
        # Root without a capability: BPF is refused, the files stay readable.
        argv = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *argv]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)


def test_usage_is_status_2(tmp_path):
    done = run(tmp_path, "--no-such-option")
    assert done.returncode == 2
    assert done.stderr == "gopherd: unknown or incomplete option `--no-such-option`; see gopherd --help\n"


def test_all_mistakes_of_a_configuration_at_once(tmp_path):
    done = run(tmp_path, config='daemon = { intervall_s = 1; workers = 0; };\n'
                                'filter = { pids = ("x"); };\nprobes = { oi = { }; };\n')
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) == 3, lines  # what is inside of strings is looked at when the rest is right
    assert ":2: unknown option `intervall_s` in `daemon`; did you mean `interval_s`?" in lines[0]
    assert ":2: `daemon.workers` is 0, but must be from 1 to 16" in lines[1]
    assert ":4: no plugin of that name: `oi`; did you mean `io`?" in lines[2]


def test_each_mistake_names_its_own_file(tmp_path):
    drop_ins = tmp_path / "run" / "gopher.conf.d"
    drop_ins.mkdir(parents=True)
    (drop_ins / "10-a.conf").write_text("daemon = { workers = 2; };\n")
    (drop_ins / "20-b.conf").write_text("\n\ndaemon = { interval_s = \"soon\"; };\n")
    done = run(tmp_path, config='history = { max_mib = -5; };\n')
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) == 2, lines
    assert any("gopher.conf:2: `history.max_mib`" in line for line in lines), lines
    assert any("20-b.conf:3: `daemon.interval_s`" in line for line in lines), lines


def test_check_judges_without_starting(tmp_path):
    assert run(tmp_path, "--check").returncode == 0
    done = run(tmp_path, "--check", config='kafka = { enabled = true; properties = ["no.such=1"]; };')
    assert done.returncode == 2
    assert ":2: `kafka` properties" in done.stderr and "no.such" in done.stderr


def test_without_rights_it_says_which(tmp_path):
    done = run(tmp_path, without_rights=True)
    assert done.returncode == 1
    assert "may not use BPF: run gopherd as root, or give it CAP_BPF and CAP_PERFMON" in done.stderr


def test_a_missing_plugin_folder(tmp_path):
    done = run(tmp_path, "--plugin-dir", tmp_path / "nothing")
    assert done.returncode == 1
    assert f"plugin folder {tmp_path}/nothing (another one: --plugin-dir FOLDER): No such file" in done.stderr


def test_a_state_folder_that_cannot_be(tmp_path):
    done = run(tmp_path, state="/proc/nothing")
    assert done.returncode == 1
    assert "state folder /proc/nothing: " in done.stderr
    file = tmp_path / "file"
    file.touch()
    done = run(tmp_path, state=file)
    assert done.returncode == 1
    assert f"state folder {file}: " in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_second_one_on_the_same_state_folder(gopherd, tmp_path):
    first = gopherd("")
    done = run(tmp_path, state=first.state_dir)
    assert done.returncode == 1
    assert f"another gopherd (pid {first.pid}) uses {first.state_dir}" in done.stderr


def test_a_port_in_use_is_waited_for(gopherd, tmp_path):
    daemon = Gopherd(tmp_path / "g", "")
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", daemon.port))
        holder.listen()
        daemon.spawn([daemon.binary, "--config", daemon.config_path, "--plugin-dir", daemon.plugin_dir,
                      "--state-dir", daemon.state_dir])
        try:
            wait_until(lambda: "no metrics are served yet" in daemon.log, "it says that the port is in use")
            assert daemon.running
            holder.close()
            wait_until(lambda: f"serving http://{daemon.target}/metrics" in daemon.log, "it serves when the port is free")
            assert http_get(daemon.url + "/healthz")[0] == 200
        finally:
            daemon.stop()


def test_a_broker_that_is_down_stops_nothing(gopherd):
    daemon = gopherd(f'kafka = {{ enabled = true; brokers = "127.0.0.1:{free_port()}"; }};')
    wait_until(lambda: "no broker of 127.0.0.1:" in daemon.log, "it says that there is no broker")
    assert daemon.scrape().value("gopher_kafka_up") == 0
    assert http_get(daemon.url + "/healthz")[0] == 200


def test_a_corrupt_history_is_moved_aside(gopherd, tmp_path):
    state = tmp_path / "gopherd" / "state"
    state.mkdir(parents=True)
    (state / "events.db").write_bytes(b"this is no database, it only takes its place" * 100)
    daemon = gopherd("")
    assert (state / "events.db.corrupt").exists()
    assert "events.db.corrupt" in daemon.log


def test_a_bad_plugin_beside_a_good_one(gopherd, tmp_path, loop_device):
    device = loop_device(2048)
    reference = Gopherd(tmp_path / "unused", "")
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    shutil.copy(reference.plugin_dir / "io.so", plugins)
    for name in ("wrong_abi", "no_symbol", "missing_symbol", "alpha"):
        shutil.copy(reference.build / f"tests/unit/plugins/{name}.so", plugins)
    daemon = gopherd(io_config(device),
                     args=["--plugin-dir", plugins])
    daemon.wait_sample(lambda s: s.sum("gopher_probe_up", probe="io") == 1, "the good one runs")
    assert "plugin wrong_abi.so: is built for probe ABI 7, this gopherd has 1" in daemon.log
    assert "plugin no_symbol.so: exports no symbol gopher_probe" in daemon.log
    assert "undefined symbol: gopher_nobody_has_this" in daemon.log


def test_a_bad_reload_changes_nothing_and_says_why(gopherd, loop_device):
    device = loop_device(2048)
    daemon = gopherd(io_config(device))
    daemon.wait_sample(lambda s: s.sum("gopher_probe_up", probe="io") == 1, "the io probe runs")
    daemon.reload("probes = { io = { slow_ms = -1; }; };")
    wait_until(lambda: "reload refused; what ran before goes on" in daemon.log, "it refuses")
    assert ":2: `probes.io.slow_ms` is -1, but must be from 0 to 3600000 ms" in daemon.log
    daemon.reload(io_config(device, more='daemon_ = { };'))
    wait_until(lambda: "unknown group `daemon_`" in daemon.log, "it refuses again")
    assert starts(daemon.scrape()) == 0


def test_a_reload_loses_no_increment(gopherd, loop_device):
    device = loop_device(64 * 2048)
    daemon = gopherd(io_config(device))
    daemon.wait_sample(lambda s: s.sum("gopher_probe_up", probe="io") == 1, "the io probe runs")
    total = 0
    for round in range(3):
        done = subprocess.run(["fio", "--name=t", f"--filename={device.path}", "--direct=1", "--rw=randread",
                               "--bs=4k", "--size=4M", "--output=/dev/null"])
        assert done.returncode == 0
        total += 4 << 20
        # At once: what the kernel counted since the last poll must come out at the stop.
        daemon.reload(io_config(device, slow_ms=2000 + round))
        samples = daemon.wait_sample(lambda s: starts(s) == round + 1, "the probe is restarted")
        assert delivered(samples.sum("gopher_io_bytes_total", operation="read"), total)
    before = starts(daemon.scrape())
    daemon.reload(io_config(device, slow_ms=2002, more="history = { max_mib = 20; };"))
    wait_until(lambda: daemon.log.count(" reloaded") == 4, "the fourth reload")
    assert starts(daemon.scrape()) == before, "what did not change is not restarted"


def test_a_reload_under_load_loses_only_what_came_while_the_probe_was_away(gopherd, loop_device, tmp_path):
    device = loop_device(64 * 2048)
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    reference = Gopherd(tmp_path / "unused", "")
    shutil.copy(reference.plugin_dir / "io.so", plugins)
    shutil.copy(reference.build / "tests/unit/plugins/alpha.so", plugins)

    def both(slow_ms, more=""):
        return f"""daemon = {{ interval_s = 0.2; }};
filter = {{ devices = ["{device.name}"]; }};
probes = {{ io = {{ slow_ms = {slow_ms}; }}; alpha = {{ }}; }};
{more}"""

    daemon = gopherd(both(1000), args=["--plugin-dir", plugins])
    daemon.wait_sample(lambda s: s.sum("gopher_probe_up") == 2, "both probes run")
    totals, stop = [], threading.Event()

    def scraper():
        while not stop.is_set():
            totals.append(daemon.scrape().sum("gopher_io_bytes_total", operation="read"))

    rate = 5000

    @contextmanager
    def load():
        """fio while the block runs; result: the bytes that it read."""
        argv = ["setpriv", "--pdeathsig", "KILL", "fio", "--name=t", f"--filename={device.path}", "--direct=1",
                "--rw=randread", "--bs=4k", f"--rate_iops={rate}", "--time_based", "--runtime=300", "--size=64M",
                "--output-format=json"]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
            result = {}
            before = device.stat()["read_ios"]
            try:
                wait_until(lambda: device.stat()["read_ios"] >= before + 1000, "fio is at work", 10)
                yield result
            finally:
                process.send_signal(signal.SIGINT)
                out, _ = process.communicate(timeout=30)
            result["bytes"] = json.loads(out[out.index("{"):])["jobs"][0]["read"]["io_bytes"]
            assert result["bytes"] == 4096 * (device.stat()["read_ios"] - before)

    watcher = threading.Thread(target=scraper)
    watcher.start()
    try:
        # What does not concern the probe does not interrupt it: the sum is exact.
        with load() as first:
            for n in range(5):
                daemon.reload(both(1000, f"history = {{ max_mib = {20 + n}; }};"))
                wait_until(lambda: daemon.log.count(" reloaded") == n + 1, f"reload {n + 1}")
        assert delivered(settled(daemon), first["bytes"])
        assert starts(daemon.scrape()) == 0
        # What concerns it does: requests in between are not seen, and all others are.
        with load() as second:
            for n in range(5):
                daemon.reload(both(2000 + n))
                daemon.wait_sample(lambda s: starts(s) == n + 1, f"restart {n + 1}")
        # Afterwards it is exact again.
        before = settled(daemon)
        with load() as third:
            pass
        assert delivered(settled(daemon), before + third["bytes"])
        assert daemon.scrape().value("gopher_probe_restarts_total", probe="alpha") == 0
    finally:
        stop.set()
        watcher.join()
    unseen = first["bytes"] + second["bytes"] - before
    print(f"a restart hides {unseen / 4096 / rate / 5 * 1000:.0f} ms of I/O")
    assert 0 <= unseen < second["bytes"]
    assert len(totals) > 10 and totals == sorted(totals), "a total went backwards"


@pytest.mark.parametrize("which", ["stop", "kill"])
def test_nothing_remains_in_the_kernel(gopherd, loop_device, which):
    daemon = gopherd(io_config(loop_device(2048)))
    daemon.wait_sample(lambda s: s.sum("gopher_probe_up", probe="io") == 1, "the io probe runs")
    held = set(held_by(daemon.pid))
    assert {kind for kind, _ in held} == set(KINDS) and held <= in_kernel()
    getattr(daemon, which)()
    wait_until(lambda: not held & in_kernel(), "its programs, maps and links are gone")
