"""Plots of a run, as SVG: bars of medians with a dot for each round, and lines of latency over rate."""

import math
import statistics
from html import escape

WIDTH, LEFT, RIGHT, ROW = 760, 190, 90, 20
OURS, THEIRS = "#c2410c", "#64748b"


def _svg(height, body, title):
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="#1e293b"><title>{escape(title)}</title>'
        f'<rect width="100%" height="100%" fill="#ffffff"/>' + "".join(body) + "</svg>\n"
    )


def _words(x, y, text, anchor="start", more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{escape(str(text))}</text>'


def _number(value):
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"


def bars(title, unit, groups):
    """`groups`: (label, [(variant, values of the rounds)]). Each group has a scale of its own."""
    body, y = [_words(10, 20, f"{title}, {unit}", more='font-size="15" font-weight="600"')], 34
    for label, rows in groups:
        y += 20
        body.append(_words(10, y, label, more='font-weight="600"'))
        most = max((max(*values, 0) for _, values in rows if len(values) > 1), default=0) or max((v for _, values in rows for v in values), default=1) or 1
        # One round that was disturbed does not flatten the rest.
        most = min(most, 2.5 * max(max(statistics.median(values), 0) for _, values in rows) or most)
        across = lambda value: LEFT + max(0, min(value / most, 1)) * (WIDTH - LEFT - RIGHT)  # noqa: E731, B023
        for name, values in rows:
            y += ROW
            middle = statistics.median(values)
            colour = OURS if name.startswith("sluice") else THEIRS
            body.append(_words(LEFT - 8, y, name, "end"))
            body.append(f'<rect x="{LEFT}" y="{y - 11}" width="{across(middle) - LEFT:.1f}" height="13" fill="{colour}" opacity="0.75"/>')
            body += [f'<circle cx="{across(value):.1f}" cy="{y - 4.5}" r="2.2" fill="#0f172a" opacity="0.55"/>' for value in values]
            body.append(_words(WIDTH - RIGHT + 8, y, _number(middle)))
        y += 8
    return _svg(y + 14, body, title)


def lines(title, across_title, series):
    """`series`: (name, [(rate, p99 in us)]); both scales are logarithmic."""
    points = [point for _, own in series for point in own if point[1] > 0]
    if not points:
        return None
    height, top, bottom = 380, 40, 50
    low_x, high_x = (f(math.log10(x) for x, _ in points) for f in (min, max))
    low_y, high_y = (f(math.log10(y) for _, y in points) for f in (min, max))
    at_x = lambda x: 60 + (math.log10(x) - low_x) / ((high_x - low_x) or 1) * (WIDTH - 60 - 170)  # noqa: E731
    at_y = lambda y: height - bottom - (math.log10(y) - low_y) / ((high_y - low_y) or 1) * (height - top - bottom)  # noqa: E731
    body = [_words(10, 20, title, more='font-size="15" font-weight="600"'), _words(60, height - 12, across_title)]
    for limit in (100, 1000, 5000, 10000, 100000):
        if low_y <= math.log10(limit) <= high_y:
            body.append(f'<line x1="60" x2="{WIDTH - 170}" y1="{at_y(limit):.1f}" y2="{at_y(limit):.1f}" stroke="#cbd5e1"/>')
            body.append(_words(54, at_y(limit) + 4, f"{limit / 1000:g} ms", "end"))
    for rate in (1000, 2000, 5000, 10000, 20000, 30000, 50000, 70000, 100000):
        if low_x <= math.log10(rate) <= high_x:
            body.append(_words(at_x(rate), height - bottom + 16, f"{rate // 1000}k", "middle"))
    colours = ["#64748b", "#0f766e", "#7c3aed", "#b45309", OURS, "#2563eb", "#be123c", "#334155"]
    for number, (name, own) in enumerate(series):
        colour = colours[number % len(colours)]
        path = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in own if y > 0)
        body.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        body.append(_words(WIDTH - 160, top + 18 * number + 10, f"— {name}", more=f'style="fill:{colour}"'))
    return _svg(height, body, title)


def _rows(figures, variants, cell, name):
    found = [(one["title"], figures.values(cell, one["name"], name)) for one in variants]
    return [(title, values) for title, values in found if values]


def _ladder(figures, variants):
    """For each variant the median 99th percentile of each rate that was kept."""
    series = []
    for one in variants:
        at = {}
        for played in figures.rounds:
            if (played["cell"], played["variant"]) == ("limit", one["name"]):
                for step in played["steps"]:
                    if step["latency_us"]:
                        at.setdefault(round(step["rate"], -3), []).append(step["latency_us"]["p99"])
        own = [(rate, statistics.median(values)) for rate, values in sorted(at.items()) if rate > 0]
        if own:
            series.append((one["title"], own))
    return series


def make(folder, figures, variants, extra):
    """Writes the plots for which there are figures; (file, title) of each."""
    wanted = [
        ("cpu.svg", "CPU a request, 64 connections", "us", [("1 KiB prompt", "cpu-1k", "cpu"), ("10 KiB", "cpu-10k", "cpu"), ("100 KiB", "cpu-100k", "cpu"),
                                                          ("800 KiB", "cpu-800k", "cpu")]),
        ("latency.svg", "Added latency", "us", [(f"{rate}/s, {q}", f"open-{rate}", f"added {q}") for rate in (100, 2000, 5000) for q in ("p50", "p99")]
         + [("800 KiB prompt, p50", "latency-800k", "added p50")]),
        ("streams.svg", "Streams", "us", [("CPU an event, paced", "sse-paced", "cpu an event"), ("CPU an event, back to back", "sse-burst", "cpu an event"),
                                          ("added delay of an event, p50", "sse-paced", "added delay p50"), ("added time to first event, p50", "first", "added p50")]),
        ("limits.svg", "Most requests with a bounded p99", "requests/s", [(f"p99 under {limit} ms", "limit", f"p99 under {limit} ms") for limit in (1, 5, 10)]),
    ]
    made = []
    for file, title, unit, parts in wanted:
        groups = [(label, _rows(figures, variants, cell, name)) for label, cell, name in parts]
        groups = [(label, rows) for label, rows in groups if rows]
        if groups:
            (folder / file).write_text(bars(title, unit, groups))
            made.append((file, title))
    ladder = lines("p99 over the rate of an open loop", "requests/s", _ladder(figures, variants))
    if ladder:
        (folder / "ladder.svg").write_text(ladder)
        made.append(("ladder.svg", "p99 over the rate"))
    groups = []
    for label, key in (("idle", "idle_kib"), ("1,000 streams", "1000"), ("5,000 streams", "5000"), ("after", "after_kib")):
        rows = []
        for name, own in extra.get("held", {}).items():
            value = own.get(key)
            value = value["rss_kib"] if isinstance(value, dict) else value
            if value:
                rows.append((name, [value / 1024]))
        if rows:
            groups.append((label, rows))
    if groups:
        (folder / "memory.svg").write_text(bars("Resident memory", "MiB", groups))
        made.append(("memory.svg", "Resident memory"))
    return made
