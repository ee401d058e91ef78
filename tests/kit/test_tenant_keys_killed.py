"""Wrapping keys anew in a process that is killed at any moment: no key is lost, and the next one ends it."""

import base64
import random
import signal
import subprocess
import sys
from pathlib import Path

from services.kit.key_store import FolderKeys
from services.kit.secrets import Vault
from services.kit.tenant_keys import TenantKeys
from tests.support.server import ROOT

TENANTS = [f"tenant-{number}" for number in range(40)]
OLD, NEW = (base64.b64encode(letter * 32).decode() for letter in (b"a", b"b"))
PROGRAM = f"""
import asyncio, sys
from pathlib import Path
from services.kit.key_store import FolderKeys
from services.kit.secrets import Vault
from services.kit.tenant_keys import TenantKeys

async def main():
    keys = TenantKeys(FolderKeys(Path(sys.argv[1])), Vault(Path("none"), "{NEW}", "{OLD}"))
    async for done, *_ in keys.rewrap():
        print(done, flush=True)

asyncio.run(main())
"""


def killed_after(folder: Path, tenants: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    with process.stdout as output:
        for _ in range(tenants):
            output.readline()
        process.send_signal(signal.SIGKILL)
    process.wait()


async def test_no_key_is_lost_wherever_the_process_is_killed(tmp_path: Path) -> None:
    store, none = FolderKeys(tmp_path / "keys"), tmp_path / "none"
    first = TenantKeys(store, Vault(none, OLD))
    known = {tenant: await first.current(tenant) for tenant in TENANTS}
    seeded = random.Random(11)
    for _ in range(3):
        killed_after(tmp_path / "keys", seeded.randrange(1, 20))
        both = TenantKeys(store, Vault(none, NEW, OLD))
        assert {tenant: await both.current(tenant) for tenant in TENANTS} == known
    assert len([done async for done in TenantKeys(store, Vault(none, NEW, OLD)).rewrap()]) == len(TENANTS)

    alone = TenantKeys(store, Vault(none, NEW))
    assert {tenant: await alone.current(tenant) for tenant in TENANTS} == known
