"""Everything that one tenant can make, made once through the public door: the ids that no other tenant may reach."""

import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aimass import Client, Failure
from tests.support.server import Server

INT, DOUBLE, TEXT = "COLUMN_TYPE_INT64", "COLUMN_TYPE_DOUBLE", "COLUMN_TYPE_STRING"
# All names begin so; nothing else of an installation does.
MARK = "heirloom"
_COLUMNS = [
    {"name": "id", "type": INT},
    {"name": "month", "type": INT},
    {"name": "hour", "type": DOUBLE},
    {"name": "late", "type": INT},
    {"name": "day", "type": "COLUMN_TYPE_DATE"},
]
_PIPELINE = [{"data_set": f"{MARK}-derived", "sql": f"SELECT * FROM {MARK}", "inputs": [MARK]}]


@dataclass
class Estate:
    """The ids by the fields that name them; a service with a dot before a field tells which of two is meant."""

    server: Server
    key: str
    tenant: str
    ids: dict[str, Any] = field(default_factory=dict)

    def of(self, service: str, name: str) -> Any:
        """The id that a field of a service's request wants; None when nothing of the kind was made."""
        return self.ids.get(f"{service}.{name}", self.ids.get(name))

    def unique(self) -> set[str]:
        """The texts that must be nowhere in an answer to somebody else."""
        kept = {str(value) for name, value in self.ids.items() if name not in ("version", "artifact", "metric")}
        return kept | {MARK}

    def make(self) -> None:
        """Makes one of each kind."""
        self.ids |= {"tenant": self.tenant, "api_key": self.key[4:12], "version": 1}
        with self.server.client(self.key) as client:
            _rights(client, self.ids)
            _tables(client, self.ids)
            _training(client, self.ids)
            _serving(client, self.ids)
            _watching(client, self.ids)


def _rights(client: Client, ids: dict[str, Any]) -> None:
    ids |= {"role": MARK, "binding": MARK, "limit": MARK, "privacy_filter": MARK}
    client.limits.set_limit(limit=MARK, level="LIMIT_LEVEL_TENANT", rate=1e6, burst=1e6)
    rules = [{"detector": MARK, "pattern": "nobody-says-this", "action": "PRIVACY_ACTION_MASK"}]
    client.privacy_filters.create_privacy_filter(privacy_filter=MARK, streams=["trainer/none"], rules=rules)
    client.roles.create_role(role=MARK, permissions=["models.get"])
    ids["quota"] = MARK
    subject = f"user:{MARK}"
    client.quotas.create_quota(quota=MARK, subject=subject, meter="METER_ROWS", period="PERIOD_DAY", amount=10)
    client.roles.create_binding(binding=MARK, role=MARK, principal=f"key:{ids['api_key']}")
    client.policies.create_policy_version(description=MARK)
    client.policies.test_policies(version=1)
    client.policies.activate_policies(version=1)


def _tables(client: Client, ids: dict[str, Any]) -> None:
    rows = [f"{n},{n % 12 + 1},{5 + n % 18},{int(n % 18 + n % 7 > 14)},2013-01-02" for n in range(1, 481)]
    upload = client.upload("\n".join(["id,month,hour,late,day", *rows, ""]).encode())
    kinds = (
        "source",
        "rule",
        "rule_set",
        "data_set",
        "feature_set",
        "feature_view",
        "series_set",
        "pipeline",
        "recipe",
        "model",
    )
    ids |= dict.fromkeys(kinds, MARK) | {"Sources.upload": upload.upload, "Sources.digest": upload.digest}
    client.sources.create_source(
        source=MARK, files={"upload_digest": upload.digest, "format": "FILE_FORMAT_CSV"}, description=MARK
    )
    client.rules.create_rule(rule=MARK, source=MARK, definition={"file": {"columns": _COLUMNS}})
    client.rules.activate_rule(rule=MARK, version=1)
    done = client.extractions.run_extraction(rule=MARK)
    own = {"file": {"columns": _COLUMNS[:1]}}
    client.rule_sets.create_rule_set(
        rule_set=MARK, source=MARK, data_set=f"{MARK}-reports", rules=[{"rule": f"{MARK}-of-set", "definition": own}]
    )
    client.rule_sets.activate_rule_set(rule_set=MARK, version=1)
    ids |= {"extraction": done.result(timeout=60).extraction, "operation": done.operation.operation}
    _files(client, ids, upload.digest)
    client.data_sets.set_data_set_tag(data_set=MARK, tag=MARK)
    ids["tag"] = MARK
    client.pipelines.create_pipeline(pipeline=MARK, steps=_PIPELINE)
    client.feature_views.create_feature_view(feature_view=MARK, description=MARK, definition=view_of(MARK))
    client.feature_views.materialise_feature_view(feature_view=MARK).result(timeout=60)
    once = {"step": "once", "duplicates": {}}
    client.recipes.create_recipe(recipe=MARK, data_set=MARK, output_data_set=f"{MARK}-clean", steps=[once])
    ids["Recipes.run"] = client.recipes.run_recipe(recipe=MARK).result(timeout=60).run
    lag = {"name": "lag", "statistic": "SERIES_STATISTIC_LAG", "column": "hour", "rows": 1}
    client.series_sets.create_series_set(
        series_set=MARK, data_set=MARK, output_data_set=f"{MARK}-series", time="day", features=[lag]
    )
    client.series_sets.run_series_set(series_set=MARK).result(timeout=60)


