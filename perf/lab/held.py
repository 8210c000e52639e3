"""What is measured of fresh processes: memory with streams held, memory with large prompts, the start, the binary."""

import subprocess
import time

from . import cells, peers, process, variants
from .process import memory_kib, say

HELD = [1000, 5000]
HOLD_SECONDS = 5
STARTS = 7
# Streams with an event every 20 ms, until one is lost or comes later than 10 ms at the 99.9th percentile.
CLEAN = [250, 500, 1000, 1500, 2000]
BIG_BODY, BIG_CONNECTIONS, BIG_SAMPLES = 800 * 1024, 16, 5


def hold(one, streams):
    """Opens so many streams of an event a second and holds them."""
    words = ["streams", "--connections", streams, "--gap", 1_000_000, "--events", 60, "--ramp", 2.5, "--warm", 1.2, "--seconds", HOLD_SECONDS]
    got = cells.load(one, words, streams=True)
    keep = ("rss_kib", "events", "lost", "errors", "late_10ms", "late_100ms", "delay_us")
    return {key: got[key] for key in keep} | {"expected": streams * HOLD_SECONDS}


def clean_streams(one):
    """Steps of more and more streams; each tells what was lost or late."""
    steps = []
    for streams in CLEAN:
        words = ["streams", "--connections", streams, "--gap", 20_000, "--events", 1000, "--ramp", 0.5, "--warm", 0.5, "--seconds", 1.5]
        got = cells.load(one, words, streams=True)
        # Events that should have come in the time; a gateway that is too slow delivers fewer, and none of them is lost yet.
        share = got["events"] / (streams * 1.5 / 0.02)
        p999 = (got["delay_us"] or {}).get("p999", float("inf"))
        good = got["lost"] + got["errors"] == 0 and share > 0.98 and p999 <= 10_000
        steps.append({"streams": streams, "good": good, "share": share, "p999_us": p999, "lost": got["lost"], "errors": got["errors"]})
        if not good:
            break
    return steps


def big_bodies(start):
    """Memory at its most with large prompts in flight, as a multiple of their bytes: the median of fresh processes. An upper bound,
    since not all prompts are in flight at once. What a first request costs, such as code that is read from disk, is before."""
    samples = []
    for _ in range(BIG_SAMPLES):
        one = start()
        try:
            time.sleep(0.5)
            for size in (1024, BIG_BODY):
                before = memory_kib(one["pid"])
                cells.load(one, ["closed", "--connections", BIG_CONNECTIONS, "--bytes", size, "--seconds", 1.5 if size == BIG_BODY else 0.5])
            most = memory_kib(one["pid"], "VmHWM")
        finally:
            process.stop(one["child"])
        samples.append({"before_kib": before, "most_kib": most, "times_body": (most - before) * 1024 / (BIG_BODY * BIG_CONNECTIONS)})
    samples.sort(key=lambda sample: sample["times_body"])
    return samples[len(samples) // 2] | {"all_times_body": [sample["times_body"] for sample in samples]}


def measure(names, binary, folder, upstream, quick):
    rows = [("sluice-io_uring", peers.sluice(binary, "io_uring")), ("sluice-epoll", peers.sluice(binary, "epoll"))]
    rows += [(name, peers.ALL[name]) for name in names if name in ("nginx", "haproxy", "envoy")]
    held = {}
    for name, make in rows:
        try:
            one = variants.start(f"hold-{name}", name, folder, upstream, make)
        except peers.Missing as why:
            say(f"held streams, {name}: {why}")
            continue
        time.sleep(0.7)
        own = {"idle_kib": memory_kib(one["pid"])}
        try:
            for streams in HELD[: 1 if quick else None]:
                own[str(streams)] = got = hold(one, streams)
                say(f"held {streams} {name}: {got['rss_kib'] / 1024:.1f} MiB, {got['events']} events, lost {got['lost']}, errors {got['errors']}")
                time.sleep(1)
            time.sleep(2)
            own["after_kib"] = memory_kib(one["pid"])
            if not quick:
                own["clean"] = clean_streams(one)
                process.stop(one["child"])
                own["big"] = big_bodies(lambda: variants.start(f"big-{name}", name, folder, upstream, make))
        except (RuntimeError, subprocess.TimeoutExpired) as why:
            say(f"held streams, {name}: {why}")
        held[name] = own
        process.stop(one["child"])
    return held


def ready_ms(binary, folder, upstream, make=None):
    """Milliseconds from the start to the first connection that is accepted, several times."""
    times = []
    for number in range(STARTS):
        one = variants.start(f"start-{number}", "start", folder, upstream, make or peers.sluice(binary, "io_uring"))
        times.append(one["ready_ms"])
        process.stop(one["child"])
    return sorted(times)


def stripped_mb(binary, folder):
    stripped = folder / "stripped"
    subprocess.run(["strip", "-o", stripped, binary], check=True)
    return stripped.stat().st_size / 1e6
