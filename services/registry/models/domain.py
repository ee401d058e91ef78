"""Models, their versions, what a version may become, and which files it may have."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from services.kit.errors import (
    AlreadyExists,
    Code,
    FailedPrecondition,
    Failure,
    InvalidValue,
    NotFound,
    Violation,
    match_etag,
)
from services.kit.resources import changed, wrong_labels

GRAPH = "model.onnx"
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}\Z")
# The most that a version may ask for of those who run it.
SERVING = {"instances": 16, "max_batch_rows": 100_000, "batch_delay_us": 100_000, "cached_seconds": 86_400}
MEDIA_TYPES = {".md": "text/markdown", ".txt": "text/plain", ".json": "application/json"}


class Stage(StrEnum):
    """Where a version is in its life."""

    CANDIDATE = "candidate"
    SERVING = "serving"
    RETIRED = "retired"
    DELETED = "deleted"


# From a stage to those that may follow it.
MOVES: Mapping[Stage, frozenset[Stage]] = {
    Stage.CANDIDATE: frozenset({Stage.SERVING, Stage.DELETED}),
    Stage.SERVING: frozenset({Stage.RETIRED}),
    Stage.RETIRED: frozenset({Stage.SERVING, Stage.DELETED}),
    Stage.DELETED: frozenset({Stage.CANDIDATE}),
}


@dataclass(frozen=True)
class File:
    """A file of a version."""

    name: str
    digest: str
    size: int = 0
    media_type: str = ""


@dataclass(frozen=True)
class Model:
    """A model; the numbers of its versions count up and are never used again."""

    model: str
    description: str
    create_time: datetime
    update_time: datetime
    latest_version: int = 0
    generation: int = 1
    delete_time: datetime | None = None

    @property
    def etag(self) -> str:
        return str(self.generation)


@dataclass(frozen=True)
class Contents:
    """What a version is made of; never changes."""

    files: tuple[File, ...]
    # Of the manifest.
    digest: str
    # As the contract lays it out; carried, never read here.
    signature: bytes = b""
    metrics: Mapping[str, float] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    card: str = ""
    run: str = ""
    job: str = ""
    feature_set: str = ""
    data_set: str = ""
    # How it wants to be run, by name: what SERVING allows, and what answers instead.
    serving: Mapping[str, Any] = field(default_factory=dict)
    # What it is, for those who decide on it by its kind.
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def graph_digest(self) -> str:
        return next(file.digest for file in self.files if file.name == GRAPH)


@dataclass(frozen=True)
class Version:
    """A numbered version of a model. `wanted`: a release is about to serve it."""

    model: str
    version: int
    contents: Contents
    create_time: datetime
    stage: Stage = Stage.CANDIDATE
    wanted: bool = False
    generation: int = 1
    delete_time: datetime | None = None

    @property
    def etag(self) -> str:
        return str(self.generation)

    def __str__(self) -> str:
        return f"{self.model} version {self.version}"


def found(model: Model | None, name: str) -> Model:
    """The model, unless it is not there or deleted. Raises not_found."""
    if model is None or model.delete_time:
        raise NotFound(f"there is no model {name}")
    return model


def found_version(version: Version | None, model: str, number: int) -> Version:
    """The version, unless it is not there or deleted. Raises not_found."""
    if version is None or version.stage is Stage.DELETED:
        raise NotFound(f"{model} has no version {number}")
    return version


def must_be_new(model: Model | None, name: str) -> None:
    """Raises already_exists, also for a deleted model: its name never means two things."""
    if model is not None:
        raise AlreadyExists(f"the model {name} exists already" + (" and is deleted" if model.delete_time else ""))


def numbered(model: Model, now: datetime) -> Model:
    """The model with one more version."""
    number, generation = model.latest_version + 1, model.generation + 1
    return replace(model, latest_version=number, generation=generation, update_time=now)


def move(version: Version, stage: Stage, now: datetime) -> Version:
    """The version in another stage. Raises failed_precondition when that may not follow."""
    if stage not in MOVES[version.stage]:
        raise FailedPrecondition(f"{version} is {version.stage} and cannot become {stage}")
    if stage is Stage.DELETED and version.wanted:
        raise FailedPrecondition(f"{version} is about to serve")
    deleted = now if stage is Stage.DELETED else None
    return replace(version, stage=stage, generation=version.generation + 1, delete_time=deleted)


def project(versions: Sequence[Version], serving: int, wanted: Collection[int], now: datetime) -> list[Version]:
    """The versions that change so that stages say what a release says; 0 for none. A second time changes nothing."""
    moved = []
    for before in versions:
        version = before
        if version.wanted != (version.version in wanted):
            version = replace(version, wanted=not version.wanted)
        if version.version == serving and version.stage is not Stage.SERVING:
            version = move(version, Stage.SERVING, now)
        elif version.version != serving and version.stage is Stage.SERVING:
            version = move(version, Stage.RETIRED, now)
        if version != before:
            moved.append(version)
    return moved


def delete(model: Model, versions: Sequence[Version], etag: str, now: datetime) -> Model:
    """Raises etag_mismatch; failed_precondition while a version serves or is about to."""
    match_etag(etag, model.etag, model.model)
    for version in versions:
        if version.stage is Stage.SERVING or version.wanted:
            raise FailedPrecondition(f"{version} serves or is about to")
    return changed(model, now, delete_time=now)


def check_files(files: Sequence[File]) -> None:
    """Raises invalid_name, unsupported_format or invalid_value for files that a version cannot have."""
    names = [file.name for file in files]
    for index, name in enumerate(names):
        if not _FILE.match(name):
            place = [Violation(f"/files/{index}/name", "must be a file name without folders")]
            raise Failure(Code.INVALID_NAME, f"{name[:100]!r} is not a file name", place)
        if name != GRAPH and not name.endswith(tuple(MEDIA_TYPES)):
            raise Failure(Code.UNSUPPORTED_FORMAT, f"{name} is neither {GRAPH} nor text, Markdown or JSON")
    if names.count(GRAPH) != 1 or len(set(names)) != len(names):
        raise InvalidValue(f"one file must be {GRAPH}, and no two may have one name", [Violation("/files", "names")])


def check_serving(model: str, serving: Mapping[str, Any]) -> None:
    """Raises invalid_value for what nobody would run."""
    if serving.get("smaller_model") == model:
        raise InvalidValue(
            f"{model} cannot be its own smaller model", [Violation("/serving/smaller_model", "must name another model")]
        )
    for name, value in serving.items():
        if name in SERVING and not (isinstance(value, int) and 0 <= value <= SERVING[name]):
            place = [Violation(f"/serving/{name}", f"must be between 0 and {SERVING[name]}")]
            raise InvalidValue(f"{name} must be between 0 and {SERVING[name]}", place)


def check_labels(labels: Mapping[str, str]) -> None:
    """Raises invalid_value for what is no label."""
    for name, violation in wrong_labels(labels, "/labels"):
        raise InvalidValue(f"label {name[:63]!r} {violation.rule}", [violation])


def media_type(name: str) -> str:
    """Of a file that `check_files` let pass."""
    return next((kind for ending, kind in MEDIA_TYPES.items() if name.endswith(ending)), "application/octet-stream")
