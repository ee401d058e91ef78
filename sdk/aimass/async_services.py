"""The services of the contract as attributes of a client that is awaited; `async_services.pyi` has their types."""

from aimass.services import Services as AsyncServices

__all__ = ["AsyncServices"]
