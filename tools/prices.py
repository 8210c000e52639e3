"""Makes src/meter/prices.tsv from the `genai-prices` package (MIT, Pydantic Services Inc.), and what that leaves out from
LiteLLM's list (MIT, Berri AI; the file `model_prices_and_context_window_backup.json` of its wheel).

    pip install genai-prices && pip download --no-deps litellm && unzip -j litellm-*.whl 'litellm/model_prices*'
    python tools/prices.py model_prices_and_context_window_backup.json > src/meter/prices.tsv

One line a rule, tab-separated; prices are pico-dollars a token, so that every published price is a whole number:

    provider  rule  input  cache_read  cache_write  output  window  [tier_from  input  cache_read  cache_write  output]  [extras]

A rule is `=name`, `^prefix` or `~part`, lower case. The five columns from `tier_from` are there when the price changes with
the size of the prompt (the first step only). Extras are words of `name=number`: `cache_write_long`, `audio_input`,
`audio_output`, `reasoning` are prices of such tokens, `flex`, `priority`, `batch` what a service tier costs in thousandths of
the standard price. Of prices that change with the date, the one valid today is taken; of those that change with the time of
day, the dearest.

LiteLLM's entry counts for a rule when it is the same provider, the rule matches its name, and the input price is the same.
"""

import datetime
import importlib.metadata
import json
import sys
from decimal import Decimal

from genai_prices import data, types

TODAY = datetime.date.today()
FIELDS = ("input_mtok", "cache_read_mtok", "cache_write_mtok", "output_mtok")
# Providers of genai-prices, and where LiteLLM has them.
LITELLM = {
    "anthropic": ("anthropic", ""),
    "aws": ("bedrock_converse", ""),
    "azure": ("azure", "azure/"),
    "google": ("gemini", "gemini/"),
    "groq": ("groq", "groq/"),
    "mistral": ("mistral", "mistral/"),
    "openai": ("openai", ""),
    "perplexity": ("perplexity", "perplexity/"),
    "x-ai": ("xai", "xai/"),
}
PRICES = {
    "cache_write_long": "cache_creation_input_token_cost_above_1hr",
    "audio_input": "input_cost_per_audio_token",
    "audio_output": "output_cost_per_audio_token",
    "reasoning": "output_cost_per_reasoning_token",
}
TIERS = {"flex": "flex", "priority": "priority", "batch": "batches"}
KINDS = ("input_cost_per_token", "cache_read_input_token_cost", "output_cost_per_token")


def current(prices):
    """The unconditional or latest valid price list of a model."""
    if isinstance(prices, types.ModelPrice):
        return prices
    chosen = None
    for conditional in prices:
        constraint = conditional.constraint
        if constraint is None or isinstance(constraint, types.StartDateConstraint):
            if constraint is None or constraint.start_date <= TODAY:
                chosen = conditional.prices
    return chosen or max((c.prices for c in prices), key=lambda p: base(p.input_mtok))


def base(price):
    if price is None:
        return Decimal(0)
    return price.base if isinstance(price, types.TieredPrices) else price


def tier(price):
    """The start and price of the first step, if there is one."""
    if isinstance(price, types.TieredPrices) and price.tiers:
        return price.tiers[0].start, price.tiers[0].price
    return None, base(price)


def pico(mtok):
    value = mtok * 1_000_000
    whole = int(value.to_integral_value(rounding="ROUND_UP"))
    assert 0 <= whole < 2**32, mtok
    return whole


def rules(clause):
    """The names a clause matches; clauses that need two conditions are left out, which makes the model unpriced."""
    match clause:
        case types.ClauseEquals(equals=name):
            yield "=" + name
        case types.ClauseStartsWith(starts_with=name):
            yield "^" + name
        case types.ClauseContains(contains=name):
            yield "~" + name
        case types.ClauseOr(or_=clauses):
            for inner in clauses:
                yield from rules(inner)


def matches(rule, name):
    kind, text = rule[0], rule[1:]
    return {"=": name == text, "^": name.startswith(text), "~": text in name}[kind]


def decimal(entry, name):
    value = entry.get(name)
    return None if value is None else Decimal(str(value)) * 1_000_000


def extras(litellm, provider, rule, price):
    """What genai-prices does not know of a model's price; of several entries that match, the shortest name's."""
    owner, prefix = LITELLM.get(provider, (None, ""))
    base_input = base(price.input_mtok)
    words = {}
    for name, field in (("audio_input", "input_audio_mtok"), ("audio_output", "output_audio_mtok")):
        if (value := getattr(price, field, None)) is not None:
            words[name] = pico(base(value))
    for name in sorted(litellm.get(owner, {}), key=lambda name: (len(name), name)):
        entry = litellm[owner][name]
        if not matches(rule.lower(), name.removeprefix(prefix).lower()):
            continue
        if decimal(entry, KINDS[0]) != base_input:
            continue
        for word, field in PRICES.items():
            value = decimal(entry, field)
            if value is not None:
                words.setdefault(word, pico(value))
        for word, tier_name in TIERS.items():
            ratios = []
            for kind in KINDS:
                plain = decimal(entry, kind)
                tiered = decimal(entry, f"{kind}_{tier_name}")
                if plain and tiered is not None:
                    ratios.append(tiered / plain)
            if ratios:
                # Kinds differ by roundings of the published prices; the dearest never shows less than was paid.
                words.setdefault(word, int((max(ratios) * 1000).to_integral_value(rounding="ROUND_HALF_UP")))
        break
    if words.get("reasoning") == pico(base(price.output_mtok)):
        del words["reasoning"]
    return " ".join(f"{name}={value}" for name, value in words.items())


def line(provider, rule, model, price, litellm):
    values = [getattr(price, field) for field in FIELDS]
    if values[0] is None and values[3] is None:
        return None
    # A cache price that is not listed is the price of plain input.
    values = [values[0] if v is None and i in (1, 2) else v for i, v in enumerate(values)]
    row = [provider, rule.lower(), *(str(pico(base(v))) for v in values), str(model.context_window or 0)]
    start = next((s for s, _ in map(tier, values) if s), None)
    if start:
        row += [str(start), *(str(pico(tier(v)[1])) for v in values)]
    if more := extras(litellm, provider, rule, price):
        row.append(more)
    return "\t".join(row)


def main():
    version = importlib.metadata.version("genai-prices")
    with open(sys.argv[1], encoding="utf-8") as file:
        entries = json.load(file)
    litellm = {}
    for name, entry in entries.items():
        litellm.setdefault(entry.get("litellm_provider"), {})[name] = entry
    print(f"# Prices of language models, {TODAY}, from genai-prices {version}: https://github.com/pydantic/genai-prices")
    print("# Copyright Pydantic Services Inc. and contributors, MIT licence. Made by tools/prices.py; do not edit.")
    print("# Service tiers, audio and hour-long caches from LiteLLM: https://github.com/BerriAI/litellm")
    print("# Copyright Berri AI, MIT licence.")
    seen = set()
    for provider in data.providers:
        for model in provider.models:
            price = current(model.prices)
            names = list(rules(model.match)) or []
            for rule in names:
                text = line(provider.id, rule, model, price, litellm)
                if text and (provider.id, rule.lower()) not in seen:
                    seen.add((provider.id, rule.lower()))
                    print(text)


main()
