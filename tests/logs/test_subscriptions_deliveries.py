import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from aimass.v1.subscriptions_pb2 import DELIVERY_STATE_DELIVERED
from services.kit.auth import Scope
from services.kit.egress import Egress
from services.kit.errors import Unavailable
from services.kit.secrets import Vault
from services.logs.database import open_database
from services.logs.subscriptions.channel import Channels
from services.logs.subscriptions.channel_webhook import Webhooks
from services.logs.subscriptions.deliveries import Deliveries
from services.logs.subscriptions.domain import BLOCKED, DELIVERED, PENDING, Created
from services.logs.subscriptions.service import context_of
from services.logs.subscriptions.store import Due, Store
from tests.logs.conftest import Sink, logs
from tests.logs.test_subscriptions import settled
from tests.logs.test_subscriptions_store import ACME, delivery, note, subscription
from tests.support.house import until


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    db = open_database("", tmp_path)
    await db.start()
    yield Store(db)
    db.close()


_open: list[Egress] = []


@pytest.fixture(autouse=True)
async def closing() -> AsyncIterator[None]:
    yield
    while _open:
        await _open.pop().close()


def sending(store: Store, vault: Vault, schedule: tuple[float, ...] = (0.1,), seconds: float = 5) -> Deliveries:
    _open.append(Egress("127.0.0.1"))
    channels = Channels(Webhooks(_open[-1], vault, now, seconds))
    return Deliveries(store, channels, now, schedule)


def now() -> datetime:
    return datetime.now(UTC)


async def made(store: Store, sink: Sink, vault: Vault, secret: bytes = bytes(24), sealed_for: Scope = ACME) -> None:
    one = subscription()
    sealed = vault.seal(secret, context_of(sealed_for, "hooks"))
    await store.create(ACME, Created(replace(one, url=sink.url), "whsec_"), sealed, None)
    await note(store, delivery(1))


async def state(store: Store) -> str:
    return (await store.deliveries(ACME, "hooks", 1, "")).items[0].state


async def ends(store: Store, worker: Deliveries, wanted: str) -> None:
    task = asyncio.create_task(worker.run())

    async def reached() -> bool:
        return await state(store) == wanted

    await until(reached)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_signature_is_what_the_standard_says(store: Store, sink: Sink, tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    await made(store, sink, vault, bytes(range(24)))
    await ends(store, sending(store, vault), DELIVERED)

    (arrival,) = sink.arrivals
    Webhook("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX").verify(arrival.body, arrival.headers)


async def test_a_secret_that_does_not_open_blocks(store: Store, sink: Sink, tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    await made(store, sink, vault, sealed_for=Scope("rival"))
    await ends(store, sending(store, vault), BLOCKED)

    assert sink.arrivals == []


async def test_a_receiver_that_takes_too_long_is_tried_again(store: Store, sink: Sink, tmp_path: Path) -> None:
    sink.holds = asyncio.Event()
    vault = Vault(tmp_path)
    await made(store, sink, vault)
    worker = asyncio.create_task(sending(store, vault, (0.1,) * 50, seconds=0.1).run())
    await until(lambda: len(sink.arrivals) >= 2)
    sink.holds.set()

    async def delivered() -> bool:
        return await state(store) == DELIVERED

    await until(delivered)
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)


async def test_a_receiver_that_is_down_leaves_the_delivery_waiting(
    store: Store, tmp_path: Path, free_port: int
) -> None:
    vault = Vault(tmp_path)
    await made(store, Sink(port=free_port), vault)
    worker = asyncio.create_task(sending(store, vault, (60.0,)).run())

    async def tried() -> bool:
        return (await store.deliveries(ACME, "hooks", 1, "")).items[0].attempts == 1

    await until(tried)
    page = await store.deliveries(ACME, "hooks", 1, "")
    assert (page.items[0].state, page.items[0].error) == (PENDING, "127.0.0.1 cannot be reached")
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)


class Away(Store):
    """A store whose database is away the first times."""

    away = 2

    async def due(self, now: datetime, each: int) -> list[Due]:
        if self.away:
            self.away -= 1
            raise Unavailable("the database cannot be reached")
        return list(await super().due(now, each))


async def test_a_database_that_is_away_is_waited_for(store: Store, sink: Sink, tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    await made(store, sink, vault)
    away = Away(store._db)
    await ends(away, sending(away, vault), DELIVERED)


_KILLED = """
import asyncio, sys
from pathlib import Path
from aimass.v1 import subscriptions_pb2 as pb
from aimass.v1.subscriptions_pb2_grpc import SubscriptionsStub
from tests.logs.conftest import logs, line, tell
async def main():
    async with logs(Path(sys.argv[1])) as running:
        stub = running.stub(SubscriptionsStub, "logs")
        hook = pb.Webhook(url=sys.argv[2])
        await stub.CreateSubscription(pb.CreateSubscriptionRequest(subscription="hooks", filter="alarm", webhook=hook))
        await tell(running, *(line(f"alarm {number}") for number in range(6)))
        await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_a_kill_while_sending_loses_no_message_and_makes_no_second(tmp_path: Path, sink: Sink) -> None:
    sink.holds = asyncio.Event()
    environment = {**os.environ, "PYTHONPATH": f"{os.getcwd()}:{os.getcwd()}/sdk"}
    command = [sys.executable, "-c", _KILLED, str(tmp_path), sink.url]
    teller = await asyncio.create_subprocess_exec(*command, env=environment, stdout=subprocess.PIPE)
    await until(lambda: len(sink.arrivals) == 4, 20)
    teller.send_signal(signal.SIGKILL)
    await teller.communicate()
    sink.holds.set()

    async with logs(tmp_path) as again:
        await settled(again, *[DELIVERY_STATE_DELIVERED] * 6)
    assert len({arrival.headers["webhook-id"] for arrival in sink.arrivals}) == 6
