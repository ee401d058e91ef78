"""The child that stays and answers queries of one tenant from tables in memory."""

from services.data.datasets import work
from services.data.engine_memory import Memory
from services.kit.child import Child, Json
from services.kit.errors import Failure

_NEVER = 2**62  # bytes: what cannot be loaded fits nowhere
_kept: list[Memory] = []


def main(request: Json, child: Child) -> Json:
    """`{drop}`, and for a query as `work` has it `{room, hot: {name: {key, columns, view}}}`.

    Returns what `work` does, with `held`, and `hot`: whether it is from memory. Where the tables do not fit into `room`
    bytes, it is from files, and `needed` says what those take that were not there. Raises as `work` does.
    """
    memory = _memory()
    memory.drop(request["drop"])
    if "sql" not in request:
        return {"held": memory.held()}
    needed = _loaded(memory, request)
    child.progress({"loaded": not needed})  # what fails from here on is the query itself
    if needed:
        return {**work.main(request, child), "held": memory.held(), "hot": False, "needed": needed}
    with memory.views({name: table["view"] for name, table in request["hot"].items()}):
        found = work.answered(memory.run(request["sql"]), request)
    return {**found, "held": memory.held(), "hot": True}


def _loaded(memory: Memory, request: Json) -> int:
    """Loads what is not there: 0, or else the bytes that would not fit, and then nothing is loaded."""
    loaded, needed = list[str](), 0
    for name, table in request["hot"].items():
        key, columns = table["key"], table["columns"]
        if memory.has(key, columns):
            continue
        loaded.append(key)
        try:
            needed += memory.load(key, request["tables"][name], columns, request["room"])
        except Failure:  # the query says what is wrong, if it comes upon it
            needed = _NEVER
        if not memory.has(key, columns):
            memory.drop(loaded)
            return max(needed, 1)
    return 0


def _memory() -> Memory:
    if not _kept:
        _kept.append(Memory())
    return _kept[0]
