"""What the trainer service can be told: AIMASS_TRAINER_<FIELD>."""

from typing import Literal

from pydantic import Field, SecretStr

from services.kit.config import Address, DatabaseUrl, Settings


class Config(Settings):
    """Defaults are the laptop's."""

    prefix = "AIMASS_TRAINER_"

    # host:port where other processes reach it; empty: nowhere.
    listen: Address = ""
    # Empty: SQLite in the home folder; postgresql+psycopg://user:password@host/database.
    database_url: DatabaseUrl = SecretStr("")
    # Jobs that run at the same time in this process; 0: it only keeps the queue.
    workers: int = Field(1, ge=0, le=64)
    # Threads that one job may use.
    threads: int = Field(2, ge=1, le=256)
    # Seconds without a sign of life after which a job is taken from its worker.
    lease_seconds: float = Field(10.0, ge=1.0, le=3600.0)
    # Where jobs run: `process`, a child of this process; `docker`, a container of its own on the engine that
    # DOCKER_HOST names (this machine's, if it is not set).
    runner: Literal["process", "docker"] = "process"
    # The image of such a container: name@sha256:<digest>, or the sha256:<id> of an image that was built there.
    image: str = ""
