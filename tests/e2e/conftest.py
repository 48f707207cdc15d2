# conftest.py - the fixtures of the end-to-end tests, from servers.py.
# SPDX-License-Identifier: Apache-2.0

import contextlib
import os

import pytest

import servers


def pytest_configure():
    if os.geteuid() != 0:
        pytest.exit("the end-to-end tests need root.", returncode=1)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Leaves each phase's outcome on the item, for fixtures that end differently after a failure."""
    report = (yield).get_result()
    setattr(item, f"report_{report.when}", report)


def failed(request):
    return not getattr(request.node, "report_call", None) or request.node.report_call.failed


@pytest.fixture(scope="session")
def kafka_of_session(tmp_path_factory):
    with servers.Kafka(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture
def kafka(kafka_of_session):
    """One broker for all tests, running at the start of each; use topic names of your own."""
    if not kafka_of_session.running:
        kafka_of_session.process = None
        kafka_of_session.start()
    return kafka_of_session


@pytest.fixture
def prometheus(tmp_path):
    """prometheus(target, ...): a Prometheus server that scrapes it."""
    with contextlib.ExitStack() as stack:
        yield lambda target, **options: stack.enter_context(
            servers.Prometheus(tmp_path / "prometheus", target, **options))


@pytest.fixture
def loop_device():
    """loop_device(sectors, ...): a loop device on a file in memory."""
    with contextlib.ExitStack() as stack:
        yield lambda sectors, **options: stack.enter_context(servers.LoopDevice(sectors, **options))


@pytest.fixture
def gopherd(tmp_path, request):
    """gopherd(config, ...): the running daemon; at the end of a test that passed it must stop with status 0."""
    started = []

    def start(config="", directory="gopherd", **options):
        daemon = servers.Gopherd(tmp_path / directory, config, **options)
        started.append(daemon)
        daemon.start()
        return daemon

    yield start
    if failed(request):
        for daemon in started:
            daemon.kill()
            print(f"--- {daemon.log_path}\n{servers.tail(daemon.log_path, 100)}")
        return
    with contextlib.ExitStack() as stack:  # all are stopped, even if one does not end well
        for daemon in started:
            stack.callback(daemon.stop)
