"""A table in a TOML file that may change while processes run: checked, then taken over whole or not at all."""

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
    """What the file of a setting says."""

    def __init__(self, name: str, setting: str, file: Path, model: type[Table], wrong: Callable[[Table], str]) -> None:
        """`name` is what the log calls it, `wrong` says what in a table cannot be, empty if all can.

        Raises ConfigError for a file that is no table.
        """
        self._name, self._setting, self._file = name, setting, file
        self._model, self._wrong, self._stamp = model, wrong, _stamp(file)
        self.said = self._read()

    def look(self) -> bool:
        """Takes over what the file says now; True if that is something else. What is no table changes nothing."""
        if (stamp := _stamp(self._file)) == self._stamp:
            return False
        self._stamp = stamp
        try:
            self.said = self._read()
        except ConfigError as error:
            log.error("%s stays as it was: %s", self._name, error)
            return False
        log.info("%s is taken over from %s", self._name, self._file)
        return True

    def _read(self) -> Table:
        try:
            found = self._model.model_validate(tomllib.loads(self._file.read_text()))
        except OSError as error:
            raise self._refused(f" cannot be read: {(error.strerror or '').lower()}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise self._refused(f" is no TOML: {str(error).lower()}") from None
        except ValidationError as error:
            told = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg'].lower()}" for e in error.errors())
            raise self._refused(f": {told}") from None
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
