# confine.py - runs gopherd as systemd would by its unit file: user, capabilities, files, system calls.
# SPDX-License-Identifier: Apache-2.0
"""Where no systemd runs, this shows what its sandbox leaves of a daemon. Each option of the unit's [Service] is
either done here, or listed as one that has no part in it: an option that is neither is an error, so that unit and
test do not drift apart.

    confine.py UNIT BUILD CONFIG_FOLDER STATE_FOLDER ARG...

as root. gopherd sees its build as /run/gopher/build, CONFIG_FOLDER as /run/gopher/etc, and its state as the symbolic
link /run/gopher/state, as it is with DynamicUser=."""

import ctypes
import os
import re
import struct
import subprocess
import sys

NOT_HERE = {  # of the manager, or without effect on what gopherd does
    "Type", "NotifyAccess", "ExecStart", "ExecReload", "Restart", "RestartSec", "RestartPreventExitStatus",
    "WatchdogSec", "TimeoutStopSec", "ConfigurationDirectory", "StateDirectory", "StateDirectoryMode",
    "LimitMEMLOCK", "PrivateIPC", "ProtectClock", "ProtectHostname", "ProtectKernelLogs", "RestrictRealtime",
    "RestrictSUIDSGID", "SystemCallErrorNumber"}
# The options whose only other value would be that they are not there.
SWITCHES = {"DynamicUser": "yes", "NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes",
            "PrivateTmp": "yes", "PrivateDevices": "yes", "PrivateMounts": "yes", "ProtectProc": "invisible",
            "ProtectKernelTunables": "yes", "ProtectKernelModules": "yes", "ProtectControlGroups": "yes",
            "SystemCallArchitectures": "native", "RestrictNamespaces": "yes", "LockPersonality": "yes",
            "MemoryDenyWriteExecute": "yes"}
LISTS = {"AmbientCapabilities", "CapabilityBoundingSet", "SystemCallFilter", "RestrictAddressFamilies", "UMask"}

UID = 61184  # the first of DynamicUser's
libc = ctypes.CDLL(None, use_errno=True)


def read_unit(path):
    """{option of [Service]: [value, ...]}"""
    found, section = {}, ""
    for line in open(path):
        line = line.strip()
        if line.startswith("["):
            section = line
        elif section == "[Service]" and line and not line.startswith("#"):
            key, value = line.split("=", 1)
            found.setdefault(key, []).append(value)
    for key, values in found.items():
        if key in SWITCHES:
            assert values == [SWITCHES[key]], f"{key}={values} is not known here"
        else:
            assert key in NOT_HERE | LISTS, f"{key} is not known here"
    return found


def capabilities(unit, option="CapabilityBoundingSet"):
    return " ".join(unit[option]).split()


def check(result, what):
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


# --- files -----------------------------------------------------------------------------------------------


def mount(*args):
    subprocess.run(["mount", *map(str, args)], check=True)


def set_read_only(path, on, recursive=0):
    """mount_setattr(2)"""
    attributes = struct.pack("QQQQ", int(on), int(not on), 0, 0)
    check(libc.syscall(442, -100, path.encode(), recursive, attributes, len(attributes)), f"mount_setattr {path}")


