"""The cells of the board: what load is put on a variant, and which figure is taken from it."""

import dataclasses
import json
import subprocess

from . import process

PROXIES = ("direct", "relay", "nginx", "haproxy", "envoy", "sluice-io_uring", "sluice-epoll")
LLM = ("tensorzero", "ferrogw", "portkey", "litellm")
AGAIN = ("sluice-again",)
BUSY = ("sluice-busy",)


@dataclasses.dataclass
class Cell:
    name: str
    title: str
    # Arguments of perf/tools/load.
    load: list
    # (name of the figure, path in load's report, unit)
    figures: list
    # Names of the variants that take part; those that are not there are left out.
    who: tuple = PROXIES
    # Figures whose name begins with "added" are compared to the direct one of the same round.
    added: bool = False
    seconds: float = 1.2
    warm: float = 0.3

    @property
    def streams(self):
        return self.load[0] == "streams"


def _closed(name, title, size, who=PROXIES, connections=64, **more):
    load = ["closed", "--connections", connections, "--bytes", size]
    figures = [("cpu", "cpu_us_per_request", "us"), ("rate", "per_s", "/s"), ("p99", "latency_us.p99", "us")]
    return Cell(name, title, load, figures, who, **more)


def _open(rate, who=PROXIES, **more):
    load = ["open", "--rate", rate, "--connections", 16, "--bytes", 1024]
    figures = [(f"added {q}", f"latency_us.{q}", "us") for q in ("p50", "p99", "p999")] + [("cpu", "cpu_us_per_request", "us")]
    return Cell(f"open-{rate}", f"{rate} requests/s, open loop, 16 connections", load, figures, who, added=True, **more)


def _streams(name, title, connections, gap, events, figures, who=PROXIES, **more):
    return Cell(name, title, ["streams", "--connections", connections, "--gap", gap, "--events", events], figures, who, **more)


_EVENT = [("cpu an event", "cpu_us_per_event", "us"), ("added delay p50", "delay_us.p50", "us"), ("added delay p99", "delay_us.p99", "us"),
          ("delay p99", "delay_us.p99", "us"), ("added gap p99", "gap_us.p99", "us"), ("later than 1 ms", "late_1ms", "")]
_PAIR = ("sluice-io_uring",)

CELLS = [
    _closed("cpu-1k", "1 KiB prompt, 64 connections", 1024, PROXIES + LLM + AGAIN),
    _closed("cpu-10k", "10 KiB prompt, 64 connections", 10 * 1024, PROXIES + AGAIN),
    _closed("cpu-100k", "100 KiB prompt, 64 connections", 100 * 1024),
    _closed("cpu-800k", "800 KiB prompt, 64 connections", 800 * 1024),
    Cell("latency-800k", "800 KiB prompt, 1 connection", ["closed", "--connections", 1, "--bytes", 800 * 1024],
         [("added p50", "latency_us.p50", "us"), ("added p99", "latency_us.p99", "us")], added=True),
    _open(100, PROXIES + LLM + BUSY, seconds=2.5),
    _open(2000, PROXIES + ("tensorzero", "ferrogw") + AGAIN + BUSY),
    _open(5000, PROXIES + BUSY),
    _streams("sse-paced", "64 streams, an event every 2 ms", 64, 2000, 200, _EVENT, PROXIES + LLM + AGAIN + BUSY, added=True, seconds=1.5, warm=0.5),
    _streams("sse-burst", "8 streams, 100 events back to back", 8, 0, 100, [("cpu an event", "cpu_us_per_event", "us"), ("rate", "events_per_s", "events/s")],
             PROXIES + LLM),
    _streams("first", "first event, 1 stream at a time", 1, 100, 3, [("added p50", "first_us.p50", "us"), ("added p99", "first_us.p99", "us")],
             PROXIES + LLM + BUSY, added=True),
    _closed("workers-2", "1 KiB prompt, one worker and two, on the one core", 1024, _PAIR + ("sluice-2-workers",)),
    _closed("tls", "1 KiB prompt, TLS to the provider", 1024, _PAIR + ("sluice-tls",)),
    _closed("translate", "1 KiB prompt, OpenAI to Anthropic", 1024, _PAIR + ("sluice-translate",)),
    _streams("sse-translate", "64 streams, an event every 2 ms, OpenAI to Anthropic", 64, 2000, 200, [("cpu an event", "cpu_us_per_event", "us")],
             _PAIR + ("sluice-translate",), seconds=1.5, warm=0.5),
    # Rates rise until the limit is passed; `limits` makes the figures out of the steps.
    Cell("limit", "Most requests/s of an open loop, 64 connections", ["ladder", "--connections", 64, "--bytes", 1024, "--step", 1.1], [],
         PROXIES, seconds=0.35),
]
BY_NAME = {cell.name: cell for cell in CELLS}
# A run of a few minutes that tells how the main figures move.
MAIN = ["cpu-1k", "cpu-10k", "cpu-800k", "latency-800k", "open-2000", "open-5000", "sse-paced", "first", "tls", "translate"]
QUICK = ["cpu-1k", "open-2000", "sse-paced", "limit"]
LIMITS_MS = (1, 5, 10)


def figure(report, path):
    value = report
    for word in path.split("."):
        value = value.get(word) if isinstance(value, dict) else None
    return value


def load(variant, words, streams=False, timeout=150):
    """Runs perf/tools/load against a variant; its report."""
    port = variant["stream_port"] if streams and variant["stream_port"] else variant["port"]
    words = [process.TOOLS / "load", *words, "--to", f"127.0.0.1:{port}", "--path", variant["path"], "--model", variant["model"]]
    for line in variant["headers"]:
        words += ["--header", line]
    if variant["pid"]:
        words += ["--cpu-of", variant["pid"]]
    done = subprocess.run(["taskset", "-c", process.LOAD_CORE, *map(str, words)], capture_output=True, text=True, timeout=timeout)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip()[-300:])
    return json.loads(done.stdout)


def limits(steps):
    """For each limit of the 99th percentile the highest rate that kept it."""
    found = {}
    for limit in LIMITS_MS:
        kept = [step["per_s"] for step in steps if step["good"] and step["latency_us"]["p99"] <= limit * 1000]
        found[f"p99 under {limit} ms"] = max(kept, default=None)
    return found


def run(cell, variant, seconds=None, first_rate=None):
    """Puts the load of `cell` on `variant`; the report, with the figures under `figures`."""
    words = [*cell.load, "--seconds", seconds or cell.seconds, "--warm", cell.warm]
    if cell.name == "limit":
        words += ["--rate", first_rate]
        report = load(variant, words)
        report |= {"figures": limits(report["steps"]), "done": sum(step["done"] for step in report["steps"]), "errors": 0, "not_200": 0, "lost": 0}
        return report
    report = load(variant, words, cell.streams)
    report["figures"] = {name: figure(report, path) for name, path, _ in cell.figures}
    return report
