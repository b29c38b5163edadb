"""Fingerprints of machines and states, from our own canonical form of the IR (section 12).

Known fields only, blocks numbered by traversal, constants by type and text, hidden variables by their stable name: no
lines, no comments, no Python version. `ast.dump` is none of that.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from json.encoder import encode_basestring_ascii
from typing import Any, Final

from contrapas.codec.builder import type_text
from contrapas.machine import Slot
from contrapas.machine.ir import (
    Await,
    Block,
    Branch,
    Exit,
    Jump,
    Program,
    Raise,
    Return,
    Site,
    Term,
    UndoSite,
)

FORMAT: Final = 1
DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
LENGTH: Final = 6
_json: Final = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), sort_keys=True).encode
_quoted: Final[Callable[[str], str]] = encode_basestring_ascii
_SKIPPED: Final = frozenset(
    {"ctx", "type_comment", "kind", "lineno", "col_offset", "end_lineno", "end_col_offset"}
)
_SPECIAL: Final = frozenset("@bc")
"""First letters of a text that may stand for a hidden variable, a pending exit or a placeholder."""

Piece = str | tuple[str, Any]
"""JSON text, or what depends on who asks: a `text`, a `constant` or a `name` to be resolved, or a `block`."""


class Prints:
    """Fingerprints of one program; each of its trees is written once, for all of them."""

    def __init__(self, program: Program, slots: Mapping[str, Slot]) -> None:
        self.program = program
        self.slots = slots
        self.blocks = list(program.order())
        self.types = {slot.name: slot.type_text for slot in slots.values()}
        self.undos: dict[int, list[UndoSite]] = {}
        for undo in program.undos:
            self.undos.setdefault(undo.site, []).append(undo)
        self.labels = {f"@undo{u.index}": u.label for u in program.undos}
        self.labels |= {f"@begin{s.index}": s.label for s in program.sites}
        self._written: dict[int, list[Piece]] = {}

    def graph(self, types: Mapping[str, Any] | None = None) -> str:
        """Fingerprint of the whole machine. types: what the codecs of its slots read (`codec.forms`)."""
        machine = _Form(self, {block.id: number for number, block in enumerate(self.blocks)}).machine()
        return _digits(f"[{machine},{_json(types or {})}]")

    def reach(self) -> dict[int, str]:
        """Site index -> fingerprint of all code that can be reached from its await, wherever it stands."""
        contents = {block.id: _quoted(_Part(self, block).digest()) for block in self.blocks}
        onward: dict[int, tuple[int, ...]] = {}
        for block in self.blocks:
            after = block.successors()
            onward[block.id] = after if block.handler is None else (*after, block.handler)
        found: dict[int, str] = {}
        for block in self.blocks:
            if isinstance(block.term, Await):
                found[block.term.site] = self._reach(block.term.resume, contents, onward)
        return found

    def _reach(self, start: int, contents: Mapping[int, str], onward: Mapping[int, tuple[int, ...]]) -> str:
        numbers: dict[int, int] = {}
        stack = [start]
        while stack:
            number = stack.pop()
            if number not in numbers:
                numbers[number] = len(numbers)
                stack += onward[number][::-1]
        blocks = self.program.blocks
        form = [
            f"[{contents[n]},[{','.join([str(numbers[a]) for a in onward[n]])}],"
            f"{'true' if blocks[n].handler is None else 'false'}]"
            for n in numbers
        ]
        return _digits(f"[{','.join(form)}]")

    def shape(self, site: Site, stored: Iterable[str]) -> str:
        """Fingerprint of one state: what an instance that stands there needs. stored: stable names of its slots."""
        return fingerprint(
            [
                site.label,
                site.kind,
                site.operation,
                _names(site.replies),
                [[name, self.types.get(name, "")] for name in stored],
                list(site.regions),
                site.scope_depth,
                site.undo,
            ]
        )

    def written(self, tree: Any) -> list[Piece]:
        """A syntax tree as JSON, in parts."""
        found = self._written.get(id(tree))
        if found is None:
            parts: list[Piece] = []
            _write(tree, parts)
            found = self._written[id(tree)] = _joined(parts)
        return found


def fingerprint(form: Any) -> str:
    """Six letters and digits of the SHA-256 of a canonical form."""
    return _digits(_json(form))


def _digits(text: str) -> str:
    number = int.from_bytes(hashlib.sha256(f"[{FORMAT},{text}]".encode()).digest()[:16])
    digits: list[str] = []
    for _ in range(LENGTH):
        number, digit = divmod(number, 62)
        digits.append(DIGITS[digit])
    return "".join(digits)


def _names(classes: Iterable[Any]) -> list[str]:
    return [str(getattr(c, "__contrapas_name__", None) or getattr(c, "__name__", c)) for c in classes]


# -- trees -------------------------------------------------------------------------------------------------


class _Fields(dict[type, tuple[str, list[tuple[str, str]]]]):
    """Class of a node -> how it begins, and its fields that count, in order, each with how it begins."""

    def __missing__(self, kind: Any) -> tuple[str, list[tuple[str, str]]]:
        names = [name for name in kind._fields if name not in _SKIPPED]
        found = self[kind] = f'["{kind.__name__}"', [(name, f',["{name}",') for name in names]
        return found


_FIELDS: Final = _Fields()


def _write(node: Any, out: list[Piece]) -> None:
    """A syntax tree as JSON."""
    kind: Any = node.__class__
    if kind is str:
        out.append(_quoted(node) if node[:1] not in _SPECIAL else ("text", node))
    elif kind is ast.Name:
        if node.id[0] in _SPECIAL:
            out += '["Name",["id",', ("text", node.id), "]]"
        else:
            out.append(f'["Name",["id",{_quoted(node.id)}]]')
    elif kind is list:
        _several(node, out)
    elif kind is ast.Constant:
        value = node.value
        if isinstance(value, str) and value[:1] in _SPECIAL:
            out.append(("constant", value))
        else:
            out.append(f'["Constant",{_json(_constant(value))[1:]}')
    elif kind is Exit:
        out += '["Exit",', ("block", node.to), ",", ("name", node.into), ","
        _write(node.value, out)
        out.append("]")
    elif kind is ast.JoinedStr:
        out.append('["JoinedStr",')
        _texts(node, out)
        out.append("]")
    elif isinstance(node, ast.AST):
        start, fields = _FIELDS[kind]
        out.append(start)
        for name, begin in fields:
            value = getattr(node, name, None)
            if value is not None and value != []:
                out.append(begin)
                _write(value, out)
                out.append("]")
        out.append("]")
    else:
        out.append("null" if node is None else _json([kind.__name__, str(node)]))


def _several(nodes: list[Any], out: list[Piece]) -> None:
    out.append("[")
    for number, node in enumerate(nodes):
        if number:
            out.append(",")
        _write(node, out)
    out.append("]")


def _texts(node: ast.JoinedStr, out: list[Piece]) -> None:
    """Parts of an f-string, neighbouring texts as one: how they are cut differs between Python versions."""
    parts: list[Any] = []
    for value in node.values:
        if not (isinstance(value, ast.Constant) and isinstance(value.value, str)):
            parts.append(value)
        elif parts and isinstance(parts[-1], str):
            parts[-1] += value.value
        else:
            parts.append(value.value)
    out.append("[")
    for number, part in enumerate(parts):
        if number:
            out.append(",")
        if isinstance(part, str):
            out.append(_quoted(part))
        else:
            _write(part, out)
    out.append("]")


def _joined(parts: list[Piece]) -> list[Piece]:
    """The same with neighbouring texts as one."""
    found: list[Piece] = []
    run: list[str] = []
    for part in parts:
        if isinstance(part, str):
            run.append(part)
        else:
            found += "".join(run), part
            run = []
    found.append("".join(run))
    return found


def _constant(value: Any) -> list[Any]:
    """A constant by type and text."""
    kind: Any = value.__class__
    if kind is frozenset:
        return ["frozenset", sorted(json.dumps(_constant(v)) for v in value)]
    if kind is tuple:
        return ["tuple", [_constant(v) for v in value]]
    return [type(value).__name__, repr(value)]


# -- blocks and machines -----------------------------------------------------------------------------------


class _Form:
    """JSON text that says everything about a program that matters."""

    def __init__(self, prints: Prints, numbers: dict[int, int]) -> None:
        self.prints = prints
        self.program = prints.program
        self.numbers = numbers
        self.hidden: dict[str, str] = {}
        self.counts: dict[str, int] = {}

    def machine(self) -> str:
        """All of it; hidden variables are numbered as blocks and undos name them, in this order."""
        program, slots = self.program, self.prints.slots
        blocks = ",".join([self.block(b) for b in self.prints.blocks])
        undos = ",".join(
            [
                f"[{_quoted(u.label)},{_quoted(u.of)},{_quoted(u.parameter)},{self.tree(u.body)},"
                f"{_json(list(u.captures))},{_json(u.needs_reply)}]"
                for u in program.undos
            ]
        )
        params = [[n, slots[n].type_text if n in slots else ""] for n in program.params]
        return (
            f'{{"ambients":{_json([n for n, _ in program.ambients])},"blocks":[{blocks}],'
            f'"name":{_quoted(program.name)},"params":{_json(params)},'
            f'"result":{_quoted(type_text(program.hints.get("return")))},'
            f'"slots":{_json(sorted([s.name, s.role, s.type_text] for s in slots.values()))},"undos":[{undos}]}}'
        )

    def block(self, block: Block) -> str:
        """One block: its statements, then its end, then what handles it."""
        native = ",".join([self.tree(s) for s in block.native])
        term = self._term(block.term)
        landing = self._name(block.landing)
        handling = ",".join([self._name(h) for h in block.handling])
        return (
            f'{{"handler":{self._handler(block)},"handling":[{handling}],"landing":{landing},'
            f'"native":[{native}],"term":{term}}}'
        )

    def _handler(self, block: Block) -> str:
        return "null" if block.handler is None else self._number(block.handler)

    def _number(self, block: int) -> str:
        return str(self.numbers.get(block, -1))

    def _name(self, name: str) -> str:
        return _quoted(self._resolved(name))

    def _resolved(self, name: str) -> str:
        """A hidden variable by its slot, or numbered by role where it never is one; a local as it is."""
        if not name.startswith("@"):
            return name
        if name not in self.hidden:
            known = self.program.hidden.get(name)
            if known is None:
                self.hidden[name] = name
            elif name in self.prints.slots:
                self.hidden[name] = f"@{self.prints.slots[name].name}"
            else:
                number = self.counts[known.role] = self.counts.get(known.role, 0) + 1
                self.hidden[name] = f"@{known.role}:{number}"
        return self.hidden[name]

    def _term(self, term: Term) -> str:
        if isinstance(term, Jump):
            return f'["jump",{self._number(term.to)}]'
        if isinstance(term, Branch):
            test = self.tree(term.test)
            return f'["branch",{_quoted(term.kind)},{test},{self._number(term.yes)},{self._number(term.no)}]'
        if isinstance(term, Return):
            return f'["return",{self.tree(term.value)}]'
        if isinstance(term, Raise):
            return f'["raise",{self.tree(term.stmt)}]'
        if not isinstance(term, Await):
            return '["reraise"]'
        site = self.program.sites[term.site - 1]
        return (
            f'["await",{_quoted(site.label)},{_quoted(site.kind)},{_quoted(site.operation)},'
            f"{self.tree(term.op)},{self._name(term.into)},{self._number(term.resume)}]"
        )

    def tree(self, tree: Any) -> str:
        """A syntax tree, its names as they are called here."""
        parts = self.prints.written(tree)
        if len(parts) == 1 and isinstance(parts[0], str):
            return parts[0]
        return "".join([part if isinstance(part, str) else self._piece(*part) for part in parts])

    def _piece(self, kind: str, value: Any) -> str:
        if kind == "text":
            return _quoted(self._text(value))
        if kind == "constant":
            return f'["Constant",{_json(_constant(self._text(value)))[1:]}'
        return self._name(value) if kind == "name" else self._number(value)

    def _text(self, text: str) -> str:
        if text[0] == "@":
            return self._resolved(text) if text in self.program.hidden or text in self.hidden else text
        for word in ("break ", "continue "):
            if text.startswith(word) and text[len(word) :] in self.program.hidden:
                return word + self._resolved(text[len(word) :])
        return text


class _Part(_Form):
    """One block by itself: jumps by their order, hidden variables that are no slots by their order within it."""

    def __init__(self, prints: Prints, block: Block) -> None:
        numbers: dict[int, int] = {}
        for number in (*block.exits, *block.successors()):
            numbers.setdefault(number, len(numbers))
        super().__init__(prints, numbers)
        self._block = block

    def digest(self) -> str:
        """Fingerprint of what it does."""
        term = self._block.term
        undos = self.prints.undos.get(term.site, ()) if isinstance(term, Await) else ()
        written = [
            f"[{_quoted(u.label)},{_quoted(u.parameter)},{self.tree(u.body)},{_json(list(u.captures))}]"
            for u in undos
        ]
        return _digits(f"[{self.block(self._block)},[{','.join(written)}]]")

    def _handler(self, block: Block) -> str:
        return "null"

    def _text(self, text: str) -> str:
        label = self.prints.labels.get(text)
        return super()._text(text) if label is None else label
