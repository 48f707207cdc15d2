# kernel_objects.py - which BPF programs, maps and links there are, and who holds them.
# SPDX-License-Identifier: Apache-2.0

import json
import os
import subprocess
from pathlib import Path

KINDS = ("prog", "map", "link")


def in_kernel():
    """{(kind, id)} of the BPF objects on this machine."""
    found = set()
    for kind in KINDS:
        listed = subprocess.run(["bpftool", "-j", kind, "list"], capture_output=True, check=True).stdout
        found |= {(kind, o["id"]) for o in json.loads(listed) or []}
    return found


def held_by(pid):
    """[(kind, id)] of the BPF objects that a process has open, as often as it has."""
    held = []
    try:
        for fd in os.listdir(f"/proc/{pid}/fdinfo"):
            try:
                lines = Path(f"/proc/{pid}/fdinfo/{fd}").read_text().splitlines()
            except OSError:
                continue  # closed meanwhile
            values = dict(line.split(":", 1) for line in lines if ":" in line)
            held += [(kind, int(values[f"{kind}_id"])) for kind in KINDS if f"{kind}_id" in values][-1:]
    except OSError:
        pass  # ended meanwhile
    return held


def nobodys(before):
    """BPF objects that were not there before and that no process holds: others on this machine load some, too."""
    new = in_kernel() - before
    return new and new.difference(*(held_by(pid) for pid in os.listdir("/proc") if pid.isdigit()))
