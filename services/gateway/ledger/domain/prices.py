"""Which lists of prices make sense."""

import re
from collections.abc import Sequence
from datetime import datetime

from services.gateway.ledger.domain import KINDS, Meter, PriceList
from services.kit.errors import invalid

_DEAREST = 10**9  # millionths: sums of such prices still fit into a column


def check_prices(prices: PriceList, now: datetime) -> None:
    """Raises invalid_value for prices that make no sense, or that would change what has been settled."""
    if not re.match(r"[A-Z]{3}\Z", prices.currency):
        raise invalid("/currency", "must be three capital letters, as EUR")
    if prices.valid_from < now:
        raise invalid("/valid_from", "must not be in the past")
    seen: Sequence[tuple[Meter, str]] = [(price.meter, price.kind) for price in prices.prices]
    for index, price in enumerate(prices.prices):
        if price.meter is Meter.MONEY:
            raise invalid(f"/prices/{index}/meter", "must be something that can be bought")
        if price.kind not in ("", *KINDS):
            raise invalid(f"/prices/{index}/kind", f"must be nothing or one of {', '.join(KINDS)}")
        if not (0 <= price.micros <= _DEAREST and 1 <= price.per <= _DEAREST):
            raise invalid(f"/prices/{index}", f"needs micros from 0 and per from 1, neither above {_DEAREST}")
        if seen.index((price.meter, price.kind)) != index:
            raise invalid(f"/prices/{index}", "is there twice")
