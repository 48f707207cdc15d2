# test_prometheus.py - the metrics page, judged by Prometheus, promtool and a second parser.
# SPDX-License-Identifier: Apache-2.0

import gzip
import re
import socket
import subprocess
import threading

from servers import http_get, promtool_check_metrics, wait_until, delivered


def start(gopherd, device):
    daemon = gopherd(f"""daemon = {{ interval_s = 0.5; }};
filter = {{ devices = ["{device.name}"]; }};
probes = {{ io = {{ }}; }};""")
    daemon.wait_sample(lambda s: s.sum("gopher_probe_up", probe="io") == 1, "the io probe runs")
    subprocess.run(["fio", "--name=t", f"--filename={device.path}", "--direct=1", "--rw=randread", "--bs=4k",
                    "--size=1M", "--output=/dev/null"], check=True)
    daemon.wait_sample(lambda s: delivered(s.sum("gopher_io_requests_total", operation="read"), 256), "fio is counted")
    return daemon


def io_samples(samples):
    """What the io probe counted; nothing of it changes while nobody uses the device."""
    return {key: value for key, value in samples.items() if key[0].startswith("gopher_io_")}


def test_prometheus_reads_what_the_page_says(gopherd, loop_device, prometheus):
    daemon = start(gopherd, loop_device(8192))
    server = prometheus(daemon.target)
    server.wait_scraped()
    page = io_samples(daemon.scrape())
    assert sum(value for (name, _), value in page.items() if name == "gopher_io_bytes_total") >= 0.99 * (1 << 20)
    assert len(page) > 50

    def seen():
        result = {}
        for labels, value in server.query('{__name__=~"gopher_io_.*"}'):
            own = {k: v for k, v in labels.items() if k not in ("__name__", "instance", "job")}
            result[(labels["__name__"], tuple(sorted(own.items())))] = value
        return result == page

    wait_until(seen, "Prometheus has each sample that the page has")
    quantile = server.query('histogram_quantile(0.5, sum by (le) (gopher_io_request_duration_seconds_bucket))')
    assert 0 < quantile[0][1] < 1


def test_promtool_has_no_complaint(gopherd, loop_device):
    daemon = start(gopherd, loop_device(8192))
    page = daemon.page()
    assert promtool_check_metrics(page) == ""
    names = {line.split()[2] for line in page.splitlines() if line.startswith("# TYPE ")}
    assert {"gopher_io_request_duration_seconds", "gopher_process_cpu_seconds_total", "gopher_build_info"} <= names
    assert names == {line.split()[2] for line in page.splitlines() if line.startswith("# HELP ")}


def test_both_formats_say_the_same(gopherd, loop_device):
    daemon = start(gopherd, loop_device(8192))
    classic, modern = daemon.scrape(), daemon.scrape(openmetrics=True)
    assert len(io_samples(classic)) > 50
    assert io_samples(classic) == io_samples(modern)
    # The rest moves from scrape to scrape, but is there in both.
    assert classic.keys() - modern.keys() == modern.keys() - classic.keys() == set()
    text = daemon.page(openmetrics=True)
    assert text.endswith("# EOF\n")
    assert "# UNIT gopher_io_request_duration_seconds seconds\n" in text
    bounds = lambda page: re.findall(r'^(gopher_io_[a-z_]*_bucket)\{.*le="([^"]*)"', page, re.MULTILINE)
    assert bounds(daemon.page()) == bounds(text)
    assert ("gopher_io_request_duration_seconds_bucket", "+Inf") in bounds(text)


def test_gzip_is_the_same_page(gopherd, loop_device):
    daemon = start(gopherd, loop_device(8192))
    status, headers, body = http_get(daemon.url + "/metrics", {"Accept-Encoding": "gzip"})
    assert status == 200 and headers["Content-Encoding"] == "gzip"
    io = lambda text: [line for line in text.splitlines() if "gopher_io_" in line]
    unpacked = gzip.decompress(body).decode()
    assert io(unpacked) == io(daemon.page())
    assert len(io(unpacked)) > 50 and len(body) < len(unpacked) / 4
    names = lambda text: [line for line in text.splitlines() if line.startswith("#")]
    assert names(unpacked) == names(daemon.page())


def test_many_scrapers_at_once_each_get_a_whole_page(gopherd, loop_device):
    device = loop_device(65536)
    daemon = start(gopherd, device)
    pages, failures = [], []

    def scraper(openmetrics):
        try:
            for _ in range(5):
                pages.append(daemon.scrape(openmetrics))
        except Exception as error:  # noqa: BLE001 - told by the test
            failures.append(error)

    threads = [threading.Thread(target=scraper, args=(i % 2 == 1,)) for i in range(16)]
    for t in threads:
        t.start()
    # Meanwhile the numbers move.
    subprocess.run(["fio", "--name=t", f"--filename={device.path}", "--direct=1", "--rw=randread", "--bs=4k",
                    "--size=32M", "--output=/dev/null"], check=True)
    for t in threads:
        t.join(60)
    assert failures == [] and len(pages) == 16 * 5
    for page in pages:
        # One lock for the whole of a histogram: what it counts and how it is spread always agree.
        for labels, count in page.matching("gopher_io_request_duration_seconds_count"):
            assert page.value("gopher_io_request_duration_seconds_bucket", le="+Inf", **labels) == count
    total = 256 + (32 << 20) // 4096
    daemon.wait_sample(lambda s: delivered(s.sum("gopher_io_requests_total", operation="read"), total), "all is counted")


def test_stuck_clients_delay_nobody(gopherd, loop_device):
    device = loop_device(8192)
    daemon = start(gopherd, device)
    request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
    # More than the kernel's buffers take, and nothing is ever read.
    requests = 8 * (1 << 20) // len(daemon.page())

    def stuck_client():
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect(("127.0.0.1", daemon.port))
        s.setblocking(False)
        try:
            s.sendall(request * requests)
        except BlockingIOError:
            pass  # it does not even read our requests any more
        return s

    def waiting():
        """How many of gopherd's connections hold what nobody takes."""
        listed = subprocess.run(["ss", "-Htn", f"sport = :{daemon.port}"], check=True, capture_output=True, text=True)
        return sum(int(line.split()[2]) > 0 for line in listed.stdout.splitlines())

    stuck = [stuck_client() for _ in range(20)]
    half = socket.create_connection(("127.0.0.1", daemon.port))
    try:
        half.sendall(request[:10])  # and never the rest
        wait_until(lambda: waiting() == 20, "20 clients are stuck")
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(http_get(daemon.url + "/metrics", timeout=10)[0]))
                   for _ in range(20)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(30)
        assert answers == [200] * 20
        # Nor is the probe: it goes on counting.
        subprocess.run(["fio", "--name=t", f"--filename={device.path}", "--direct=1", "--rw=randread", "--bs=4k",
                        "--size=1M", "--output=/dev/null"], check=True)
        daemon.wait_sample(lambda s: delivered(s.sum("gopher_io_requests_total", operation="read"), 512), "fio is counted")
        assert waiting() == 20, "they were stuck all the time"
    finally:
        for s in [*stuck, half]:
            s.close()
