"""The only module that compiles patterns of callers: with RE2, which takes time linear in the text."""

import re
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any

from services.kit.errors import Code, Failure

_MEMORY = 8 * 2**20  # bytes that a compiled pattern may take
_LONGEST = 4096
_NAMED = re.compile(r"(?<!\\)\(\?P?<(\w+)>")


@lru_cache(64)
def compiled(pattern: str) -> Any:
    """A compiled pattern. Raises pattern_unsupported, with the error of RE2."""
    import re2

    if len(pattern) > _LONGEST:
        raise Failure(Code.PATTERN_UNSUPPORTED, f"the pattern has more than {_LONGEST} characters")
    names = _NAMED.findall(pattern)
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        # RE2 would fill only the first of them.
        raise Failure(Code.PATTERN_UNSUPPORTED, f"the pattern names the group {twice[0][:80]} twice")
    return _compile(pattern, re2.Options())


@cache
def octets(pattern: bytes) -> Any:
    """A pattern of our own, compiled for bytes: positions in a match are those of the bytes."""
    import re2

    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    return _compile(pattern, options)


def _compile(pattern: str | bytes, options: Any) -> Any:
    import re2

    options.max_mem, options.log_errors = _MEMORY, False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error.args[0])
        raise Failure(Code.PATTERN_UNSUPPORTED, f"the pattern is not supported: {reason}") from None


def groups(pattern: str) -> frozenset[str]:
    """The names of a pattern's groups."""
    return frozenset(compiled(pattern).groupindex)


def picker(pattern: str, names: Sequence[str]) -> Callable[[str], tuple[str | None, ...] | None]:
    """A function that returns the named groups of a line, or None if the whole line does not match."""
    expression = compiled(pattern)
    numbers = [expression.groupindex[name] for name in names]

    def pick(line: str) -> tuple[str | None, ...] | None:
        match = expression.fullmatch(line)
        return tuple(match.group(number) for number in numbers) if match else None

    return pick
