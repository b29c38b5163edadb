"""What statements without an await may do to control: exits, returns, raises, immediate calls, tracked values.

Abstract values are `("c", cls)`, an object of exactly that class; `("k", constant)`; `("x", cls, fuzzy)`, an exception
of that class, `fuzzy` if any other than StepFailed and Cancelled is meant; None, unknown.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from contrapas.errors import Cancelled, StepFailed
from contrapas.machine import trees
from contrapas.machine.ir import Block, Branch, Exit, Program, Return

Value = tuple[Any, ...] | None
Env = tuple[tuple[str, Any], ...]
"""(name, value), by name; unknown values are left out, so equal knowledge is equal."""
BUG: Value = ("x", Exception, True)
"""Some exception that is neither StepFailed nor Cancelled."""
WRITTEN_MAX = 24
"""Characters of an expression that an arrow can carry."""
RETURNED = "@line"
"""In an environment: the line of the `return` whose value is kept while a `finally` or a join runs."""
_RISKY = (ast.Call, ast.Subscript, ast.BinOp, ast.Assert, ast.Attribute)
_OWN = frozenset({"_enter", "_leave", "_limited", "_kill"})
_INNER = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_CALLS = {
    "point_of_no_return": "pivot", "_enter": "enter", "_limited": "enter", "_leave": "leave", "deadline": "deadline",
    "begin": "begin",
}  # fmt: skip


def env_get(env: Env, name: str) -> Value:
    """What is known of a name."""
    return next((value for key, value in env if key == name), None)


def env_set(env: Env, name: str, value: Any) -> Env:
    """With another value for a name."""
    rest = [item for item in env if item[0] != name]
    if value is not None:
        rest.append((name, value))
        rest.sort(key=lambda item: item[0])
    return tuple(rest)


class Fall(NamedTuple):
    """A way through statements: off their end, out to block `to`, a return, or an exception."""

    env: Env
    marks: tuple[tuple[Any, ...], ...] = ()
    to: int = -1
    returned: bool = False
    value: Any = None
    line: int = 0
    raised: bool = False
    exc: Any = None
    """What is raised; None with `raised`: something unknown."""


class Native:
    """Reads the native statements of one program."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.saga = program.saga_name
        self.tracked = _tracked(program)
        self.tests_unknown = any(
            isinstance(node, ast.Attribute) and node.attr == "unknown"
            for block in program.blocks.values()
            for tree in (*block.native, *([block.term.test] if isinstance(block.term, Branch) else []))
            for node in trees.walk(tree)
        )
        """Whether the saga asks an exception whether the outcome is unknown."""
        self.outcomes = _outcomes(program)
        self.emits: dict[Any, None] = {}
        """Classes of what was seen to be emitted."""
        self.decisions: dict[int, tuple[ast.AST, set[bool | None]]] = {}
        """Conditions and cases by identity, with every answer they gave."""
        self.unmatched: dict[int, tuple[ast.Match, dict[Any, None]]] = {}
        """`match` statements that no case of took a class, with the classes."""

    def keeps(self, name: str) -> bool:
        """Whether a value of this name can decide anything."""
        return name in self.tracked or name in self.program.hidden

    def run(self, block: Block, env: Env) -> list[Fall]:
        """Every way through a block's statements."""
        ends: dict[Fall, None] = {}
        for fall in self._run(block.native, (Fall(env),), block):
            ends.setdefault(fall)
        risky = block.handler is not None and any(_risky(s) for s in block.native)
        if risky:
            ends.setdefault(Fall(env, line=block.line, raised=True, exc=BUG))
        return list(ends)

    def _run(self, body: Iterable[ast.stmt], ways: tuple[Fall, ...], block: Block) -> tuple[Fall, ...]:
        ended: dict[Fall, None] = {}
        open_ways = dict.fromkeys(ways)
        for statement in body:
            following: dict[Fall, None] = {}
            for way in open_ways:
                for fall in self._one(statement, way, block):
                    closed = fall.to >= 0 or fall.returned or fall.raised
                    (ended if closed else following).setdefault(fall)
            open_ways = following
        return (*ended, *open_ways)

    def _one(self, node: ast.stmt, way: Fall, block: Block) -> Iterator[Fall]:
        """Every way through one statement."""
        env = way.env
        if isinstance(node, Exit):
            after = env_set(env, node.into, self.value(node.value, env)) if node.into else env
            if node.into.startswith("@ret"):
                after = env_set(after, RETURNED, ("k", getattr(node.value, "lineno", 0)))
            yield way._replace(env=after, to=node.to)
        elif isinstance(node, ast.Return):
            yield way._replace(returned=True, value=self.value(node.value, env), line=node.lineno)
        elif isinstance(node, ast.Raise):
            exc = self.raised(node, env, block)
            yield Fall(env, way.marks, line=node.lineno, raised=True, exc=exc)
        elif isinstance(node, ast.If):
            decided = self.test(node.test, env)
            self.note(node, decided)
            if decided is not False:
                yield from self._run(node.body, (way,), block)
            if decided is not True:
                yield from self._run(node.orelse, (way,), block)
        elif isinstance(node, ast.Match):
            yield from self._match(node, way, block)
        elif isinstance(node, ast.For | ast.While | ast.Try | ast.With):
            yield from self._compound(node, way, block)
        else:
            yield self._simple(node, way)

    def _match(self, node: ast.Match, way: Fall, block: Block) -> Iterator[Fall]:
        subject = self.value(node.subject, way.env)
        for case in node.cases:
            decided = self.matches(case, subject)
            self.note(case, decided)
            if decided is not False:
                yield from self._run(case.body, (way,), block)
            if decided is True:
                return
        if subject is not None and subject[0] == "c":
            self.unmatched.setdefault(id(node), (node, {}))[1].setdefault(subject[1])
        yield way

    def note(self, node: ast.AST, decided: bool | None) -> None:
        """Remember how a condition went."""
        self.decisions.setdefault(id(node), (node, set()))[1].add(decided)

    def _compound(
        self, node: ast.For | ast.While | ast.Try | ast.With, way: Fall, block: Block
    ) -> Iterator[Fall]:
        """Loops, `with`, `try`: each part once or not at all; what they bind is unknown afterwards."""
        env = way.env
        for name in _bound(node):
            env = env_set(env, name, None)
        way = way._replace(env=env)
        bodies: list[list[ast.stmt]] = [node.body]
        if isinstance(node, ast.Try):
            bodies += [handler.body for handler in node.handlers] + [node.orelse, node.finalbody]
            caught = bool(node.handlers)
        else:
            caught = False
            bodies += [node.orelse] if isinstance(node, ast.For | ast.While) else []
        yield way
        for body in bodies:
            for fall in self._run(body, (way,), block):
                if not (caught and fall.raised):
                    yield fall

    def _simple(self, node: ast.stmt, way: Fall) -> Fall:
        env, marks = way.env, way.marks
        for cls in _handed(node, env, self.saga):
            said: tuple[Any, ...] = ("handed", cls, node.lineno)
            marks = marks if said in marks else (*marks, said)
        for call in _calls(node):
            if isinstance(call.func, ast.Attribute) and _is(call.func.value, self.saga):
                mark = _CALLS.get(call.func.attr)
                if call.func.attr == "emit":
                    made = self.value(call.args[0], env) if call.args else None
                    if made is not None and made[0] == "c":
                        self.emits.setdefault(made[1])
                    if made is not None and made[0] == "c" and made[1] in self.outcomes:
                        marks = (*marks, ("emit", type_name(made[1])))
                elif call.func.attr == "reply" and call.args:
                    to = self.value(call.args[0], env)
                    said = ("reply", to[1] if to is not None and to[0] == "c" else None, call.lineno)
                    if marks.count(said) < 2:  # a loop without an await says it for ever
                        marks = (*marks, said)
                elif mark in ("enter", "leave"):
                    marks = (*marks, (mark, _scope(call)))
                elif mark == "begin":
                    marks = (*marks, (mark, handle(call)))
                elif mark is not None:
                    marks = (*marks, (mark, call.lineno))
        if isinstance(node, ast.Assign):
            value = self.value(node.value, env)
            for target in node.targets:
                for name in _names(target):
                    if name.startswith("@ret"):
                        env = env_set(env, RETURNED, ("k", getattr(node.value, "lineno", 0)))
                    known = value if isinstance(target, ast.Name) and self.keeps(name) else None
                    env = env_set(env, name, known)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            if node.value is not None:
                name = node.target.id
                env = env_set(env, name, self.value(node.value, env) if self.keeps(name) else None)
        else:
            for name in _bound(node):
                env = env_set(env, name, None)
        return way._replace(env=env, marks=marks)

    def value(self, node: ast.expr | None, env: Env) -> Value:
        """What an expression is known to give."""
        if node is None:
            return ("k", None)
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bool | None):
            return ("k", node.value)
        if isinstance(node, ast.Name):
            return env_get(env, node.id)
        if isinstance(node, ast.NamedExpr):
            return self.value(node.value, env)
        if isinstance(node, ast.Call):
            if number := handle(node):
                return ("h", number)
            found = self.resolve(node.func)
            if isinstance(found, type):
                made: type[Any] = found
                return ("x", made, False) if issubclass(made, BaseException) else ("c", made)
        return None

    def resolve(self, node: ast.expr) -> Any:
        """What a dotted name means in the module; None: nothing, or a local."""
        if isinstance(node, ast.Name):
            return None if node.id in self.program.locals else self.program.namespace.get(node.id)
        if isinstance(node, ast.Attribute):
            return getattr(self.resolve(node.value), node.attr, None)
        return None

    def handled(self, block: Block, env: Env) -> Value:
        """The innermost exception being handled."""
        for slot in reversed(block.handling):
            held = env_get(env, slot)
            if held is not None and held[0] == "x":
                return held
        return BUG

    def raised(self, node: ast.Raise, env: Env, block: Block) -> Value:
        """What a `raise` raises."""
        if node.exc is None:
            return self.handled(block, env)
        found = self.resolve(node.exc)
        if isinstance(found, type) and issubclass(found, BaseException):
            return ("x", found, False)
        value = self.value(node.exc, env)
        return value if value is not None and value[0] == "x" else BUG

    def catches(self, test: ast.expr, held: Value) -> bool | None:
        """Whether `except <test>` takes the exception; None: it depends."""
        if held is None or held[0] != "x":
            return None
        parts = test.elts if isinstance(test, ast.Tuple) else [test]
        found = [self.resolve(part) for part in parts]
        answers = [_catches(t, held) if isinstance(t, type) else None for t in found]
        return True if True in answers else None if None in answers else False

    def unwinds(self, held: Value) -> bool | None:
        """Whether the exception unwinds a scope."""
        if held is None or held[0] != "x":
            return None
        return False if held[2] else issubclass(held[1], StepFailed | Cancelled)

    def matches(self, case: ast.match_case, subject: Value) -> bool | None:
        """Whether a case takes the subject; None: it depends."""
        answer = self._pattern(case.pattern, subject)
        return None if answer is True and case.guard is not None else answer

    def _pattern(self, pattern: ast.pattern, subject: Value) -> bool | None:
        if isinstance(pattern, ast.MatchAs):
            return True if pattern.pattern is None else self._pattern(pattern.pattern, subject)
        if isinstance(pattern, ast.MatchOr):
            answers = [self._pattern(p, subject) for p in pattern.patterns]
            return True if True in answers else None if None in answers else False
        if isinstance(pattern, ast.MatchClass) and subject is not None and subject[0] == "c":
            cls = self.resolve(pattern.cls)
            if not isinstance(cls, type):
                return None
            if not issubclass(subject[1], cls):
                return False
            inner = [self._pattern(p, None) for p in (*pattern.patterns, *pattern.kwd_patterns)]
            return True if all(a is True for a in inner) else None
        return None

    def test(self, node: ast.expr, env: Env) -> bool | None:
        """A condition, where it is decided: constants, `isinstance` of a known class, `not`."""
        if isinstance(node, ast.Constant):
            return bool(node.value)
        if isinstance(node, ast.Attribute) and node.attr == "unknown":
            held = self.value(node.value, env)
            return bool(held[3]) if held is not None and held[0] == "x" and len(held) > 3 else None
        if isinstance(node, ast.BoolOp):
            answers = [self.test(part, env) for part in node.values]
            strong = isinstance(node.op, ast.Or)
            if strong in answers:
                return strong
            return None if None in answers else not strong
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            inner = self.test(node.operand, env)
            return None if inner is None else not inner
        if isinstance(node, ast.Call) and _is(node.func, "isinstance") and len(node.args) == 2:
            held = self.value(node.args[0], env)
            second = node.args[1]
            parts = second.elts if isinstance(second, ast.Tuple) else [second]
            classes = [self.resolve(part) for part in parts]
            if held is not None and held[0] == "c" and all(isinstance(c, type) for c in classes):
                return issubclass(held[1], tuple(classes))
        return None


