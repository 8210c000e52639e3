"""Tables and verdicts from the rounds of a board. Everything is computed from the raw figures; nothing is filled in."""

import statistics

from . import cells as lab


def best_quarter(values):
    best = sorted(values)[: max(1, len(values) // 4)]
    return sum(best) / len(best)


def values(rounds, cell, variant, name):
    """The figures by round; those that are added are above the direct one of the same round."""
    found = {}
    direct = {}
    for one in rounds:
        if one["cell"] != cell.name or one["figures"].get(name) is None:
            continue
        if one["variant"] == variant:
            found[one["round"]] = one["figures"][name]
        if one["variant"] == "direct":
            direct[one["round"]] = one["figures"][name]
    if cell.added and name.startswith("added"):
        return [value - direct[number] for number, value in found.items() if number in direct]
    return list(found.values())


def text(value):
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"


def cell_table(cell, rounds, variants):
    """One table: a row for each variant, a column for each figure; medians, the best quarter in brackets."""
    names = [name for name, _, _ in cell.figures]
    lines = [f"### {cell.title}", "", "| | " + " | ".join(f"{name} {unit}".strip() for name, _, unit in cell.figures) + " | errors |"]
    lines.append("|---" * (len(names) + 2) + "|")
    for variant in variants:
        mine = [one for one in rounds if (one["cell"], one["variant"]) == (cell.name, variant["name"])]
        if not mine:
            continue
        row = []
        for name in names:
            all_values = values(rounds, cell, variant["name"], name)
            row.append(f"{text(statistics.median(all_values))} ({text(best_quarter(all_values))})" if all_values else "–")
        bad = sum(one["errors"] + one["not_200"] + one["lost"] for one in mine)
        lines.append("| " + " | ".join([variant["title"], *row, str(bad)]) + " |")
    return "\n".join(lines)


class Figures:
    """Medians by cell, variant and name, for the verdicts."""

    def __init__(self, rounds, extra):
        self.rounds, self.extra = rounds, extra

    def of(self, cell, variant, name):
        cell = next(one for one in lab.CELLS if one.name == cell)
        found = values(self.rounds, cell, variant, name)
        return statistics.median(found) if found else None

    def ratio(self, cell, name, variant, base):
        """The median of the ratios of the same round, which a disturbance touches on both sides."""
        cell = next(one for one in lab.CELLS if one.name == cell)
        pairs = {}
        for one in self.rounds:
            if one["cell"] == cell.name and one["variant"] in (variant, base):
                pairs.setdefault(one["round"], {})[one["variant"]] = one["figures"].get(name)
        found = [pair[variant] / pair[base] for pair in pairs.values() if pair.get(variant) and pair.get(base)]
        return statistics.median(found) if found else None


def noise(figures):
    """What two runs of the same binary differ by, at most, over the cells that compare CPU; percent."""
    found = []
    for cell in ("cpu-1k", "cpu-10k", "sse-paced"):
        name = "cpu an event" if cell == "sse-paced" else "cpu"
        ratio = figures.ratio(cell, name, "sluice-again", "sluice-io_uring")
        if ratio:
            found.append(abs(ratio - 1) * 100)
    return max(found) if found else None


def targets(figures, ours):
    """Rows of (what, ours, target, met); `met` is None when a figure is missing."""
    rows = []

    def add(what, value, limit, unit, base=""):
        met = None if value is None or limit is None else value <= limit
        rows.append((what, value, limit, unit, base, met))

    def to_nginx(what, cell, name):
        add(what, figures.ratio(cell, name, ours, "nginx"), 1.0, "x nginx")

    to_nginx("CPU a request, 1 KiB, 64 connections", "cpu-1k", "cpu")
    add("the same, goal", figures.ratio("cpu-1k", "cpu", ours, "relay"), 1.35, "x blind relay")
    to_nginx("CPU a request, 10 KiB", "cpu-10k", "cpu")
    relay_800 = figures.of("latency-800k", "relay", "added p50")
    ours_800 = figures.of("latency-800k", ours, "added p50")
    both = relay_800 is not None and ours_800 is not None
    add("800 KiB prompt, added p50 over the blind relay", ours_800 - relay_800 if both else None, 300, "us")
    for rate, quantiles in ((2000, ("p50", "p99")), (5000, ("p50", "p99"))):
        for quantile in quantiles:
            name = f"added {quantile}"
            add(f"added {quantile} at {rate}/s", figures.of(f"open-{rate}", ours, name), figures.of(f"open-{rate}", "nginx", name),
                "us", "nginx")
    to_nginx("SSE, CPU an event, paced", "sse-paced", "cpu an event")
    add("SSE, delay of an event p99", figures.of("sse-paced", ours, "delay p99"), 1000, "us")
    add("added time to first event p50", figures.of("first", ours, "added p50"), 60, "us")
    add("memory idle", figures.extra.get("idle_mib"), 12, "MiB")
    add("memory a stream at 5,000 streams", figures.extra.get("kib_a_stream"), 8, "KiB")
    add("streams lost or late of 5,000", figures.extra.get("held_bad"), 0, "")
    add("OpenAI to Anthropic", figures.ratio("translate", "cpu", "sluice-translate", "sluice-io_uring"), 1.6, "x pass-through")
    tls, plain = figures.of("tls", "sluice-tls", "cpu"), figures.of("tls", "sluice-io_uring", "cpu")
    add("TLS to the provider, more CPU a request", tls - plain if tls and plain else None, 8, "us")
    add("start to ready", figures.extra.get("ready_ms"), 20, "ms")
    add("binary, stripped", figures.extra.get("binary_mb"), 15, "MB")
    return rows


def target_table(rows):
    lines = ["| measure | here | target | |", "|---|---|---|---|"]
    for what, value, limit, unit, base, met in rows:
        verdict = {True: "met", False: "**missed**", None: "not measured"}[met]
        digits = (lambda v: "–" if v is None else f"{v:.2f}" if unit.startswith("x") else text(v))
        goal = f"at most {digits(limit)} {unit}".strip() + (f" ({base})" if base else "")
        lines.append(f"| {what} | {digits(value)} {unit} | {goal} | {verdict} |")
    return "\n".join(lines)
