"""The rules of health checks, and the state that an instance has by them. Pure."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(gt=0, le=3600)]


class CheckRules(BaseModel):
    """How the instances of a service are checked; times in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    # What is asked over HTTP at a port of the instance's host; without a port grpc.health.v1 on its own connection.
    path: Annotated[str, Field(pattern=r"^/[!-~]*$")] = "/health/ready"
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    interval: Seconds = 2.0
    timeout: Seconds = 1.0
    # Checks in a row that have to pass until it is called again, and to fail until it is called no more.
    rise: Annotated[int, Field(ge=1, le=100)] = 2
    fall: Annotated[int, Field(ge=1, le=100)] = 3
    # Of the connected ones: where fewer pass, all are called. At 0 all have to fail.
    panic: Annotated[float, Field(ge=0, le=1)] = 0.0


class Tally:
    """Whether one instance is healthy, by its checks so far."""

    def __init__(self) -> None:
        self.well, self._row = True, 0

    def add(self, passed: bool, rise: int, fall: int) -> bool:
        """Takes in a check. Whether the instance is well now."""
        self._row = self._row + 1 if passed is not self.well else 0
        if self._row >= (rise if passed else fall):
            self.well, self._row = passed, 0
        return self.well
