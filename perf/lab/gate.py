"""What the regression gate counts: instructions, system calls and allocations. None of it depends on how busy the machine is.

Instructions are counted by callgrind: of the sans-IO core with perf/exchanges.rs, as the difference of two runs, and of the
product itself with one connection through real sockets, between two dumps of one process. There each thread is counted by
itself: what the worker does for a request is the same each time, while the thread that keeps the books does more for it the
more often it wakes, and that is a matter of the clock. System calls are counted by strace
with 64 connections, as the difference of two runs, so that opening the connections cancels out.
"""

import json
import os
import pathlib
import platform
import re
import shutil
import signal
import statistics
import subprocess
import time
from concurrent import futures

from . import cells, peers, process, variants
from .process import ROOT, TARGET, say

BASELINE = ROOT / "perf" / "gate.json"
LAST = TARGET / "gate" / "last.json"
# What is more than this share worse than the baseline fails.
TOLERANCE = 0.03
# The books' thread wakes by the clock, and more often for a request when the machine is slow.
BOOKS_TOLERANCE = 1.0
# Batches of 64 connections are not the same each time: differences below this are none, whatever their share.
SYSCALL_SLACK = {"io_uring": 0.03, "epoll": 0.15}
CORE = {"heads": 2000, "peeks": 400, "answers": 400, "events": 100, "translations": 40, "flights": 4000, "records": 4000}
# (name, arguments of perf/tools/load, model, what the count is divided by)
SOCKET = [
    ("chat 1 KiB", ["closed", "--bytes", 1024], "openai/gpt-4o-mini", 1),
    ("chat 10 KiB", ["closed", "--bytes", 10240], "openai/gpt-4o-mini", 1),
    ("chat stream, an event of 30", ["streams", "--gap", 10_000, "--events", 30], "openai/gpt-4o-mini", 30),
    ("chat to Anthropic", ["closed", "--bytes", 1024], "anthropic/claude-haiku-4-5", 1),
]
CONFIG = """ledger: off
providers:
  openai: {{base_url: "http://127.0.0.1:{0}", keys: env.PERF_KEY}}
  anthropic: {{base_url: "http://127.0.0.1:{0}", keys: env.PERF_KEY}}
"""


class Unfit(Exception):
    """Something that the gate needs is not there."""


def need(program, package):
    found = process.which(program)
    if not found:
        raise Unfit(f"{program} is not installed: apt-get install {package}")
    return found


