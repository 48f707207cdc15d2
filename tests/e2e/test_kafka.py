# test_kafka.py - what a real broker receives: all of it, valid, and nothing lost by outages and kill -9.
# SPDX-License-Identifier: Apache-2.0

import json
import os
import sqlite3
import sys
import uuid
from pathlib import Path

import jsonschema
import pytest

import servers
from servers import wait_until

# Reads beyond the end of what backs a loop device: each is an I/O error, and so an event. Prints how many it made.
ERRORS = """
import mmap, os, signal, sys, time
path, count, rate = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
buffer = mmap.mmap(-1, 4096)
made, begin = 0, time.monotonic()
while not stop and (count == 0 or made < count):
    try:
        os.preadv(fd, [buffer], 512 * 1024 + made % 100 * 4096)
    except OSError:
        made += 1
    ahead = begin + made / rate - time.monotonic()
    if ahead > 0:
        time.sleep(ahead)
print("made", made, flush=True)
"""


class Errors(servers.Server):
    """A process that makes I/O errors until it is told to stop, or as many as asked for."""

    def __init__(self, directory, device, count=0, rate=300):
        super().__init__("errors", Path(directory) / f"errors-{uuid.uuid4().hex[:6]}.log")
        self.arguments = [device.path, count, rate]

    def start(self):
        self.spawn([sys.executable, "-c", ERRORS, *self.arguments])

    def finish(self):
        """Waits for the last one and returns how many there were."""
        wait_until(lambda: not self.running, "all errors are made", 60)
        return self.made

    def stop(self):
        assert self.end() == 0, self.log
        return self.made

    @property
    def made(self):
        return int(self.log.split()[-1])


@pytest.fixture
def bad_device(loop_device):
    device = loop_device(4096, direct_io=True)
    device.truncate(1024)
    return device


class Topics:
    """Topics of one test, and their configuration."""

    def __init__(self, kafka):
        name = uuid.uuid4().hex[:8]
        self.metrics, self.events, self.metadata = (f"{name}.{kind}" for kind in ("metrics", "events", "metadata"))
        # Made before: a topic that springs up under a producer's hands costs it a retry.
        for topic in (self.metrics, self.events, self.metadata):
            kafka.create_topic(topic)
        self.config = f"""
daemon = {{ interval_s = 0.5; node_name = "node-1"; events_per_minute = 100000; event_queue = 65536; }};
kafka = {{
  enabled = true;
  brokers = "{kafka.brokers}";
  metrics_topic = "{self.metrics}"; events_topic = "{self.events}"; metadata_topic = "{self.metadata}";
  metrics_interval_s = 1.0; metadata_interval_s = 5.0;
  properties = ["reconnect.backoff.max.ms=1000", "client.id=e2e"];
}};
probes = {{ io = {{ slow_ms = 0; }}; }};
"""


@pytest.fixture
def topics(kafka):
    return Topics(kafka)


def watching(daemon):
    """Waits until its probe sees what happens."""
    daemon.wait_sample(lambda s: s.value("gopher_probe_up", probe="io") == 1, "the io probe is up")
    return daemon


