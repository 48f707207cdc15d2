# servers.py - the real servers, devices and the daemon that the end-to-end tests start.
# SPDX-License-Identifier: Apache-2.0
"""Each class is a context manager: what it starts is ended when the block ends, however it ends. Should the
tests themselves be killed, the kernel ends it (a parent-death signal; a loop device clears itself). That signal
goes out when the thread that started a server ends, so start servers from the main thread."""

import atexit
import dataclasses
import errno
import json
import math
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("GOPHER_BUILD_DIR", ROOT / "build/release"))
# Sanitizers and emulation are slower: deadlines are multiplied by this.
TIME_SCALE = float(os.environ.get("GOPHER_TIME_SCALE", "1"))


def wait_until(condition, what, deadline=30.0, interval=0.05):
    """Calls condition() until it returns something true, and returns that; `what` names it if it never does."""
    end = time.monotonic() + deadline * TIME_SCALE
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > end:
            raise AssertionError(f"waited {deadline * TIME_SCALE:g} s in vain: {what}")
        time.sleep(interval)


def delivered(counted, expected):
    """Whether a count of many requests is right: at most 1 % may be missing, and none may be counted twice.
    A tolerance for what is not understood: on the 6.18 kernel of the development machine some completions reach no
    BPF program, minimal ones included, while perf counts all of them on the same tracepoint and recursion_misses
    stays 0. The cause is not known, nor whether other kernels do it."""
    return 0.99 * expected <= counted <= expected


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def answers(port):
    """Whether something accepts connections on the port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


# The servers are on this machine, whatever proxy the environment names.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def http_get(url, headers=None, timeout=10):
    """(status, headers, body as bytes); an error status is no exception."""
    request = urllib.request.Request(url, headers=headers or {})
    try:
        with _opener.open(request, timeout=timeout) as reply:
            return reply.status, reply.headers, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def tail(path, lines=40):
    try:
        return "\n".join(Path(path).read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return "(no log)"


class Server:
    """One process with a log file."""

    def __init__(self, name, log):
        self.name = name
        self.log_path = Path(log)
        self.process = None

    def spawn(self, argv, env=None, cwd=None):
        assert self.process is None, f"{self.name} is running already"
        with open(self.log_path, "ab") as log:
            # setpriv becomes the server itself, so the pid is the server's.
            self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", *map(str, argv)],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env={**os.environ, **(env or {})}, cwd=cwd)
        # Were we killed before setpriv is done, the signal would have gone out too early.
        comm = Path(f"/proc/{self.process.pid}/comm")
        wait_until(lambda: not self.running or comm.read_text() != "setpriv\n", f"{self.name} is executed", 10, 0.002)

    @property
    def pid(self):
        return self.process.pid

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    @property
    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def wait_ready(self, condition, deadline):
        def check():
            if not self.running:
                status = self.process.returncode
                raise AssertionError(f"{self.name} ended with {status} at start:\n{tail(self.log_path)}")
            return condition()

        try:
            wait_until(check, f"{self.name} answers", deadline)
        except AssertionError as error:
            self.end(signal.SIGKILL)
            raise AssertionError(f"{error}\n{tail(self.log_path)}") from None

    def end(self, how=signal.SIGTERM, deadline=30):
        """Ends the process and returns its exit status; one that does not end in time is killed, which fails."""
        if self.process is None:
            return None
        process, self.process = self.process, None
        if process.poll() is None:
            process.send_signal(how)
        try:
            return process.wait(deadline * TIME_SCALE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"{self.name} did not end within {deadline * TIME_SCALE:g} s of "
                                 f"{signal.Signals(how).name}:\n{tail(self.log_path)}") from None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.end()


# --- Kafka -----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Record:
    topic: str
    partition: int
    offset: int
    key: str | None
    value: str | None  # None: a tombstone
    headers: tuple  # of (name, value)
    timestamp_ms: int

    def json(self):
        return json.loads(self.value)


class Kafka(Server):
    """A Kafka broker, one node in KRaft mode. It keeps its data and ports from stop() to start()."""

    def __init__(self, directory, partitions=1, properties=None):
        self.dir = Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        super().__init__("Kafka", self.dir / "kafka.log")
        self.port = free_port()
        self.controller_port = free_port()
        self.properties = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{self.controller_port}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller_port}",
            "log.dirs": self.dir / "data",
            "num.partitions": partitions,
            "log.retention.ms": -1,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
            **(properties or {}),
        }
        self.jars = None

    @property
    def brokers(self):
        return f"127.0.0.1:{self.port}"

    def java(self, main, *args, heap="256m", **options):
        """A finished run of a class of Kafka's."""
        return subprocess.run([*self._java(heap, "off"), main, *map(str, args)], capture_output=True, text=True,
                              timeout=60 * TIME_SCALE, **options)

    def _java(self, heap, level):
        # The cheap compiler and collector: a broker on two cores is up in half the time.
        return ["java", f"-Xmx{heap}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
                f"-Dorg.slf4j.simpleLogger.defaultLogLevel={level}", "-Dorg.slf4j.simpleLogger.showDateTime=true",
                "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS", "-cp", f"{self.jars}/*"]

    def start(self):
        if self.jars is None:
            fetched = subprocess.run([Path(__file__).parent / "kafka/fetch"], capture_output=True, text=True)
            assert fetched.returncode == 0, fetched.stderr
            self.jars = fetched.stdout.strip()
            self.config = self.dir / "server.properties"
            self.config.write_text("".join(f"{k}={v}\n" for k, v in self.properties.items()))
            done = self.java("kafka.tools.StorageTool", "format", "-t", "Z29waGVyLXRlc3RzLTEtMg", "-c", self.config)
            assert done.returncode == 0, f"Kafka's storage could not be formatted: {done.stdout}{done.stderr}"
        self.spawn([*self._java("512m", "info"), "kafka.Kafka", self.config], cwd=self.dir)
        self.wait_ready(lambda: answers(self.port) and self._kcat("-L", "-m", "2").returncode == 0, 60)

    def stop(self):
        status = self.end(deadline=30)
        assert status in (0, 143), f"Kafka ended with {status}:\n{tail(self.log_path)}"

    def kill(self):
        self.end(signal.SIGKILL)

    def _kcat(self, *args, **options):
        return subprocess.run(["kcat", "-b", self.brokers, *map(str, args)], capture_output=True, text=True,
                              timeout=60 * TIME_SCALE, **options)

    def topics(self):
        """{name: number of partitions}, without Kafka's own."""
        done = self._kcat("-L", "-J")
        assert done.returncode == 0, done.stderr
        found = {t["topic"]: len(t["partitions"]) for t in json.loads(done.stdout)["topics"]}
        return {name: n for name, n in found.items() if not name.startswith("__")}

    def create_topic(self, topic, partitions=1, **config):
        """config: a topic's properties, with _ for the dots: cleanup_policy="compact"."""
        extra = [arg for k, v in config.items() for arg in ("--config", f"{k.replace('_', '.')}={v}")]
        done = self.java("org.apache.kafka.tools.TopicCommand", "--bootstrap-server", self.brokers, "--create",
                         "--topic", topic, "--partitions", partitions, *extra)
        assert done.returncode == 0, f"the topic {topic} could not be made: {done.stdout}{done.stderr}"

    def produce(self, topic, value, key=None, headers=()):
        """One record, by a producer that is not gopherd's."""
        args = ["-P", "-t", topic, "-X", "acks=all", *(a for k, v in headers for a in ("-H", f"{k}={v}"))]
        done = self._kcat(*args, *(["-k", key] if key is not None else []), input=value)
        assert done.returncode == 0, done.stderr

    def consume(self, topic):
        """Every record of a topic, in order within a partition; none for a topic that does not exist yet."""
        if topic not in self.topics():
            return []
        done = self._kcat("-C", "-t", topic, "-o", "beginning", "-e", "-q", "-J", "-X",
                          "isolation.level=read_committed")
        assert done.returncode == 0, done.stderr
        records = []
        # Not splitlines(): a payload may hold U+2028 and the like unescaped.
        for line in filter(None, done.stdout.split("\n")):
            r = json.loads(line)
            names_and_values = r.get("headers") or []
            records.append(Record(r["topic"], r["partition"], r["offset"], r["key"], r["payload"],
                                  tuple(zip(names_and_values[::2], names_and_values[1::2])), r["ts"]))
        return records


