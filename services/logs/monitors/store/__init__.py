"""What monitors keep: the only SQL on predictions and outcomes."""

from services.logs.monitors.store.quality import Store, outcomes
from services.logs.monitors.store.rows import predictions

__all__ = ["Store", "outcomes", "predictions"]
