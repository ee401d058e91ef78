"""What each engine does by hand, and how it is timed. Needs nothing but Python: engines have other environments."""

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

JOIN = """
    SELECT f.id, f.month, f.day, f.hour, f.carrier, f.origin, f.dest, f.distance, f.dep_delay, f.arr_delay,
        f.arr_delay - f.dep_delay AS lost, p.manufacturer, p.seats
    FROM flights AS f LEFT JOIN planes AS p ON f.tailnum = p.tailnum
"""
GROUP = """
    SELECT carrier, month, count(*) AS flights, avg(arr_delay) AS late, sum(distance) AS far
    FROM flights GROUP BY carrier, month ORDER BY carrier, month
"""


def run(folder: Path, tasks: Mapping[str, Callable[[Path], object]]) -> None:
    """Does each once; prints seconds and processor seconds by task as JSON."""
    found = {}
    for name, task in tasks.items():
        began, used = time.perf_counter(), os.times()
        task(folder)
        now = os.times()
        found[name] = time.perf_counter() - began, now.user + now.system - used.user - used.system
    print(json.dumps(found))
