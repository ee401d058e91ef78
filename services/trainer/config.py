"""Settings of the trainer service: AIMASS_TRAINER_<FIELD>."""

from typing import Literal

from pydantic import Field, SecretStr

from services.kit.config import Address, DatabaseUrl, Settings


class Config(Settings):
    """Defaults are the laptop's."""

    prefix = "AIMASS_TRAINER_"

    # host:port where other processes reach this service. Empty: nowhere.
    listen: Address = ""
    # The database. Empty: SQLite in the home folder; postgresql+psycopg://user:password@host/database.
    database_url: DatabaseUrl = SecretStr("")
    # Workers in this process: jobs that run at the same time. 0: it only keeps the queue.
    workers: int = Field(1, ge=0, le=64)
    # Threads that one job may use.
    threads: int = Field(2, ge=1, le=256)
    # Seconds without a heartbeat after which a job is taken from its worker.
    lease_seconds: float = Field(10.0, ge=1.0, le=3600.0)
    # Where jobs run: `process`: in a child of this process; `docker`: each in a container, on the engine in DOCKER_HOST
    # (this machine's if unset).
    runner: Literal["process", "docker"] = "process"
    # The image of these containers: name@sha256:<digest>, or sha256:<id> for an image that was built there.
    image: str = ""
