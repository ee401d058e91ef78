"""What a connection to PostgreSQL shows, and whom it believes: the certificate of this process, as it is just then."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from services.kit.tls import Credentials, Material

_TLS = ("require", "verify-ca", "verify-full")
_CHECKS = ("verify-ca", "verify-full")
_OWN = ("sslcert", "sslkey")


def show(engine: Engine, credentials: Credentials) -> None:
    """Has new connections show a certificate, where the URL says TLS and names no certificate itself."""

    def connect(dialect: Any, _: Any, arguments: list[Any], options: dict[str, Any]) -> Any:
        if options.get("sslmode") not in _TLS or any(option in options for option in _OWN):
            return None  # as it would be without us
        with _files(credentials.material()) as files:
            if options["sslmode"] not in _CHECKS:
                del files["sslrootcert"]  # with it, libpq would check what it was not asked to
            return dialect.connect(*arguments, **(files | options))

    event.listen(engine, "do_connect", connect)


@contextmanager
def _files(material: Material) -> Iterator[dict[str, str]]:
    """libpq reads files, and no key that a group may read: what fits together, for the owner alone, for a moment."""
    content = {"sslrootcert": material.authority, "sslcert": material.certificate, "sslkey": material.key}
    with tempfile.TemporaryDirectory(prefix="aimass-") as folder:  # 0700
        paths = {option: Path(folder, option) for option in content}
        for option, path in paths.items():
            path.touch(0o600)
            path.write_bytes(content[option])
        yield {option: str(path) for option, path in paths.items()}
