"""The folders that sources may lie in. A file is opened from its folder's descriptor, step by step, never by a link."""

import errno
import fnmatch
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from services.kit.errors import Code, Failure, InvalidValue

_TENANT = re.compile(r"[a-z][a-z0-9_-]{0,62}\Z")
_WILD = re.compile(r"[*?\[]")
_FILES = 10_000
_SEEN = 200_000  # directory entries that one pattern may look at
_WILDCARDS = 10  # in one pattern
Parts = tuple[str, ...]


class Place(NamedTuple):
    """A file or a pattern, as steps below a folder that the tenant may read."""

    root: Path
    steps: Parts
    # For a server: the address that was checked, whether the operator named it, and the password of the source.
    address: str = ""
    trusted: bool = False
    secret: str = ""
    # For servers that name others: what the operator allows, by which the child checks those.
    allow: str = ""

    def __repr__(self) -> str:
        return f"Place({self.root}, {self.steps}, {self.address})"

    def to_json(self) -> dict[str, Any]:
        """For a child process."""
        return {**self._asdict(), "root": str(self.root)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Place":
        """What `to_json` wrote."""
        return cls(**{**stored, "root": Path(stored["root"]), "steps": tuple(stored["steps"])})


def roots(setting: str, home: Path, tenant: str) -> tuple[Path, ...]:
    """The folders of a tenant, its own first: those of the setting, `{tenant}` filled in, or the import folder."""
    if not _TENANT.match(tenant):
        raise InvalidValue("the tenant has no folder")
    folders = [part for part in setting.split(os.pathsep) if part] or [str(home / "import" / "{tenant}")]
    return tuple(Path(folder.replace("{tenant}", tenant)).absolute() for folder in folders)


def place(allowed: Sequence[Path], text: str) -> Place:
    """The root that a path lies below, and the steps from there.

    A relative path begins at the first root. Raises invalid_value for tricks, egress_denied outside of every root.
    """
    if not text or "\0" in text or "\\" in text:
        raise InvalidValue("the path must not be empty and must not contain backslashes")
    steps = tuple(text.strip("/").split("/"))
    if any(step in ("", ".", "..") for step in steps):
        raise InvalidValue("the path must not contain empty steps, . or ..")
    if not text.startswith("/"):
        return Place(allowed[0], steps)
    for root in allowed:
        begin = root.parts[1:]
        if steps[: len(begin)] == begin and len(steps) > len(begin):
            return Place(root, steps[len(begin) :])
    raise Failure(Code.EGRESS_DENIED, "the path is outside the folders that the operator allows")


def open_file(root: Path, steps: Parts) -> int:
    """A descriptor of a regular file. Raises invalid_value when it is a link, no file, or not there."""
    folder = _open_root(root)
    try:
        for step in steps[:-1]:
            inner = _open_at(folder, step, os.O_DIRECTORY, steps)
            os.close(folder)
            folder = inner
        descriptor = _open_at(folder, steps[-1], os.O_NONBLOCK, steps)
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InvalidValue(f"{'/'.join(steps)} is not a file")
    return descriptor


def _open_root(root: Path) -> int:
    try:
        return os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        where = "import/<tenant> in the home folder, or what AIMASS_DATA_FILE_ROOTS names"
        raise InvalidValue(f"the import folder does not exist: {where}") from None


def _open_at(folder: int, name: str, flags: int, steps: Parts) -> int:
    try:
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=folder)
    except FileNotFoundError:
        raise InvalidValue(f"there is no {'/'.join(steps)}") from None
    except OSError as error:
        linked = error.errno in (errno.ELOOP, errno.ENOTDIR)
        reason = "links are not followed" if linked else (os.strerror(error.errno or 0)).lower()
        raise InvalidValue(f"{'/'.join(steps)} cannot be opened: {reason}") from None


def is_pattern(steps: Parts) -> bool:
    """True if a step has a wildcard."""
    return any(_WILD.search(step) for step in steps)


def check_pattern(steps: Parts) -> None:
    """Raises invalid_value for a pattern that would be slow or that searches in depth."""
    if any("**" in step for step in steps):
        raise InvalidValue("the pattern must not contain **: name each folder")
    if sum(len(_WILD.findall(step)) for step in steps) > _WILDCARDS:
        raise InvalidValue(f"the pattern has more than {_WILDCARDS} wildcards")


def matches(root: Path, steps: Parts) -> list[Parts]:
    """The regular files that a pattern names, sorted. Raises limit_exceeded when there are too many."""
    check_pattern(steps)
    if not is_pattern(steps):
        os.close(open_file(root, steps))
        return [steps]
    folder = _open_root(root)
    try:
        found = []
        for match in _walk(folder, steps, (), [0]):
            found.append(match)
            if len(found) > _FILES:
                raise Failure(Code.LIMIT_EXCEEDED, f"the pattern names more than {_FILES} files")
        return sorted(found)
    finally:
        os.close(folder)


def _walk(folder: int, steps: Parts, above: Parts, seen: list[int]) -> Iterator[Parts]:
    for name in _names(folder, steps[0], seen):
        if len(steps) == 1:
            if stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                yield _said((*above, name))
            continue
        try:
            inner = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
        except OSError:
            continue
        try:
            yield from _walk(inner, steps[1:], (*above, name), seen)
        finally:
            os.close(inner)


def _said(found: Parts) -> Parts:
    """Raises invalid_value for a path that is no text, as rows and cursors have to name it."""
    try:
        "/".join(found).encode()
    except UnicodeEncodeError:
        text = ascii("/".join(found))[:200]
        raise InvalidValue(f"the pattern names {text}, which is not UTF-8: rename it") from None
    return found


def _names(folder: int, step: str, seen: list[int]) -> list[str]:
    entries = os.listdir(folder)
    seen[0] += len(entries)
    if seen[0] > _SEEN:
        raise Failure(Code.LIMIT_EXCEEDED, f"the pattern looks at more than {_SEEN} files")
    if not _WILD.search(step):
        return [step] if step in entries else []
    return [name for name in entries if fnmatch.fnmatchcase(name, step) and not name.startswith(".")]
