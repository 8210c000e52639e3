"""Processes pinned to a core, their ports and their memory."""

import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
TOOLS = TARGET / "perf" / "release"
# Where peers that registries have are put: see perf/board --install.
PEERS = TARGET / "peers"
GATEWAY_CORE, LOAD_CORE = "0", "1"
children = []


def say(*words):
    print(*words, file=sys.stderr, flush=True)


def which(name):
    return shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")


def commit():
    """The commit of the tree; "-dirty" after it when there is more."""
    done = subprocess.run(["git", "describe", "--always", "--dirty", "--exclude=*"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(core, words, log, env=None, cwd=None):
    """Starts a process on `core`, or anywhere when that is None; its own words go to the file `log`."""
    pinned = ["taskset", "-c", core] if core is not None else []
    child = subprocess.Popen(
        [*pinned, *map(str, words)], stdin=subprocess.DEVNULL, stdout=log.open("w"), stderr=subprocess.STDOUT,
        env={**os.environ, **(env or {})}, cwd=cwd,
    )
    children.append(child)
    return child


def wait_for_port(port, child, limit_s):
    """How long until something listens, seconds; None when the process ended or nothing came."""
    began = time.monotonic()
    while time.monotonic() - began < limit_s:
        if child.poll() is not None:
            return None
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return time.monotonic() - began
        except OSError:
            time.sleep(0.0005)
    return None


def told_port(log, child, limit_s):
    """The port that a process writes to its log as "PORT n"; None when it ends or says nothing."""
    began = time.monotonic()
    while time.monotonic() - began < limit_s and child.poll() is None:
        found = re.search(r"^PORT (\d+)$", log.read_text(), re.M)
        if found:
            return int(found.group(1))
        time.sleep(0.05)
    return None


def tree(pid):
    """A process and all its descendants."""
    pids = [pid]
    for one in pids:
        for task in pathlib.Path(f"/proc/{one}/task").glob("*/children"):
            try:
                pids += map(int, task.read_text().split())
            except OSError:
                continue
    return pids


def memory_kib(pid, field="VmRSS"):
    """Resident memory of a process and its descendants; with VmHWM the most that it ever was."""
    total = 0
    for one in tree(pid):
        try:
            lines = pathlib.Path(f"/proc/{one}/status").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
    return total


def stop(child):
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(8)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def stop_all():
    while children:
        stop(children.pop())
