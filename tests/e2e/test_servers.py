# test_servers.py - the helpers of the end-to-end tests, tested: a helper that lies makes every test lie.
# SPDX-License-Identifier: Apache-2.0

import http.server
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import servers


def test_wait_until_gives_up_with_a_name():
    with pytest.raises(AssertionError, match="in vain: the moon is blue"):
        servers.wait_until(lambda: False, "the moon is blue", deadline=0.1)


def test_kafka_gives_back_what_was_produced(kafka):
    assert kafka.consume("echo") == []
    kafka.produce("echo", '{"n":1}', key="node", headers=[("kind", "a"), ("kind", "b")])
    kafka.produce("echo", "two ü\u2028x", key=None)
    first, second = kafka.consume("echo")
    assert (first.key, first.json(), first.offset) == ("node", {"n": 1}, 0)
    assert first.headers == (("kind", "a"), ("kind", "b"))
    assert (second.key, second.value, second.offset) == (None, "two ü\u2028x", 1)


def test_kafka_keeps_data_and_port_over_a_restart(kafka):
    kafka.create_topic("kept", partitions=3, cleanup_policy="compact")
    assert kafka.topics()["kept"] == 3
    kafka.produce("kept", "before", key="k")
    brokers = kafka.brokers
    kafka.stop()
    assert not servers.answers(kafka.port)
    kafka.start()
    assert kafka.brokers == brokers
    kafka.produce("kept", "after", key="k")
    assert [r.value for r in kafka.consume("kept")] == ["before", "after"]


def test_kafka_reads_the_same_with_its_own_consumer(kafka):
    for n in range(3):
        kafka.produce("both", f"value {n}", key=f"key {n}")
    done = kafka.java("org.apache.kafka.tools.consumer.ConsoleConsumer", "--bootstrap-server", kafka.brokers, "--topic",
                      "both", "--from-beginning", "--max-messages", 3, "--property", "print.key=true")
    assert done.stdout.splitlines() == [f"{r.key}\t{r.value}" for r in kafka.consume("both")]


PAGE = """# HELP demo_things_total Things.
# TYPE demo_things_total counter
demo_things_total{kind="a"} 3
demo_things_total{kind="b"} 4
"""


@pytest.fixture
def target():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(PAGE.encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_prometheus_scrapes_and_answers(prometheus, target):
    server = prometheus(target)
    server.wait_scraped()
    assert server.query("sum(demo_things_total)") == [({}, 7.0)]
    assert server.target()["health"] == "up"
    server.stop()


def test_promtool_judges():
    assert servers.promtool_check_metrics(PAGE) == ""
    assert "no help text" in servers.promtool_check_metrics("demo_things_total 1\n")
    assert servers.promtool_check_metrics("this is no metric\n")


def test_samples_are_found_by_label():
    from prometheus_client.parser import text_string_to_metric_families
    samples = servers.Samples(text_string_to_metric_families(PAGE))
    assert samples.value("demo_things_total", kind="b") == 4
    assert samples.sum("demo_things_total") == 7
    assert samples.sum("demo_others_total") == 0
    with pytest.raises(AssertionError, match="2 samples match"):
        samples.value("demo_things_total")


def test_loop_device_counts_and_goes_away():
    with servers.LoopDevice(2048) as device:
        before = device.stat()
        subprocess.run(["dd", f"of={device.path}", "if=/dev/zero", "bs=4096", "count=16", "oflag=direct"],
                       check=True, capture_output=True)
        after = device.stat()
        assert after["write_sectors"] - before["write_sectors"] == 16 * 8
    assert not device.file.exists()
    assert str(device.file) not in subprocess.check_output(["losetup", "--list"], text=True)


def test_loop_device_gives_errors_beyond_a_truncated_file():
    with servers.LoopDevice(2048, direct_io=True) as device:
        device.truncate(1024)
        done = subprocess.run(["dd", f"if={device.path}", "of=/dev/null", "bs=4096", "skip=200", "count=1",
                               "iflag=direct"], capture_output=True, text=True)
        assert done.returncode == 1 and "Input/output error" in done.stderr


def test_nothing_is_left_by_tests_that_were_killed(tmp_path):
    script = """
import sys, time
sys.path.insert(0, sys.argv[1])
import servers
device = servers.LoopDevice(2048).__enter__()
server = servers.Server("sleep", sys.argv[2])
server.spawn(["sleep", "1000"])
print(server.pid, device.name, flush=True)
time.sleep(1000)
"""
    with subprocess.Popen([sys.executable, "-c", script, Path(__file__).parent, tmp_path / "log"],
                          stdout=subprocess.PIPE, text=True) as tests:
        pid, name = tests.stdout.readline().split()
        tests.send_signal(signal.SIGKILL)
        tests.wait()
    try:
        servers.wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "the server is gone", 10)
    except AssertionError:
        os.kill(int(pid), signal.SIGKILL)
        raise
    servers.wait_until(lambda: not os.path.exists(f"/sys/block/{name}/loop"), "the loop device is free", 10)


STAND_IN = """#!/usr/bin/python3
# Stands in for gopherd: the helper is what is tested.
import http.server, re, signal, sys
arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
config = open(arguments["--config"]).read()
if "broken" in config:
    sys.exit("gopher.conf:2: broken")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(b"# TYPE up gauge\\nup 1\\n")
port = int(re.search(r'listen = "127.0.0.1:([0-9]+)"', config).group(1))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3 if "unwell" in config else 0))
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def stand_in(tmp_path):
    binary = tmp_path / "build/daemon/gopherd"
    binary.parent.mkdir(parents=True)
    binary.write_text(STAND_IN)
    binary.chmod(0o755)
    return tmp_path / "build"


def test_gopherd_is_started_scraped_and_stopped(gopherd, stand_in):
    daemon = gopherd("", build=stand_in)
    assert daemon.scrape().value("up") == 1
    pid = daemon.pid
    daemon.stop()
    assert not os.path.exists(f"/proc/{pid}")
    daemon.start()
    daemon.kill()
    daemon.start()


def test_gopherd_that_does_not_start_or_end_well_fails(tmp_path, stand_in):
    with pytest.raises(AssertionError, match="(?s)ended with 1 at start.*gopher.conf:2: broken"):
        servers.Gopherd(tmp_path / "a", "broken", build=stand_in).start()
    with pytest.raises(AssertionError, match="gopherd ended with 3"):
        with servers.Gopherd(tmp_path / "b", "unwell", build=stand_in):
            pass
