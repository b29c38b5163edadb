"""`--where`: field, operator, literal, joined by `and`. A fixed grammar, never an expression language."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple, TypeVar

from contrapas.cli.exits import Usage
from contrapas.cli.positions import duration_ms
from contrapas.cli.text import nearest

_TOKEN = re.compile(
    r"""\s*(?P<field>[a-z_][a-z0-9_.]*)\s*(?P<op>!=|<=|>=|=|<|>|~)\s*
        (?P<literal>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s"'=<>~!;]+)\s*""",
    re.VERBOSE,
)
_JOIN = re.compile(r"and(?=\s)")
T = TypeVar("T", str, float)
_SIGNS = {"<": -1, "<=": -1, ">": 1, ">=": 1}
MAX = 1000


class Condition(NamedTuple):
    """One comparison."""

    field: str
    op: str
    literal: str


def parse(text: str, fields: Sequence[str]) -> tuple[Condition, ...]:
    """The conditions of a `--where`; Usage CP808 names what was not understood."""
    if len(text) > MAX:
        raise Usage("CP808", f"--where is longer than {MAX} characters")
    found: list[Condition] = []
    at = 0
    while True:
        match = _TOKEN.match(text, at)
        if match is None:
            raise Usage("CP808", f"--where is not understood at '{text[at : at + 40]}'")
        field = match["field"]
        if field not in fields:
            near = nearest(field, fields)
            raise Usage(
                "CP808",
                f"--where knows no field '{field}'" + (f", the nearest is '{near}'" if near else ""),
                fix=", ".join(fields),
            )
        found.append(Condition(field, match["op"], _literal(match["literal"])))
        at = match.end()
        if at == len(text):
            return tuple(found)
        join = _JOIN.match(text, at)
        if join is None:
            raise Usage("CP808", f"--where is not understood at '{text[at : at + 40]}'")
        at = join.end()


def holds(conditions: Sequence[Condition], values: Mapping[str, object]) -> bool:
    """Whether all conditions hold; a value that is None fails every condition but `!=`."""
    return all(_holds(one, values.get(one.field)) for one in conditions)


def selected(selector: str, saga: str, key: str) -> bool:
    """`o-9`, `place_order/o-9` or `place_order/*`: a glob over the key, and over the saga if it is named."""
    if "/" in selector:
        name, _, pattern = selector.partition("/")
        return fnmatchcase(saga, name) and fnmatchcase(key, pattern)
    return fnmatchcase(key, selector)


def _literal(raw: str) -> str:
    return re.sub(r"\\(.)", r"\1", raw[1:-1]) if raw[0] in "\"'" else raw


def _holds(one: Condition, value: object) -> bool:
    if value is None:
        return one.op == "!="
    if one.op == "~":
        return one.literal.casefold() in str(value).casefold()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _ordered(str(value), one.literal, one.op)
    return _ordered(float(value), _number(one.literal), one.op)


def _number(literal: str) -> float:
    try:
        return float(literal)
    except ValueError:
        return float(duration_ms(literal))


def _ordered(left: T, right: T, op: str) -> bool:
    if op in ("=", "!="):
        return (left == right) == (op == "=")
    if left == right:
        return op in ("<=", ">=")
    return (_SIGNS[op] > 0) == (left > right)
