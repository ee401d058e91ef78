"""The tables of predictions and outcomes, and the only SQL on them."""

from services.logs.monitors.store.quality import Store, outcomes
from services.logs.monitors.store.rows import predictions

__all__ = ["Store", "outcomes", "predictions"]
