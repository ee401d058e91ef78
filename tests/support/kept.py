"""What the files of a log centre say, opened with the keys of its home folder."""

from pathlib import Path

from services.kit.key_store import FolderKeys
from services.kit.secrets import Vault
from services.kit.tenant_keys import TenantKeys
from services.logs.domain import Record
from services.logs.ingest.sealing import Sealing, runs
from services.logs.ingest.segments import Frame, Position, Segments
from services.logs.tables import Kept, records_of


def keys_of(home: Path) -> TenantKeys:
    """As another process would have them."""
    return TenantKeys(FolderKeys(home / "keys" / "tenants"), Vault(home / "keys"))


async def frames(home: Path, folder: Path | None = None) -> list[tuple[Frame, list[Kept]]]:
    """Each frame with its records. Who opens files cuts off what is being written to them: a copy is another folder."""
    segments, sealing = Segments(folder or home / "logs-store" / "records"), Sealing(keys_of(home))
    segments.open()
    found, position, last = list[Frame](), Position(), None
    while position != last:
        last = position
        more, position = segments.read(last)
        found += more
    segments.close()
    keys = await sealing.opening({run.key for frame in found for run in runs(frame.block) if run.is_there})
    return [(frame, [one for _, one in sealing.records(frame, keys, {})]) for frame in found]


async def kept(home: Path, folder: Path | None = None) -> list[Record]:
    """All records, in the order in which they came."""
    return [one for _, records in await frames(home, folder) for one in records_of(records)]
