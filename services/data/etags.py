"""The etag of a resource is its generation."""

from services.kit.errors import Code, Failure


def expect(etag: str, generation: int, name: str) -> None:
    """Raises etag_mismatch when a caller saw another generation; an empty etag or `*` matches all."""
    if etag not in ("", "*", str(generation)):
        raise Failure(Code.ETAG_MISMATCH, f"{name} has changed: its etag is {generation}")
