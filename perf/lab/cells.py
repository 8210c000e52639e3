"""The cells of the board: what load is put on a variant, and which figure is taken from it."""

import dataclasses
import json
import subprocess

from . import process


@dataclasses.dataclass
class Cell:
    name: str
    title: str
    # Arguments of perf/tools/load.
    load: list
    # (name of the figure, path in load's report, unit)
    figures: list
    # Variants that take part: "all", "proxies" (no LLM gateways of other languages), or names.
    who: object = "proxies"
    streams: bool = False
    # The figure is compared to the direct one of the same round.
    added: bool = False
    seconds: float = 2.0


def _closed(name, title, size, connections, who="proxies", more=()):
    load = ["closed", "--connections", connections, "--bytes", size, *more]
    return Cell(name, title, load, [("cpu", "cpu_us_per_request", "us"), ("rate", "per_s", "/s")], who)


def _open(rate, who="proxies"):
    load = ["open", "--rate", rate, "--connections", 16, "--bytes", 1024]
    figures = [(f"added {q}", f"latency_us.{q}", "us") for q in ("p50", "p99", "p999")]
    return Cell(f"open-{rate}", f"{rate} requests/s, open loop", load, figures, who, added=True)


SLUICE = ("sluice-io_uring", "sluice-epoll", "sluice-again")
HOPS = ("relay", "nginx", "haproxy", *SLUICE)

CELLS = [
    _closed("cpu-1k", "1 KiB prompt, 64 connections", 1024, 64, "all"),
    _closed("cpu-10k", "10 KiB prompt, 64 connections", 10 * 1024, 64),
    _closed("cpu-100k", "100 KiB prompt, 16 connections", 100 * 1024, 16),
    _closed("cpu-800k", "800 KiB prompt, 4 connections", 800 * 1024, 4),
    Cell("latency-800k", "800 KiB prompt, 1 connection", ["closed", "--connections", 1, "--bytes", 800 * 1024],
         [("added p50", "latency_us.p50", "us"), ("memory", "rss_kib", "KiB")], HOPS, added=True),
    _open(100, "all"),
    _open(2000),
    _open(5000),
    Cell("sse-paced", "64 streams, an event every 2 ms", ["streams", "--connections", 64],
         [("cpu an event", "cpu_us_per_event", "us"), ("delay p99", "delay_us.p99", "us"), ("later than 1 ms", "late_1ms", "")],
         "all", streams=True, seconds=2.5),
    Cell("sse-burst", "8 streams, back to back", ["streams", "--connections", 8, "--gap", 0, "--events", 100],
         [("cpu an event", "cpu_us_per_event", "us"), ("events", "events", "")], "proxies", streams=True),
    Cell("first", "first event, 1 stream", ["streams", "--connections", 1, "--gap", 100, "--events", 3],
         [("added p50", "first_us.p50", "us"), ("added p99", "first_us.p99", "us")], "proxies", streams=True, added=True),
    _closed("workers-2", "1 KiB prompt, two workers on one core", 1024, 64, ("sluice-io_uring", "sluice-2-workers")),
    _closed("tls", "1 KiB prompt, TLS to the provider", 1024, 64, ("sluice-io_uring", "sluice-tls")),
    _closed("translate", "1 KiB prompt, OpenAI to Anthropic", 1024, 64, ("sluice-io_uring", "sluice-translate")),
]

HELD = [1000, 5000]
HOLD_SECONDS = 6


def figure(report, path):
    value = report
    for word in path.split("."):
        value = value.get(word) if isinstance(value, dict) else None
    return value


def run(cell, variant, seconds):
    """Puts the load of `cell` on `variant`; the report, with the figures under `figures`."""
    port = variant["stream_port"] if cell.streams and variant["stream_port"] else variant["port"]
    words = [process.TOOLS / "load", *cell.load, "--to", f"127.0.0.1:{port}", "--seconds", seconds or cell.seconds]
    words += ["--path", variant["path"], "--model", variant["model"]]
    for line in variant["headers"]:
        words += ["--header", line]
    if variant["pid"]:
        words += ["--cpu-of", variant["pid"]]
    done = subprocess.run(["taskset", "-c", process.LOAD_CORE, *map(str, words)], capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    report = json.loads(done.stdout)
    report["figures"] = {name: figure(report, path) for name, path, _ in cell.figures}
    return report


def hold(variant, streams):
    """Opens so many slow streams and holds them; what was lost or late, and the memory of the gateway."""
    port = variant["stream_port"] or variant["port"]
    # Five events of a stream stand within the time; each is a second after the last.
    words = [process.TOOLS / "load", "streams", "--connections", streams, "--gap", 1_000_000, "--events", 60, "--ramp", 3,
             "--warm", 1.5, "--seconds", HOLD_SECONDS, "--to", f"127.0.0.1:{port}", "--path", variant["path"], "--model", variant["model"],
             "--cpu-of", variant["pid"]]
    done = subprocess.run(["taskset", "-c", process.LOAD_CORE, *map(str, words)], capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    return json.loads(done.stdout)
