"""One generated function per saga: a prologue that binds the slots, then a dispatch loop over blocks (G1 to G5).

The function is a tree first and is compiled under the author's file name, with the author's lines where the author's
code is; everything else carries the line of the `def`.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, Literal

from contrapas.compiler.leaves import FEW, Layout, Leaves, layout
from contrapas.compiler.leaves import numbers as constants
from contrapas.compiler.lower.builder import LOAD, STORE, call, load, store
from contrapas.compiler.saving import Plan
from contrapas.machine import Slot
from contrapas.machine.ir import Program, UndoSite

_How = Literal["sure", "perhaps", "again"]
"""Of a variable in the prologue: its slot is there, may be there, or it is defined again (A4)."""
SURE: Final[_How] = "sure"
PERHAPS: Final[_How] = "perhaps"
AGAIN: Final[_How] = "again"


class Emitter:
    """Writes the function of one program."""

    def __init__(
        self,
        program: Program,
        plan: Plan,
        slots: Mapping[str, Slot],
        labels: Mapping[str, str],
        live: Mapping[int, frozenset[str]],
    ) -> None:
        self.live = live
        self.program = program
        self.plan = plan
        self.slots = slots
        self.layout: Layout = layout(program)
        self.leaves = Leaves(program, self.layout, plan, slots, labels)
        self.groups: dict[tuple[str, ...], int] = {(): 0}
        self.exceptions = [h.name for h in program.hidden.values() if h.role == "exc"]
        self.jumps = any(b.exits for b in program.blocks.values())
        self.again = {**program.aliases, **program.recreated}
        self.constants: dict[str, Any] = {}
        """Tables that the function reads through closure cells."""

    def main(self) -> ast.FunctionDef:
        """`def (@pc, @in, @thrown, @slots, s, *ambients)`."""
        program = self.program
        names = ["@pc", "@in", "@thrown", "@slots", program.saga_name, *(n for n, _ in program.ambients)]
        body: list[ast.stmt] = []
        if any(leaving.after for leaving in self.plan.leaving.values()):
            body.append(ast.Assign([store("@from")], load("@pc")))
        if self.exceptions:
            body.append(ast.Assign([store(n) for n in self.exceptions], ast.Constant(None)))
        body.extend(self._prologue())
        if self.jumps:
            body.append(ast.Assign([store("@jump")], ast.Constant(None)))
        body.append(ast.While(ast.Constant(True), [self._turn()], []))
        # Every local stays one, even if only code that nothing reaches binds it (L5).
        every: list[ast.expr] = [store(name) for name in (*program.locals, *program.hidden)]
        if every:
            body.append(ast.Assign(every, ast.Constant(None)))
        return function("@main", names, body, program.node)

    # -- prologue ------------------------------------------------------------------------------------------

    def _prologue(self) -> list[ast.stmt]:
        """Bind the slots of the state, before any exception is raised again (G2).

        What all states under a decision bind stands above it, and what half of them bind stands there under a condition:
        states have most of their slots in common, and what a state does not touch is not passed in.
        """
        bodies = {site: self._bind(site) for site in sorted(self.plan.sure)}
        return self._binding(list(bodies), bodies)

    def _binding(self, sites: list[int], bodies: dict[int, dict[str, _How]]) -> list[ast.stmt]:
        if len(sites) == 1:
            return [stmt for name, how in bodies[sites[0]].items() for stmt in self._load(name, how)]
        if sites[0] == 0:  # the start has its parameters only, and shares little with the states
            return _decide(1, self._binding(sites[:1], bodies), self._binding(sites[1:], bodies))
        above: list[ast.stmt] = []
        several = [bodies[site] for site in sites]
        for name, count in Counter(name for body in several for name in body).items():
            ways: set[_How] = {body[name] for body in several if name in body}
            if count == len(sites) and len(ways) == 1:
                above += self._load(name, ways.pop())
            elif 2 * count >= len(sites) and count > FEW and AGAIN not in ways:
                above += self._load(name, PERHAPS)
            else:
                continue
            for body in several:
                body.pop(name, None)
        half = len(sites) // 2
        low, high = self._binding(sites[:half], bodies), self._binding(sites[half:], bodies)
        return [*above, *_decide(sites[half], low, high)]

    def _bind(self, site: int) -> dict[str, _How]:
        """How the names come to be that code from there can touch."""
        touched, sure = self.plan.touches[site], self.plan.sure[site]
        found: dict[str, _How] = {
            name: SURE if name in sure and name not in self.exceptions else PERHAPS
            for name in self.plan.stored[site]
            if name in touched
        }
        for name in self.again if site else ():
            if name in touched and name in self.live.get(site, ()):
                found[name] = AGAIN
        return found

    def _load(self, name: str, how: _How) -> list[ast.stmt]:
        if how == AGAIN:
            return [self.again[name]]
        key = ast.Constant(self.slots[name].name if name in self.slots else name)
        bind = ast.Assign([store(name)], ast.Subscript(load("@slots"), key, LOAD))
        if how == SURE:
            return [bind]
        return [ast.If(ast.Compare(key, [ast.In()], [load("@slots")]), [bind], [])]

    # -- one turn of the loop ------------------------------------------------------------------------------

    def _turn(self) -> ast.stmt:
        body: list[ast.stmt] = []
        if self.jumps:
            commit = [ast.Assign([store("@pc")], load("@jump")), _none("@jump")]
            body.append(ast.If(_is_not_none("@jump"), commit, []))
        plain, handled = self._entries()
        if handled:
            body.extend(self._handled_now())
        body.append(self._throw(bool(handled)))
        normal = _tree(sorted(plain), plain)
        if handled:
            inside = _tree(sorted(handled), handled)
            body.append(ast.If(_is_not_none("@h"), self._inside(inside), normal))
        else:
            body.extend(normal)
        catch = ast.ExceptHandler(load("@BaseException"), "@e", self._catch())
        return ast.Try(body, [catch], [], [])

    def _entries(self) -> tuple[dict[int, list[ast.stmt]], dict[int, list[ast.stmt]]]:
        """Leaves by number: for the plain tree, and for the one inside a real `except` (L11)."""
        pcs = self.layout.pcs
        work = [b for b in self.program.order() if b.id not in self.layout.inlined]
        plain: dict[int, list[ast.stmt]] = {}
        handled: dict[int, list[ast.stmt]] = {}
        done: set[int] = set()
        while work:
            block = work.pop(0)
            if block.id in done:
                continue
            done.add(block.id)
            leaf = self.leaves.leaf(block)
            if all(self.program.hidden[n].hint in ("finally", "flight") for n in block.handling):
                plain[pcs[block.id]] = leaf
            if block.handling:
                handled[pcs[block.id]] = leaf
            work.extend(self.program.blocks[n] for n in sorted(self.leaves.too_deep - done))
        return plain, handled

    def _handled_now(self) -> list[ast.stmt]:
        """`@h` = the innermost exception being handled at `@pc`, or None."""
        by_pc = {pc: self.program.blocks[n] for n, pc in self.layout.pcs.items()}
        table = [self._group(by_pc[pc].handling) if pc in by_pc else 0 for pc in range(self.layout.abort + 1)]
        self.constants["@GROUP"] = tuple(table)
        chain: list[ast.stmt] = [_none("@h")]
        for names, number in list(self.groups.items())[1:]:
            value: ast.expr = load(names[0])
            for name in names[1:]:
                value = ast.IfExp(_is_not_none(name), load(name), value)
            test = ast.Compare(load("@g"), [ast.Eq()], [ast.Constant(number)])
            chain = [ast.If(test, [ast.Assign([store("@h")], value)], chain)]
        group = ast.Subscript(load("@GROUP"), load("@pc"), LOAD)
        return [ast.Assign([store("@g")], group), *chain]

    def _group(self, names: tuple[str, ...]) -> int:
        return self.groups.setdefault(names, len(self.groups))

    def _throw(self, handled: bool) -> ast.stmt:
        """First turn: the exception that the awaited operation ended with, raised on the await's line."""
        sites = [site.index for site in self.program.sites if site.index in self.plan.leaving]
        lines = {site.index: site.line for site in self.program.sites}

        def throw(site: int) -> list[ast.stmt]:
            raising = ast.Raise(load("@e1"), None)
            raising.lineno = raising.end_lineno = lines[site]
            raising.col_offset = raising.end_col_offset = 0
            raising.exc = ast.Name("@e1", LOAD, lineno=lines[site], col_offset=0)
            return [raising]

        frames = [site.index for site in self.program.sites if site.kind == "frame"]
        from_called = ast.Compare(load("@pc"), [ast.In()], [constants(frames)])
        context = call("@linked", load("@thrown"), load("@h") if handled else ast.Constant(None), from_called)
        target = ast.Attribute(load("@e1"), "__context__", STORE)
        again = ast.Try(
            _tree(sites, {site: throw(site) for site in sites}) if sites else [ast.Pass()],
            [],
            [],
            [ast.Assign([target], load("@c")), _none("@e1")],
        )
        body: list[ast.stmt] = [
            ast.Assign([store("@c")], context),
            ast.Assign([store("@e1")], load("@thrown")),
            _none("@thrown"),
            again,
        ]
        return ast.If(_is_not_none("@thrown"), body, [])

    def _inside(self, tree: list[ast.stmt]) -> list[ast.stmt]:
        """Raise the handled exception for real, its context and traceback kept, and go on in the `except`."""
        keep = ast.Tuple(
            [
                ast.Attribute(load("@h"), "__context__", LOAD),
                ast.Attribute(load("@h"), "__traceback__", LOAD),
            ],
            LOAD,
        )
        back = ast.Tuple(
            [
                ast.Attribute(load("@h"), "__context__", STORE),
                ast.Attribute(load("@h"), "__traceback__", STORE),
            ],
            STORE,
        )
        restore = ast.Assign([back], load("@k"))
        handler = ast.ExceptHandler(load("@BaseException"), None, [restore, _none("@h"), _none("@k"), *tree])
        return [
            ast.Assign([store("@k")], keep),
            ast.Try([ast.Raise(load("@h"), None)], [handler], [], []),
        ]

    def _catch(self) -> list[ast.stmt]:
        """Where an exception goes: the landing block of `@pc`, or out."""
        pcs = self.layout.pcs
        table = [-1] * (self.layout.abort + 1)
        landings: dict[str, list[int]] = {}
        for block in self.program.blocks.values():
            if block.handler is not None:
                landing = self.program.blocks[block.handler]
                table[pcs[block.id]] = pcs[landing.id]
                landings.setdefault(landing.landing, []).append(pcs[landing.id])
        body: list[ast.stmt] = [_none("@jump")] if self.jumps else []
        if not landings:
            return [*body, ast.Raise(None, None)]
        self.constants["@HANDLER"] = tuple(table)
        target = ast.Subscript(load("@HANDLER"), load("@pc"), LOAD)
        body.append(ast.Assign([store("@pc")], target))
        out = ast.Compare(load("@pc"), [ast.Lt()], [ast.Constant(0)])
        body.append(ast.If(out, [ast.Raise(None, None)], []))
        chain: list[ast.stmt] = []
        for name, numbers in landings.items():
            test = ast.Compare(load("@pc"), [ast.In()], [constants(sorted(set(numbers)))])
            chain = [ast.If(test, [ast.Assign([store(name)], load("@e"))], chain)]
        return body + chain

    # -- further functions ---------------------------------------------------------------------------------

    def undo(self, site: UndoSite) -> ast.FunctionDef:
        """`def (captures, reply, s)`: what takes a step back."""
        body: list[ast.stmt] = [
            ast.Assign([store(n)], ast.Subscript(load("@captures"), ast.Constant(n), LOAD))
            for n in site.captures
        ]
        body.append(ast.Return(site.body))
        return function(f"@undo{site.index}", ["@captures", site.parameter, "@s"], body, self.program.node)

    def binder(self) -> ast.FunctionDef:
        """The author's signature without `s` and the ambients, giving the parameters by name."""
        args = self.program.node.args
        names = set(self.program.params)

        def kept(several: list[ast.arg]) -> list[ast.arg]:
            return [ast.arg(a.arg) for a in several if a.arg in names]

        result = ast.Dict(
            [ast.Constant(n) for n in self.program.params], [load(n) for n in self.program.params]
        )
        node = function("@bind", [], [ast.Return(result)], self.program.node)
        node.args.posonlyargs, node.args.args = kept(args.posonlyargs), kept(args.args)
        node.args.vararg = ast.arg(args.vararg.arg) if args.vararg else None
        node.args.kwonlyargs = kept(args.kwonlyargs)
        node.args.kw_defaults = [None] * len(node.args.kwonlyargs)
        node.args.kwarg = ast.arg(args.kwarg.arg) if args.kwarg else None
        return node


