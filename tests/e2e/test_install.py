# test_install.py - what an installation has, and that it leaves a configuration alone.
# SPDX-License-Identifier: Apache-2.0

import os
import re
import subprocess
from pathlib import Path

import pytest

import servers

ROOT = servers.ROOT


def cache(name):
    """A variable of the build's CMakeCache.txt."""
    return re.search(rf"^{name}:\w+=(.*)$", (servers.BUILD / "CMakeCache.txt").read_text(), re.M)[1]


PREFIX = Path(cache("CMAKE_INSTALL_PREFIX"))
LIB = PREFIX / cache("CMAKE_INSTALL_LIBDIR")


def install(destdir, *args):
    done = subprocess.run(["cmake", "--install", servers.BUILD, *map(str, args)], capture_output=True, text=True,
                          env={**os.environ, "DESTDIR": str(destdir)})
    assert done.returncode == 0, done.stdout + done.stderr


def files(folder):
    return {"/" + str(f.relative_to(folder)) for f in folder.rglob("*") if not f.is_dir()}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("destdir")
    install(folder)
    return folder


def test_files_are_where_a_distribution_has_them(installed):
    expected = {
        f"{PREFIX}/sbin/gopherd",
        f"{LIB}/gopher/probes/io.so",
        # The contract: what probes of others include, and how they find it.
        *(f"{PREFIX}/include/gopher/{name}" for name in ("probe.h", "probe.hpp", "metric.hpp", "result.hpp", "totals.hpp")),
        *(f"{PREFIX}/include/gopher/{name}" for name in ("types.h", "kernel.h", "compat.bpf.h", "filter.bpf.h", "hist.bpf.h",
                                                         "ring.bpf.h", "task.bpf.h")),
        *(f"{LIB}/cmake/gopher/{name}" for name in ("gopher-config.cmake", "gopher-config-version.cmake",
                                                    "GopherBpf.cmake", "probe.map")),
        "/etc/gopher/gopher.conf",
        f"{PREFIX}/lib/systemd/system/gopherd.service",
        f"{PREFIX}/share/man/man8/gopherd.8",
        f"{PREFIX}/share/doc/gopher/gopher.conf.example",
        f"{PREFIX}/share/doc/gopher/schema.json",
        *(f"{PREFIX}/share/doc/gopher/{page.name}" for page in (ROOT / "docs").glob("*.md")),
    }
    assert files(installed) == expected
    assert (installed / "etc/gopher/gopher.conf.d").is_dir()


def test_unit_starts_what_was_installed(installed):
    unit = (installed / f"{PREFIX}/lib/systemd/system/gopherd.service".lstrip("/")).read_text()
    commands = {line.split("=", 1)[1].split()[0] for line in unit.splitlines() if re.match("Exec(Start|Reload)=", line)}
    assert commands == {f"{PREFIX}/sbin/gopherd", "/bin/kill"}


def test_program_looks_where_its_probes_were_installed(installed):
    done = subprocess.run([installed / f"{PREFIX}/sbin/gopherd".lstrip("/"), "--help"], capture_output=True, text=True)
    assert f"(default {LIB}/gopher/probes)" in done.stdout
    assert "(default /etc/gopher/gopher.conf)" in done.stdout


def test_configuration_that_is_installed_has_no_mistakes(installed):
    done = subprocess.run([servers.BUILD / "daemon/gopherd", "--check", installed / "etc/gopher/gopher.conf", "--plugin-dir",
                           installed / f"{LIB}/gopher/probes".lstrip("/")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_configuration_that_is_there_is_kept(tmp_path):
    mine = tmp_path / "etc/gopher/gopher.conf"
    mine.parent.mkdir(parents=True)
    mine.write_text("probes = { };\n")
    install(tmp_path)
    assert mine.read_text() == "probes = { };\n"


def test_another_prefix_has_everything_below_it(tmp_path, installed):
    install("", "--prefix", tmp_path)
    assert {f.replace("/etc/", f"{PREFIX}/etc/") for f in files(installed)} == {str(PREFIX) + f for f in files(tmp_path)}