def _catches(handler: type, held: tuple[Any, ...]) -> bool | None:
    raised, fuzzy = held[1], held[2]
    if fuzzy:
        if handler in (Exception, BaseException):
            return True
        return False if issubclass(handler, StepFailed | Cancelled) else None
    if issubclass(raised, handler):
        return True
    return None if issubclass(handler, raised) else False


def _handed(node: ast.stmt, env: Env, saga: str) -> Iterator[Any]:
    """Classes of received commands that a statement puts into a container or hands to a call: who answers is not seen."""
    held = {
        n: v[1] for n, v in env if v is not None and v[0] == "c" and getattr(v[1], "__contrapas_replies__", 0)
    }
    if not held:
        return
    for inner in trees.walk(node):
        parts: list[ast.expr] = []
        if isinstance(inner, ast.Call) and not (_replies(inner, saga) or _is(inner.func, "isinstance")):
            parts = [*inner.args, *[k.value for k in inner.keywords]]
        elif isinstance(inner, ast.List | ast.Tuple | ast.Set):
            parts = list(inner.elts)
        elif isinstance(inner, ast.Dict):
            parts = list(inner.values)
        elif isinstance(inner, ast.Assign) and not all(isinstance(t, ast.Name) for t in inner.targets):
            parts = [inner.value]
        for part in parts:
            if isinstance(part, ast.Name) and part.id in held:
                yield held[part.id]


