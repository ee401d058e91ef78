"""Backup of an installation into one file, and restore: consistent while services run, checked by digest."""

from aimass.backup.reading import Held, held, read
from aimass.backup.writing import Archive, Made, broken, new, write

__all__ = ["Archive", "Held", "Made", "broken", "held", "new", "read", "write"]
