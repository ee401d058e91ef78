"""Backup of a stack, an installation on servers, to one file, and its restore: `python -m services --backup FILE`.

It reads the settings of all six services; the home folder is the log centre's. See decision 27.
"""

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from aimass.backup import Made, broken
from aimass.failures import Failure as ArchiveFailure
from services.kit.config import ConfigError
from services.kit.errors import Failure
from services.kit.stack.reading import read
from services.kit.stack.settings import Stack, stack_of
from services.kit.stack.writing import write

__all__ = ["Stack", "command", "read", "stack_of", "write"]
_VERBS: Mapping[str, Callable[[Stack, Path], Made]] = {"--backup": write, "--restore": read}


def command(arguments: Sequence[str], env: Mapping[str, str] = os.environ) -> int:
    """Returns the exit status: 2 for wrong settings or arguments, 1 for a failure, which stderr explains."""
    if len(arguments) != 2 or arguments[0] not in _VERBS:
        print("say --backup FILE or --restore FILE", file=sys.stderr)
        return 2
    began, file = time.monotonic(), Path(arguments[1])
    try:
        made = _VERBS[arguments[0]](stack_of(env), file)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except (ArchiveFailure, Failure) as failure:
        print(failure, file=sys.stderr)
        return 1
    except OSError as error:  # of a restore: a backup turns errors of its file into failures itself
        print(broken(error, error.filename or env.get("AIMASS_HOME", "the home folder")), file=sys.stderr)
        return 1
    seconds = time.monotonic() - began
    print(f"{file}: {made.files:,} files, {made.bytes / 2**20:,.1f} MiB, {made.digest}, {seconds:,.1f} s")
    return 0
