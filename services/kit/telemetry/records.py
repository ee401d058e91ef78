"""Records of telemetry: log records and predictions."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from services.kit.auth import Scope


@dataclass(slots=True)
class Record:
    """One log record or prediction. `attributes` are strings, numbers and bytes; `scope` is its owner's."""

    kind: str
    name: str
    text: str
    scope: Scope
    attributes: Mapping[str, Any] = field(default_factory=dict)
    severity: str = "INFO"
    service: str = ""
    trace: str = ""  # a traceparent
    time_ns: int = field(default_factory=time.time_ns)

    @property
    def size(self) -> int:
        """Bytes of memory, about."""
        return 200 + len(self.text) + len(self.attributes.get("scores", b""))
