#!/usr/bin/python3
"""judge_page.py - lets others' parsers judge our metrics page, and compares what they read.

SPDX-License-Identifier: Apache-2.0

Usage: judge_page.py SAMPLE_PAGE. Needs promtool (Debian: prometheus) and python3-prometheus-client.
"""
import subprocess
import sys

from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client import parser as classic


def samples(families):
    """{(name, labels): value}; a sample that comes twice, or a family without help, is a failure."""
    out = {}
    for family in families:
        assert family.documentation, f"{family.name} has no HELP"
        for s in family.samples:
            key = (s.name, tuple(sorted(s.labels.items())))
            assert key not in out, f"{key} stands twice"
            out[key] = s.value
    return out


def main():
    tool = sys.argv[1]
    pages = {f: subprocess.run([tool, f], check=True, capture_output=True).stdout.decode()
             for f in ("classic", "openmetrics")}

    lint = subprocess.run(["promtool", "check", "metrics"], input=pages["classic"].encode(),
                          capture_output=True)
    complaints = (lint.stdout + lint.stderr).decode().strip()
    assert lint.returncode == 0 and not complaints, f"promtool complains:\n{complaints}"

    read = {"classic": samples(classic.text_string_to_metric_families(pages["classic"])),
            "openmetrics": samples(
                openmetrics.text_string_to_metric_families(pages["openmetrics"]))}
    # What a process tells of itself changes from one run of the tool to the next.
    for page in read.values():
        for key in [k for k in page if k[0].startswith("gopher_process_")]:
            del page[key]
    assert read["classic"] == read["openmetrics"], "the two formats differ in:\n" + "\n".join(
        str(k) for k in set(read["classic"].items()) ^ set(read["openmetrics"].items()))
    units = [line for line in pages["openmetrics"].splitlines() if line.startswith("# UNIT ")]
    assert units, "no UNIT lines"
    print(f"{len(read['classic'])} samples, the same in both formats; {len(units)} units")


main()
