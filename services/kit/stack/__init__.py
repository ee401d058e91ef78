"""A whole installation on servers in one file, and back: `python -m services --backup FILE`, `--restore FILE`.

The settings are those of the six services, and the home folder that of the log centre. See decision 27.
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
from services.kit.stack.place import Stack, stack_of
from services.kit.stack.reading import read
from services.kit.stack.writing import write

__all__ = ["Stack", "command", "read", "stack_of", "write"]
_VERBS: Mapping[str, Callable[[Stack, Path], Made]] = {"--backup": write, "--restore": read}


def command(arguments: Sequence[str], env: Mapping[str, str] = os.environ) -> int:
    """The exit status: 2 for settings or arguments that cannot be, 1 for what failed; says why on stderr."""
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
    except OSError as error:  # of a restore: a backup says it of its file
        print(broken(error, error.filename or env.get("AIMASS_HOME", "the home folder")), file=sys.stderr)
        return 1
    seconds = time.monotonic() - began
    print(f"{file}: {made.files:,} files, {made.bytes / 2**20:,.1f} MiB, {made.digest}, {seconds:,.1f} s")
    return 0
