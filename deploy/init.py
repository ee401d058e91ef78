"""Creates the secrets of a stack, once: `python -m deploy.init DIR`. deploy/README.md lists the files."""

import base64
import hashlib
import os
import secrets
import string
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from deploy.authority import Authority, Issued, write, written
from services import SERVICES
from services.data.feature_views.online import scripts
from services.kit.cache_scripts import permissions

SERVERS = ("kafka", "postgres", "redis", "s3", "triton")
HERE = ("localhost", "127.0.0.1")
_CHECKED = "sslmode=verify-full&sslrootcert=/run/aimass/tls/ca.pem"
# Names sort by their bytes, whatever the server's locale.
_TEXT = "TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8'"
_GROUP = 10001  # the group of the files if root creates them: that of the image's user
_FIXED = {
    "bus_url": "kafka+ssl://kafka:9092?partitions=12&replication=1",
    "blobs_url": "s3://aimass?endpoint=https://s3:7070&region=us-east-1",
}


class Secrets:
    """The folder of secrets. Existing files are kept."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def keep(self, name: str, make: Callable[[], bytes], mode: int = 0o640) -> bytes:
        """The content of a file; `make` creates a missing one."""
        path = self.root / name
        if not path.exists():
            self.write(name, make(), mode)
        return path.read_bytes()

    def write(self, name: str, content: bytes, mode: int = 0o640) -> None:
        """Writes a file, and creates its folders."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, content, mode)

    def word(self, name: str) -> str:
        """A password, stored in a file that is mounted nowhere."""
        return self.keep(f"words/{name}", lambda: secrets.token_urlsafe(32).encode(), 0o600).decode().strip()

    def share(self, group: int) -> None:
        """Lets a group read all files but those of mode 0600."""
        for path in [self.root, *self.root.rglob("*")]:
            os.chown(path, -1, group)


def authority(kept: Secrets) -> Authority:
    """The authority of the folder; created if there is none."""
    if not (kept.root / "authority/ca.key").exists():
        made = Authority.new()
        kept.write("authority/ca.pem", made.pem)
        kept.write("authority/ca.key", made.key, 0o600)
    return Authority.load(*((kept.root / "authority" / name).read_bytes() for name in ("ca.key", "ca.pem")))


def combined(words: str) -> str:
    """The folder of a process with several services, such as `logs+bus`. Raises ValueError."""
    names = sorted({*words.split(",")}, key=(*SERVICES, "bus", *words.split(",")).index)
    if unknown := [name for name in names if name not in (*SERVICES, "bus")]:
        raise ValueError(f"no such service: {', '.join(unknown)}; there are {', '.join(SERVICES)}, and bus")
    return "+".join(names)


def certificates(kept: Secrets, renew: bool, hosts: list[str], groups: list[str]) -> None:
    """A certificate for each process and server, and the public one of the gateway. Renews those that expire soon."""
    signer = authority(kept)

    def put(folder: str, make: Callable[[], Issued], lacking: bool = False) -> None:
        path = kept.root / folder / "cert.pem"
        if renew or lacking or not path.exists() or signer.must_renew(path.read_bytes()):
            issued = make()
            kept.write(f"{folder}/key.pem", issued.key)
            kept.write(f"{folder}/cert.pem", issued.cert)
            if folder == "kafka/tls":
                kept.write(f"{folder}/keystore.pem", issued.key + issued.cert)

    groups = sorted({*map(combined, groups), *(path.name for path in kept.root.glob("*+*"))})
    for name in (*SERVICES, *SERVERS, "probe", *groups):
        put(f"{name}/tls", partial(signer.issue, name.split("+"), HERE))
        kept.keep(f"{name}/tls/ca.pem", lambda: signer.pem)
    public = kept.root / "gateway/public/cert.pem"
    before = signer.hosts(public.read_bytes()) if public.exists() else []
    wanted = dict.fromkeys(["gateway", *HERE, *before, *map(written, hosts)])  # hosts of earlier runs stay
    put("gateway/public", lambda: signer.issue_public([*wanted]), lacking=bool(before) and len(wanted) > len(before))
    kept.keep("client/ca.pem", lambda: signer.pem)


