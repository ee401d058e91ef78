"""What was used, through kill -9 of all processes: nothing is lost, and the events say the same as the ledger."""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from aimass import Client, Failure, invoice
from tests.journeys.test_crash import until
from tests.support.estate import MARK, Estate, spec
from tests.support.server import Server, serving

MONTH = f"{datetime.now(UTC):%Y-%m}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("ledger") / "home", AIMASS_EGRESS_ALLOW="127.0.0.1:9") as found:
        Estate(found, found.key, "default").make()
        yield found


def key_of(client: Client) -> tuple[str, str]:
    """A key that may predict, and who that is."""
    made = client.access.create_api_key(permissions=["models.infer"])
    return made.secret, f"key:{made.api_key.api_key}"


def predict(server: Server, secret: str, times: int, rows: int = 2) -> int:
    """Asks so often; returns how often it was answered."""
    done = 0
    with server.client(secret) as caller:
        for _ in range(times):
            try:
                caller.predict(MARK, columns={"hour": [7.0] * rows})
                done += 1
            except Failure as failure:
                assert failure.code == "quota_exceeded"
    return done


def usage(client: Client, who: str) -> Any:
    """What the ledger says; None while it says nothing."""
    rows = client.usage.list_usage(principal=who).rows
    return rows[0] if rows else None


def invoiced(client: Client, who: str) -> tuple[int, int, int]:
    """Requests, rows and lines that the events say."""
    found = [item for item in invoice.rebuild(invoice.events(client, MONTH), MONTH) if item.principal == who]
    return sum(item.requests for item in found), sum(item.rows for item in found), sum(item.entries for item in found)


def agreed(client: Client, who: str) -> bool:
    ledger = usage(client, who)
    return bool(invoiced(client, who) == (ledger.used.requests, ledger.used.rows, ledger.entries))


def test_what_was_used_is_settled_and_said(server: Server) -> None:
    with server.client() as client:
        secret, who = key_of(client)
        assert predict(server, secret, 20) == 20
        until(lambda: (found := usage(client, who)) and found.used.requests >= 20)
        found = usage(client, who)
        until(lambda: agreed(client, who))

    assert (found.used.requests, found.used.rows, found.estimated.requests) == (20, 40, 0)


def test_a_training_is_in_the_same_ledger(server: Server) -> None:
    with server.client() as client:
        who = f"key:{server.key[4:12]}"
        until(lambda: client.usage.list_usage(kind="training").rows)
        (row,) = client.usage.list_usage(kind="training", group_by=["principal", "model"]).rows
        job = client.jobs.list_jobs(model=MARK).jobs[0]

    assert (row.principal, row.model, row.entries) == (who, MARK, 1)
    assert row.used.cpu_milliseconds == job.cpu_milliseconds > 0


def test_a_training_that_may_use_more_than_is_left_is_not_begun(server: Server) -> None:
    with server.client() as client:
        made = client.quotas.create_quota(
            quota="cpu", subject="project:default", meter="METER_CPU_MILLISECONDS", period="PERIOD_TOTAL", amount=60_000
        )
        with pytest.raises(Failure) as refused:
            client.jobs.submit_job(spec=spec())
        small = spec() | {"timeout_seconds": 10, "max_attempts": 1}
        client.jobs.submit_job(spec=small).result(timeout=90)
        until(lambda: not client.quotas.get_quota(quota="cpu").reserved)
        left = client.quotas.get_quota(quota="cpu")
        client.quotas.delete_quota(quota="cpu", etag=made.etag)

    assert refused.value.code == "quota_exceeded"
    assert "quota cpu of project default" in refused.value.detail
    assert 0 < left.spent < 60_000


def test_work_on_data_is_in_the_same_ledger(server: Server) -> None:
    with server.client() as client:
        who = f"key:{server.key[4:12]}"
        until(lambda: {row.kind for row in kinds(client)} >= {"extraction", "fitting"})
        rows = {row.kind: row for row in kinds(client)}
        until(lambda: {kind: cpu_of(client, kind) for kind in ("extraction", "fitting")} == used(rows))

    assert {rows[kind].principal for kind in ("extraction", "fitting")} == {who}
    assert all(row.used.cpu_milliseconds > 0 for row in rows.values() if row.kind in ("extraction", "fitting"))


