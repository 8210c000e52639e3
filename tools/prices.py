"""Makes src/meter/prices.tsv from the `genai-prices` package (MIT, Pydantic Services Inc.).

    pip install genai-prices && python tools/prices.py > src/meter/prices.tsv

One line a rule, tab-separated; prices are pico-dollars a token, so that every published price is a whole number:

    provider  rule  input  cache_read  cache_write  output  window  tier_from  input  cache_read  cache_write  output

A rule is `=name`, `^prefix` or `~part`, lower case. The last five columns are there when the price changes with the size
of the prompt (the first step only). Of prices that change with the date, the one valid today is taken; of those that change
with the time of day, the dearest.
"""

import datetime
import importlib.metadata
from decimal import Decimal

from genai_prices import data, types

TODAY = datetime.date.today()
FIELDS = ("input_mtok", "cache_read_mtok", "cache_write_mtok", "output_mtok")


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


def line(provider, rule, model, price):
    values = [getattr(price, field) for field in FIELDS]
    if values[0] is None and values[3] is None:
        return None
    # A cache price that is not listed is the price of plain input.
    values = [values[0] if v is None and i in (1, 2) else v for i, v in enumerate(values)]
    row = [provider, rule.lower(), *(str(pico(base(v))) for v in values), str(model.context_window or 0)]
    start = next((s for s, _ in map(tier, values) if s), None)
    if start:
        row += [str(start), *(str(pico(tier(v)[1])) for v in values)]
    return "\t".join(row)


def main():
    version = importlib.metadata.version("genai-prices")
    print(f"# Prices of language models, {TODAY}, from genai-prices {version}: https://github.com/pydantic/genai-prices")
    print("# Copyright Pydantic Services Inc. and contributors, MIT licence. Made by tools/prices.py; do not edit.")
    seen = set()
    for provider in data.providers:
        for model in provider.models:
            price = current(model.prices)
            names = list(rules(model.match)) or []
            for rule in names:
                text = line(provider.id, rule, model, price)
                if text and (provider.id, rule.lower()) not in seen:
                    seen.add((provider.id, rule.lower()))
                    print(text)


main()
