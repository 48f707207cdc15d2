# test_io.py - the io probe in the running daemon, against fio's and the kernel's own counts.
# SPDX-License-Identifier: Apache-2.0
"""Every daemon here watches only the loop device that its test made."""

import ctypes
import fcntl
import json
import mmap
import os
import sqlite3
import subprocess
import tempfile
import threading
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from servers import delivered, LoopDevice, wait_until

SECTORS = 64 * 2048  # 64 MiB


def config(device, options="", more=""):
    return f"""daemon = {{ interval_s = 0.5; }};
filter = {{ devices = ["{device.name}"]; }};
probes = {{ io = {{ {options} }}; }};
{more}"""


def start(gopherd, device, options="", **kwargs):
    daemon = gopherd(config(device, options), **kwargs)
    daemon.wait_sample(lambda s: s.sum("gopher_probe_up", probe="io") == 1, "the io probe runs")
    return daemon


def fio(device, **options):
    """Runs fio on the device; its job's numbers."""
    return fio_and_pid(device, **options)[0]


def fio_and_pid(device, **options):
    """The same, and the pid of the process that did the work: a child of fio's, which says itself who it is."""
    with tempfile.TemporaryDirectory() as folder:  # for what fio and its command say
        argv = ["fio", "--name=test", f"--filename={device.path}", "--direct=1", "--output-format=json",
                "--output=result", "--thread=0", "--exec_prerun=echo $PPID",
                *(f"--{name}={value}" for name, value in options.items())]
        done = subprocess.run(argv, capture_output=True, text=True, cwd=folder)
        assert done.returncode == 0, done.stderr
        job, = json.loads(Path(folder, "result").read_text())["jobs"]
        return job, Path(folder, "test.prerun.txt").read_text().strip()


