"""The calls of the main job, as a client app makes them."""

import time
from pathlib import Path
from typing import Any

from aimass import Client

TEXT, DOUBLE, INT = "COLUMN_TYPE_STRING", "COLUMN_TYPE_DOUBLE", "COLUMN_TYPE_INT64"
FLIGHTS = """
SELECT f.id, f.month, f.hour, f.carrier, f.origin, f.distance, f.arr_delay, w.temp, w.wind_speed, p.seats,
       CASE WHEN f.arr_delay > 15 THEN 1 ELSE 0 END AS late
FROM flights_raw f
LEFT JOIN weather w ON f.origin = w.origin AND f.month = w.month AND f.hour = w.hour
LEFT JOIN planes p ON f.tailnum = p.tailnum
"""
STEPS: list[dict[str, Any]] = [
    {"column": "carrier", "transform": "TRANSFORM_ONE_HOT"},
    {"column": "origin", "transform": "TRANSFORM_COUNT"},
    {"column": "hour", "transform": "TRANSFORM_CYCLIC", "period": 24},
    {"column": "hour", "imputation": "IMPUTATION_MEDIAN", "transform": "TRANSFORM_STANDARDIZE"},
    {"column": "distance", "imputation": "IMPUTATION_MEAN", "transform": "TRANSFORM_MIN_MAX"},
    {"column": "temp", "imputation": "IMPUTATION_MEAN", "transform": "TRANSFORM_STANDARDIZE"},
    {"column": "seats", "imputation": "IMPUTATION_CONSTANT", "constant": 100.0, "transform": "TRANSFORM_IDENTITY"},
]
RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "flights_raw": (
        "flights-db",
        {
            "sql": {
                "sql": "SELECT id, month, day, hour, carrier, origin, dest, tailnum, distance, arr_delay FROM flights",
                "columns": [{"name": "arr_delay", "type": DOUBLE}, {"name": "distance", "type": DOUBLE}],
            }
        },
    ),
    "weather": (
        "weather-files",
        {
            "file": {
                "columns": [
                    {"name": "origin", "type": TEXT, "required": True},
                    {"name": "month", "type": INT, "required": True},
                    {"name": "hour", "type": INT, "required": True},
                    {"name": "temp", "type": DOUBLE},
                    {"name": "wind_speed", "type": DOUBLE},
                ]
            }
        },
    ),
    "planes": (
        "planes-file",
        {
            "json": {
                "columns": [
                    {"name": "tailnum", "type": TEXT, "required": True},
                    {"name": "year", "type": INT},
                    {"name": "seats", "from": "$.engine.seats", "type": DOUBLE},
                ]
            }
        },
    ),
    "access_log": (
        "gateway-log",
        {
            "regex": {
                "pattern": r'.*"method":"(?P<method>[A-Z]+)".*"status":(?P<status>[0-9]+).*',
                "columns": [{"name": "method", "type": TEXT}, {"name": "status", "type": INT}],
            }
        },
    ),
}


def trust(server: Any) -> dict[str, Any]:
    """What a gRPC client is told of a server that shows a certificate."""
    return {"ssl": True, "root_certificates": server.ca} if getattr(server, "ca", "") else {}


def register_sources(client: Client, raw: Path, home: Path) -> None:
    sources: dict[str, dict[str, Any]] = {
        "flights-db": {"sql": {"url": f"sqlite:///{raw}/flights.db", "table": "flights", "cursor": "id"}},
        "weather-files": {"files": {"pattern": f"{raw}/weather/*.csv", "format": "FILE_FORMAT_CSV"}},
        "planes-file": {"files": {"pattern": f"{raw}/planes.jsonl", "format": "FILE_FORMAT_JSON_LINES"}},
        "gateway-log": {"files": {"pattern": f"{home}/logs/access.log", "format": "FILE_FORMAT_TEXT"}},
    }
    client.access.who_am_i()  # a line for the preview; it is in the file within 0.2 s
    time.sleep(0.3)
    for name, kind in sources.items():
        client.sources.create_source(source=name, **kind)


def write_rules(client: Client) -> None:
    for name, (source, definition) in RULES.items():
        client.rules.create_rule(rule=name, source=source, definition=definition)


def extract(client: Client, *rules: str) -> dict[str, Any]:
    started = {rule: client.extractions.run_extraction(rule=rule) for rule in rules}
    return {rule: operation.result(timeout=60) for rule, operation in started.items()}


def derive(client: Client) -> None:
    client.pipelines.create_pipeline(
        pipeline="derive-flights",
        steps=[
            {
                "data_set": "flights",
                "sql": FLIGHTS,
                "inputs": ["flights_raw", "weather", "planes"],
                "exclude": [{"reason": "cancelled", "expression": "arr_delay IS NULL"}],
                "quarantine": [{"reason": "too_short", "expression": "distance < 0"}],
                "cursor": "id",
            }
        ],
    )


def spec(estimator: dict[str, Any], last: int = 8, **more: Any) -> dict[str, Any]:
    return {
        "model": "late",
        "feature_set": "late",
        "train": {"column": "month", "from": 1, "to": last},
        "evaluate": {"column": "month", "from": last + 1, "to": 12},
        "seed": 7,
        **estimator,
        **more,
    }
