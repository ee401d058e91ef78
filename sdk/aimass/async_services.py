"""`Services` of `AsyncClient`: the same code, with the types of `async_services.pyi`, which is generated."""

from aimass.services import Services as AsyncServices

__all__ = ["AsyncServices"]
