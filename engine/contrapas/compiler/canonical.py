"""Fingerprints of machines and states, from our own canonical form of the IR (section 12).

Known fields only, blocks numbered by traversal, constants by type and text, hidden variables by their stable name: no
lines, no comments, no Python version. `ast.dump` is none of that.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from contrapas.codec.builder import type_text
from contrapas.machine import Slot
from contrapas.machine.ir import Await, Block, Branch, Exit, Jump, Program, Raise, Reraise, Return, Site

FORMAT: Final = 1
DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
LENGTH: Final = 6
_text: Final = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), sort_keys=True).encode
_SKIPPED: Final = frozenset(
    {"ctx", "type_comment", "kind", "lineno", "col_offset", "end_lineno", "end_col_offset"}
)


def graph_print(program: Program, slots: Mapping[str, Slot], types: Mapping[str, Any] | None = None) -> str:
    """Fingerprint of a whole machine. slots: by variable. types: what their codecs read (`codec.forms`)."""
    return fingerprint([_Form(program, slots).machine(), types or {}])


def reach_prints(program: Program, slots: Mapping[str, Slot]) -> dict[int, str]:
    """Site index -> fingerprint of all code that can be reached from its await, wherever in the function it stands."""
    contents: dict[int, str] = {}
    for block in program.order():
        contents[block.id] = _Part(program, slots, block).digest()
    found: dict[int, str] = {}
    for block in program.order():
        if isinstance(block.term, Await):
            found[block.term.site] = _reach(program, block.term.resume, contents)
    return found


def _reach(program: Program, start: int, contents: Mapping[int, str]) -> str:
    numbers: dict[int, int] = {}
    form: list[Any] = []
    stack = [start]
    while stack:
        number = stack.pop()
        if number in numbers:
            continue
        numbers[number] = len(numbers)
        block = program.blocks[number]
        after = [*block.successors(), *([] if block.handler is None else [block.handler])]
        form.append((number, after, block.handler is None))
        stack.extend(reversed(after))
    return fingerprint([[contents[n], [numbers[a] for a in after], bare] for n, after, bare in form])


def shape_print(_program: Program, site: Site, slots: Mapping[str, Slot], stored: Iterable[str]) -> str:
    """Fingerprint of one state: what an instance that stands there needs. stored: stable names of its slots."""
    types = {slot.name: slot.type_text for slot in slots.values()}
    return fingerprint(
        [
            site.label,
            site.kind,
            site.operation,
            _names(site.replies),
            [[name, types.get(name, "")] for name in stored],
            list(site.regions),
            site.scope_depth,
            site.undo,
        ]
    )


def fingerprint(form: Any) -> str:
    """Six letters and digits of the SHA-256 of a canonical form."""
    text = _text([FORMAT, form])
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16])
    digits: list[str] = []
    for _ in range(LENGTH):
        number, digit = divmod(number, 62)
        digits.append(DIGITS[digit])
    return "".join(digits)


def _names(classes: Iterable[Any]) -> list[str]:
    return [str(getattr(c, "__contrapas_name__", None) or getattr(c, "__name__", c)) for c in classes]


class _Fields(dict[type, tuple[str, ...]]):
    """Class of a node -> its fields that count, in order."""

    def __missing__(self, kind: Any) -> tuple[str, ...]:
        found = self[kind] = tuple(name for name in kind._fields if name not in _SKIPPED)
        return found


_FIELDS: Final = _Fields()


class _Form:
    """Plain data that says everything about a program that matters."""

    def __init__(self, program: Program, slots: Mapping[str, Slot]) -> None:
        self.program = program
        self.slots = slots
        self.numbers: dict[int, int] = {}
        self.hidden: dict[str, str] = {}
        self.counts: dict[str, int] = {}
        self.blocks = list(program.order())
        for block in self.blocks:
            self.numbers[block.id] = len(self.numbers)

    def machine(self) -> Any:
        program = self.program
        return {
            "name": program.name,
            "params": [[n, self._type(n)] for n in program.params],
            "ambients": [n for n, _ in program.ambients],
            "result": self._annotation(program.hints.get("return")),
            "slots": sorted([s.name, s.role, s.type_text] for s in self.slots.values()),
            "blocks": [self._block(b) for b in self.blocks],
            "undos": [
                [u.label, u.of, u.parameter, self.node(u.body), list(u.captures), u.needs_reply]
                for u in program.undos
            ],
        }

    def _type(self, name: str) -> str:
        slot = self.slots.get(name)
        return slot.type_text if slot is not None else ""

    def _annotation(self, hint: Any) -> str:
        return type_text(hint)

    def _block(self, block: Block) -> Any:
        return {
            "native": [self.node(s) for s in block.native],
            "term": self._term(block.term),
            "handler": None if block.handler is None else self._number(block.handler),
            "landing": self._name(block.landing),
            "handling": [self._name(h) for h in block.handling],
        }

    def _number(self, block: int) -> int:
        return self.numbers.get(block, -1)

    def _name(self, name: str) -> str:
        """A hidden variable by its slot, or numbered by role where it never is one; a local as it is."""
        if not name.startswith("@"):
            return name
        if name not in self.hidden:
            known = self.program.hidden.get(name)
            if known is None:
                self.hidden[name] = name
            elif name in self.slots:
                self.hidden[name] = f"@{self.slots[name].name}"
            else:
                number = self.counts[known.role] = self.counts.get(known.role, 0) + 1
                self.hidden[name] = f"@{known.role}:{number}"
        return self.hidden[name]

    def _term(self, term: Any) -> Any:
        if isinstance(term, Jump):
            return ["jump", self._number(term.to)]
        if isinstance(term, Branch):
            return ["branch", term.kind, self.node(term.test), self._number(term.yes), self._number(term.no)]
        if isinstance(term, Return):
            return ["return", self.node(term.value)]
        if isinstance(term, Raise):
            return ["raise", self.node(term.stmt)]
        if isinstance(term, Reraise):
            return ["reraise"]
        assert isinstance(term, Await)
        site = self.program.sites[term.site - 1]
        return [
            "await",
            site.label,
            site.kind,
            site.operation,
            self.node(term.op),
            self._name(term.into),
            self._number(term.resume),
        ]

    def node(self, node: Any) -> Any:
        """A syntax tree as plain data."""
        if node is None:
            return None
        kind: Any = node.__class__
        if kind is list:
            return [self.node(n) for n in node]
        if kind is str:
            return self._text(node)
        if kind is Exit:
            return ["Exit", self._number(node.to), self._name(node.into), self.node(node.value)]
        if kind is ast.Constant:
            value = self._text(node.value) if isinstance(node.value, str) else node.value
            return ["Constant", *_constant(value)]
        if kind is ast.JoinedStr:
            return ["JoinedStr", self._joined(node)]
        if isinstance(node, ast.AST):
            form: list[Any] = [kind.__name__]
            for name in _FIELDS[kind]:
                value = getattr(node, name, None)
                if value is not None and value != []:
                    form.append([name, self.node(value)])
            return form
        return [type(node).__name__, str(node)]

    def _text(self, text: str) -> str:
        first = text[:1]
        if first != "@" and first != "b" and first != "c":
            return text
        if first == "@" and (text in self.program.hidden or text in self.hidden):
            return self._name(text)
        for word in ("break ", "continue "):
            if text.startswith(word) and text[len(word) :] in self.program.hidden:
                return word + self._name(text[len(word) :])
        return text

    def _joined(self, node: ast.JoinedStr) -> list[Any]:
        """Parts of an f-string, neighbouring texts as one: how they are cut differs between Python versions."""
        parts: list[Any] = []
        for value in node.values:
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                if parts and isinstance(parts[-1], str):
                    parts[-1] += value.value
                else:
                    parts.append(value.value)
            else:
                parts.append(self.node(value))
        return parts


class _Part(_Form):
    """One block by itself: jumps by their order, hidden variables that are no slots by their order within it."""

    def __init__(self, program: Program, slots: Mapping[str, Slot], block: Block) -> None:
        self.program = program
        self.slots = slots
        self.numbers = {n: i for i, n in enumerate(dict.fromkeys(block.exits))}
        self.hidden = {}
        self.counts = {}
        self.blocks = [block]

    def digest(self) -> str:
        """Fingerprint of what it does."""
        block = self.blocks[0]
        for number in block.successors():
            self.numbers.setdefault(number, len(self.numbers))
        term = block.term
        undos = self._undos(self.program.sites[term.site - 1]) if isinstance(term, Await) else []
        form = self._block(block)
        form["handler"] = None
        return fingerprint([form, undos])

    def _undos(self, site: Site) -> list[Any]:
        found = [u for u in self.program.undos if u.site == site.index]
        return [[u.label, u.parameter, self.node(u.body), list(u.captures)] for u in found]

    def _text(self, text: str) -> str:
        if text.startswith("@undo") and text[5:].isdigit():
            return next((u.label for u in self.program.undos if u.index == int(text[5:])), text)
        if text.startswith("@begin") and text[6:].isdigit():
            return next((s.label for s in self.program.sites if s.index == int(text[6:])), text)
        return super()._text(text)


def _constant(value: Any) -> list[Any]:
    """A constant by type and text."""
    kind: Any = value.__class__
    if kind is frozenset:
        return ["frozenset", sorted(json.dumps(_constant(v)) for v in value)]
    if kind is tuple:
        return ["tuple", [_constant(v) for v in value]]
    return [type(value).__name__, repr(value)]
