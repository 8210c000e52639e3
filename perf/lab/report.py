"""Tables and verdicts of a run, from its board.json: board.md, and the plots beside it."""

import json
import statistics

from . import cells as lab
from . import plots
from .figures import Figures, best_quarter, head_ratio

OURS = "sluice-io_uring"
BUSY = "sluice-busy"


def text(value):
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"


def cell_table(cell, figures, variants):
    """One table: a row for each variant, a column for each figure; medians, the best quarter in brackets."""
    columns = [(name, unit) for name, _, unit in cell.figures]
    if cell.name == "limit":
        columns = [(f"p99 under {limit} ms", "/s") for limit in lab.LIMITS_MS]
    lines = [f"### {cell.title}", "", "| | " + " | ".join(f"{name} {unit}".strip() for name, unit in columns) + " | errors |",
             "|---" * (len(columns) + 2) + "|"]
    for variant in variants:
        mine = [one for one in figures.rounds if (one["cell"], one["variant"]) == (cell.name, variant["name"])]
        if not mine:
            continue
        row = []
        for name, _ in columns:
            found = figures.values(cell.name, variant["name"], name)
            row.append(f"{text(statistics.median(found))} ({text(best_quarter(found, name))})" if found else "–")
        bad = sum(one["errors"] + one["not_200"] + one["lost"] for one in mine)
        lines.append("| " + " | ".join([variant["title"], *row, str(bad)]) + " |")
    return "\n".join(lines)


def targets(figures, extra):
    """Rows of (what, ours, target, unit, compared to, met); `met` is None when a figure is missing."""
    rows = []

    def add(what, value, limit, unit, base="", least=False):
        known = value is not None and limit is not None
        rows.append((what, value, limit, unit, base, (value >= limit if least else value <= limit) if known else None, least))

    def to_nginx(what, cell, name):
        add(what, figures.ratio(cell, name, OURS, "nginx"), 1.0, "x nginx")

    to_nginx("CPU a request, 1 KiB, 64 connections", "cpu-1k", "cpu")
    add("the same, goal", figures.ratio("cpu-1k", "cpu", OURS, "relay"), 1.35, "x blind relay")
    to_nginx("CPU a request, 10 KiB", "cpu-10k", "cpu")
    add("800 KiB prompt, p50 over the blind relay", figures.difference("latency-800k", "added p50", OURS, "relay"), 300, "us")
    mine = extra.get("held", {}).get(OURS, {})
    add(f"memory of 800 KiB prompts in flight", (mine.get("big") or {}).get("times_body"), 1.25, "x the bodies")
    for rate in (2000, 5000):
        for quantile in ("p50", "p99"):
            name = f"added {quantile}"
            of_nginx = figures.median(f"open-{rate}", "nginx", name)
            add(f"{name} at {rate}/s", figures.median(f"open-{rate}", OURS, name), of_nginx, "us", "nginx")
            add(f"the same with `busy_poll`", figures.median(f"open-{rate}", BUSY, name), of_nginx, "us", "nginx")
    to_nginx("SSE, CPU an event, paced", "sse-paced", "cpu an event")
    add("SSE, an event comes within, p99", figures.median("sse-paced", OURS, "delay p99"), 1000, "us")
    add("the same with `busy_poll`", figures.median("sse-paced", BUSY, "delay p99"), 1000, "us")
    add("added time to first event p50", figures.median("first", OURS, "added p50"), 60, "us")
    add("the same with `busy_poll`", figures.median("first", BUSY, "added p50"), 60, "us")
    add("memory idle", mine["idle_kib"] / 1024 if mine else None, 12, "MiB")
    many = mine.get("5000")
    add("memory a stream, 5,000 streams", (many["rss_kib"] - mine["idle_kib"]) / 5000 if many else None, 8, "KiB")
    add("events lost or connections broken, 5,000 streams", many["lost"] + many["errors"] if many else None, 0, "")
    add("translation OpenAI to Anthropic, CPU", figures.ratio("translate", "cpu", "sluice-translate", OURS), 1.6, "x pass-through")
    add("TLS to the provider, more CPU a request", figures.difference("tls", "cpu", "sluice-tls", OURS), 8, "us")
    gate = extra.get("gate") or {}
    add("heap allocations a kept-alive request", gate.get("allocations"), 0, "")
    add("system calls a request, 64 connections, io_uring", (gate.get("syscalls") or {}).get("io_uring"), 0.2, "")
    micro = extra.get("micro") or {}
    ratio, heads = head_ratio(micro)
    add(f"head of a request, checked and framed ({heads or 'client heads'})", ratio, 1.0, "x httparse")
    for kind in ("one string", "escapes", "short strings"):
        one = micro.get(f"json_peek/sluice/{kind}/800 KB")
        add(f"JSON peek, 800 KiB, {kind}", one["bytes"] / one["ns"] if one else None, 3.0, "GB/s", least=True)
    ready = extra.get("ready_ms")
    add("start to ready", statistics.median(ready) if ready else None, 20, "ms")
    add("binary, stripped", extra.get("binary_mb"), 15, "MB")
    return rows


