# cgroup.py - a cgroup of a test's own, in which it starts the processes that are to be watched.
# SPDX-License-Identifier: Apache-2.0

import os
import subprocess
from pathlib import Path

import pytest

import servers


class Cgroup:
    """A cgroup v2 that is gone when the block ends; `path` is as in /proc/PID/cgroup."""

    def __init__(self):
        mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines() if " - cgroup2 " in line]
        if not mounts:
            pytest.skip("cgroup v2 is not mounted")
        self.path = f"/gopher-test-{os.getpid()}"
        self.folder = Path(mounts[0][4] + self.path)

    def __enter__(self):
        self.folder.mkdir()
        return self

    def run(self, *argv):
        """Output of a program that begins in the group: sh goes there, and becomes it."""
        return subprocess.run(["sh", "-c", 'echo $$ >"$0" && exec "$@"', self.folder / "cgroup.procs", *map(str, argv)],
                              check=True, capture_output=True, text=True).stdout

    def __exit__(self, *_):
        def gone():
            try:
                self.folder.rmdir()
                return True
            except OSError:  # a process that was waited for may still be leaving it
                return False

        servers.wait_until(gone, f"{self.folder} is empty", 10)