def _files(client: Client, ids: dict[str, Any], digest: str) -> None:
    """A data set with a file: the upload, as a document."""
    name, columns = f"{MARK}-files", [{"name": "digest", "type": TEXT}]
    client.sources.create_source(source=name, files={"upload_digest": digest, "format": "FILE_FORMAT_DOCUMENT"})
    definition = {"json": {"columns": columns}, "documents": "digest"}
    client.rules.create_rule(rule=name, source=name, definition=definition)
    client.rules.activate_rule(rule=name, version=1)
    client.extractions.run_extraction(rule=name).result(timeout=60)
    ids |= {"Attachments.data_set": name, "Attachments.digest": digest}


def _training(client: Client, ids: dict[str, Any]) -> None:
    steps = [{"column": "hour", "imputation": "IMPUTATION_MEAN", "transform": "TRANSFORM_STANDARDIZE"}]
    client.feature_sets.create_feature_set(feature_set=MARK, data_set=MARK, label="late", key="id", steps=steps)
    early = {"column": "month", "from": 1, "to": 8}
    client.feature_sets.fit_feature_set(feature_set=MARK, train=early).result(timeout=60)
    job = client.jobs.submit_job(spec=spec()).result(timeout=90)
    run = client.runs.get_run(run=job.run)
    ids |= {"job": job.job, "run": job.run, "artifact": run.artifacts[0].name, "metric": "train_log_loss"}
    ids |= {"digest": next(found.digest for found in run.artifacts if found.name == "model.onnx")}


def view_of(data_set: str) -> dict[str, Any]:
    """A feature view of the data set."""
    return {"data_set": data_set, "keys": ["id"], "event_time": "day", "features": ["hour"]}


def spec() -> dict[str, Any]:
    """A job on the feature set."""
    ranges = {
        "train": {"column": "month", "from": 1, "to": 8},
        "evaluate": {"column": "month", "from": 9, "to": 12},
    }
    return {"model": MARK, "feature_set": MARK, **ranges, "logistic_regression": {}}


def _serving(client: Client, ids: dict[str, Any]) -> None:
    _until(lambda: client.models.get_model_version(model=MARK, version=1))
    client.releases.promote_version(model=MARK, version=1).result(timeout=60)
    upload = client.upload(struct.pack("<8s", MARK.encode()), to="artifacts")
    ids |= {"Artifacts.upload": upload.upload, "Artifacts.digest": upload.digest}
    ids |= {"request_id": f"{MARK}-prediction"}
    client.predict(MARK, columns={"hour": [7.0, 20.0]}, request_id=ids["request_id"])
    client.record_outcomes(MARK, ids["request_id"], [0, 1])


def _watching(client: Client, ids: dict[str, Any]) -> None:
    """Nobody listens at the webhook's address: a delivery that failed is a delivery."""
    ids["subscription"] = MARK
    hook = {"url": f"http://127.0.0.1:9/{MARK}"}
    client.subscriptions.create_subscription(subscription=MARK, filter=f"model:{MARK} AND kind:event", webhook=hook)
    client.releases.withdraw_release(model=MARK).result(timeout=60)
    client.releases.promote_version(model=MARK, version=1).result(timeout=60)
    made = _until(lambda: client.subscriptions.list_deliveries(subscription=MARK).deliveries)
    ids["delivery"] = made[0].delivery
    _until(lambda: client.logs.get_trace(request_id=ids["request_id"]).spans)


def _until(found: Callable[[], Any], seconds: float = 30) -> Any:
    """The first answer that is not empty; not found is empty as well."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if answer := found():
                return answer
        except Failure as failure:
            if failure.code != "not_found":
                raise
        time.sleep(0.05)
    raise TimeoutError("it did not come")