def passwords(kept: Secrets) -> None:
    """Passwords and users: for the servers, and in the URLs of the services."""
    access, secret = kept.word("s3_access_key"), kept.word("s3_secret_key")
    kept.keep("postgres/password", kept.word("postgres").encode)
    kept.keep("postgres/env", lambda: f"POSTGRES_PASSWORD={kept.word('postgres')}\n".encode())
    kept.keep("s3/env", lambda: f"ROOT_ACCESS_KEY={access}\nROOT_SECRET_KEY={secret}\n".encode())
    operator = kept.word("redis_operator")
    kept.keep("redis/operator", operator.encode)
    roles, users = "", "user default on nopass resetchannels -@all +ping\n"
    users += f"user operator on #{_digest(operator)} resetchannels -@all +ping +config|set\n"
    for name in SERVICES:
        database, cache = kept.word(f"postgres_{name}"), kept.word(f"redis_{name}")
        roles += f"CREATE ROLE {name} LOGIN PASSWORD '{database}';\nCREATE DATABASE {name} OWNER {name} {_TEXT};\n"
        more = f" {scripts.permissions()}" if name == "data" else ""
        users += f"user {name} on #{_digest(cache)} {permissions()}{more}\n"
        texts = _FIXED | {
            "database_url": f"postgresql+psycopg://{name}:{database}@postgres:5432/{name}?{_CHECKED}",
            "cache_url": f"rediss://{name}:{cache}@redis:6379/0",
            "discovery_url": f"rediss://{name}:{cache}@redis:6379/0",
            "blobs_access_key": access,
            "blobs_secret_key": secret,
        }
        if name == "data":  # a database of its own, beside leases and counters
            texts["features_url"] = f"rediss://{name}:{cache}@redis:6379/1"
        for file, text in texts.items():
            kept.keep(f"{name}/{file}", text.encode)
    kept.keep("postgres/init.sql", roles.encode)
    # Made of the passwords alone, and with what this version asks of Redis: an older one is replaced.
    if kept.keep("redis/users.acl", users.encode) != users.encode():
        kept.write("redis/users.acl", users.encode())
    kept.keep("gateway/admin_key", lambda: f"aim_{_letters(8)}_{secrets.token_urlsafe(32)}".encode())
    kept.keep("gateway/pepper", lambda: base64.b64encode(secrets.token_bytes(32)))
    sealing = kept.keep("logs/secrets_key", lambda: base64.b64encode(secrets.token_bytes(32)))
    for name in SERVICES:
        kept.keep(f"{name}/secrets_key", lambda: sealing)
        kept.keep(f"{name}/secrets_old_keys", lambda: b"")


def _digest(word: str) -> str:
    return hashlib.sha256(word.encode()).hexdigest()


def _letters(count: int) -> str:
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(count))


def make(
    root: Path,
    renew: bool = False,
    group: int | None = None,
    hosts: list[str] | None = None,
    groups: list[str] | None = None,
) -> None:
    """Creates the files of deploy/README.md. Existing files are kept, certificates until 30 days before they expire.

    `groups` are comma-separated services of one process. Raises ValueError for an unknown one.
    """
    os.umask(0o027)
    gid = group if group is not None else _GROUP if os.getuid() == 0 else os.getgid()
    kept = Secrets(root)
    certificates(kept, renew, hosts or [], groups or [])
    passwords(kept)
    kept.write("compose.env", f"AIMASS_SECRETS_GID={gid}\n".encode())
    kept.share(gid)


def main(
    folder: Annotated[Path, typer.Argument(help="The folder of the secrets.")],
    renew: Annotated[bool, typer.Option(help="Renew all certificates, by the same authority.")] = False,
    group: Annotated[int | None, typer.Option(help="Number of the group that may read the files.")] = None,
    host: Annotated[list[str] | None, typer.Option(help="A name or address of the gateway for clients.")] = None,
    together: Annotated[
        list[str] | None,
        typer.Option(help="Services of one process, such as data,trainer; `bus` if it serves its bus."),
    ] = None,
) -> None:
    """Create the certificates, passwords and URLs of a stack. Prints none of them."""
    try:
        make(folder, renew, group, host, together)
    except ValueError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from None
    except OSError as error:
        print(f"{error.filename or folder}: {(error.strerror or str(error)).lower()}", file=sys.stderr)
        raise typer.Exit(1) from None
    print(f"the secrets are in {folder}")


if __name__ == "__main__":
    typer.run(main)
