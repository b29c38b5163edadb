"""What every part of lowering builds with: blocks in their exception context, hidden variables, the leap stack (L2)."""

from __future__ import annotations

import ast
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from contrapas.compiler import trees
from contrapas.compiler.operations import Found
from contrapas.machine.ir import Await, Block, Branch, Exit, Hidden, Jump, Program, Return, Term

LOAD: Final = ast.Load()
STORE: Final = ast.Store()
PLACEHOLDER: Final = "@"
"""`kind` of a constant that waits for the name that alignment gives."""
N = TypeVar("N", bound=ast.AST)


class Unknown(Exception):
    """A form that no rule of lowering knows, at `node`."""

    def __init__(self, node: ast.AST) -> None:
        super().__init__(type(node).__name__)
        self.node = node


@dataclass(slots=True)
class Context:
    """Where exceptions go from here, and which are being handled."""

    handler: int | None = None
    handling: tuple[str, ...] = ()


@dataclass(slots=True)
class Leap:
    """Something that a jump may have to leave: a loop, a `finally`, a named handler, a scope."""

    kind: str
    outside: Context
    name: str = ""
    """Loop: how a pending exit calls it. Handler: the name to unbind. Finally: its `pend` variable."""
    break_to: int = -1
    continue_to: int = -1
    body: int = -1
    """Finally: its first block."""
    exc: str = ""
    exits: dict[str, tuple[str, Leap | None]] = field(default_factory=dict[str, "tuple[str, Leap | None]"])
    """Finally: pending exits by name -> (break, continue or return; its loop)."""


class Builder:
    """Blocks of one program, built in order."""

    def __init__(self, program: Program, found: dict[int, Found], rebound: frozenset[str]) -> None:
        self.program = program
        self.found = found
        self.begun = {id(one.node): one for one in found.values() if one.site.kind == "begin"}
        self.rebound = rebound
        """Locals that inner functions rebind."""
        self.own = frozenset(program.locals)
        self.ambient = frozenset(name for name, _ in program.ambients) | {program.saga_name}
        self.context = Context()
        self.leaps: list[Leap] = []
        self.path: list[str] = []
        self.regions: list[str] = []
        self.depth = 0
        self.stubs: dict[tuple[Any, ...], int] = {}
        self.counts: dict[str, int] = {}
        self.ret = ""
        self.block = self.new()
        program.entry = self.block.id

    # -- blocks --------------------------------------------------------------------------------------------

    def new(self, context: Context | None = None) -> Block:
        """A block of the current exception context."""
        context = context or self.context
        number = len(self.program.blocks) + 1
        block = Block(number, handler=context.handler, handling=context.handling)
        self.program.blocks[number] = block
        return block

    def start(self, block: Block) -> None:
        """Build there from now on."""
        self.block = block

    def emit(self, *stmts: ast.stmt) -> None:
        """Native statements at the end of the current block."""
        self.block.native.extend(stmts)
        if not self.block.line and stmts:
            self.block.line = getattr(stmts[0], "lineno", 0)

    def end(self, term: Term) -> None:
        """Finish the current block. What follows, until the next `start`, is unreachable."""
        self.block.term = term
        self.block = self.new()

    def goto(self, block: Block) -> None:
        """Finish by going there, and build there."""
        self.end(Jump(block.id))
        self.start(block)

    @contextmanager
    def within(self, context: Context) -> Generator[None]:
        """Blocks made here belong to another exception context."""
        before, self.context = self.context, context
        yield
        self.context = before

    @contextmanager
    def leap(self, leap: Leap) -> Generator[Leap]:
        """A construct that jumps may leave."""
        self.leaps.append(leap)
        yield leap
        self.leaps.pop()

    @contextmanager
    def at(self, step: str, region: str = "") -> Generator[None]:
        """One step of the control path, and the region that it opens."""
        self.path.append(step)
        if region:
            self.regions.append(region)
        yield
        self.path.pop()
        if region:
            self.regions.pop()

    # -- hidden variables ----------------------------------------------------------------------------------

    def hidden(self, role: str, node: ast.AST, hint: str = "", *, text: str = "", type: Any = None) -> str:
        """A fresh hidden variable."""
        number = self.counts[role] = self.counts.get(role, 0) + 1
        name = f"@{role}{number}"
        self.program.hidden[name] = Hidden(
            name=name,
            role=role,
            hint=hint,
            path="/".join(self.path),
            line=getattr(node, "lineno", 0),
            column=getattr(node, "col_offset", 0),
            text=text,
            type=type,
        )
        return name

    def assign(self, name: str, value: ast.expr, at: ast.AST) -> None:
        """`name = value`, on the line of `at`."""
        self.emit(place(ast.Assign([store(name)], value), at))

    # -- jumps ---------------------------------------------------------------------------------------------

    def jump_out(self, kind: str, value: ast.expr | None, at: ast.AST) -> None:
        """`return value`, `break`, `continue` in exploded code."""
        if kind == "return" and not self.crosses("return"):
            self.end(Return(value, getattr(at, "lineno", 0)))
            return
        if kind == "return":
            self.assign(self.return_slot(at), value or ast.Constant(None), at)
        self.end(Jump(self.exit_block(kind)))

    def native_exit(self, kind: str, value: ast.expr | None, at: ast.AST, deeper: bool) -> ast.stmt:
        """The same as a statement that may stand inside native ones."""
        leave = Exit()
        leave.value, leave.into, leave.deeper = None, "", deeper
        if kind == "return":
            leave.value, leave.into = value or place(ast.Constant(None), at), self.return_slot(at)
        leave.to = self.exit_block(kind)
        return place(leave, at)

    def crosses(self, kind: str) -> bool:
        """Whether the jump leaves something that wants a say."""
        for leap in reversed(self.leaps):
            if leap.kind == "loop":
                if kind != "return":
                    return False
            elif leap.kind != "handler" or kind != "return":
                return True
        return False

    def return_slot(self, at: ast.AST) -> str:
        """The one hidden variable for a return value on its way through `finally`s."""
        if not self.ret:
            self.ret = self.hidden("ret", at, type=self.program.hints.get("return"))
        return self.ret

    def exit_block(self, kind: str, loop: Leap | None = None) -> int:
        """A block that leaves everything between here and the target of the jump, innermost first."""
        if kind != "return" and loop is None:
            loop = next(leap for leap in reversed(self.leaps) if leap.kind == "loop")
        key = (kind, id(loop), *(id(leap) for leap in self.leaps))
        if key not in self.stubs:
            self.stubs[key] = self._exit_block(kind, loop)
        return self.stubs[key]

    def _exit_block(self, kind: str, loop: Leap | None) -> int:
        native: list[ast.stmt] = []
        context = self.context
        term: Term | None = None
        for leap in reversed(self.leaps):
            if leap.kind == "loop":
                if leap is loop:
                    term = Jump(leap.break_to if kind == "break" else leap.continue_to)
                    break
                continue
            context = leap.outside
            if leap.kind == "handler":
                native.extend(unbind(leap.name))
            elif leap.kind == "scope":
                native.append(leave_scope(self.program.saga_name))
            else:
                name = self._exit_name(kind, loop)
                leap.exits[name] = (kind, loop)
                native.append(ast.Assign([store(leap.name)], placeholder(name)))
                native.append(assign_constant(leap.exc, None))
                term = Jump(leap.body)
                break
        if term is None:
            term = Return(load(self.return_slot(ast.Pass())))
        if not native and isinstance(term, Jump):
            return term.to
        block = self.new(context)
        block.native, block.term = native, term
        return block.id

    def _exit_name(self, kind: str, loop: Leap | None) -> str:
        if loop is None:
            return "return"
        if loop.name != "while":
            return f"{kind} {loop.name}"
        whiles = [leap for leap in self.leaps if leap.kind == "loop" and leap.name == "while"]
        number = len(whiles) - whiles.index(loop)
        return f"{kind} while" if number == 1 else f"{kind} while.{number}"

    # -- awaits --------------------------------------------------------------------------------------------

    def issue(self, found: Found, op: ast.expr, into: str) -> None:
        """The await itself: a site, an `Await`, and the block where it goes on."""
        site = found.site
        site.index = len(self.program.sites) + 1
        site.path = "/".join(self.path)
        site.regions = tuple(self.regions)
        site.scope_depth = self.depth
        self.program.sites.append(site)
        resume = self.new()
        self.block.line = self.block.line or site.line
        self.block.term = Await(op, into, resume.id, site.index)
        resume.line = site.line
        for number in found.undo_numbers:
            self.program.undos[number].site = site.index
        self.start(resume)
        if (
            into
        ):  # binding a name cannot fail: without a line of its own a breakpoint on the await is hit once
            self.emit(ast.Assign([store(into)], load("@in")))

    def branch(self, test: ast.expr, yes: Block, no: Block, **more: Any) -> None:
        """Finish by a decision."""
        self.end(Branch(test, yes.id, no.id, **more))