def pread(path, offset, size=4096):
    """One read that goes to the device; an OSError if it fails."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        os.preadv(fd, [mmap.mmap(-1, size)], offset)
    finally:
        os.close(fd)


def pwrite(path, offset, size=4096):
    fd = os.open(path, os.O_WRONLY | os.O_DIRECT)
    try:
        assert os.pwritev(fd, [mmap.mmap(-1, size)], offset) == size
    finally:
        os.close(fd)


@contextmanager
def mounted(device, folder):
    """ext4 on the device."""
    subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,nodiscard", device.path], check=True)
    folder.mkdir()
    subprocess.run(["mount", device.path, folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@contextmanager
def held(folder):
    """A file system in which nothing can be written: a device whose file is on it waits."""
    subprocess.run(["fsfreeze", "--freeze", folder], check=True)
    thawed = False

    def thaw():
        nonlocal thawed
        if not thawed:
            subprocess.run(["fsfreeze", "--unfreeze", folder], check=True)
            thawed = True

    try:
        yield thaw
    finally:
        thaw()


def settled(daemon, requests, operation):
    """The samples once this many requests of the operation have arrived."""
    return daemon.wait_sample(lambda s: s.sum("gopher_io_requests_total", operation=operation) >= requests * 0.99,
                              f"{requests} {operation} requests are counted")


def events(daemon, kind):
    """The events of one type in the local store, oldest first."""
    with closing(sqlite3.connect(f"file:{daemon.state_dir}/events.db?mode=ro", uri=True)) as db:
        return [json.loads(row[0]) for row in db.execute("SELECT json FROM event WHERE type = ? ORDER BY seq", (kind,))]


@pytest.fixture
def on_disk(loop_device, tmp_path):
    """A loop device whose requests go to a real disk, so that they take a while."""
    return loop_device(SECTORS, direct_io=True, directory=tmp_path)


@pytest.mark.parametrize("rungs", ["", "tp_btf"])
@pytest.mark.parametrize("operation,rw,block,total", [
    ("read", "randread", 4096, 16 << 20),
    ("write", "write", 1 << 20, 64 << 20),
])
def test_counts_what_fio_counts(gopherd, loop_device, operation, rw, block, total, rungs):
    device = loop_device(SECTORS)
    daemon = start(gopherd, device, env={"GOPHER_MASK": rungs})
    before, seen = device.stat(), daemon.scrape()
    job, pid = fio_and_pid(device, rw=rw, bs=block, size=total)
    side = job[operation]
    ios = device.stat()[f"{operation}_ios"] - before[f"{operation}_ios"]
    samples = settled(daemon, seen.sum("gopher_io_requests_total", operation=operation) + ios, operation)

    def gained(name, **labels):
        return samples.sum(name, operation=operation, **labels) - seen.sum(name, operation=operation, **labels)

    assert side["io_bytes"] == total
    assert delivered(gained("gopher_io_bytes_total"), side["io_bytes"])
    assert delivered(gained("gopher_io_requests_total"), ios)
    assert delivered(gained("gopher_io_request_duration_seconds_count"), ios)
    if block == 4096:  # larger ones the block layer may split
        assert ios == side["total_ios"]
    # By process: all that fio asked for is on fio.
    assert delivered(gained("gopher_io_process_bytes_total", comm="fio", pid=pid), side["io_bytes"])
    assert delivered(gained("gopher_io_process_requests_total", comm="fio", pid=pid), ios)
    assert delivered(gained("gopher_io_process_duration_seconds_count", comm="fio", pid=pid), ios)
    used = {labels["program"].split("__")[1] for labels, _ in samples.matching("gopher_probe_hook_info", probe="io")}
    assert used == ({"raw_tp"} if rungs else {"tp_btf"})


@pytest.mark.parametrize("operation,rw,block,total", [
    ("read", "randread", 1 << 20, 64 << 20),
    ("write", "write", 1 << 20, 64 << 20),
])
def test_takes_as_long_as_the_kernel_says(gopherd, on_disk, operation, rw, block, total):
    daemon = start(gopherd, on_disk)
    if operation == "read":  # reads of holes would not reach the disk below
        fio(on_disk, rw="write", bs=1 << 20, size=64 << 20)
    before, seen = on_disk.stat(), daemon.scrape()
    side = fio(on_disk, rw=rw, bs=block, size=total)[operation]
    after = on_disk.stat()
    ios = after[f"{operation}_ios"] - before[f"{operation}_ios"]
    ticks_ms = after[f"{operation}_ticks"] - before[f"{operation}_ticks"]
    samples = settled(daemon, seen.sum("gopher_io_requests_total", operation=operation) + ios, operation)

    def gained(name):
        return samples.sum(name, operation=operation) - seen.sum(name, operation=operation)

    count = gained("gopher_io_request_duration_seconds_count")
    mean = gained("gopher_io_request_duration_seconds_sum") / count
    kernel, own = ticks_ms / 1000 / ios, side["lat_ns"]["mean"] / 1e9
    print(f"{operation} {block}: mean of gopher {mean * 1e6:.1f} us, of the kernel {kernel * 1e6:.1f} us, "
          f"of fio {own * 1e6:.1f} us; {count:.0f} of {ios} requests")
    assert count == pytest.approx(ios, rel=0.01)
    # The kernel's end is a little later: after the bio's owner was told.
    assert mean == pytest.approx(kernel, rel=0.05)


def test_stages_add_up_to_the_duration(gopherd, on_disk):
    daemon = start(gopherd, on_disk)
    fio(on_disk, rw="write", bs=64 << 10, size=16 << 20)
    samples = settled(daemon, 256, "write")
    total = samples.sum("gopher_io_request_duration_seconds_sum", operation="write")
    stages = samples.sum("gopher_io_request_stage_seconds_sum", operation="write")
    assert stages == pytest.approx(total, rel=0.01)


def test_sequential_and_random_are_told_apart(gopherd, loop_device):
    device = loop_device(SECTORS)
    daemon = start(gopherd, device)
    fio(device, rw="write", bs=64 << 10, size=16 << 20)  # 256 requests, each where the last one ended
    fio(device, rw="randread", bs=4096, size=16 << 20, randrepeat=1)
    samples = settled(daemon, 4096, "read")
    assert samples.sum("gopher_io_sequential_requests_total", operation="write") >= 255
    assert samples.sum("gopher_io_sequential_requests_total", operation="read") <= 4096 * 0.02


def test_dirty_pages_are_their_process_s_and_the_writing_is_writeback_s(gopherd, loop_device, tmp_path):
    device = loop_device(SECTORS)
    daemon = start(gopherd, device)
    with mounted(device, tmp_path / "mnt") as mount:
        size = 8 << 20
        done = subprocess.run(["/bin/dd", "if=/dev/zero", f"of={mount}/file", "bs=1M", "count=8"],
                              capture_output=True, check=True)
        assert b"8388608 bytes" in done.stderr
        subprocess.run(["sync", "--file-system", mount], check=True)  # the flusher writes it, or sync itself
        samples = daemon.wait_sample(
            lambda s: s.sum("gopher_io_process_dirtied_bytes_total", comm="dd") >= size, "dd's dirty bytes")
        # Whole pages: the file's, and those of the directory and the inode that dd made.
        dirtied = samples.sum("gopher_io_process_dirtied_bytes_total", comm="dd")
        assert size <= dirtied <= size + 64 * 1024
        assert samples.sum("gopher_io_process_bytes_total", comm="dd", operation="write") == 0
        samples = daemon.wait_sample(
            lambda s: s.sum("gopher_io_process_bytes_total", comm="writeback", operation="write") +
            s.sum("gopher_io_process_bytes_total", comm="sync", operation="write") >= size, "the writing")


def test_an_error_made_on_purpose_is_a_counter_and_an_event(gopherd, loop_device):
    device = loop_device(SECTORS, direct_io=True)
    daemon = start(gopherd, device)
    device.truncate(SECTORS // 2)
    failures = 0
    fd = os.open(device.path, os.O_RDONLY | os.O_DIRECT)
    try:
        buffer = mmap.mmap(-1, 4096)
        for i in range(5):
            try:
                os.preadv(fd, [buffer], (SECTORS // 2 + 8 * (i + 1)) * 512)
            except OSError as error:
                assert error.errno == 5
                failures += 1
    finally:
        os.close(fd)
    assert failures == 5
    samples = daemon.wait_sample(lambda s: s.sum("gopher_io_errors_total") >= failures, "the errors are counted")
    assert samples.value("gopher_io_errors_total", device=device.name, operation="read", errno="EIO") == failures
    found = wait_until(lambda: (e := events(daemon, "io_error")) and sum(1 + x["folded"] for x in e) == failures and e,
                       "an event for each error")
    first = found[0]
    assert first["process"]["pid"] == os.getpid()
    assert first["process"]["comm"] == Path("/proc/self/comm").read_text().strip()
    assert first["severity"] == "error"
    fields = first["fields"]
    assert fields["device"] == device.name and fields["operation"] == "read" and fields["errno"] == "EIO"
    assert fields["sector"] == SECTORS // 2 + 8 and fields["bytes"] == 4096
    assert fields["partition"] == device.name
    assert 0 < fields["device_seconds"] <= fields["duration_seconds"]
    assert fields["queue_seconds"] + fields["device_seconds"] == pytest.approx(fields["duration_seconds"])


def test_with_everything_hidden_the_probe_fails_and_the_daemon_stays(gopherd, loop_device):
    device = loop_device(2048)
    daemon = gopherd(config(device), env={"GOPHER_MASK": "tp_btf,raw_tp,tp,fentry,fexit,kprobe,kretprobe"})
    samples = daemon.wait_sample(lambda s: s.sum("gopher_probe_state", probe="io", state="failed") == 1, "it failed")
    assert samples.value("gopher_probe_up", probe="io") == 0
    (labels, _), = samples.matching("gopher_probe_failure_info", probe="io")
    assert labels["reason"].startswith("no way to attach hook `complete`: complete__tp_btf: hidden by GOPHER_MASK")
    assert daemon.running


def test_a_filter_by_process_counts_nobody_else(gopherd, loop_device):
    device = loop_device(SECTORS)
    config_text = f"""daemon = {{ interval_s = 0.5; }};
