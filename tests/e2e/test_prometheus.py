# test_prometheus.py - the metrics page, judged by Prometheus, promtool and a second parser.
# SPDX-License-Identifier: Apache-2.0

import gzip
import re
import socket
import subprocess
import threading

from servers import http_get, promtool_check_metrics, wait_until


def start(gopherd, device):
    daemon = gopherd(f"""daemon = {{ interval_s = 0.5; }};
filter = {{ devices = ["{device.name}"]; }};
probes = {{ io = {{ }}; }};""")
    daemon.wait_sample(lambda s: s.sum("gopher_probe_up", probe="io") == 1, "the io probe runs")
    subprocess.run(["fio", "--name=t", f"--filename={device.path}", "--direct=1", "--rw=randread", "--bs=4k",
                    "--size=1M", "--output=/dev/null"], check=True)
    daemon.wait_sample(lambda s: s.sum("gopher_io_requests_total", operation="read") >= 256, "fio is counted")
    return daemon


def test_prometheus_reads_what_the_page_says(gopherd, loop_device, prometheus):
    daemon = start(gopherd, loop_device(8192))
    server = prometheus(daemon.target)
    server.wait_scraped()
    samples = daemon.scrape()
    expected = samples.sum("gopher_io_bytes_total", operation="read")
    assert expected >= 1 << 20

    def seen():
        result = server.query('sum(gopher_io_bytes_total{operation="read"})')
        return result and result[0][1] == expected

    wait_until(seen, "Prometheus has the bytes that the page says")
    quantile = server.query('histogram_quantile(0.5, sum by (le) (gopher_io_request_duration_seconds_bucket))')
    assert 0 < quantile[0][1] < 1


def test_promtool_has_no_complaint(gopherd, loop_device):
    daemon = start(gopherd, loop_device(8192))
    promtool_check_metrics(daemon.page())


def test_both_formats_say_the_same(gopherd, loop_device):
    daemon = start(gopherd, loop_device(8192))
    classic, modern = daemon.scrape(), daemon.scrape(openmetrics=True)
    io = lambda samples: {k: v for k, v in samples.items() if k[0].startswith("gopher_io_") and "seconds" in k[0]
                          and "oldest" not in k[0]}
    assert len(io(classic)) > 50
    assert io(classic) == io(modern)
    text = daemon.page(openmetrics=True)
    assert text.endswith("# EOF\n")
    assert "# UNIT gopher_io_request_duration_seconds seconds\n" in text
    bounds = lambda page: sorted(set(re.findall(r'le="([^"]*)"', page)))
    assert bounds(daemon.page()) == bounds(text)


def test_gzip_is_the_same_page(gopherd, loop_device):
    daemon = start(gopherd, loop_device(8192))
    status, headers, body = http_get(daemon.url + "/metrics", {"Accept-Encoding": "gzip"})
    assert status == 200 and headers["Content-Encoding"] == "gzip"
    io = lambda text: [line for line in text.splitlines() if line.startswith("gopher_io_requests_total")]
    assert io(gzip.decompress(body).decode()) == io(daemon.page()) != []


def test_a_stuck_client_delays_nobody(gopherd, loop_device):
    daemon = start(gopherd, loop_device(8192))
    stuck = [socket.create_connection(("127.0.0.1", daemon.port)) for _ in range(20)]
    try:
        for s in stuck:
            s.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")  # and never reads
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(http_get(daemon.url + "/metrics")[0]))
                   for _ in range(20)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(30)
        assert answers == [200] * 20
    finally:
        for s in stuck:
            s.close()
