"""Sources, rules, the pipeline, the features and the two candidates: everything that a user would write down."""

from typing import Any

TEXT, WHOLE, NUMBER, TIME = "string", "int64", "double", "timestamp"
LABEL, KEY, MODEL = "late", "id", "late"
LAST_TRAINING_MONTH = 9


def _columns(**kinds: str) -> list[dict[str, Any]]:
    return [{"name": name, "type": kind} for name, kind in kinds.items()]


def sources(raw: str, log: str) -> dict[str, dict[str, Any]]:
    """One of each kind: a database, CSV files, JSON lines, a log."""
    return {
        "flights-db": {"sql": {"url": f"sqlite:///{raw}/flights.db", "table": "flights", "cursor": "id"}},
        "weather-files": {"files": {"pattern": f"{raw}/weather/*.csv", "format": "csv", "null_values": ["NA"]}},
        "planes-file": {"files": {"pattern": f"{raw}/planes.jsonl", "format": "json_lines"}},
        "gateway-log": {"files": {"pattern": log, "format": "text"}},
    }


_NAMED = {"tailnum": "$.tailnum", "plane_year": "$.built.year", "seats": "$.cabin.seats"}
RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "flights_raw": (
        "flights-db",
        {
            "sql": {
                "sql": "SELECT id, year, month, day, hour, minute, carrier, flight, tailnum, origin, dest, distance,"
                " arr_delay FROM flights",
                "columns": _columns(distance=NUMBER, arr_delay=NUMBER),
            }
        },
    ),
    "weather": (
        "weather-files",
        {
            "file": {
                "columns": [
                    {"name": "origin", "type": TEXT, "required": True},
                    *_columns(year=WHOLE, month=WHOLE, day=WHOLE, hour=WHOLE),
                    *_columns(temp=NUMBER, dewp=NUMBER, humid=NUMBER, wind_speed=NUMBER),
                    *_columns(precip=NUMBER, pressure=NUMBER, visib=NUMBER),
                ]
            }
        },
    ),
    "planes": (
        "planes-file",
        {
            "json": {
                "columns": [
                    {"name": "tailnum", "from": _NAMED["tailnum"], "type": TEXT, "required": True},
                    {"name": "plane_year", "from": _NAMED["plane_year"], "type": NUMBER},
                    {"name": "seats", "from": _NAMED["seats"], "type": NUMBER},
                ]
            }
        },
    ),
    "access_log": (
        "gateway-log",
        {
            "regex": {
                "pattern": r'\{"time":"(?P<time>[^"]+)","request_id":"(?P<request>[^"]*)".*'
                r'"method":"(?P<method>[A-Z]+)","path":"(?P<path>[^"]*)","status":(?P<status>\d+),"duration_ms":(?P<milliseconds>[0-9.]+).*',
                "columns": _columns(time=TIME, request=TEXT, method=TEXT, path=TEXT, status=WHOLE, milliseconds=NUMBER),
            }
        },
    ),
}

# Weather has three hours twice, when the clocks go back: the average of each hour keeps flights from doubling.
FLIGHTS = """
WITH hourly AS (
  SELECT origin, year, month, day, hour, avg(temp) AS temp, avg(dewp) AS dewp, avg(humid) AS humid,
         avg(wind_speed) AS wind_speed, avg(precip) AS precip, avg(pressure) AS pressure, avg(visib) AS visib
  FROM weather GROUP BY origin, year, month, day, hour
)
SELECT f.id, f.month, f.hour, f.hour * 60 + f.minute AS minute_of_day, f.carrier, f.origin, f.dest, f.distance,
       f.arr_delay, w.temp, w.dewp, w.humid, w.wind_speed, w.precip, w.pressure, w.visib, p.plane_year, p.seats,
       CASE WHEN f.arr_delay > 15 THEN 1 ELSE 0 END AS late
FROM flights_raw f
LEFT JOIN hourly w
  ON f.origin = w.origin AND f.year = w.year AND f.month = w.month AND f.day = w.day AND f.hour = w.hour
LEFT JOIN planes p ON f.tailnum = p.tailnum
"""
PIPELINE = {
    "data_set": "flights",
    "sql": FLIGHTS,
    "inputs": ["flights_raw", "weather", "planes"],
    "exclude": [{"reason": "no_arrival", "expression": "arr_delay IS NULL"}],
    "quarantine": [{"reason": "no_distance", "expression": "distance <= 0"}],
    "cursor": KEY,
}


def _step(column: str, transform: str, imputation: str = "none", **more: Any) -> dict[str, Any]:
    return {"column": column, "transform": transform, "imputation": imputation, **more}


# Only what is known before departure.
STEPS = [
    _step("carrier", "one_hot"),
    _step("origin", "one_hot"),
    _step("dest", "count"),
    _step("hour", "cyclic", period=24),
    _step("month", "cyclic", period=12, offset=1),
    _step("minute_of_day", "min_max"),
    _step("distance", "standardize", "mean"),
    *(_step(name, "standardize", "mean") for name in ("temp", "dewp", "humid", "wind_speed", "pressure")),
    _step("precip", "identity", "constant", constant=0.0),
    _step("visib", "min_max", "median"),
    _step("plane_year", "min_max", "median"),
    _step("seats", "standardize", "median"),
]
CANDIDATES: dict[str, dict[str, Any]] = {
    "LightGBM": {"lightgbm": {"rounds": 150, "leaves": 31, "learning_rate": 0.08}},
    "logistic regression": {"logistic_regression": {"c": 1.0}},
}


def spec(estimator: dict[str, Any]) -> dict[str, Any]:
    """A job: learns until September, is judged on October to December."""
    return {
        "model": MODEL,
        "feature_set": LABEL,
        "train": {"column": "month", "from": 1, "to": LAST_TRAINING_MONTH},
        "evaluate": {"column": "month", "from": LAST_TRAINING_MONTH + 1, "to": 12},
        "seed": 7,
        **estimator,
    }
