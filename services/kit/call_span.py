"""The span around a call, and what its caller learns of an error: a failure, or `internal`."""

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Mapping

from services.kit import telemetry
from services.kit.errors import DeadlineExceeded, Failure, Internal
from services.kit.status import fit

log = logging.getLogger(__name__)


@contextlib.contextmanager
def call_span(name: str, service: str, metadata: Mapping[str, str]) -> Iterator[None]:
    """Raises failures as they are, deadline_exceeded for a timeout, and internal for all else, which it logs."""
    with telemetry.span(name, metadata, telemetry.Kind.SERVER) as span:
        try:
            yield
        except Failure as failure:
            telemetry.failed(span, failure.code.text)
            fit(failure)
            raise
        except TimeoutError:
            telemetry.failed(span, "deadline_exceeded")
            raise DeadlineExceeded(f"{service} took too long") from None
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except Exception:
            telemetry.failed(span, "internal")
            log.exception("unhandled error in %s", name, extra={"request_id": metadata.get("x-request-id", "")})
            raise Internal("internal error") from None