def kinds(client: Client) -> Any:
    return client.usage.list_usage(group_by=["kind", "principal"]).rows


def used(rows: dict[str, Any]) -> dict[str, int]:
    return {kind: rows[kind].used.cpu_milliseconds for kind in ("extraction", "fitting")}


def cpu_of(client: Client, kind: str) -> int:
    """What the events say of a kind of work."""
    items = invoice.rebuild(invoice.events(client, MONTH), MONTH)
    return sum(item.cpu_milliseconds for item in items if item.kind == kind)


def test_an_extraction_that_may_use_more_than_is_left_is_not_begun(server: Server) -> None:
    with server.client() as client:
        what: dict[str, Any] = {
            "subject": "project:default",
            "meter": "METER_CPU_MILLISECONDS",
            "period": "PERIOD_TOTAL",
        }
        before = client.quotas.create_quota(quota="reading", amount=10**9, **what)
        made = client.quotas.update_quota(quota="reading", amount=before.spent + 60_000, etag=before.etag)
        for seconds in (0, 61):
            with pytest.raises(Failure, match="quota reading of project default") as refused:
                client.extractions.run_extraction(rule=MARK, cpu_seconds=seconds)
            assert refused.value.code == "quota_exceeded"
        client.extractions.run_extraction(rule=MARK, cpu_seconds=60).result(timeout=60)
        until(lambda: not client.quotas.get_quota(quota="reading").reserved)
        left = client.quotas.get_quota(quota="reading")
        client.quotas.delete_quota(quota="reading", etag=made.etag)

    assert 0 < left.spent - before.spent < 60_000


def test_a_query_is_in_the_ledger_and_refused_when_it_may_use_more_than_is_left(server: Server) -> None:
    sql, tables = f'SELECT count(*) AS n FROM "{MARK}"', [{"data_set": MARK}]
    with server.client() as client:
        what: dict[str, Any] = {"subject": "project:default", "meter": "METER_CPU_MILLISECONDS"}
        before = client.quotas.create_quota(quota="asking", period="PERIOD_TOTAL", amount=10**9, **what)
        made = client.quotas.update_quota(quota="asking", amount=before.spent + 60_000, etag=before.etag)
        with pytest.raises(Failure, match="quota asking of project default") as refused:
            client.data_sets.query_data_sets(sql=sql, tables=tables)
        client.data_sets.query_data_sets(sql=sql, tables=tables, cpu_seconds=60)
        until(lambda: not client.quotas.get_quota(quota="asking").reserved)
        left = client.quotas.get_quota(quota="asking")
        client.quotas.delete_quota(quota="asking", etag=made.etag)
        until(lambda: cpu_of(client, "query") == left.spent - before.spent)
        (row,) = [row for row in kinds(client) if row.kind == "query"]

    assert refused.value.code == "quota_exceeded"
    assert row.principal == f"key:{server.key[4:12]}"
    assert row.used.cpu_milliseconds == left.spent - before.spent > 0


def test_an_extraction_that_a_kill_interrupts_is_settled_once_when_it_has_gone_on(server: Server) -> None:
    with server.client() as client:
        what: dict[str, Any] = {
            "subject": "project:default",
            "meter": "METER_CPU_MILLISECONDS",
            "period": "PERIOD_TOTAL",
        }
        before = client.quotas.create_quota(quota="interrupted", amount=10**9, **what)
        entries = next(row.entries for row in kinds(client) if row.kind == "extraction")
        begun = client.extractions.run_extraction(rule=MARK, cpu_seconds=60)
        server.kill()
    server.start()
    with server.client() as client:
        until(lambda: client.operations.get_operation(operation=begun.operation.operation).end_time.seconds)
        until(lambda: not client.quotas.get_quota(quota="interrupted").reserved)
        after = client.quotas.get_quota(quota="interrupted")
        rows = {row.kind: row for row in kinds(client)}
        until(lambda: cpu_of(client, "extraction") == rows["extraction"].used.cpu_milliseconds)
        client.quotas.delete_quota(quota="interrupted", etag=after.etag)

    assert rows["extraction"].entries == entries + 1
    assert 0 < after.spent - before.spent <= 60_000


