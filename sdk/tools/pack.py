"""Packs the comments of the contract: `pack.py DESCRIPTORS PACKED`, where protoc wrote the descriptors.

They are JSON: the comment by the full name of a service, method, message or field.
"""

import gzip
import json
import sys
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet


def comments(descriptors: FileDescriptorSet) -> dict[str, str]:
    """The leading comments, each as one line."""
    found = {}
    for file in descriptors.file:
        for place in file.source_code_info.location:
            if (name := _name(file, tuple(place.path))) and place.leading_comments.strip():
                found[name] = " ".join(place.leading_comments.split())
    return dict(sorted(found.items()))


def _name(file: FileDescriptorProto, path: tuple[int, ...]) -> str:
    match path:
        case (6, service):
            return f"{file.package}.{file.service[service].name}"
        case (6, service, 2, method):
            return f"{file.package}.{file.service[service].name}.{file.service[service].method[method].name}"
        case (4, message):
            return f"{file.package}.{file.message_type[message].name}"
        case (4, message, 2, field):
            return f"{file.package}.{file.message_type[message].name}.{file.message_type[message].field[field].name}"
    return ""


def main(descriptors: Path, packed: Path) -> None:
    """Other versions of the library pack the same bytes differently, so contents are compared."""
    found = comments(FileDescriptorSet.FromString(descriptors.read_bytes()))
    content = json.dumps(found, ensure_ascii=False, indent=0).encode()
    if not packed.exists() or gzip.decompress(packed.read_bytes()) != content:
        packed.write_bytes(gzip.compress(content, mtime=0))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
