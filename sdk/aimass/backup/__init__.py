"""An installation in one file, and back: consistent while services run, every byte checked by digest."""

from aimass.backup.reading import read
from aimass.backup.writing import Made, write

__all__ = ["Made", "read", "write"]
