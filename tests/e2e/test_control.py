# test_control.py - bad input and reloads: one clear sentence, and nothing is lost.
# SPDX-License-Identifier: Apache-2.0

import shutil
import socket
import subprocess

import pytest

from servers import Gopherd, free_port, http_get, wait_until


def io_config(device, slow_ms=1000, more=""):
    return f"""daemon = {{ interval_s = 0.2; }};
filter = {{ devices = ["{device.name}"]; }};
probes = {{ io = {{ slow_ms = {slow_ms}; }}; }};
{more}"""


def starts(samples):
    return samples.value("gopher_probe_restarts_total", probe="io")


def run(tmp_path, *args, config="", as_nobody=False, state=None):
    """A gopherd that is expected to end by itself."""
    daemon = Gopherd(tmp_path / "run", config)
    argv = [daemon.binary, "--config", daemon.config_path, "--plugin-dir", daemon.plugin_dir,
            "--state-dir", state or daemon.state_dir, *args]
    if as_nobody:
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


def test_check_judges_without_starting(tmp_path):
    assert run(tmp_path, "--check").returncode == 0
    done = run(tmp_path, "--check", config='kafka = { enabled = true; properties = ["no.such=1"]; };')
    assert done.returncode == 2
    assert ":2: `kafka` properties" in done.stderr and "no.such" in done.stderr


def test_without_rights_it_says_which(tmp_path):
    done = run(tmp_path, as_nobody=True)
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
    daemon.wait_sample(lambda s: s.sum("gopher_kafka_connected") == 0, "it knows that there is no broker")
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
        assert samples.sum("gopher_io_bytes_total", operation="read") == total
    before = starts(daemon.scrape())
    daemon.reload(io_config(device, slow_ms=2002, more="history = { max_mib = 20; };"))
    wait_until(lambda: daemon.log.count(" reloaded") == 4, "the fourth reload")
    assert starts(daemon.scrape()) == before, "what did not change is not restarted"


@pytest.mark.parametrize("which", ["stop", "kill"])
def test_nothing_remains_in_the_kernel(gopherd, loop_device, which):
    import json

    def programs():
        listed = subprocess.run(["bpftool", "-j", "prog", "list"], capture_output=True, check=True).stdout
        return {p["id"] for p in json.loads(listed) or [] if "__tp_btf" in p.get("name", "") or "__raw_tp" in p.get("name", "")}

    before = programs()
    daemon = gopherd(io_config(loop_device(2048)))
    daemon.wait_sample(lambda s: s.sum("gopher_probe_up", probe="io") == 1, "the io probe runs")
    assert programs() - before
    getattr(daemon, which)()
    wait_until(lambda: not programs() - before, "its programs are gone")