def _replies(node: ast.Call, saga: str) -> bool:
    """`s.reply(command, …)`: whose command it is decides what is answered."""
    func = node.func
    return (
        isinstance(func, ast.Attribute)
        and func.attr == "reply"
        and _is(func.value, saga)
        and len(node.args) > 0
    )


def _tracked(program: Program) -> frozenset[str]:
    """Locals whose class can decide where control goes, and what they are copied from."""
    names: set[str] = set()
    copies: dict[str, set[str]] = {}
    roots: list[ast.AST] = []
    for block in program.blocks.values():
        roots += block.native
        term = block.term
        if isinstance(term, Branch):
            roots.append(term.test)
        elif isinstance(term, Return) and term.value is not None:
            names |= {n.id for n in trees.walk(term.value) if isinstance(n, ast.Name)}
    for node in (inner for root in roots for inner in trees.walk(root)):
        if (
            isinstance(node, ast.Call)
            and _is(node.func, "isinstance")
            and node.args
            or isinstance(node, ast.Call)
            and _replies(node, program.saga_name)
        ):
            names |= {n.id for n in trees.walk(node.args[0]) if isinstance(n, ast.Name)}
        elif isinstance(node, ast.Attribute) and node.attr == "unknown" and isinstance(node.value, ast.Name):
            names.add(node.value.id)
        elif isinstance(node, ast.Match):
            names |= {node.subject.id} if isinstance(node.subject, ast.Name) else set()
        elif isinstance(node, ast.Return | Exit) and isinstance(node.value, ast.Name):
            names.add(node.value.id)
        elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Name):
            names.add(node.exc.id)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Name):
            for name in _names(node.target):
                copies.setdefault(name, set()).add(node.value.id)
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Name):
            for target in node.targets:
                for name in _names(target):
                    copies.setdefault(name, set()).add(node.value.id)
    names |= {s.operand.id for s in program.sites if s.kind == "result" and isinstance(s.operand, ast.Name)}
    todo = [*names, *program.hidden]
    while todo:
        for source in copies.get(todo.pop(), ()):
            if source not in names:
                names.add(source)
                todo.append(source)
    return frozenset(names)


