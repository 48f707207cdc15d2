# test_example_probe.py - the probe of docs/writing-a-probe.md: built as the page says, and its numbers.
# SPDX-License-Identifier: Apache-2.0

import json
import os
import re
import sqlite3
import subprocess
from pathlib import Path

import pytest

import servers
from cgroup import Cgroup

PAGE = servers.ROOT / "docs/writing-a-probe.md"
BLOCK = r"\n```[a-z]*\n(.*?)^```$"
PYTHON = "/usr/bin/python3"
INSIDE, OUTSIDE = 25, 10  # programs started in the watched cgroup, and elsewhere

# Runs a program some times, and prints its own process id and those that fork gave.
CHILD = """
import os, subprocess, sys
print(os.getpid())
for _ in range(int(sys.argv[1])):
    child = subprocess.Popen(sys.argv[2:], stdout=subprocess.DEVNULL)
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


@pytest.fixture
def cgroup():
    with Cgroup() as group:
        yield group


class Executed:
    """What was executed in a cgroup, as the processes themselves say."""

    def __init__(self, cgroup):
        self.cgroup = cgroup
        self.count = {}  # as execs() reads it
        self.pids = []  # of the programs, in their order
        self.parents = []

    def __call__(self, n, program):
        """The parent is Python, which is executed in the group as well."""
        parent, *pids = map(int, self.cgroup.run(PYTHON, "-c", CHILD, n, program).split())
        self.parents.append(parent)
        self.pids += pids
        for name, times in ((Path(PYTHON).name, 1), (Path(program).name, len(pids))):
            key = (name, self.cgroup.path)
            self.count[key] = self.count.get(key, 0) + times

    @property
    def total(self):
        return sum(self.count.values())


@pytest.fixture
def execute(cgroup):
    return Executed(cgroup)


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


def wait_running(daemon):
    return daemon.wait_sample(lambda s: s.matching("gopher_probe_hook_info"), "the probe runs")


def wait_counted(daemon, execute):
    """As soon as there are enough it must be the right ones."""
    samples = daemon.wait_sample(lambda s: sum(execs(s).values()) >= execute.total, "all are counted")
    assert execs(samples) == execute.count
    return samples


def weight(events):
    return sum(1 + e.get("folded", 0) for e in events)


@pytest.mark.parametrize("mask, program", [("", "exec__tp_btf"), ("tp_btf", "exec__raw_tp"),
                                           ("tp_btf,raw_tp", "exec__tp")])
def test_counts_and_reports_exactly_what_was_executed(tmp_path, example, cgroup, execute, mask, program):
    with Gopherd(tmp_path, example, config(cgroup), mask) as daemon:
        hooks = wait_running(daemon).matching("gopher_probe_hook_info")
        assert [labels for labels, _ in hooks] == [{"probe": "proc_exec", "hook": "exec", "program": program}]
        for _ in range(OUTSIDE):
            run("/bin/true")
        execute(INSIDE, "/bin/true")
        wait_counted(daemon, execute)
        # Another program is another series, and what is counted does not come back.
        execute(3, "/bin/echo")
        lost = wait_counted(daemon, execute).matching("gopher_lost_total", probe="proc_exec")
        assert {labels["stage"] for labels, _ in lost} >= {"totals_full"} and not any(n for _, n in lost)
        daemon.stop()

        events = daemon.events()
        assert {(e["type"], e["probe"], e["process"]["cgroup"]) for e in events} == {("exec", "proc_exec", cgroup.path)}
        assert weight(events) == execute.total
        programs = [e for e in events if e["process"]["comm"] in ("true", "echo")]
        assert [e["process"]["pid"] for e in programs] == execute.pids
        assert {e["fields"]["parent"] for e in programs} == set(execute.parents)


def test_without_events_it_only_counts(tmp_path, example, cgroup, execute):
    with Gopherd(tmp_path, example, config(cgroup, events=False)) as daemon:
        wait_running(daemon)
        execute(INSIDE, "/bin/true")
        wait_counted(daemon, execute)
        daemon.stop()
        assert daemon.events() == []


def test_counts_stay_when_the_probe_is_restarted(tmp_path, example, cgroup, execute):
    """A reload that changes its options restarts it; what is executed before and after adds up."""
    with Gopherd(tmp_path, example, config(cgroup)) as daemon:
        wait_running(daemon)
        execute(INSIDE, "/bin/true")
        reported = execute.total
        daemon.reload(config(cgroup, events=False))
        servers.wait_until(lambda: daemon.log.count("probe proc_exec: started\n") == 2, "it is started again")
        execute(INSIDE, "/bin/true")
        wait_counted(daemon, execute)
        daemon.stop()
        assert weight(daemon.events()) == reported


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