filter = {{ devices = ["{device.name}"]; pids = [{os.getpid()}]; }};
probes = {{ io = {{ }}; }};"""
    daemon = gopherd(config_text)
    daemon.wait_sample(lambda s: s.sum("gopher_probe_up", probe="io") == 1, "the io probe runs")
    fio(device, rw="randread", bs=4096, size=1 << 20)  # another process: 256 requests
    buffer = mmap.mmap(-1, 4096)
    fd = os.open(device.path, os.O_RDONLY | os.O_DIRECT)
    for i in range(7):
        os.preadv(fd, [buffer], i * 65536)
    os.close(fd)
    samples = settled(daemon, 7, "read")
    assert samples.sum("gopher_io_requests_total", operation="read") == 7
    assert samples.sum("gopher_io_process_requests_total", pid=str(os.getpid())) == 7


def test_flushes_are_counted(gopherd, loop_device):
    device = loop_device(SECTORS)
    daemon = start(gopherd, device)
    before = device.stat()
    fd = os.open(device.path, os.O_RDWR | os.O_DIRECT)
    buffer = mmap.mmap(-1, 4096)
    for i in range(11):
        assert os.pwritev(fd, [buffer], i * 4096) == 4096
        os.fdatasync(fd)
    os.close(fd)
    after = device.stat()
    # A flush begins as a write without data: the kernel counts both, and so does gopher.
    flushes, writes = (after[name] - before[name] for name in ("flush_ios", "write_ios"))
    assert flushes == 11
    samples = settled(daemon, flushes, "flush")
    assert samples.sum("gopher_io_requests_total", operation="flush") == flushes
    assert samples.sum("gopher_io_request_duration_seconds_count", operation="flush") == flushes
    assert samples.sum("gopher_io_bytes_total", operation="flush") == 0
    assert samples.sum("gopher_io_requests_total", operation="write") == writes
    assert samples.sum("gopher_io_bytes_total", operation="write") == 11 * 4096
    me = {"pid": str(os.getpid())}
    assert samples.sum("gopher_io_process_bytes_total", operation="write", **me) == 11 * 4096


def add_partition(device, number, first_sector, sectors):
    """Tells the kernel of a partition; it needs no table, which this kernel may not read."""
    class Partition(ctypes.Structure):
        _fields_ = [("start", ctypes.c_longlong), ("length", ctypes.c_longlong), ("number", ctypes.c_int),
                    ("names", ctypes.c_char * 128)]

    class Argument(ctypes.Structure):
        _fields_ = [("op", ctypes.c_int), ("flags", ctypes.c_int), ("size", ctypes.c_int), ("data", ctypes.c_void_p)]

    blkpg, add = 0x1269, 1
    what = Partition(first_sector * 512, sectors * 512, number)
    fd = os.open(device.path, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, blkpg, Argument(add, 0, ctypes.sizeof(what), ctypes.addressof(what)))
    finally:
        os.close(fd)
    wait_until(lambda: os.path.exists(f"{device.path}p{number}"), f"partition {number} is there", 10)


def test_a_partition_can_be_named_in_the_filter_and_is_named_in_events(gopherd, loop_device):
    device = loop_device(SECTORS, direct_io=True, partscan=True)
    for number in (1, 2):
        add_partition(device, number, number * 32768, 32768)
    listed = subprocess.run(["lsblk", "--noheadings", "--list", "--output", "NAME", device.path], check=True,
                            capture_output=True, text=True).stdout.split()
    disk, first, second = listed
    daemon = gopherd(f"""daemon = {{ interval_s = 0.5; }};
