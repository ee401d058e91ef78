"""An installation in one file, and back: consistent while services run, every byte checked by digest."""

from aimass.backup.reading import Held, held, read
from aimass.backup.writing import Archive, Made, broken, new, write

__all__ = ["Archive", "Held", "Made", "broken", "held", "new", "read", "write"]