def target_table(rows):
    lines = ["| measure | here | target | |", "|---|---|---|---|"]
    for what, value, limit, unit, base, met, least in rows:
        verdict = {True: "met", False: "**missed**", None: "not measured"}[met]

        def digits(number):
            if number is None:
                return "–"
            return f"{number:.2f}" if unit.startswith(("x", "GB")) or 0 < number < 1 else text(number)

        goal = f"at {'least' if least else 'most'} {digits(limit)} {unit}".strip() + (f" ({base})" if base else "")
        lines.append(f"| {what} | {digits(value)} {unit} | {goal} | {verdict} |")
    return "\n".join(lines)


def held_table(held):
    lines = ["### Streams held, an event a second each (once)", "",
             "| | idle MiB | 1,000 streams | 5,000 streams | after | KiB a stream | lost, errors | delay p99 us | later than 100 ms | clean streams of 50 events/s | "
             "800 KiB prompts, x the bodies |", "|---" * 11 + "|"]
    for name, own in held.items():
        many = own.get("5000") or {}
        mib = lambda kib: f"{kib / 1024:.1f}" if kib else "–"  # noqa: E731
        a_stream = f"{(many['rss_kib'] - own['idle_kib']) / 5000:.1f}" if many else "–"
        clean = max((step["streams"] for step in own.get("clean", []) if step["good"]), default=None)
        clean = f"{clean:,}" if clean else ("none" if "clean" in own else "–")
        if own.get("clean") and own["clean"][-1]["good"]:
            clean += " and more"
        big = own.get("big")
        lines.append(f"| {name} | {mib(own['idle_kib'])} | {mib((own.get('1000') or {}).get('rss_kib'))} | {mib(many.get('rss_kib'))} | "
                     f"{mib(own.get('after_kib'))} | {a_stream} | {many.get('lost', '–')}, {many.get('errors', '–')} | "
                     f"{text((many.get('delay_us') or {}).get('p99'))} | {many.get('late_100ms', '–')} | {clean} | "
                     f"{format(big['times_body'], '.2f') if big else '–'} |")
    return "\n".join(lines)


def make(folder):
    """Writes board.md and the plots of a run; the text."""
    run = json.loads((folder / "board.json").read_text())
    figures, facts, extra = Figures(run["rounds"]), run["facts"], run["extra"]
    loads = [one["load_1m"] for one in run["rounds"]] or [0]
    noise = "; ".join(f"{name} in {cell} {by:.1f} {unit}" for cell, name, by, unit in figures.noise()) or "not measured"
    parts = [
        f"# Board of {facts['date']}",
        f"Commit {facts['commit']}, {facts.get('binary', 'built from it')}; Linux {facts['kernel']}, {facts['cores']} cores, {facts.get('processor', '')}; {facts['rounds']} rounds, "
        f"load average {min(loads):.1f} to {max(loads):.1f}. Gateway on core 0, load and provider on core 1. Medians of the rounds, in brackets "
        f"the mean of the best quarter. Noise, as two processes of the same binary differ: {noise}.",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in facts.get("versions", {}).items()) + ".",
        "## Targets\n\n" + target_table(targets(figures, extra)),
    ]
    if (folder / "notes.md").exists():
        parts.append((folder / "notes.md").read_text().strip())
    parts.append("## Figures")
    parts += [f"![{title}]({file})" for file, title in plots.make(folder, figures, run["variants"], extra)]
    parts += [cell_table(cell, figures, run["variants"]) for cell in lab.CELLS if any(one["cell"] == cell.name for one in run["rounds"])]
    if extra.get("held"):
        parts.append(held_table(extra["held"]))
    if facts["missing"]:
        parts.append("Missing: " + "; ".join(f"{name} ({why})" for name, why in facts["missing"].items()) + ".")
    result = "\n\n".join(parts) + "\n"
    (folder / "board.md").write_text(result)
    return result