filter = {{ devices = ["{second}"]; }};
probes = {{ io = {{ }}; }};""")
    daemon.wait_sample(lambda s: s.sum("gopher_probe_up", probe="io") == 1, "the io probe runs")
    for i in range(5):
        pread(f"/dev/{first}", i * 8192)
        pread(f"/dev/{disk}", i * 8192)
    for i in range(3):
        pread(f"/dev/{second}", i * 8192)
    device.truncate(65536 + 64)  # 32 KiB of the second remain
    with pytest.raises(OSError):
        pread(f"/dev/{second}", 1 << 20)
    samples = settled(daemon, 4, "read")
    assert samples.matching("gopher_io_requests_total") == [
        ({"device": disk, "operation": "read", "class": "sync"}, 4)]
    event, = wait_until(lambda: events(daemon, "io_error"), "the error is stored")
    assert (event["fields"]["device"], event["fields"]["partition"]) == (disk, second)
    assert event["fields"]["sector"] == 65536 + 2048  # on the disk


@pytest.fixture
def zram():
    """A disk in memory that has no requests; removed at the end."""
    control = Path("/sys/class/zram-control")
    if not control.exists():
        pytest.skip("this kernel has no zram")
    number = (control / "hot_add").read_text().strip()
    try:
        Path(f"/sys/block/zram{number}/disksize").write_text(str(16 << 20))
        yield f"zram{number}"
    finally:
        (control / "hot_remove").write_text(number)


def test_a_disk_without_requests_is_counted_by_its_bios(gopherd, zram):
    daemon = gopherd(f"""daemon = {{ interval_s = 0.5; }};
