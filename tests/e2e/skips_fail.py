# skips_fail.py - a pytest plugin: where CI is set, a test that is skipped has failed.
# SPDX-License-Identifier: Apache-2.0
"""On a developer's machine root, BTF or a server may be missing; in CI all is there, and a test that did not
run must not look like one that passed."""

import os

import pytest


def must_not_skip(report):
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.longrepr = f"this may not be skipped where CI is set: {reason}"


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_makereport():
    must_not_skip((yield).get_result())


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report():
    must_not_skip((yield).get_result())
