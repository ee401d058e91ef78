"""Commands from the contract: `aimass models list`, `aimass sources create NAME --format csv`."""

import inspect
import re
from collections.abc import Callable
from typing import Annotated, Any

import typer
from google.protobuf.message import Message

from aimass import contract
from aimass.cli import calling
from aimass.cli.flags import Flag, flags, gather, parse, positional
from aimass.cli.output import Format, Output, line, show
from aimass.cli.tables import CONSOLE
from aimass.client import Client
from aimass.contract import Method, policy_of
from aimass.failures import Failure
from aimass.operations import OperationHandle

_KEYWORD = inspect.Parameter.KEYWORD_ONLY


def command_name(method: Method) -> str:
    """A method's name without its service's noun: get_model_version of models is get-version.

    A price list is not one of the prices: its noun stays.
    """
    noun = method.service
    single = f"{noun[:-3]}y" if noun.endswith("ies") else noun.removesuffix("s")
    words = method.name
    for known in (noun, single):
        words = re.sub(rf"_{known}(?=_|$)(?!_lists?$)", "", words, count=1)
    return words.replace("_", "-")


def group(service: str) -> typer.Typer:
    """The commands of one service."""
    methods = contract.services()[service]
    comment = contract.comments().get(next(iter(methods.values())).descriptor.containing_service.full_name, "")
    app = typer.Typer(help=comment, short_help=_first(comment), no_args_is_help=True)
    for method in filter(has_command, methods.values()):
        run = command(method)
        app.command(command_name(method), short_help=_first(run.__doc__ or ""))(run)
    return app


def has_command(method: Method) -> bool:
    """Whether a method has a generated command: those of files and streams of bytes are written by hand."""
    return not method.raw and not any(f.message_type and f.name == "body" for f in method.takes.fields)


def _first(text: str) -> str:
    """The first sentence, for a list of commands."""
    return f"{text.partition('. ')[0].rstrip('.')}."


def command(method: Method) -> Callable[..., None]:
    """The command of a method, as a function that typer reads."""
    found = flags(method)

    def run(**given: Any) -> None:
        perform(method, found, given)

    parameters = [_positional(method, name) for name in positional(method)]
    parameters += [_option(flag) for flag in found]
    parameters += _extras(method)
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__doc__ = contract.comments().get(method.descriptor.full_name, "")
    run.__name__ = method.name
    return run


def _positional(method: Method, name: str) -> inspect.Parameter:
    field = method.takes.fields_by_name[name]
    number = name not in method.path_fields or field.cpp_type == field.CPPTYPE_STRING
    kind = str if number else int
    comment = contract.comments().get(field.full_name, "")
    annotation = Annotated[kind, typer.Argument(metavar=name.upper(), help=comment, show_default=False)]  # type: ignore[valid-type]
    # A version may be left out where 0 means the newest.
    default = inspect.Parameter.empty if kind is str or policy_of(field).required else 0
    return inspect.Parameter(name, _KEYWORD, annotation=annotation, default=default)


def _option(flag: Flag) -> inspect.Parameter:
    kind = list[flag.kind] if flag.repeated else flag.kind  # type: ignore[name-defined]
    annotation = Annotated[kind | None, typer.Option(*flag.options, help=flag.help, show_default=False)]  # type: ignore[valid-type]
    return inspect.Parameter("_".join(flag.path), _KEYWORD, annotation=annotation, default=None)


def _extras(method: Method) -> list[inspect.Parameter]:
    """The options that are no fields."""
    found: list[tuple[str, Any, Any]] = []
    if method.body == "*":
        found.append(
            ("json_", Annotated[str, typer.Option("--json", help="The request as JSON, @FILE, or - for stdin.")], "")
        )
    if method.policy.etag_required:
        what = "Only if it still has this etag; its current one if unset."
        found.append(("etag_", Annotated[str, typer.Option("--etag", help=what)], ""))
    if method.keyed:
        what = "A key of your choice: repeating the command with it has one effect and one answer."
        found.append(("idempotency_key_", Annotated[str, typer.Option("--idempotency-key", help=what)], ""))
    if method.long_work:
        what = "Wait until it has ended and show the result."
        found.append(("wait_", Annotated[bool, typer.Option("--wait/--no-wait", help=what)], True))
    if method.items:
        found.append(("all_", Annotated[bool, typer.Option("--all", help="Fetch all pages.")], False))
    found += [("output_", Output, Format.TABLE), ("project_", calling.Project, "default")]
    return [inspect.Parameter(name, _KEYWORD, annotation=kind, default=value) for name, kind, value in found]


def perform(method: Method, found: list[Flag], given: dict[str, Any]) -> None:
    """Makes the call and prints the answer. Raises Failure."""
    request = gather(found, given, parse(given["json_"], "--json") if given.get("json_") else {})
    request |= {name: given[name] for name in positional(method)}
    form = given["output_"]
    with calling.client(given["project_"]) as client:
        if method.policy.etag_required:
            request["etag"] = given["etag_"] or _etag(client, method, request)
        if given.get("idempotency_key_"):
            request["idempotency_key"] = given["idempotency_key_"]
        calls = getattr(client, method.service)
        if given.get("all_"):
            show(_everything(method, getattr(calls, method.iterator)(**request)), form)
            return
        try:
            answer = getattr(calls, method.name)(**request)
        except TypeError as error:
            raise typer.BadParameter(str(error)) from None
        _print(answer, form, given.get("wait_", False))


def _print(answer: Any, form: Format, wait: bool) -> None:
    if isinstance(answer, OperationHandle):
        if not wait:
            show(answer.operation, form)
            return
        answer = answer.result(progress=CONSOLE.is_terminal)
    if isinstance(answer, Message):
        show(answer, form)
        return
    for message in answer:
        line(message)


def _everything(method: Method, items: Any) -> Message:
    from google.protobuf.message_factory import GetMessageClass

    answer = GetMessageClass(method.gives)()
    assert method.items
    getattr(answer, method.items.name).extend(items)
    return answer


def _etag(client: Client, method: Method, request: dict[str, Any]) -> str:
    """The current etag of what the request names."""
    getter = next((m for m in contract.services()[method.service].values() if _gets(m, method)), None)
    if getter is None:
        raise Failure("etag_required", f"{command_name(method)} needs --etag, as you last read it")
    named = {name: request[name] for name in method.path_fields}
    return str(getattr(getattr(client, method.service), getter.name)(**named).etag)


def _gets(candidate: Method, method: Method) -> bool:
    return candidate.verb == "GET" and candidate.route == method.route