def function(name: str, names: list[str], body: list[ast.stmt], at: ast.AST) -> ast.FunctionDef:
    """A plain `def`."""
    args = ast.arguments([], [ast.arg(n) for n in names], None, [], [], None, [])
    node = ast.FunctionDef(name, args, body, [], None, None)
    if "type_params" in ast.FunctionDef._fields:
        node.type_params = []  # type: ignore[attr-defined, unused-ignore]
    node.lineno, node.col_offset = getattr(at, "lineno", 1), 0
    return node


def _tree(numbers: list[int], bodies: Mapping[int, list[ast.stmt]]) -> list[ast.stmt]:
    """Binary decisions on `@pc`."""
    if not numbers:
        return [ast.Pass()]
    if len(numbers) == 1:
        return bodies[numbers[0]]
    half = len(numbers) // 2
    return _decide(numbers[half], _tree(numbers[:half], bodies), _tree(numbers[half:], bodies))


def _decide(number: int, low: list[ast.stmt], high: list[ast.stmt]) -> list[ast.stmt]:
    """What stands below a number, and the rest."""
    if not low and not high:
        return []
    test = ast.Compare(load("@pc"), [ast.Lt()], [ast.Constant(number)])
    return [ast.If(test, low or [ast.Pass()], high)]


def _none(name: str) -> ast.stmt:
    return ast.Assign([store(name)], ast.Constant(None))


def _is_not_none(name: str) -> ast.expr:
    return ast.Compare(load(name), [ast.IsNot()], [ast.Constant(None)])