def place(node: N, at: ast.AST) -> N:
    """Give a new node, and what is new below it, the place of an old one, if that has one."""
    line = getattr(at, "lineno", 0)
    if not line:
        return node
    column = getattr(at, "col_offset", 0)
    end, end_column = getattr(at, "end_lineno", None) or line, getattr(at, "end_col_offset", None) or column
    for inner in trees.walk(node):
        held = inner.__dict__
        if "lineno" not in held and "lineno" in inner._attributes:
            held["lineno"], held["col_offset"] = line, column
            held["end_lineno"], held["end_col_offset"] = end, end_column
    return node


def load(name: str) -> ast.Name:
    """A name to read."""
    return ast.Name(name, LOAD)


def store(name: str) -> ast.Name:
    """A name to bind."""
    return ast.Name(name, STORE)


def call(name: str, *args: ast.expr) -> ast.Call:
    """A call of one of the compiler's helpers."""
    return ast.Call(load(name), list(args), [])


def assign_constant(name: str, value: str | bool | None) -> ast.stmt:
    """`name = constant`, without a line of its own."""
    return ast.Assign([store(name)], ast.Constant(value))


def placeholder(text: str) -> ast.Constant:
    """A text that emission replaces by its final name."""
    return ast.Constant(text, PLACEHOLDER)


def unbind(name: str) -> list[ast.stmt]:
    """What Python does with the name of a handler on every way out (L7)."""
    return [assign_constant(name, None), ast.Delete([ast.Name(name, ast.Del())])]


def leave_scope(saga_name: str) -> ast.stmt:
    """`s._leave("scope")`."""
    func = ast.Attribute(load(saga_name), "_leave", LOAD)
    return ast.Expr(ast.Call(func, [ast.Constant("scope")], []))
