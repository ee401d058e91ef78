"""How the trainer service is put together."""

from functools import partial
from typing import Any

from services.kit.app import App, Runtime
from services.kit.auth import Scope
from services.kit.forgetting import dropping
from services.trainer.config import Config
from services.trainer.database import open_database, schema
from services.trainer.jobs.api import JobsApi
from services.trainer.jobs.catalog import DataService
from services.trainer.jobs.following import follow
from services.trainer.jobs.queue import Queue
from services.trainer.jobs.service import Jobs
from services.trainer.jobs.store import Store as JobStore
from services.trainer.runner import owner_of, runner
from services.trainer.runs.api import RunsApi
from services.trainer.runs.service import Runs
from services.trainer.runs.store import Store as RunStore
from services.trainer.workers.api import WorkersApi
from services.trainer.workers.worker import Worker

NEAR = "near/"  # prefix of the names of workers beside the database file


def build(config: Config, runtime: Runtime) -> App:
    """Composes the slices and the workers of this process."""
    database = open_database(config.database_url.get_secret_value(), runtime.home, runtime.credentials)
    runs = Runs(RunStore(database), runtime.blobs)

    def signed(service: str, scope: Scope, *permissions: str) -> Any:
        return runtime.as_service("trainer", service, scope, *permissions)

    catalog = DataService(lambda: runtime.channel("data"), partial(signed, "data"))
    store = JobStore(database, partial(follow, runs, runtime.now))
    queue = Queue(store, runs, runtime.blobs, config.lease_seconds, runtime.now)
    jobs = Jobs(store, queue, catalog, runtime.now)
    schema.operations.on_cancel.append(jobs.cancel_operation)
    prefix = NEAR if database.near else f"{runtime.instance}/"
    # At least three heartbeats in a lease; a cancellation is known within a second.
    heartbeat = min(config.lease_seconds / 4, 0.5)
    where = runner(config, partial(owner_of, runtime.home, database.near, runtime.instance))
    workers = [
        Worker(
            f"{prefix}{number}",
            runtime.channel,
            signed,
            runtime.blobs,
            runtime.mirrors,
            seconds=heartbeat,
            threads=config.threads,
            runner=where,
        )
        for number in range(config.workers)
    ]

    async def recover() -> None:
        # One process has the file, so near workers in the table are those of a process that ended.
        await queue.release(prefix)

    return App(
        rpc={
            "aimass.v1.Jobs": JobsApi(jobs),
            "aimass.v1.Runs": RunsApi(runs),
            "aimass.v1.Workers": WorkersApi(queue),
        },
        database=database,
        schema=schema,
        start=[recover, *([where.start] if workers else [])],
        tasks=[queue.watch, *(worker.run for worker in workers)],
        close=[where.close],
        forget=[dropping(database, schema.metadata)],
    )
