"""Processes pinned to a core, and their ports."""

import os
import pathlib
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


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(core, words, log, env=None, cwd=None):
    """Starts a process on `core`; its own words go to the file `log`."""
    child = subprocess.Popen(
        ["taskset", "-c", core, *map(str, words)], stdin=subprocess.DEVNULL, stdout=log.open("w"), stderr=subprocess.STDOUT,
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
