"""What a full disk is called, whoever writes to it."""

import contextlib
import errno
from collections.abc import Iterator

from services.kit.errors import Code, Failure

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def on_disk() -> Iterator[None]:
    """For work on files of this machine. Raises storage_full when the disk is; any other trouble as it is."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL or "No space left" in str(error):  # errors of Delta's engine have no number
            raise Failure(Code.STORAGE_FULL, "the disk is full") from error
        raise
