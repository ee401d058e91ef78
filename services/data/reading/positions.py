"""How far the files of a source were read, and where to go on when they grew, moved, were copied or replaced. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

HEAD = 4096  # bytes at the beginning of a file by which it is known again
_REMEMBERED = 20_000  # files


@dataclass(frozen=True)
class FileState:
    """How far a file was read, and how it is known again."""

    path: str
    inode: str
    offset: int
    number: int
    head: str
    head_size: int
    # Where `offset` does not tell a file that is as it was: what changes when it is written; what was read of it.
    stamp: str = ""
    digest: str = ""


@dataclass(frozen=True)
class FoundFile:
    """A file as it lies there; `head` is the digest of its first bytes.

    Of a compressed one, heads and offsets are of its content: so it is known again as the file that was compressed.
    """

    path: str
    inode: str
    size: int
    head: Callable[[int], str] = field(compare=False)
    stamp: str = ""
    packed: bool = False

    def continues(self, state: FileState) -> bool:
        """True if it begins like what was read, and has not become shorter."""
        fits = state.offset > 0 and (self.packed or state.offset <= self.size)
        return fits and self.head(state.head_size) == state.head

    def same(self, state: FileState) -> bool:
        """True if it was not written since."""
        return bool(state.stamp) and (self.path, self.inode, self.stamp) == (state.path, state.inode, state.stamp)


@dataclass(frozen=True)
class Start:
    """Where to read a file from; `replaced`: another file of this name was read before."""

    path: str
    offset: int = 0
    number: int = 0
    replaced: bool = False
    state: FileState | None = field(default=None, compare=False)
    # Another file has its name by now, and has begun: who wrote this one writes that one.
    ended: bool = False


def starts(found: Sequence[FoundFile], states: Iterable[FileState]) -> tuple[Start, ...]:
    """Where to read each file from, in order.

    A file that was renamed is known by its inode, one that was restored by its name, one that was copied before its
    name was used again by a long head; each must begin as it did. Anything else is read from its start.
    """
    free = {state.path: state for state in states}
    known: dict[str, FileState] = {}

    def match(choose: Callable[[FoundFile], FileState | None]) -> None:
        for file in found:
            if file.path in known:
                continue
            state = choose(file)
            if state and state.path in free and (file.same(state) or file.continues(state)):
                known[file.path] = free.pop(state.path)

    names = set(free)
    inodes = {state.inode: state for state in free.values()}
    match(lambda file: inodes.get(file.inode))
    match(lambda file: free.get(file.path))
    match(lambda file: free.get(file.path.rpartition(".")[0]) if file.packed else None)
    match(lambda file: next((s for s in free.values() if s.head_size == HEAD and file.continues(s)), None))
    begun = {file.path for file in found if file.size}

    def start(file: FoundFile) -> Start:
        if (state := known.get(file.path)) is None:
            return Start(file.path, replaced=file.path in names)
        ended = state.path != file.path and state.path in begun
        return Start(file.path, state.offset, state.number, state=state, ended=ended)

    return tuple(map(start, found))


def unread(file: FoundFile, state: FileState | None) -> int | None:
    """Bytes of a file that were not read, as it lies there; None where there is nothing to read."""
    if state is None:
        return file.size or None
    if file.same(state) or (not state.stamp and not file.packed and file.size <= state.offset):
        return None
    # How far a compressed one was read says how much of its content was: its former size tells what was added.
    size = state.stamp.partition(":")[0]
    before = (int(size) if size.isdigit() else 0) if file.packed else state.offset
    return max(file.size - before, 0)


def remembered(read: Sequence[FileState], before: Iterable[FileState]) -> tuple[FileState, ...]:
    """The states to keep: of the files that are there, and of some that are not, which may come back renamed."""
    paths, inodes = {state.path for state in read}, {state.inode for state in read}
    gone = [state for state in before if state.path not in paths and state.inode not in inodes]
    return (*read, *gone)[:_REMEMBERED]
