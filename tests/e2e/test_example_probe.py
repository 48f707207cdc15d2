# test_example_probe.py - the probe of docs/writing-a-probe.md: built as the page says, and its numbers.
# SPDX-License-Identifier: Apache-2.0

import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import servers

PAGE = servers.ROOT / "docs/writing-a-probe.md"
BLOCK = r"\n```[a-z]*\n(.*?)^```$"
INSIDE, OUTSIDE = 25, 10  # programs started in the watched cgroup, and elsewhere

# Moves into a cgroup, runs a program some times, and prints the process ids that fork gave.
CHILD = """
import os, subprocess, sys
with open(sys.argv[1], "w") as procs:
    procs.write(str(os.getpid()))
for _ in range(int(sys.argv[2])):
    child = subprocess.Popen(sys.argv[3:])
    child.wait()
    print(child.pid)
"""


def run(*argv, **options):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True,
                          env={**os.environ, "LC_ALL": "C"}, **options)
    assert done.returncode == 0, f"{argv}:\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    """An installation of gopher."""
    folder = tmp_path_factory.mktemp("prefix")
    run("cmake", "--install", servers.BUILD, "--prefix", folder)
    return folder


@pytest.fixture(scope="module")
def example(tmp_path_factory, prefix):
    """The folder with the files of the page, and build/proc_exec.so."""
    folder = tmp_path_factory.mktemp("proc_exec")
    files = re.findall(r"<!-- file: (\S+) -->" + BLOCK, PAGE.read_text(), re.S | re.M)
    assert {name for name, _ in files} == {"proc_exec.h", "proc_exec.bpf.c", "tables.hpp", "probe.cpp",
                                           "CMakeLists.txt", "gopher.conf"}
    for name, text in files:
        (folder / name).write_text(text)
    run("cmake", "-B", "build", "-G", "Ninja", "-DCMAKE_BUILD_TYPE=RelWithDebInfo", f"-DCMAKE_PREFIX_PATH={prefix}",
        "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror", cwd=folder)
    run("cmake", "--build", "build", cwd=folder)
    # Only what is installed was used.
    used = run("ninja", "-C", "build", "-t", "deps", cwd=folder) + run("ninja", "-C", "build", "-t", "commands", cwd=folder)
    assert str(prefix) in used and f"{servers.ROOT}/" not in used
    return folder


class Cgroup:
    """A cgroup v2 of the test's own, below the group that the test is in; `path` is as in /proc/PID/cgroup."""

    def __init__(self):
        mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines() if " - cgroup2 " in line]
        if not mounts:
            pytest.skip("cgroup v2 is not mounted")
        self.path = f"/gopher-test-{os.getpid()}"
        self.folder = Path(mounts[0][4] + self.path)

    def __enter__(self):
        self.folder.mkdir()
        return self

    def run(self, n, *argv):
        """Runs a program n times in the group; returns the id of its parent, and those of the processes."""
        with subprocess.Popen([sys.executable, "-c", CHILD, self.folder / "cgroup.procs", str(n), *argv],
                              stdout=subprocess.PIPE, text=True) as child:
            pids = child.stdout.read().split()
        assert child.returncode == 0
        return child.pid, [int(pid) for pid in pids]

    def __exit__(self, *_):
        def gone():
            try:
                self.folder.rmdir()
                return True
            except OSError:  # a process that was waited for may still be leaving it
                return False

        servers.wait_until(gone, f"{self.folder} is empty", 10)


@pytest.fixture
def cgroup():
    with Cgroup() as group:
        yield group


class Gopherd(servers.Gopherd):
    """With the example as its only plugin, and with tracefs, as a booted system has it, for itself alone."""

    MOUNT = '[ -e /sys/kernel/tracing/events ] || mount -t tracefs tracefs /sys/kernel/tracing; exec "$@"'

    def __init__(self, directory, example, config, mask=""):
        super().__init__(directory, config, env={"GOPHER_MASK": mask})
        self.plugin_dir = example / "build"

    def spawn(self, argv, **options):
        super().spawn(["unshare", "--mount", "sh", "-c", self.MOUNT, "sh", *argv], **options)

    def events(self):
        with sqlite3.connect(f"file:{self.state_dir}/events.db?mode=ro", uri=True) as db:
            return [json.loads(text) for text, in db.execute("SELECT json FROM event ORDER BY seq")]


def config(cgroup, events=True, interval=0.2):
    return (f"daemon = {{ interval_s = {interval}; }};\n"
            f'filter = {{ cgroups = ["{cgroup.path}"]; }};\n'
            f"probes = {{ proc_exec = {{ events = {str(events).lower()}; }}; }};")


def execs(samples):
    return {(labels["comm"], labels["cgroup"]): n for labels, n in samples.matching("gopher_proc_exec_total")}


@pytest.mark.parametrize("mask, program", [("", "exec__tp_btf"), ("tp_btf", "exec__raw_tp"),
                                           ("tp_btf,raw_tp", "exec__tp")])
