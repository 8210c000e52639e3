"""Grafana's own model of a dashboard reads ours and gives it back: a key that Grafana does not know would be lost on the way, and one
of the wrong kind refused. It is no Grafana: what a panel looks like is not checked here."""

import json
import pathlib

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

# An annotation's query belongs to its data source, and the model knows only what all data sources have.
OF_DATA_SOURCES = {"/annotations/list/0/titleFormat"}


def lost(ours, theirs, path=""):
    """Paths of what is in `ours` and not, or otherwise, in `theirs`."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return [found for key in ours for found in lost(ours[key], theirs.get(key), f"{path}/{key}")]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return [found for at, pair in enumerate(zip(ours, theirs)) for found in lost(*pair, f"{path}/{at}")]
    return [] if ours == theirs else [path]


register_default_plugins()
text = (pathlib.Path(__file__).parents[2] / "dashboards" / "sluice.json").read_text()
ours = json.loads(text)


def through(dashboard):
    return json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard)))


assert set(lost(ours, through(ours))) <= OF_DATA_SOURCES, lost(ours, through(ours))
# The check can fail: a slip in the name of a key does not come back.
slipped = json.loads(text)
slipped["panels"][1]["fieldConfigs"] = slipped["panels"][1].pop("fieldConfig")
assert lost(slipped, through(slipped)), "a key that does not exist came back"
targets = [target for panel in ours["panels"] for target in panel.get("targets", [])]
assert len(ours["panels"]) > 40 and len(targets) > 60, (len(ours["panels"]), len(targets))
print(f"{len(ours['panels'])} panels and {len(targets)} queries are as Grafana's model has them")