def validators(daemon):
    """{kind: validator} from what the daemon itself prints."""
    printed = daemon.run("--plugin-dir", daemon.plugin_dir, "--schema=json")
    assert printed.returncode == 0, printed.stderr
    schema = json.loads(printed.stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    return {kind: jsonschema.Draft202012Validator({**schema, "oneOf": [{"$ref": f"#/$defs/{kind}"}]})
            for kind in ("event", "metrics", "metadata")}


def assert_valid(validator, records):
    for record in records:
        errors = [e.message for e in validator.iter_errors(record.json())]
        assert not errors, f"{errors[:3]}\n{record.value[:1000]}"


def stored_events(daemon):
    """The events of the local store, in the order of storing."""
    path = daemon.state_dir / "events.db"
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        return [json.loads(row[0]) for row in db.execute("SELECT json FROM event ORDER BY seq")]


def kafka_lag(daemon):
    return daemon.scrape().value("gopher_kafka_lag")


def delivered(daemon):
    """Events that this run of the daemon delivered. (A consumer that reads to the end finds none under load.)"""
    return daemon.scrape().value("gopher_kafka_delivered_total", what="events")


def test_a_real_consumer_reads_valid_records(kafka, topics, gopherd, bad_device, tmp_path):
    daemon = watching(gopherd(topics.config))
    load = Errors(tmp_path, bad_device, count=200)
    with load:
        made = load.finish()
    assert made == 200

    events = wait_until(lambda: (r := kafka.consume(topics.events)) and len(r) >= made and r, "all events arrive")
    # The metrics of a moment after the last error.
    errors_counted = lambda r: sum(s["value"] for s in r["series"] if s["labels"]["device"] == bad_device.name)
    metrics = wait_until(
        lambda: (r := kafka.consume(topics.metrics)) and any(
            m["metric"] == "gopher_io_errors_total" and errors_counted(m) == made for m in (x.json() for x in r)) and r,
        "a snapshot tells of all errors")
    metadata = wait_until(lambda: (r := kafka.consume(topics.metadata)) and len(r) >= 2 and r, "metadata comes again")
    schema = validators(daemon)
    assert_valid(schema["event"], events)
    assert_valid(schema["metrics"], metrics)
    assert_valid(schema["metadata"], metadata)

    assert {r.key for r in events} == {"node-1"}
    ours = [r.json() for r in events if r.json()["process"]["pid"] == load_pid(events, bad_device)]
    assert len(ours) == made and len({e["id"] for e in ours}) == made
    first = ours[0]
    assert (first["type"], first["severity"], first["probe"], first["node"]) == ("io_error", "error", "io", "node-1")
    assert first["fields"]["device"] == bad_device.name
    assert first["fields"]["errno"] == "EIO"
    assert first["fields"]["bytes"] == 4096
    assert first["fields"]["sector"] == 1024
    assert first["process"]["comm"].startswith("python")
    assert [e["id"] for e in ours] == sorted(e["id"] for e in ours)

    for record in metrics:
        assert record.key == "node-1/" + record.json()["metric"]
    # The daemon's own metrics and the probe's are in the same snapshots, each series once.
    by_snapshot = {}
    for record in (r.json() for r in metrics):
        by_snapshot.setdefault(record["snapshot"], []).append(record)
    whole = list(by_snapshot.values())[-2]
    assert {"gopher_build_info", "gopher_io_requests_total"} <= {r["metric"] for r in whole}
    series = [(r["metric"], json.dumps(s["labels"], sort_keys=True)) for r in whole for s in r["series"]]
    assert len(series) == len(set(series))

    assert {r.key for r in metadata} == {"node-1"}
    last = metadata[-1].json()
    assert last["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert (last["kernel"], last["arch"]) == (os.uname().release, os.uname().machine)
    (io,) = [p for p in last["probes"] if p["name"] == "io"]
    assert io["state"] in ("running", "degraded")
    assert any(h["rung"] for h in io["hooks"])
    # The schema in the record is the one that the daemon prints.
    assert last["schema"] == json.loads(daemon.run("--plugin-dir", daemon.plugin_dir, "--schema=json").stdout)


def load_pid(events, device):
    pids = {e["process"]["pid"] for e in (r.json() for r in events) if e["fields"]["device"] == device.name}
    assert len(pids) == 1, pids
    return pids.pop()


def test_no_event_is_lost_by_an_outage_and_kill_9(kafka, topics, gopherd, bad_device, tmp_path):
    daemon = watching(gopherd(topics.config))
    with Errors(tmp_path, bad_device) as load:
        wait_until(lambda: delivered(daemon) > 200, "events arrive")
        kafka.stop()
        stored = len(stored_events(daemon))
        wait_until(lambda: len(stored_events(daemon)) > stored + 600, "events are stored without a broker")
        assert kafka_lag(daemon) > 0
        assert daemon.scrape().value("gopher_kafka_up") == 0
        daemon.kill()
        before = {e["id"] for e in stored_events(daemon)}
        daemon.start()  # still without a broker
        wait_until(lambda: len(stored_events(daemon)) > len(before) + 300, "events are stored by the next run")
        daemon.kill()  # and while it delivers
        daemon.start()
        kafka.start()
        wait_until(lambda: delivered(daemon) > 100, "events arrive again")
        daemon.kill()
        daemon.start()
        wait_until(lambda: kafka_lag(daemon) < 100, "the backlog is sent", 60)
        load.stop()
    daemon.wait_sample(lambda s: s.value("gopher_kafka_lag") == 0, "the last ones are sent", 30)
    samples = daemon.scrape()
    daemon.stop()

    stored = [e["id"] for e in stored_events(daemon)]
    received = kafka.consume(topics.events)
    ids = [r.json()["id"] for r in received]
    print(f"{len(stored)} stored, {len(ids)} received, {len(ids) - len(set(ids))} of them again")
    assert before <= set(stored)  # kill -9 took nothing that was stored
    assert set(ids) == set(stored)
    assert list(dict.fromkeys(ids)) == stored  # the first time in order, without a gap
    for stage in ("history", "kafka"):
        assert samples.sum("gopher_lost_total", stage=stage) == sum_of_skipped(samples, stage)
    assert_valid(validators(daemon)["event"], received)


def sum_of_skipped(samples, stage):
    """Without a broker snapshots of metrics are skipped, and that is counted; events never are."""
    if stage == "history":
        return 0
    delivered = samples.value("gopher_kafka_delivered_total", what="snapshots")
    due = samples.value("gopher_kafka_snapshots_due_total")
    lost = samples.sum("gopher_lost_total", stage="kafka")
    assert due - 1 <= delivered + lost <= due
    return lost


def test_a_broker_that_comes_late_gets_everything(topics, kafka, gopherd, bad_device, tmp_path):
    kafka.stop()
    daemon = watching(gopherd(topics.config))
    with Errors(tmp_path, bad_device, count=300) as load:
        made = load.finish()
    wait_until(lambda: len(stored_events(daemon)) >= made, "all events are stored")
    assert "no broker" in daemon.log
    assert daemon.log.count("no broker") == 1  # one line, not one per attempt
    kafka.start()
    wait_until(lambda: len(kafka.consume(topics.events)) >= made, "all events arrive")
    assert {e["id"] for e in stored_events(daemon)} == {r.json()["id"] for r in kafka.consume(topics.events)}


def test_a_topic_that_is_missing_is_waited_for(kafka, topics, gopherd, bad_device, tmp_path):
    broker = kafka.brokers
    daemon = watching(gopherd(
        topics.config.replace(topics.events, topics.events + ".late")
        .replace('"client.id=e2e"', '"client.id=e2e", "allow.auto.create.topics=false"')))
    with Errors(tmp_path, bad_device, count=50) as load:
        made = load.finish()
    wait_until(lambda: len(stored_events(daemon)) >= made, "all events are stored")
    kafka.create_topic(topics.events + ".late")
    wait_until(lambda: len(kafka.consume(topics.events + ".late")) >= made, "all events arrive", 90)
    assert broker == kafka.brokers


def test_wrong_settings_are_named(gopherd, topics):
    daemon = gopherd("")
    for config, words in (
            ('properties = ["linger.ms=5", "no.such.thing=1"];', "properties[1] (no.such.thing): No such"),
            ('properties = ["acks=0"];', "properties[0] (acks): is set by gopher"),
            ('brokers = "";', "brokers is empty")):
        daemon.config_path.write_text(f"kafka = {{ enabled = true; {config} }};\n")
        done = daemon.run("--plugin-dir", daemon.plugin_dir, "--check", daemon.config_path)
        assert done.returncode == 2
        assert words in done.stderr and "gopher.conf:" in done.stderr, done.stderr
