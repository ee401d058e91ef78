"""What an upload is."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Upload:
    """Bytes on their way in; `digest` is set once they are committed."""

    upload: str
    create_time: datetime
    size: int = 0
    digest: str = ""
