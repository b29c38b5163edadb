"""The compiler's intermediate form: blocks of native statements joined by terminators, and what is known of each await.

`Program` is what lowering makes of one function and what every later pass reads. Names of hidden variables begin with
`@` (`@iter1`) and are local to one compilation; the stable name of a hidden slot (`iter.lines`) comes from alignment and
stands in `Hidden.slot`. A native statement is the author's own syntax tree, with the author's lines; the only node in it
that Python does not know is `Exit`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


class Exit(ast.stmt):
    """A jump out of native statements: leave for block `to`, after storing `value` in hidden `into`, if there is one.

    `to` is a block id; `deeper`: it stands inside a native loop, which it breaks first.
    """

    _fields = ("value",)
    value: ast.expr | None
    to: int
    into: str
    deeper: bool


@dataclass(slots=True)
class Jump:
    """Go on at a block."""

    to: int


@dataclass(slots=True)
class Branch:
    """Go on at `yes` or `no`.

    kind says what decides: `data` (the author's condition), `except` (the exception in hidden `slot` is one of `test`'s
    types: `test` is the type expression as written), `case` (hidden `slot` holds the subject, `pattern` is the case),
    `more` (the cursor in hidden `slot` has a further item), `pend` (hidden `slot` holds the exit named `exit`),
    `unwinds` (the exception in `slot` unwinds a scope: StepFailed or Cancelled), `bug` (it is another one).
    """

    test: ast.expr
    yes: int
    no: int
    kind: str = "data"
    slot: str = ""
    pattern: ast.match_case | None = None
    exit: str = ""


@dataclass(slots=True)
class Return:
    """The saga ends with this value; None: without one."""

    value: ast.expr | None
    line: int = 0


@dataclass(slots=True)
class Raise:
    """The author's `raise` statement (a bare one too)."""

    stmt: ast.Raise


@dataclass(slots=True)
class Reraise:
    """Raise the innermost exception being handled again, its context unchanged."""


@dataclass(slots=True)
class Await:
    """Issue an operation and stop; go on at `resume` with its result in `into` (a local, a hidden, or "": dropped)."""

    op: ast.expr
    into: str
    resume: int
    site: int
    """`Site.index`, from 1: `Program.sites[site - 1]`."""


Term = Jump | Branch | Return | Raise | Reraise | Await


@dataclass(slots=True)
class Block:
    """Statements without await, then one terminator."""

    id: int
    native: list[ast.stmt] = field(default_factory=list[ast.stmt])
    term: Term = field(default_factory=lambda: Jump(-1))
    handler: int | None = None
    """Block that receives an exception raised here; None: it leaves the saga."""
    landing: str = ""
    """Of a receiving block: the hidden variable that gets the exception."""
    handling: tuple[str, ...] = ()
    """Hidden variables with the exceptions being handled here, innermost last; those of a `finally` may be None."""
    exits: tuple[int, ...] = ()
    """Blocks to which `Exit`s in the native statements lead."""
    line: int = 0

    def successors(self) -> tuple[int, ...]:
        """Where control may go from here without an exception; after an await: the resume block."""
        term: Any = self.term
        kind = term.__class__
        if kind is Jump:
            return (*self.exits, term.to)
        if kind is Branch:
            return (*self.exits, term.yes, term.no)
        return (*self.exits, term.resume) if kind is Await else self.exits


@dataclass(slots=True)
class UndoSite:
    """An `undo=lambda ok: …` found in an operation; `index` names it in the tree as `@undo<index>`."""

    index: int
    site: int
    position: tuple[int, ...]
    """Of the operation within an `all` or `first`; empty: the awaited operation itself."""
    parameter: str
    body: ast.expr
    captures: tuple[str, ...]
    """Names copied at issue, in order of first use."""
    needs_reply: bool
    line: int
    column: int
    reply: Any = None
    """Type of the parameter: the success reply, or the step's result."""
    around: tuple[ast.comprehension, ...] = ()
    """Comprehensions that it stands in, outermost first, as written: some captures are their variables."""
    label: str = ""
    of: str = ""


