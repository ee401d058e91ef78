"""Folders of certificates as deploy/init makes them."""

from datetime import timedelta
from pathlib import Path

from deploy.authority import LIFETIME, Authority, write


def certify(
    folder: Path, authority: Authority, *names: str, lifetime: timedelta = LIFETIME, trust: bytes = b""
) -> Path:
    """Puts ca.pem, cert.pem and key.pem for services into a folder, one after the other; `trust` is added to ca.pem."""
    folder.mkdir(parents=True, exist_ok=True)
    issued = authority.issue(names, lifetime=lifetime)
    for name, content in (("ca.pem", authority.pem + trust), ("key.pem", issued.key), ("cert.pem", issued.cert)):
        write(folder / name, content)
    return folder
