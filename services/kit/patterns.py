"""The only module that compiles patterns of callers: with RE2, which takes time linear in the text."""

import re
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any

from services.kit.errors import Code, Failure

_MEMORY = 8 * 2**20  # bytes that a compiled pattern may take
_MEMORY_OF_MANY = 128 * 2**20  # bytes that patterns compiled together may take
_DOUBTS = 20  # lines without a match that are tried with each pattern, in case that memory was too small
_LONGEST = 4096
_NAMED = re.compile(r"(?<!\\)\(\?P?<(\w+)>")


@lru_cache(512)
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


class Choice:
    """Which of many patterns match a whole line: found in one pass over it, however many there are."""

    def __init__(self, patterns: Sequence[str]) -> None:
        """Raises pattern_unsupported."""
        self._each = [compiled(pattern) for pattern in patterns]
        self._together, self._doubts = _together(patterns), _DOUBTS

    def __call__(self, line: str) -> Sequence[int]:
        """The places of the patterns that match, in their order."""
        found = self._together.Match(line) if self._together else None
        if found:
            return sorted(found)
        if self._together and not self._doubts:
            return ()
        tried = [place for place, expression in enumerate(self._each) if expression.fullmatch(line)]
        # RE2 says of patterns that do not fit into its memory what it says of a line that none matches.
        self._doubts -= 1
        if tried:
            self._together = None
        return tried


@lru_cache(4)
def choice(patterns: tuple[str, ...]) -> Choice:
    """The same, made once for the files of a source."""
    return Choice(patterns)


def _together(patterns: Sequence[str]) -> Any:
    import re2

    options = re2.Options()
    options.max_mem, options.log_errors = _MEMORY_OF_MANY, False
    many = re2.Set.FullMatchSet(options)
    try:
        for pattern in patterns:
            many.Add(pattern)
        many.Compile()
    except re2.error:
        return None
    return many