def handle(node: ast.AST) -> int:
    """The site of a `s.begin(…)` that an expression is; 0: it is none."""
    for keyword in node.keywords if isinstance(node, ast.Call) else ():
        value = keyword.value
        if keyword.arg == "label" and isinstance(value, ast.Constant) and value.kind == "@":
            return int(str(value.value).rpartition("begin")[2])
    return 0


def _scope(call: ast.Call) -> str:
    """Name of a scope that is entered or left; a limited one says so: `scope|10m`."""
    first = call.args[0] if call.args else None
    name = str(first.value) if isinstance(first, ast.Constant) else "scope"
    limits = [k.value for k in call.keywords if k.arg in ("within", "until")]
    if limits or not isinstance(first, ast.Constant):
        length = written(limits[0]) if limits else "within"
        return f"{name}|{length}"
    return name


def written(node: Any) -> str:
    """A limit of time as the author wrote it, where that is short: `30d`, `30d | 5d` of a condition; else `within`."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.IfExp):
        return f"{written(node.body)} | {written(node.orelse)}"
    text = ast.unparse(node) if isinstance(node, ast.expr) else ""
    return text if 0 < len(text) <= WRITTEN_MAX and "@" not in text else "within"


def _outcomes(program: Program) -> frozenset[Any]:
    """Classes of the return annotation."""
    hint = program.hints.get("return")
    return frozenset(getattr(hint, "__args__", None) or ((hint,) if isinstance(hint, type) else ()))


def type_name(cls: Any) -> str:
    """Registered name of a message class, name of any other."""
    return str(
        getattr(cls, "__contrapas_name__", None)
        or getattr(cls, "name", None)
        or getattr(cls, "__name__", cls)
    )


def _is(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _names(target: ast.expr) -> list[str]:
    """Names that a target binds."""
    return [n.id for n in trees.walk(target) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]


def _bound(node: ast.AST) -> list[str]:
    """Names that a statement binds or deletes, inner functions apart."""
    found = [n.id for n in _walk(node) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)]
    return [*found, *(n.name for n in _walk(node) if isinstance(n, ast.MatchAs) and n.name)]


def _calls(node: ast.AST) -> list[ast.Call]:
    return [n for n in _walk(node) if isinstance(n, ast.Call)]


def _risky(node: ast.AST) -> bool:
    """Whether a statement can raise of its own accord; calls that the compiler made and plain bindings do not."""
    call = node.value if isinstance(node, ast.Expr) else None
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in _OWN:
        return False
    return any(isinstance(n, _RISKY) for n in _walk(node))


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """A tree without the insides of functions and classes."""
    todo = [node]
    while todo:
        current = todo.pop()
        yield current
        if not isinstance(current, _INNER):
            todo.extend(trees.children(current))
