"""Values that wait in a record: messages as JSON text, results of branches and of steps with the name of their type.

A kept value is a JSON list that says by itself how it is read again: `["message", type, text]`, of a received command
with its name, `["step", step, text]`, `["saga", saga, text]`, `["none"]`, `["timeout"]`, `["int", n]`,
`["failed", reason, unknown]`, `["list"|"tuple", [kept, …]]`. A name finds a codec in the closed
registry; it never finds a class to import.
"""

from __future__ import annotations

import json
import traceback
from typing import Any

from contrapas.author.asked import ask_of, received
from contrapas.author.timeout import Failed, Timeout
from contrapas.core.world import World
from contrapas.errors import DataError, StepFailed

NONE_TEXT = '["none"]'
TIMEOUT_TEXT = '["timeout"]'
_PACKAGE = __file__.rsplit("core", 1)[0]


class Kept(str):
    """A value that is already the text a branch keeps (`outcomes`)."""

    __slots__ = ()


def dump_body(message: Any) -> str:
    """JSON text of an event or command."""
    cls: Any = message.__class__
    raw: bytes = cls.__pydantic_serializer__.to_json(message, by_alias=True)
    return raw.decode()


def load_body(world: World, name: str, text: str | bytes) -> Any:
    """An event or command of a registered type."""
    mt = world.types.messages.get(name)
    if mt is None:
        raise DataError(
            "CP402",
            f"event type {name[:80]!r} is not known here",
            expected="a registered type",
            got=name[:80],
        )
    try:
        return mt.cls.model_validate_json(text)
    except ValueError as why:
        raise DataError("CP403", f"{name}: {why}"[:500], expected=name, got=str(text[:80])) from None


def keep_message(world: World, message: Any) -> str:
    """A kept message."""
    cls: Any = message.__class__
    kept = ["message", world.types.message_of(cls).name, dump_body(message)]
    if name := ask_of(message):
        kept.append(name)
    return json.dumps(kept, ensure_ascii=False)


def keep_step(step: str, text: str) -> str:
    """A kept result of a local step, from its JSON text."""
    return json.dumps(["step", step, text], ensure_ascii=False)


def keep_saga(world: World, saga: str, value: Any) -> str:
    """A kept result of a called saga."""
    codec = world.machines[saga].result
    return NONE_TEXT if codec is None else json.dumps(["saga", saga, codec.dump(value)], ensure_ascii=False)


def keep_list(texts: list[str], *, listed: bool) -> str:
    """A kept result of `all`."""
    return json.dumps(["list" if listed else "tuple", texts], ensure_ascii=False)


def keep_failed(reason: str, *, unknown: bool) -> str:
    """A kept item of a map that failed."""
    return json.dumps(["failed", reason, unknown], ensure_ascii=False)


def keep_some(chosen: list[tuple[int, str]]) -> str:
    """A kept result of `some`: positions and values."""
    pairs = [keep_list([json.dumps(["int", place]), text], listed=False) for place, text in chosen]
    return keep_list(pairs, listed=True)


def load_kept(world: World, text: str) -> Any:
    """The value of a kept text, built anew."""
    parts: list[Any] = json.loads(text)
    match parts:
        case ["message", str(name), str(body)]:
            message = load_body(world, name, body)
            return message.value if world.types.messages[name].returns else message
        case ["message", str(name), str(body), str(ask)]:
            return received(load_body(world, name, body), ask)
        case ["step", str(name), str(body)]:
            return world.types.steps[name].result.load(body)
        case ["saga", str(name), str(body)]:
            codec = world.machines[name].result
            assert codec is not None
            return codec.load(body)
        case ["none"]:
            return None
        case ["timeout"]:
            return Timeout()
        case ["failed", str(reason), bool(unknown)]:
            return Failed(reason=reason, unknown=unknown)
        case ["int", int(number)]:
            return number
        case ["list", [*inner]]:
            return [load_kept(world, str(t)) for t in inner]
        case ["tuple", [*inner]]:
            return tuple([load_kept(world, str(t)) for t in inner])
        case _:
            raise DataError("CP403", "a kept value of an unknown form", got=text[:80])


def reason_of(reply: Any) -> str:
    """Why a declared failure failed: its `reason`, or the name of its class."""
    reason = getattr(reply, "reason", None)
    return reason if isinstance(reason, str) and reason else type(reply).__name__


def failed(label: str, reason: str, reply: Any = None, *, unknown: bool = False) -> StepFailed:
    """The exception of a step that ended without its success."""
    return StepFailed(reason, step=label, reply=reply, unknown=unknown)


def words_of(why: BaseException) -> str:
    """An exception in one line; its own text may raise anything."""
    try:
        text = str(why)
    except Exception:  # noqa: BLE001
        text = ""
    return f"{type(why).__name__}: {text}"[:1000] if text else type(why).__name__


def trace_of(why: BaseException) -> str:
    """Its frames in the author's files, at most 8 kB."""
    frames = [f for f in traceback.extract_tb(why.__traceback__) if not f.filename.startswith(_PACKAGE)]
    return "".join(traceback.format_list(frames))[-8000:]