def private_files(build, config, state):
    check(libc.unshare(0x00020000), "unshare")  # CLONE_NEWNS
    mount("--make-rprivate", "/")
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    for name, source in (("build", build), ("etc", config), ("private/state", state)):
        os.makedirs(f"/run/gopher/{name}")
        mount("--bind", source, f"/run/gopher/{name}")
    os.symlink("private/state", "/run/gopher/state")
    for folder in ("/tmp", "/var/tmp", "/home", "/root", "/usr/lib/modules"):
        if os.path.isdir(folder):
            mount("-t", "tmpfs", "-o", "mode=1777" if "tmp" in folder else "mode=000", "tmpfs", folder)
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/dev")
    for name, minor in (("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)):
        os.mknod(f"/dev/{name}", 0o020666, os.makedev(1, minor))
    mount("-t", "proc", "-o", "hidepid=invisible", "proc", "/proc")
    set_read_only("/", True, recursive=0x8000)
    for folder in ("/run/gopher/private/state", "/tmp", "/var/tmp"):
        set_read_only(folder, False)


# --- system calls ----------------------------------------------------------------------------------------


def system_call_numbers():
    text = subprocess.run(["gcc", "-E", "-dM", "-xc", "-"], input="#include <sys/syscall.h>", check=True,
                          capture_output=True, text=True).stdout
    return {name: int(n) for name, n in re.findall(r"#define __NR_(\w+) (\d+)$", text, re.M)}


def group(name):
    """The system calls of "@name", or of a name."""
    if not name.startswith("@"):
        return {name}
    lines = subprocess.run(["systemd-analyze", "syscall-filter", name], check=True, capture_output=True,
                           text=True).stdout.splitlines()[1:]
    found = set()
    for word in (line.strip() for line in lines):
        if word and not word.startswith("#"):
            found |= group(word)
    return found


def allowed_calls(unit):
    allowed = set(group("@default"))
    for value in unit["SystemCallFilter"]:
        for name in value.removeprefix("~").split():
            allowed = allowed - group(name) if value.startswith("~") else allowed | group(name)
    return allowed


ALLOW, EPERM, ENOSYS, EAFNOSUPPORT = 0x7FFF0000, 0x00050001, 0x00050026, 0x00050061
LOAD, EQUAL, ANY_BIT, AND, RETURN = 0x20, 0x15, 0x45, 0x54, 0x06


def seccomp_filter(unit):
    """A BPF program, as systemd's filters together: what is refused fails with EPERM."""
    number = system_call_numbers()
    families = {getattr(__import__("socket"), name) for value in unit["RestrictAddressFamilies"] for name in value.split()}
    arch = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}[os.uname().machine]

    def argument(n):
        return (LOAD, 0, 0, 16 + 8 * n)

    blocks = {  # each ends with a return
        "socket": [argument(0)] + [(EQUAL, len(families) - i, 0, int(f)) for i, f in enumerate(sorted(families))]
        + [(RETURN, 0, 0, EAFNOSUPPORT), (RETURN, 0, 0, ALLOW)],
        # CLONE_NEW*, and the call whose flags a filter cannot see.
        "clone": [argument(0), (ANY_BIT, 0, 1, 0x7E020080), (RETURN, 0, 0, EPERM), (RETURN, 0, 0, ALLOW)],
        "clone3": [(RETURN, 0, 0, ENOSYS)],
        "unshare": [(RETURN, 0, 0, EPERM)],
        "setns": [(RETURN, 0, 0, EPERM)],
        "personality": [(RETURN, 0, 0, EPERM)],
        # PROT_WRITE with PROT_EXEC; PROT_EXEC on what exists.
        "mmap": [argument(2), (AND, 0, 0, 6), (EQUAL, 0, 1, 6), (RETURN, 0, 0, EPERM), (RETURN, 0, 0, ALLOW)],
        "mprotect": [argument(2), (ANY_BIT, 0, 1, 4), (RETURN, 0, 0, EPERM), (RETURN, 0, 0, ALLOW)],
    }
    program = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, arch), (RETURN, 0, 0, 0x80000000), (LOAD, 0, 0, 0)]
    for name, block in blocks.items():
        if name in number:
            program += [(EQUAL, 0, len(block), number[name])] + block
    for name in sorted((allowed_calls(unit) - set(blocks)) & set(number)):
        program += [(EQUAL, 0, 1, number[name]), (RETURN, 0, 0, ALLOW)]
    program.append((RETURN, 0, 0, EPERM))
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program)


def install(program):
    class Fprog(ctypes.Structure):
        _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_char_p)]

    code = Fprog(len(program) // 8, program)
    check(libc.prctl(22, 2, ctypes.byref(code), 0, 0), "seccomp")  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


# --- the two steps ---------------------------------------------------------------------------------------


def main(unit_file, build, config, state, *args):
    unit = read_unit(unit_file)
    caps = ["+" + c.lower().removeprefix("cap_") for c in capabilities(unit)]
    ambient = ["+" + c.lower().removeprefix("cap_") for c in capabilities(unit, "AmbientCapabilities")]
    os.environ["CONFINE_FILTER"] = seccomp_filter(unit).hex()
    os.chown(state, UID, UID)
    os.chmod(state, 0o700)
    # Python reads this file once more when it is somebody else.
    code = open(__file__).read()
    private_files(build, config, state)
    os.umask(int(unit["UMask"][0], 8))
    os.execvp("setpriv", [
        "setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--no-new-privs", "--pdeathsig=KILL",
        f"--bounding-set={','.join(['-all', *caps])}", f"--inh-caps={','.join(['-all', *ambient])}",
        f"--ambient-caps={','.join(['-all', *ambient])}", "/usr/bin/python3", "-c", code, "--confined", *args])


def confined(*args):
    program = bytes.fromhex(os.environ.pop("CONFINE_FILTER"))
    install(program)
    os.execv("/run/gopher/build/daemon/gopherd", ["gopherd", *args])


if __name__ == "__main__":
    if sys.argv[1] == "--confined":
        confined(*sys.argv[2:])
    main(*sys.argv[1:])
