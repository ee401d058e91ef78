"""Each setting of each process: a value that cannot be stops the start, and the error names the variable."""

import typing
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from services import SERVICES
from services.kit import config
from services.kit.config import ConfigError, Installation, Settings, load
from services.kit.running import Process

# Texts that any value fits until it is used: names, folders that are made, lists of names.
FREE = {
    *("AIMASS_HOME", "AIMASS_KEYS_DIR", "AIMASS_ADVERTISE_HOST", "AIMASS_EGRESS_ALLOW"),
    *("AIMASS_BLOBS_ACCESS_KEY", "AIMASS_BLOBS_SECRET_KEY"),
    *("AIMASS_GATEWAY_HOST", "AIMASS_GATEWAY_ALLOWED_HOSTS", "AIMASS_GATEWAY_ALLOWED_ORIGINS"),
    *("AIMASS_DATA_FILE_ROOTS", "AIMASS_TRAINER_IMAGE"),
}
WRONG = {
    bool: ["perhaps", ""],
    int: ["many", "1.5", "", "-1000000"],
    float: ["soon", "nan", "inf", "", "-1000000"],
}
NONSENSE = "hunter2 hunter2"
KINDS: list[tuple[type[Settings], str]] = [
    (Installation, "data"),
    *((config.of(service), service) for service in SERVICES),
]


def settings() -> list[tuple[str, FieldInfo, type[Settings], str]]:
    """Each variable, and a service whose process reads it."""
    return [
        (variable, field, kind, service)
        for kind, service in KINDS
        for variable, (name, field) in kind.variables().items()
        if not variable.endswith("_FILE") or name.endswith("_file")
    ]


def plain(field: FieldInfo) -> Any:
    """The type of a field that may be unset as well."""
    return next((part for part in typing.get_args(field.annotation) if part in WRONG), field.annotation)


NUMBERS = [(v, kind, wrong) for v, field, kind, _ in settings() for wrong in WRONG.get(plain(field), ())]
TEXTS = [(v, field, service) for v, field, _, service in settings() if plain(field) not in WRONG and v not in FREE]


@pytest.mark.parametrize(("variable", "kind", "wrong"), NUMBERS)
def test_a_number_that_cannot_be_is_refused_by_name(variable: str, kind: type[Settings], wrong: str) -> None:
    with pytest.raises(ConfigError, match=f"^{variable}: "):
        load(kind, {variable: wrong})


@pytest.mark.parametrize(("variable", "field", "service"), TEXTS)
def test_a_text_that_means_nothing_is_refused_by_name(
    variable: str, field: FieldInfo, service: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=variable) as caught:
        Process([service], {"AIMASS_HOME": str(tmp_path), variable: NONSENSE})

    assert field.annotation is not SecretStr or "hunter2" not in str(caught.value)


def test_settings_that_take_any_text_are_few_and_there() -> None:
    assert {variable for variable, *_ in settings()} > FREE