def test_counts_and_reports_exactly_what_was_executed(tmp_path, example, cgroup, mask, program):
    with Gopherd(tmp_path, example, config(cgroup), mask) as daemon:
        samples = daemon.wait_sample(lambda s: s.matching("gopher_probe_hook_info"), "the probe runs")
        assert samples.value("gopher_probe_hook_info", probe="proc_exec")  # one hook, one program
        assert samples.matching("gopher_probe_hook_info")[0][0]["program"] == program
        for _ in range(OUTSIDE):
            run("/bin/true")
        parent, pids = cgroup.run(INSIDE, "/bin/true")
        expected = {("true", cgroup.path): INSIDE}
        samples = daemon.wait_sample(lambda s: execs(s) and sum(execs(s).values()) >= INSIDE, "all are counted")
        assert execs(samples) == expected
        # Another program is another series, and what is counted does not come back.
        cgroup.run(3, "/bin/echo")
        expected["echo", cgroup.path] = 3
        samples = daemon.wait_sample(lambda s: sum(execs(s).values()) >= INSIDE + 3, "the others are counted")
        assert execs(samples) == expected
        lost = samples.matching("gopher_lost_total", probe="proc_exec")
        assert {labels["stage"] for labels, _ in lost} >= {"totals_full"} and not any(n for _, n in lost)
        daemon.stop()

        events = daemon.events()
        assert all(e["type"] == "exec" and e["probe"] == "proc_exec" and e["process"]["cgroup"] == cgroup.path
                   for e in events)
        true = [e for e in events if e["process"]["comm"] == "true"]
        assert sum(1 + e.get("folded", 0) for e in true) == INSIDE
        assert [e["process"]["pid"] for e in true] == pids
        assert {e["fields"]["parent"] for e in true} == {parent}
        assert sum(1 + e.get("folded", 0) for e in events) == INSIDE + 3


def test_without_events_it_only_counts(tmp_path, example, cgroup):
    with Gopherd(tmp_path, example, config(cgroup, events=False)) as daemon:
        daemon.wait_sample(lambda s: s.matching("gopher_probe_hook_info"), "the probe runs")
        cgroup.run(INSIDE, "/bin/true")
        samples = daemon.wait_sample(lambda s: sum(execs(s).values()) >= INSIDE, "all are counted")
        assert execs(samples) == {("true", cgroup.path): INSIDE}
        daemon.stop()
        assert daemon.events() == []


def test_counts_stay_when_the_probe_is_restarted(tmp_path, example, cgroup):
    """A reload that changes its options restarts it; what is executed before and after adds up."""
    with Gopherd(tmp_path, example, config(cgroup)) as daemon:
        daemon.wait_sample(lambda s: s.matching("gopher_probe_hook_info"), "the probe runs")
        cgroup.run(INSIDE, "/bin/true")
        starts = daemon.log.count("probe proc_exec: started\n")
        daemon.reload(config(cgroup, events=False))
        servers.wait_until(lambda: daemon.log.count("probe proc_exec: started\n") > starts, "it is started again")
        cgroup.run(INSIDE, "/bin/true")
        samples = daemon.wait_sample(lambda s: sum(execs(s).values()) >= 2 * INSIDE, "both are counted")
        assert execs(samples) == {("true", cgroup.path): 2 * INSIDE}
        daemon.stop()
        assert len(daemon.events()) == INSIDE


def test_with_every_rung_hidden_it_fails_and_the_daemon_stays(tmp_path, example, cgroup):
    with Gopherd(tmp_path, example, config(cgroup), "tp_btf,raw_tp,tp") as daemon:
        samples = daemon.scrape()
        assert samples.value("gopher_probe_up", probe="proc_exec") == 0
        assert "probe proc_exec: failed: no way to attach hook `exec`" in daemon.log
        assert not samples.matching("gopher_probe_hook_info", probe="proc_exec")


def test_what_the_page_says_to_run(example):
    """The commands that need neither root nor a running daemon, and the configuration of the page."""
    gopherd = servers.BUILD / "daemon/gopherd"
    unprivileged = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs", "--bounding-set=-all"]
    schema = run(gopherd, "--schema=metrics", "--plugin-dir", example / "build")
    assert "### `gopher_proc_exec_total`\n\nPrograms that were executed." in schema
    assert "no mistakes" in run(gopherd, "--check", example / "gopher.conf", "--plugin-dir", example / "build")
    run(servers.ROOT / "tests/abi/check-plugins", example / "build")
    # Nobody may read the folders of the test: the page's promise holds for a copy that he may read.
    assert run(*unprivileged, gopherd, "--version").startswith("gopherd ")


def mistakes():
    return re.findall(r"<!-- mistake: (\S+): (.*?) -> (.*?) -->" + BLOCK, PAGE.read_text(), re.S | re.M)


@pytest.mark.parametrize("name, right, wrong, message", mistakes(), ids=[m[2] for m in mistakes()])
def test_mistakes_read_as_the_page_says(tmp_path, example, prefix, name, right, wrong, message):
    for file in ("probe.cpp", "tables.hpp", "proc_exec.h"):
        text = (example / file).read_text()
        if file == name:
            assert right in text
            text = text.replace(right, wrong)
        (tmp_path / file).write_text(text)
    done = subprocess.run(["g++", "-std=c++20", "-fsyntax-only", "-isystem", prefix / "include", "-isystem",
                           example / "build", "probe.cpp"],
                          cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    assert done.returncode == 1
    # Paths and line numbers of installed headers change with them.
    said = re.sub(r"^.*/(\w+\.hpp):\d+:\d+:", r"\1:", done.stderr, flags=re.M)
    for line in message.splitlines():
        pattern = ".*".join(re.escape(part.strip()) for part in line.split("..."))
        assert re.search(pattern, said), f"{line}\nis not in\n{done.stderr}"
