from services.data.discovery.domain import Discovery, Proposal
from services.data.discovery.evidence import fitting
from services.data.discovery.wire import discovery_to_wire
from services.data.reading.kinds import RegexRule, RuleColumn
from services.data.rules.domain import Refused
from services.data.schema import ColumnType
from services.kit.rpc import SIZE


def found(proposals: int, record: str) -> Discovery:
    columns = tuple(RuleColumn(f"value_{n}", f"value_{n}", ColumnType.STRING) for n in range(200))
    rule = RegexRule("x" * 4096, columns)
    rows: tuple[dict[str, object], ...] = ({"line": record}, {"short": "a"})
    refused = (Refused(record, "too long"),) * 3
    one = Proposal("r", rule, 2, 2, 1, 1, rows, refused, "a reason" * 50)
    return Discovery(2, (one,) * proposals, 0, (record,) * 20)


def test_an_answer_with_as_many_rules_as_there_may_be_is_a_message() -> None:
    made = discovery_to_wire(fitting(found(200, "\N{GRINNING FACE}" * 8192)))

    assert made.ByteSize() < SIZE
    assert all(len(proposal.counter_examples) == 3 for proposal in made.proposals)
    assert all([dict(row) for row in proposal.rows] == [{"short": "a"}] for proposal in made.proposals)


def test_what_is_small_is_shown_as_it_is() -> None:
    small = found(3, "x" * 8192)

    assert fitting(small) == small