filter = {{ devices = ["{zram}"]; }};
probes = {{ io = {{ }}; }};""")
    daemon.wait_sample(lambda s: s.sum("gopher_probe_up", probe="io") == 1, "the io probe runs")
    fields = lambda: [int(n) for n in Path(f"/sys/block/{zram}/stat").read_text().split()]
    before = fields()
    for i in range(7):
        pwrite(f"/dev/{zram}", i * 4096, 4096)
    for i in range(5):
        pread(f"/dev/{zram}", i * 65536, 65536)
    gained = [b - a for a, b in zip(before, fields())]
    samples = settled(daemon, gained[0], "read")
    for operation, ios, sectors in (("read", gained[0], gained[2]), ("write", gained[4], gained[6])):
        labels = {"device": zram, "operation": operation}
        assert delivered(samples.sum("gopher_io_requests_total", **labels), ios)
        assert delivered(samples.sum("gopher_io_bytes_total", **labels), sectors * 512)
        assert samples.sum("gopher_io_process_bytes_total", pid=str(os.getpid()), **labels) == sectors * 512
    assert gained[2] == 5 * 128 and gained[6] == 7 * 8


def test_slow_and_stuck_requests_are_events_and_so_is_their_end(gopherd, loop_device, tmp_path):
    lower = loop_device(SECTORS)
    with mounted(lower, tmp_path / "mnt") as mount, LoopDevice(16384, directory=mount) as device:
        daemon = start(gopherd, device, "slow_ms = 200; stuck_s = 1;")
        pwrite(device.path, 4096)  # neither
        writer = threading.Thread(target=pwrite, args=(device.path, 12288))
        with held(mount) as thaw:
            writer.start()
            stuck, = wait_until(lambda: events(daemon, "stuck_request"), "the request is reported as stuck")
            samples = daemon.scrape()
            assert samples.value("gopher_io_in_flight", device=device.name) == 1
            assert samples.value("gopher_io_oldest_request_seconds", device=device.name) >= 1
            assert events(daemon, "stuck_request_ended") == events(daemon, "slow_request") == []
            assert int(Path(f"/sys/block/{device.name}/stat").read_text().split()[8]) == 1
            thaw()
            writer.join()
        ended, = wait_until(lambda: events(daemon, "stuck_request_ended"), "its end is reported")
        slow, = wait_until(lambda: events(daemon, "slow_request"), "it was slow, too")
        for event in (stuck, ended, slow):
            assert event["process"]["pid"] == os.getpid()
            assert event["correlation"] == stuck["correlation"]
            assert event["fields"]["device"] == device.name
            assert event["fields"]["operation"] == "write"
            assert event["fields"]["sector"] == 24 and event["fields"]["bytes"] == 4096
        assert ended["recovers"] == stuck["id"] and "recovers" not in slow
        assert ended["severity"] == "info" and ended["fields"]["errno"] in ("0", "", None, "OK")
        assert 1 <= stuck["fields"]["duration_seconds"] <= ended["fields"]["duration_seconds"]
        assert slow["fields"]["device_seconds"] >= 1
        daemon.wait_sample(lambda s: s.value("gopher_io_in_flight", device=device.name) == 0,
                           "nothing is in flight any more")