def test_what_a_query_reserved_that_a_kill_ended_is_given_back_when_its_time_is_over(server: Server) -> None:
    wanted = {"sql": f'SELECT count(*) AS n FROM "{MARK}"', "tables": [{"data_set": MARK}], "cpu_seconds": 60}
    what: dict[str, Any] = {"subject": "project:default", "meter": "METER_CPU_MILLISECONDS", "period": "PERIOD_TOTAL"}

    def ask() -> None:
        headers = {"authorization": f"Bearer {server.key}"}
        with contextlib.suppress(httpx2.HTTPError):
            httpx2.post(f"{server.url}/v1/data-sets:query", json=wanted, headers=headers, timeout=60)

    def standing() -> Any:
        with server.client() as client:
            return client.quotas.get_quota(quota="lost")

    with server.client() as client:
        made = client.quotas.create_quota(quota="lost", amount=10**9, **what)
        asking = threading.Thread(target=ask)
        asking.start()
        until(lambda: client.quotas.get_quota(quota="lost").reserved)
        server.kill()
        asking.join()
    server.start()
    assert standing().reserved == 60_000, "whoever works for it may say what it used"
    server.kill()
    with contextlib.closing(sqlite3.connect(server.home / "gateway.db")) as ledger, ledger:
        past = "UPDATE ledger SET expire_time = create_time WHERE kind = 'query' AND state = 'reserved'"
        assert ledger.execute(past).rowcount == 1
    server.start()
    after = standing()
    with server.client() as client:
        client.quotas.delete_quota(quota="lost", etag=after.etag)

    assert (after.reserved, after.spent) == (0, made.spent)


def test_what_lay_in_slices_at_a_kill_is_charged_in_full_and_never_beyond_the_budget(server: Server) -> None:
    with server.client() as client:
        secret, who = key_of(client)
        client.quotas.create_quota(
            quota="through-a-kill", subject=who, meter="METER_REQUESTS", period="PERIOD_MONTH", amount=100
        )
        before = predict(server, secret, 30)
    server.kill()
    server.start()
    with server.client() as client:
        until(lambda: usage(client, who))
        after_kill, standing = usage(client, who), client.quotas.get_quota(quota="through-a-kill")
        rest = predict(server, secret, 120)
        until(lambda: usage(client, who).used.requests == after_kill.used.requests + rest)
        until(lambda: agreed(client, who))
        end = client.quotas.get_quota(quota="through-a-kill")

    assert before == 30
    assert after_kill.used.requests >= 30, "nothing that was answered is lost"
    assert after_kill.estimated.requests > 0, "nobody said how much of the slice was used"
    assert (standing.spent, standing.reserved) == (after_kill.used.requests, 0)
    assert after_kill.used.requests + rest == end.spent == 100


def test_a_stop_settles_what_was_used(server: Server) -> None:
    with server.client() as client:
        secret, who = key_of(client)
        assert predict(server, secret, 7) == 7
    server.stop()
    server.start()
    with server.client() as client:
        found = usage(client, who)
        until(lambda: agreed(client, who))

    assert (found.used.requests, found.estimated.requests) == (7, 0)


def test_an_hour_of_what_is_kept_is_charged_once_however_often_all_are_killed_in_it(tmp_path: Path) -> None:
    server, data = Server(tmp_path / "home", module="tests.support.hasty"), b"x" * (2 * 2**20 + 1)
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    try:
        with server.start().client() as client:
            client.upload(path, to="artifacts")
        for delay in (0.0, 0.05, 0.1, 0.2, 0.4):
            server.kill()
            server.start()
            time.sleep(delay)
        with server.client() as client:
            until(lambda: client.usage.list_usage(kind="storage").rows)
            until(lambda: kept(client) == stored(client))
            hours, lines = stored(client)
    finally:
        server.kill()

    assert hours == 3 * lines
    assert 1 <= lines <= 2, "the test took less than an hour"


def stored(client: Client) -> tuple[int, int]:
    """Mebibyte hours that the ledger says, and its lines."""
    (row,) = client.usage.list_usage(kind="storage").rows
    return row.used.storage_mib_hours, row.entries


def kept(client: Client) -> tuple[int, int]:
    """The same, as the events say it."""
    found = [item for item in invoice.rebuild(invoice.events(client, MONTH), MONTH) if item.kind == "storage"]
    return sum(item.storage_mib_hours for item in found), sum(item.entries for item in found)
