"""A settings file in TOML that may change while processes run: a new version is checked, then used as a whole."""

import logging
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from services.kit.config import ConfigError

log = logging.getLogger(__name__)
Table = TypeVar("Table", bound=BaseModel)


class TomlTable(Generic[Table]):
    """The content of the file that a setting names."""

    def __init__(self, name: str, setting: str, file: Path, model: type[Table], wrong: Callable[[Table], str]) -> None:
        """`name` is for the log; `wrong` returns what is invalid in a table, empty if nothing is.

        Raises ConfigError for an invalid file.
        """
        self._name, self._setting, self._file = name, setting, file
        self._model, self._wrong, self._stamp = model, wrong, _stamp(file)
        self.content = self._read()

    def look(self) -> bool:
        """Reads a changed file again; True if it is used from now on. An invalid file is logged and changes nothing."""
        if (stamp := _stamp(self._file)) == self._stamp:
            return False
        self._stamp = stamp
        try:
            self.content = self._read()
        except ConfigError as error:
            log.error("%s stays as it was: %s", self._name, error)
            return False
        log.info("%s is loaded from %s", self._name, self._file)
        return True

    def _read(self) -> Table:
        try:
            found = self._model.model_validate(tomllib.loads(self._file.read_text()))
        except OSError as error:
            raise self._refused(f" cannot be read: {(error.strerror or '').lower()}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise self._refused(f" is no TOML: {str(error).lower()}") from None
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg'].lower()}" for e in error.errors())
            raise self._refused(f": {problems}") from None
        if wrong := self._wrong(found):
            raise self._refused(f": {wrong}")
        return found

    def _refused(self, why: str) -> ConfigError:
        return ConfigError(f"{self._setting}: {self._file}{why}")


def _stamp(file: Path) -> Any:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
