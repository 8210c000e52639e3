"""Figures of a board's rounds: by cell, variant and name. Everything is computed from the raw rounds; nothing is filled in."""

import json
import statistics

from . import cells as lab
from .process import TARGET, commit


def best_quarter(values, name):
    """The mean of the best quarter; of rates the highest are best."""
    best = sorted(values, reverse=name in ("rate", "GB/s") or name.startswith("p99 under"))[: max(1, len(values) // 4)]
    return sum(best) / len(best)


class Figures:
    """Over the rounds of one board."""

    def __init__(self, rounds):
        self.rounds = rounds

    def by_round(self, cell, variant, name):
        """The figure of each round; those that are added are above the direct one of the same round."""
        found, direct = {}, {}
        for one in self.rounds:
            if one["cell"] != cell or one["figures"].get(name) is None:
                continue
            if one["variant"] == variant:
                found[one["round"]] = one["figures"][name]
            if one["variant"] == "direct":
                direct[one["round"]] = one["figures"][name]
        if name.startswith("added") and lab.BY_NAME[cell].added:
            return {number: value - direct[number] for number, value in found.items() if number in direct}
        return found

    def values(self, cell, variant, name):
        return list(self.by_round(cell, variant, name).values())

    def median(self, cell, variant, name):
        found = self.values(cell, variant, name)
        return statistics.median(found) if found else None

    def ratio(self, cell, name, variant, base):
        """The median of the ratios of the same round, which a disturbance touches on both sides."""
        own, other = self.by_round(cell, variant, name), self.by_round(cell, base, name)
        found = [own[number] / other[number] for number in own if other.get(number)]
        return statistics.median(found) if found else None

    def difference(self, cell, name, variant, base):
        """The median of the differences of the same round."""
        own, other = self.by_round(cell, variant, name), self.by_round(cell, base, name)
        found = [own[number] - other[number] for number in own if number in other]
        return statistics.median(found) if found else None

    def noise(self):
        """What two processes of the same binary differ by: (cell, figure, by how much, unit)."""
        found = []
        for cell, name in (("cpu-1k", "cpu"), ("cpu-10k", "cpu"), ("sse-paced", "cpu an event")):
            ratio = self.ratio(cell, name, "sluice-again", "sluice-io_uring")
            if ratio:
                found.append((cell, name, abs(ratio - 1) * 100, "%"))
        for name in ("added p50", "added p99"):
            difference = self.difference("open-2000", name, "sluice-again", "sluice-io_uring")
            if difference is not None:
                found.append(("open-2000", name, abs(difference), "us"))
        return found


def micro():
    """What `cargo bench --bench head --bench json_peek` measured last, when it did: mean nanoseconds, and bytes, by full name."""
    found = {}
    for file in (TARGET / "criterion").glob("**/new/benchmark.json"):
        about = json.loads(file.read_text())
        estimate = json.loads((file.parent / "estimates.json").read_text())
        size = (about.get("throughput") or {}).get("Bytes")
        found[about["full_id"]] = {"ns": estimate["mean"]["point_estimate"], "bytes": size}
    return {name: value for name, value in found.items() if name.split("/")[0] in ("head", "json_peek")}


def gate():
    """What perf/gate counted last, when it was this commit."""
    path = TARGET / "gate" / "last.json"
    if not path.exists():
        return None
    last = json.loads(path.read_text())
    return last if last.get("commit") == commit() else None


def head_ratio(micro):
    """Time for the heads, all checks and the framing on, as a multiple of httparse's; and over which heads."""
    for heads in (["captured"], ["curl", "sdk", "browser"]):
        total = {}
        for who in ("sluice/frame", "httparse"):
            own = [micro.get(f"head/{who}/{head}") for head in heads]
            total[who] = sum(one["ns"] for one in own) if all(own) else None
        if all(total.values()):
            return total["sluice/frame"] / total["httparse"], ", ".join(heads)
    return None, ""
