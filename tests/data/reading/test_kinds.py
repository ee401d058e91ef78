import orjson
import pytest

from services.data.reading import kinds
from services.data.reading.crawls import CrawlSource
from services.data.reading.kinds import (
    Compiled,
    Definition,
    FileFormat,
    FileRule,
    FilesSource,
    JsonRule,
    RegexRule,
    RuleColumn,
    RuleDefinition,
    SqlRule,
    SqlSource,
)
from services.data.reading.topics import KafkaSource, Mechanism, TopicFormat
from services.data.schema import ColumnType

COLUMNS = (RuleColumn("a", "$.a", ColumnType.INT64, True), RuleColumn("b", "b", ColumnType.DATE))


@pytest.mark.parametrize(
    "source",
    [
        SqlSource("sqlite:///a.db", "t", "id"),
        FilesSource(FileFormat.CSV, "*.csv", delimiter=";", null_values=("NA", "-")),
        FilesSource(FileFormat.TEXT, upload_digest="sha256:" + "0" * 64),
        CrawlSource(("https://a.example/", "https://a.example/b"), depth=2, requests_per_second=0.5),
        KafkaSource(("a:1", "b:2"), "t", TopicFormat.TEXT, True, sasl_username="u", sasl_mechanism=Mechanism.PLAIN),
    ],
)
def test_a_source_survives_being_stored(source: Definition) -> None:
    assert kinds.source_from_json(orjson.loads(orjson.dumps(kinds.to_json(source)))) == source


@pytest.mark.parametrize(
    "rule",
    [SqlRule("SELECT 1"), FileRule(COLUMNS), JsonRule(COLUMNS), RegexRule("(?P<b>.)", COLUMNS, (), ("(?P<b>..)",))],
)
def test_a_rule_survives_being_stored(rule: RuleDefinition) -> None:
    assert kinds.rule_from_json(orjson.loads(orjson.dumps(kinds.to_json(rule)))) == rule


def test_a_compiled_rule_survives_being_stored() -> None:
    compiled = Compiled(COLUMNS, "SELECT 1", 1, "x", (("a", 0, "b"), ("c",)), more_patterns=("y",))
    assert kinds.compiled_from_json(orjson.loads(orjson.dumps(kinds.compiled_to_json(compiled)))) == compiled
