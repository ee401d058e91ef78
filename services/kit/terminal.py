"""What an operator sees of a process that runs in his terminal."""

import logging
from typing import TextIO


class Terminal(logging.StreamHandler[TextIO]):
    """Shows what was said for him (`extra=OPERATOR`) and every warning; the rest is in the log files."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING or hasattr(record, "operator")