def compiler():
    """What makes instruction counts comparable: the compiler, and the C library whose memcpy is counted with the rest."""
    said = subprocess.run(["rustc", "--version"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    return f"{said}, {' '.join(platform.libc_ver())}"


def library(root=ROOT, *also):
    """The library and the core's exchanges, in the tests' profile but with this crate optimised: nothing else is built again
    after the tests. With an example libraries have the features that tests ask for."""
    words = ["cargo", "build", "--quiet", "--lib", "--example", "exchanges", *also, "--target-dir", TARGET]
    for setting in ("opt-level=3", "codegen-units=16", "debug-assertions=false", "overflow-checks=true", "debug=false"):
        words += ["--config", f"profile.dev.package.sluice-gateway.{setting}"]
    # Crates that are built piece by piece are cut into other pieces, and so are optimised otherwise.
    subprocess.run(list(map(str, words)), cwd=root, check=True, env=os.environ | {"CARGO_INCREMENTAL": "0"})


def build(root=ROOT):
    """The product and the core's exchanges, at places where the next build does not replace them."""
    library(root, "--bin", "sluice")
    built, own = TARGET / "debug", TARGET / "gate"
    own.mkdir(parents=True, exist_ok=True)
    binary, exchanges = own / "sluice", own / "exchanges"
    shutil.copy(built / "sluice", binary)
    shutil.copy(built / "examples" / "exchanges", exchanges)
    return binary, exchanges


def core_instructions(exchanges, folder):
    valgrind = need("valgrind", "valgrind")

    def count(case, times):
        out = folder / f"{case}-{times}.callgrind"
        words = ["taskset", "-c", process.GATEWAY_CORE, valgrind, "--tool=callgrind", f"--callgrind-out-file={out}", exchanges, case, times]
        done = subprocess.run(list(map(str, words)), capture_output=True, text=True, cwd=folder)
        if done.returncode != 0:
            raise Unfit(f"callgrind of {case}: {done.stderr.strip()[-300:]}")
        return totals(out)

    return {f"core: {case}": round((count(case, 2 * times) - count(case, times)) / times) for case, times in CORE.items()}


def totals(out):
    found = re.search(r"^(?:totals|summary): (\d+)", out.read_text(), re.M)
    if not found:
        raise Unfit(f"callgrind wrote no count to {out.name}")
    return int(found.group(1))


def config(folder, upstream):
    path = folder / f"gate-{upstream}.yaml"
    path.write_text(CONFIG.format(upstream))
    return path


def sluice(binary, driver):
    """The product with one worker and everything that is on by default but the ledger, whose thread works by the clock."""

    def make(folder, port, upstream):
        words = [binary, "serve", "--config", config(folder, upstream), "--workers", 1, "--driver", driver, "--listen", f"127.0.0.1:{port}"]
        return peers.Peer(words, env={"PERF_KEY": "sk-perf"})

    return make


def load(one, words, connections, requests):
    got = cells.load(one, [*words, "--connections", connections, "--requests", requests, "--warm", 0, "--seconds", 120], streams=True)
    if got["errors"] or got["not_200"] or got["done"] < requests:
        raise Unfit(f"{requests} requests were not answered: {got['done']} were, {got['not_200']} not with 200, {got['errors']} broke")
    return got


def socket_instructions(binary, folder, upstream, only=None):
    valgrind, control = need("valgrind", "valgrind"), need("callgrind_control", "valgrind")
    out = folder / "product.callgrind"
    before = [valgrind, "--tool=callgrind", "--separate-threads=yes", f"--callgrind-out-file={out}"]
    # Both share a core, so that one never waits while the other could have had more to read.
    one = variants.start("gate", "gate", folder, upstream, sluice(binary, "epoll"), core=process.LOAD_CORE, before=before)
    found, part = {}, 0

    def dump():
        """What each thread did since the last dump; the worker's first, which does by far the most."""
        nonlocal part
        part += 1
        subprocess.run([control, "--dump", str(one["pid"])], check=True, capture_output=True, text=True)
        for _ in range(200):
            files = list(out.parent.glob(f"{out.name}.{part}-*"))
            # A file a thread, each with its total at the end: the main one, the books' and the worker's.
            if len(files) >= 3 and all("totals:" in path.read_text() for path in files):
                break
            time.sleep(0.05)
        else:
            raise Unfit("callgrind does not write its counts")
        counts = sorted(map(totals, files), reverse=True)
        return counts[0], sum(counts[1:])

    try:
        for name, words, model, share in SOCKET[:only]:
            asked = one | {"model": model, "pid": None}
            requests = 600 if share == 1 else 8
            load(asked, words, 1, requests // 4)
            counts = []
            for _ in range(3):
                dump()
                load(asked, words, 1, requests)
                counts.append(dump())
            # The least is the one that the fewest turns of timers fell into.
            worker, others = (round(min(each) / requests / share) for each in zip(*counts))
            found |= {f"product: {name}": worker, f"books: {name}": others}
    finally:
        process.stop(one["child"])
    return found


def syscalls(binary, driver, folder, upstream):
    strace = need("strace", "strace")
    one = variants.start(f"gate-{driver}", "gate", folder, upstream, sluice(binary, driver))
    asked = one | {"model": "openai/gpt-4o-mini"}

    def count(requests):
        out = folder / f"strace-{driver}-{requests}.txt"
        tracer = subprocess.Popen([strace, "-c", "-f", "-o", str(out), "-p", str(one["pid"])], stderr=subprocess.PIPE, text=True)
        try:
            # It says that it is attached.
            tracer.stderr.readline()
            time.sleep(0.2)
            load(asked, ["closed", "--bytes", 1024], 64, requests)
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait()
        return sum(int(line.split()[3]) for line in out.read_text().splitlines() if re.match(r"\s*\d+\.\d+\s", line) and not line.rstrip().endswith("total"))

    try:
        load(asked, ["closed", "--bytes", 1024], 64, 2000)
        few, many = (2000, 10000) if driver == "io_uring" else (500, 2500)
        return statistics.median((count(many) - count(few)) / (many - few) for _ in range(3))
    finally:
        process.stop(one["child"])


def allocations():
    """0 when the test that counts them holds; it fails at the first one."""
    words = ["cargo", "test", "--quiet", "--test", "allocations", "a_request_on_a_kept_connection_allocates_nothing"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    if "1 passed" in done.stdout:
        return 0
    say(done.stdout[-2000:], done.stderr[-2000:])
    return None


def measure(folder, binary=None, with_allocations=True):
    own, exchanges = build()
    binary = binary or own
    variants_upstream = variants.provider(folder)
    began = time.monotonic()

    def told(what):
        say(f"{what} ({time.monotonic() - began:.0f} s)")

    result = {"commit": process.commit(), "compiler": compiler()}
    # At the same time, each on a core of its own: counts do not care.
    with futures.ThreadPoolExecutor() as pool:
        core = pool.submit(core_instructions, exchanges, folder)
        product = pool.submit(socket_instructions, binary, folder, variants_upstream)
        result["instructions"] = core.result() | product.result()
    told("counted instructions")
    result["syscalls"] = {driver: syscalls(binary, driver, folder, variants_upstream) for driver in ("io_uring", "epoll")}
    told("counted system calls")
    if with_allocations:
        result["allocations"] = allocations()
        told("counted allocations")
    return result


def compare(now, base):
    """Rows of (what, base, now, change, verdict), and whether all is well."""
    same = now["compiler"] == base["compiler"]
    rows, good = [], True
    for name, value in now["instructions"].items():
        was = base["instructions"].get(name)
        tolerance = BOOKS_TOLERANCE if name.startswith("books") else TOLERANCE
        worse = was is not None and value > was * (1 + tolerance)
        good &= not (worse and same)
        verdict = "new" if was is None else ("WORSE" if same else "worse, told only") if worse else "better: renew" if value < was * (1 - tolerance) else "ok"
        rows.append((f"instructions, {name}", was, value, verdict))
    for driver, value in now["syscalls"].items():
        was = base["syscalls"].get(driver)
        worse = was is not None and value > was * (1 + TOLERANCE) + SYSCALL_SLACK[driver]
        good &= not worse
        rows.append((f"system calls a request, {driver}", was, value, "new" if was is None else "WORSE" if worse else "ok"))
    if "allocations" in now:
        bad = now["allocations"] != 0
        good &= not bad
        rows.append(("allocations a kept-alive request", base.get("allocations"), now["allocations"], "WORSE" if bad else "ok"))
    return rows, good, same


def table(rows):
    lines = [f"{'':48} {'baseline':>12} {'now':>12} {'change':>8}"]
    for name, was, value, verdict in rows:
        number = lambda v: "-" if v is None else f"{v:,.0f}" if v >= 100 else f"{v:.2f}"  # noqa: E731
        change = f"{(value / was - 1) * 100:+.1f} %" if was and value is not None else ""
        lines.append(f"{name:48} {number(was):>12} {number(value):>12} {change:>8}  {verdict}")
    return "\n".join(lines)


def save(result, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")


def slowed(share, instructions):
    """A build of a copy of the tree in which each request costs so many instructions more."""
    copy = TARGET / "gate" / "slowed"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(parents=True)
    for name in ("src", "benches", "perf", "tests", "Cargo.toml", "Cargo.lock", "build.rs"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("node_modules", ".venv", "runs", "target", "__pycache__"))
        else:
            shutil.copy(source, copy / name)
    place = copy / "src" / "gateway" / "account.rs"
    anchor = "    pub fn account(&mut self) {\n"
    text = place.read_text()
    if text.count(anchor) != 1:
        raise Unfit(f"{place.name} has no line {anchor.strip()!r} to put the loop behind: mend perf/lab/gate.py")
    # A turn is a store, an addition, a comparison and a jump.
    turns = round(share * instructions / 4)
    place.write_text(text.replace(anchor, f"{anchor}        for turn in 0..{turns}_u64 {{\n            std::hint::black_box(turn);\n        }}\n"))
    return build(copy)[0]
