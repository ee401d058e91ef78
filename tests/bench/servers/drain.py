"""Drain3 in an environment of its own: messages as a JSON list of lists in, clusters and seconds of each list out."""

import json
import sys
import time

from drain3 import TemplateMiner  # type: ignore[import-not-found]

answers = []
for messages in json.load(sys.stdin):
    miner, begun = TemplateMiner(), time.perf_counter()
    clusters = [miner.add_log_message(message)["cluster_id"] for message in messages]
    answers.append((clusters, time.perf_counter() - begun))
json.dump(answers, sys.stdout)
