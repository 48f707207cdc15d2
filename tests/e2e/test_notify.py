# test_notify.py - what gopherd tells systemd, heard by a socket in systemd's place.
# SPDX-License-Identifier: Apache-2.0

import os
import signal
import socket
import struct
import time

import pytest

import servers


class Manager:
    """The socket of NOTIFY_SOCKET: what was said, by whom, and when."""

    def __init__(self, path):
        self.address = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.bind(self.address.replace("@", "\0", 1))
        self.heard = []  # (time, pid, text)

    def hear(self, deadline):
        """The next message, or None."""
        self.socket.settimeout(max(0.001, deadline))
        try:
            text, ancillary, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(struct.calcsize("3i")))
        except TimeoutError:
            return None
        pid, _, _ = struct.unpack("3i", ancillary[0][2])
        self.heard.append((time.monotonic(), pid, text.decode()))
        return text.decode()

    def wait(self, wanted, deadline=20):
        """The next message that is not the watchdog's; it must begin so."""
        end = time.monotonic() + deadline * servers.TIME_SCALE
        while time.monotonic() < end:
            text = self.hear(end - time.monotonic())
            if text is not None and text != "WATCHDOG=1":
                assert text.startswith(wanted), f"{text!r} instead of {wanted!r}"
                return text
        raise AssertionError(f"waited in vain for {wanted}; heard: {self.heard}")

    def close(self):
        self.socket.close()


@pytest.fixture
def manager(request, tmp_path):
    it = Manager(tmp_path / "notify" if getattr(request, "param", "file") == "file" else f"@gopher-test-{os.getpid()}")
    yield it
    it.close()


class Gopherd(servers.Gopherd):
    """The daemon as systemd starts it: ready when it says so."""

    def __init__(self, directory, manager, config="", env=None):
        super().__init__(directory, config, env={"NOTIFY_SOCKET": manager.address, **(env or {})})
        self.manager = manager

    def start(self, deadline=30):
        self.spawn([self.binary, "--config", self.config_path, "--plugin-dir", self.plugin_dir, "--state-dir",
                    self.state_dir], env=self.env)
        self.manager.wait("READY=1")


@pytest.mark.parametrize("manager", ["file", "abstract"], indirect=True)
def test_life_is_announced_in_order_by_the_main_process(tmp_path, manager):
    with Gopherd(tmp_path, manager) as daemon:
        # Ready means that it serves.
        assert servers.http_get(daemon.url + "/metrics")[0] == 200
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        daemon.reload()
        said = dict(line.split("=") for line in manager.wait("RELOADING=1\n").splitlines())
        assert before <= int(said["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        manager.wait("READY=1")
        assert "reloaded" in daemon.log
        # A reload that is refused is over, too.
        daemon.reload("daemon = { intervall_s = 1.0; };")
        manager.wait("RELOADING=1\n")
        manager.wait("READY=1")
        assert "did you mean `interval_s`?" in daemon.log
        pid = daemon.pid
        daemon.process.send_signal(signal.SIGTERM)
        manager.wait("STOPPING=1")
        daemon.stop()
        assert manager.hear(0) is None
        assert {p for _, p, _ in manager.heard} == {pid}
        # Without WATCHDOG_USEC nobody waits for it.
        assert "WATCHDOG=1" not in [text for _, _, text in manager.heard]


def listen(manager, seconds):
    """Messages of the next seconds."""
    first = len(manager.heard)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        manager.hear(end - time.monotonic())
    return manager.heard[first:]


def fed(manager, seconds, limit):
    """The watchdog was fed all the time: never longer than its limit apart."""
    start = time.monotonic()
    times = [start] + [t for t, _, text in listen(manager, seconds) if text == "WATCHDOG=1"] + [time.monotonic()]
    gaps = [b - a for a, b in zip(times, times[1:])]
    assert max(gaps) < limit, gaps
    return len(times) - 2


def test_watchdog_is_fed_twice_per_period(tmp_path, manager):
    period = 2 * servers.TIME_SCALE
    with Gopherd(tmp_path, manager, env={"WATCHDOG_USEC": str(int(period * 1e6))}):
        meals = fed(manager, 3 * period, period)
        assert 4 <= meals <= 7


def test_watchdog_of_another_process_is_not_ours(tmp_path, manager):
    with Gopherd(tmp_path, manager, env={"WATCHDOG_USEC": "200000", "WATCHDOG_PID": "1"}):
        assert [text for _, _, text in listen(manager, 1)] == []


def test_stuck_probe_is_failed_and_the_watchdog_still_fed(tmp_path, manager):
    """The probe `alpha` of the unit tests hangs in poll() until its FIFO has a writer."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    period = 2 * servers.TIME_SCALE
    daemon = Gopherd(tmp_path / "gopherd", manager,
                     "daemon = { interval_s = 0.1; stuck_after_s = 1; };\n"
                     f'probes = {{ alpha = {{ mode = "hang_in_poll"; path = "{fifo}"; }}; }};',
                     env={"WATCHDOG_USEC": str(int(period * 1e6))})
    daemon.plugin_dir = daemon.build / "tests/unit/plugins"
    with daemon:
        daemon.wait_sample(lambda s: s.value("gopher_probe_up", probe="alpha") == 0, "the probe is failed")
        assert "probe alpha: failed: its worker is stuck" in daemon.log
        # As long as that took, and longer, the main loop went round.
        fed(manager, 2 * period, period)
        # A writer lets it go on, for as long as there is one.
        with open(fifo, "wb"):
            daemon.wait_sample(lambda s: s.value("gopher_probe_up", probe="alpha") == 1, "it came back")
            assert "probe alpha: its worker came back" in daemon.log
            daemon.stop()
