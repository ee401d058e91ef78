"""What was found: the bytes that made it, kept so that they can be sent again."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Finding:
    """One thing that must not be. `kind`, `seed` and `number` make the same bytes again."""

    kind: str
    seed: int
    number: int
    what: str
    data: bytes

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.seed}-{self.number}"


class Secrets:
    """Stands for secrets in what is kept: those of the next installation are others, of the same length."""

    def __init__(self, *secrets: str) -> None:
        self._pairs = [(secret.encode(), _stand_in(secret, index)) for index, secret in enumerate(secrets)]

    def hide(self, data: bytes) -> bytes:
        for secret, instead in self._pairs:
            data = data.replace(secret, instead)
        return data

    def show(self, data: bytes) -> bytes:
        for secret, instead in self._pairs:
            data = data.replace(instead, secret)
        return data


def _stand_in(secret: str, index: int) -> bytes:
    mark = f"secret{index}."
    return (mark * len(secret))[: len(secret)].encode()


class Kept:
    """The folder of findings, and how many there are of each sort."""

    def __init__(self, folder: Path, secrets: Callable[[], Secrets]) -> None:
        self._folder, self._secrets = folder, secrets
        self.found: list[Finding] = []

    def add(self, finding: Finding) -> None:
        """Writes the first fifty down; counts all."""
        self.found.append(finding)
        if len(self.found) <= 50:
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / f"{finding.name}.bin").write_bytes(self._secrets().hide(finding.data))
            about = f"{self._secrets().hide(finding.what.encode(errors='replace')).decode()}\n"
            (self._folder / f"{finding.name}.txt").write_text(about)

    def where(self, finding: Finding) -> Path:
        """The file of the bytes."""
        return self._folder / f"{finding.name}.bin"
