"""Content types: what a caller sends and what he takes."""

from collections.abc import Sequence

from services.kit.errors import Code, Failure


def chosen(accept: str, offers: Sequence[str]) -> str:
    """The first offer that an `Accept` header takes, in the caller's order of preference. Raises not_acceptable."""
    if not accept.strip():
        return offers[0]
    wanted = sorted((_range(part) for part in accept.split(",")[:50]), key=lambda pair: -pair[1])
    for kind, quality in wanted:
        for offer in offers:
            if quality > 0 and kind in (offer, "*/*", f"{offer.partition('/')[0]}/*"):
                return offer
    raise Failure(Code.NOT_ACCEPTABLE, f"there is {' or '.join(offers)} only")


def _range(part: str) -> tuple[str, float]:
    kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return kind, float(parameter[2:])
            except ValueError:
                return kind, 0.0
    return kind, 1.0


def require_json(content_type: str) -> None:
    """Raises unsupported_media_type for a body that says to be something else."""
    kind, _, rest = content_type.partition(";")
    charset = rest.strip().lower().removeprefix("charset=").strip('"')
    if kind.strip().lower() != "application/json" or charset not in ("", "utf-8"):
        raise Failure(Code.UNSUPPORTED_MEDIA_TYPE, "the body must be application/json in UTF-8")