# --- Prometheus ------------------------------------------------------------------------------------------


class Prometheus(Server):
    """A Prometheus server that scrapes one target."""

    def __init__(self, directory, target, interval="1s", scrape_options=""):
        self.dir = Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        super().__init__("Prometheus", self.dir / "prometheus.log")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.config = self.dir / "prometheus.yml"
        self.config.write_text(
            f"global:\n  scrape_interval: {interval}\n  scrape_timeout: {interval}\n"
            "scrape_configs:\n  - job_name: gopher\n"
            + "".join(f"    {line}\n" for line in scrape_options.splitlines())
            + f"    static_configs:\n      - targets: ['{target}']\n")

    def start(self):
        self.spawn(["/usr/bin/prometheus", f"--config.file={self.config}", f"--storage.tsdb.path={self.dir}/data",
                    f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn"])
        self.wait_ready(lambda: answers(self.port) and http_get(self.url + "/-/ready")[0] == 200, 30)

    def stop(self):
        status = self.end()
        assert status == 0, f"Prometheus ended with {status}:\n{tail(self.log_path)}"

    def api(self, path, **parameters):
        query = "?" + urllib.parse.urlencode(parameters) if parameters else ""
        _, _, body = http_get(f"{self.url}/api/v1/{path}{query}")
        reply = json.loads(body)
        assert reply["status"] == "success", reply
        return reply["data"]

    def query(self, expression):
        """[(labels, value)] of an instant query."""
        return [(r["metric"], float(r["value"][1])) for r in self.api("query", query=expression)["result"]]

    def target(self):
        """The target as Prometheus sees it: health, lastError, lastScrape, ..."""
        return self.api("targets")["activeTargets"][0]

    def wait_scraped(self, deadline=20):
        """Returns when a scrape that began after this call has succeeded."""
        start = time.time()

        def scraped():
            found = self.query('timestamp(up{job="gopher"} == 1)')
            return found and found[0][1] > start

        try:
            wait_until(scraped, "Prometheus scraped its target", deadline)
        except AssertionError as error:
            raise AssertionError(f"{error}; its last error: {self.target()['lastError']!r}") from None


def promtool_check_metrics(text):
    """What promtool has to say against a page of metrics: '' if nothing."""
    done = subprocess.run(["/usr/bin/promtool", "check", "metrics"], input=text, capture_output=True, text=True,
                          timeout=60 * TIME_SCALE)
    complaint = done.stdout + done.stderr
    return complaint or ("" if done.returncode == 0 else f"promtool ended with {done.returncode}")


# --- Devices ---------------------------------------------------------------------------------------------


class LoopDevice:
    """A loop device on a file in memory that has no name any more. `path` is the device, `name` its name.

    With direct_io, truncate() gives I/O errors to reads beyond the new end."""

    def __init__(self, sectors, direct_io=False, directory="/dev/shm", partscan=False):
        self.sectors = sectors
        self.direct_io = direct_io
        self.partscan = partscan
        self.file = Path(directory) / f"gopher-loop-{os.getpid()}-{time.monotonic_ns()}"
        self.path = self.name = self._fd = self._file_fd = None

    def __enter__(self):
        # For an end without __exit__, such as sys.exit() in a fixture.
        atexit.register(self.detach)
        self._file_fd = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        self.truncate(self.sectors)
        done = subprocess.run(["losetup", "--find", "--show", f"--direct-io={'on' if self.direct_io else 'off'}",
                               *(["--partscan"] if self.partscan else []), self.file],
                              capture_output=True, text=True)
        self.file.unlink()
        try:
            assert done.returncode == 0, done.stderr
            self.path = done.stdout.strip()
            self.name = self.path.removeprefix("/dev/")
            # A device that is detached while it is open clears itself at the last close, even if that is our
            # death: so nothing is left whatever happens.
            self._fd = os.open(self.path, os.O_RDONLY)
            subprocess.run(["losetup", "--detach", self.path], check=True)
            assert int(Path(f"/sys/block/{self.name}/size").read_text()) == self.sectors
            assert self.direct_io == bool(int(Path(f"/sys/block/{self.name}/loop/dio").read_text()))
        except BaseException:
            self.detach()
            raise
        return self

    def stat(self):
        """The numbers of /sys/block/<name>/stat by name."""
        names = ("read_ios read_merges read_sectors read_ticks write_ios write_merges write_sectors write_ticks "
                 "in_flight io_ticks time_in_queue discard_ios discard_merges discard_sectors discard_ticks "
                 "flush_ios flush_ticks")
        return dict(zip(names.split(), map(int, Path(f"/sys/block/{self.name}/stat").read_text().split())))

    def truncate(self, sectors):
        """Cuts or grows what backs the device; the device keeps its size."""
        os.truncate(self._file_fd, sectors * 512)

    def detach(self):
        if self._fd is not None:
            os.close(self._fd)
        elif self.path is not None:
            subprocess.run(["losetup", "--detach", self.path])
        if self._file_fd is not None:
            os.close(self._file_fd)
        self._fd = self._file_fd = self.path = None
        atexit.unregister(self.detach)

    def __exit__(self, *_):
        device, backing = self.name, Path(f"/sys/block/{self.name}/loop/backing_file")

        def cleared():
            try:
                return not backing.read_text().startswith(str(self.file))
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENXIO, errno.ENODEV):
                    return True
                raise

        self.detach()
        # The last close may be a moment later, when a client that was killed is still being torn down.
        wait_until(cleared, f"{device} is free (something still holds it open)", 10)


# --- gopherd ---------------------------------------------------------------------------------------------


class Samples(dict):
    """{(name, ((label, value), ...)): number} of one scrape."""

    def __init__(self, families):
        self.families = {f.name: f for f in families}
        super().__init__(((s.name, tuple(sorted(s.labels.items()))), s.value)
                         for f in self.families.values() for s in f.samples)

    def matching(self, name, **labels):
        """[(labels, value)] of the samples of that name that have (at least) these labels."""
        return [(dict(key[1]), value) for key, value in self.items()
                if key[0] == name and labels.items() <= dict(key[1]).items()]

    def value(self, name, **labels):
        """The one sample that matches."""
        found = self.matching(name, **labels)
        assert len(found) == 1, f"{len(found)} samples match {name}{labels}: {found[:5]}"
        return found[0][1]

    def sum(self, name, **labels):
        """The sum of those that match, 0 if none does."""
        return math.fsum(value for _, value in self.matching(name, **labels))


class Gopherd(Server):
    """gopherd with a configuration of its own, on a free port.

    config: libconfig text of every group but 'prometheus', which is made here; `prometheus` is more text for it.
    The configuration, state directory and log are in `directory`: another Gopherd on the same one goes on
    where the last one ended."""

    def __init__(self, directory, config="", prometheus="", args=(), env=None, build=BUILD):
        self.dir = Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        super().__init__("gopherd", self.dir / "gopherd.log")
        self.build = Path(build)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.config_path = self.dir / "gopher.conf"
        self.state_dir = self.dir / "state"
        self.state_dir.mkdir(exist_ok=True)
        self.plugin_dir = self.build / "probes"
        self.prometheus = prometheus
        self.args = list(args)
        self.env = dict(env or {})
        self.write_config(config)

    @property
    def binary(self):
        return self.build / "daemon/gopherd"

    @property
    def target(self):
        return f"127.0.0.1:{self.port}"

    def write_config(self, config):
        self.config_path.write_text(
            f'prometheus = {{ listen = "{self.target}"; {self.prometheus} }};\n{config}\n')

    def run(self, *args, deadline=30):
        """A finished run with other arguments, as --check or --version."""
        return subprocess.run([self.binary, *map(str, args)], capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, env={**os.environ, **self.env}, timeout=deadline * TIME_SCALE)

    def start(self, deadline=30):
        assert self.binary.exists(), f"there is no '{self.binary}'; build it first, or set GOPHER_BUILD_DIR"
        self.spawn([self.binary, "--config", self.config_path, "--plugin-dir", self.plugin_dir,
                    "--state-dir", self.state_dir, *self.args], env=self.env)
        self.wait_ready(lambda: answers(self.port) and http_get(self.url + "/metrics")[0] == 200, deadline)

    def reload(self, config=None):
        """SIGHUP, with a new configuration if one is given. It is asynchronous: wait for what it changes."""
        if config is not None:
            self.write_config(config)
        self.process.send_signal(signal.SIGHUP)

    def stop(self, deadline=30):
        """SIGTERM: it must end in time and with 0."""
        status = self.end(deadline=deadline)
        assert status in (0, None), f"gopherd ended with {status}:\n{tail(self.log_path)}"

    def kill(self):
        """SIGKILL."""
        self.end(signal.SIGKILL)

    def page(self, openmetrics=False):
        """The text of /metrics."""
        accept = "application/openmetrics-text; version=1.0.0" if openmetrics else "text/plain; version=0.0.4"
        status, headers, body = http_get(self.url + "/metrics", {"Accept": accept})
        assert status == 200, f"/metrics answered {status}: {body[:200]}"
        kind = headers["Content-Type"]
        assert kind.split(";")[0] == accept.split(";")[0], f"/metrics was asked for {accept} and sent {kind}"
        return body.decode()

    def scrape(self, openmetrics=False):
        """The samples of /metrics, as another implementation's parser reads them."""
        if openmetrics:
            from prometheus_client.openmetrics.parser import text_string_to_metric_families
        else:
            from prometheus_client.parser import text_string_to_metric_families
        return Samples(text_string_to_metric_families(self.page(openmetrics)))

    def wait_sample(self, condition, what, deadline=20):
        """Scrapes until condition(samples) is true, and returns those samples."""
        def check():
            samples = self.scrape()
            return samples if condition(samples) else None

        return wait_until(check, what, deadline, interval=0.1)

    def __exit__(self, kind, *_):
        # A test that failed already says why; a daemon that then does not end well must not hide it.
        if kind is not None:
            self.kill()
        elif self.process is not None:
            self.stop()
