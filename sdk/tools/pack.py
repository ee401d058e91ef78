"""Packs the descriptors that protoc wrote: `pack.py DESCRIPTORS PACKED`. What is packed already stays as it is."""

import lzma
import sys
from pathlib import Path


def main(descriptors: Path, packed: Path) -> None:
    """Other versions of the library pack the same bytes differently, so contents are compared."""
    content = descriptors.read_bytes()
    if not packed.exists() or lzma.decompress(packed.read_bytes()) != content:
        packed.write_bytes(lzma.compress(content, preset=9 | lzma.PRESET_EXTREME))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