@dataclass(slots=True)
class Site:
    """One await: what is known of its operation from the source."""

    index: int
    kind: str
    """One of `machine.KINDS`."""
    text: str
    """What a label is minted from: `ChargeCard`, `wait(Approved|Rejected)`, `all(A,B)`."""
    operation: str
    """`step ReserveStock`, `ask …`, `local …`, `wait …`, `sleep`, `all …`, `first …`, `frame …`, `compensate`, `unwind`."""
    path: str
    """Control path: `try/if.then`."""
    line: int
    column: int
    explicit: str = ""
    """`label=`, as written."""
    target: Any = None
    """The command class, StepDef or SagaDef."""
    replies: tuple[Any, ...] = ()
    """Classes of what settles it: replies (success first) or awaited events."""
    result: Any = None
    """Type of the value (an annotation; None for no value), or `UNKNOWN`."""
    arguments: tuple[Any, ...] = ()
    """Types of what travels with it (command class, parameters of the step): each needs a codec."""
    children: tuple[Site, ...] = ()
    starred: bool = False
    """Its children come from `*[…]`: one child site stands for all of them."""
    within: str = ""
    has_within: bool = False
    forever: bool = False
    undo: str = "missing"
    """`missing`, `none`, `op` (evaluated at issue), `lambda`."""
    undo_text: str = ""
    """What takes it back: `RefundCard`."""
    observe: bool = False
    """A local step that runs under `observe` too."""
    correlate: bool = False
    regions: tuple[str, ...] = ()
    scope_depth: int = 0
    label: str = ""
    """From alignment."""
    retry: Any = None
    """The policy of `retry=`, where it is known at compile time."""
    undo_target: Any = None
    """The command class or StepDef of `undo=`, where there is one."""
    correlated: Any = None
    """The expression of `correlate=`."""
    choices: tuple[Any, ...] = ()
    """Of a step taken from a mapping: every StepDef in it."""
    collects: bool = False
    """Of a map: failures are values."""
    operand: Any = None
    """Of an awaited handle: the expression that gives it, as written."""
    ignores: bool = False
    """Of `some`: what is still in flight at the end may go on."""
    fresh: bool = False
    """Of a wait: events that the instance has kept do not count."""
    undo_failed: bool = False
    """Undone after a definite failure too."""
    limit: Any = None
    """The expression of `within=` or `until=`, where it is no constant."""
    item: Any = None
    """Of a map: what one item gives."""

    def takes(self) -> tuple[Any, ...]:
        """Event classes that are applied when the instance stands here."""
        if self.kind == "wait":
            return self.replies
        return tuple(t for c in self.children for t in c.takes())


@dataclass(slots=True)
class Hidden:
    """A variable made by the compiler."""

    name: str
    """In the tree: `@iter1`."""
    role: str
    hint: str
    """For the stable name: `lines` of `iter.lines`."""
    path: str
    """Control path of its construct."""
    line: int
    column: int
    text: str = ""
    """The expression it holds, as written."""
    type: Any = None
    """Type when lowering knows it (`str` of a formatted part); None: to be inferred from the assignments in the blocks."""
    slot: str = ""
    """Stable name, from alignment; empty while it is not alive at any await."""


@dataclass(slots=True, kw_only=True)
class Program:
    """One saga after lowering."""

    name: str
    fn: Any
    node: ast.AsyncFunctionDef
    file: str
    source: tuple[str, ...]
    """Lines of the module."""
    namespace: Mapping[str, Any]
    """What a name that is no local means: builtins, globals, closure."""
    hints: Mapping[str, Any]
    """Resolved annotations of the parameters and `return`."""
    saga_name: str = "s"
    """Name of the first parameter."""
    params: tuple[str, ...] = ()
    """Without `s` and the ambients."""
    ambients: tuple[tuple[str, Any], ...] = ()
    locals: tuple[str, ...] = ()
    """Names bound in the function, parameters first, without `s` and the ambients."""
    cells: frozenset[str] = frozenset()
    """Locals that an inner function captures."""
    hidden: dict[str, Hidden] = field(default_factory=dict[str, Hidden])
    blocks: dict[int, Block] = field(default_factory=dict[int, Block])
    entry: int = 0
    sites: list[Site] = field(default_factory=list[Site])
    undos: list[UndoSite] = field(default_factory=list[UndoSite])
    recreated: dict[str, ast.stmt] = field(default_factory=dict[str, ast.stmt])
    """Local functions that the prologue defines again, by name."""
    aliases: dict[str, ast.stmt] = field(default_factory=dict[str, ast.stmt])
    """Locals bound once to a path of an ambient value (`log = s.log`): bound again in the prologue."""
    nodes: list[ast.AST] = field(default_factory=list[ast.AST])
    """The nodes of `node`, breadth first, without operators and contexts; once more after lowering."""
    ordered: list[Block] = field(default_factory=list[Block])
    """What `order` gives, once the blocks stay as they are."""

    def order(self) -> Iterator[Block]:
        """Blocks from the entry, depth first, `yes` before `no`, handlers after what they guard."""
        if self.ordered:
            yield from self.ordered
            return
        seen: set[int] = set()
        stack = [self.entry]
        while stack:
            number = stack.pop()
            if number in seen:
                continue
            seen.add(number)
            block = self.blocks[number]
            yield block
            after = [] if block.handler is None else [block.handler]
            stack.extend(reversed([*block.successors(), *after]))


@dataclass(slots=True, kw_only=True)
class Facts:
    """What the analyses found, by site index (0: the start)."""

    live: dict[int, frozenset[str]] = field(default_factory=dict[int, frozenset[str]])
    """Names (locals and hidden) whose value is needed after the await."""
    bound: dict[int, frozenset[str]] = field(default_factory=dict[int, frozenset[str]])
    """Names that may be bound at the await."""
    sure: dict[int, frozenset[str]] = field(default_factory=dict[int, frozenset[str]])
    """Names that are bound at the await for certain."""
    touches: dict[int, frozenset[str]] = field(default_factory=dict[int, frozenset[str]])
    """Names that code from the await to the next ones can read, bind or delete."""
