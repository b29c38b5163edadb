"""What is awaited: operations are recognised in the source, resolved through the function's names, never guessed."""

from __future__ import annotations

import ast
import functools
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Union, get_args, get_origin

from contrapas.author.event import Command, Event, message_spec
from contrapas.author.retry import Retry
from contrapas.author.saga import SagaDef
from contrapas.author.service import supplied
from contrapas.author.step import StepDef
from contrapas.author.timeout import Timeout
from contrapas.codec.kinds import is_kind
from contrapas.codec.registry import hints_of
from contrapas.compiler import advice, constants, conversation, inflight, manifold, mapping, scopes, trees
from contrapas.compiler.bindings import assignments
from contrapas.compiler.refusals import Refusals
from contrapas.errors import ContrapasError, DataError
from contrapas.machine.ir import Site

UNRESOLVED: Final = object()
OPERATIONS: Final = frozenset(
    {
        "step", "ask", "wait", "sleep", "all", "first", "map", "child", "cancel", "compensate", "next", "some",
    }
)  # fmt: skip
IMMEDIATE: Final = frozenset(
    {
        "begin", "reply", "show", "link", "note", "tell", "untell", "emit", "point_of_no_return", "deadline", "key", "log",
    }
)  # fmt: skip
LATER: Final = frozenset(
    {
        "queue", "limit", "lock",
    }
)  # fmt: skip
"""Forms of the language that this release does not compile yet: refused, not misread."""
CP101_FIX: Final = "s.sleep for time, s.all for parallel work, within= for a limit, or do it inside a @step"


@dataclass(slots=True)
class Undoing:
    """`undo=` of one operation, as written."""

    form: str
    node: ast.expr | None = None
    parameter: str = ""
    body: ast.expr | None = None
    needs_reply: bool = False
    text: str = ""
    """What takes it back: `RefundCard`."""
    of: str = ""
    """What is taken back: `ChargeCard`."""
    position: tuple[int, ...] = ()
    """Of what is taken back, within joins."""
    reply: Any = None
    target: Any = None
    """The command class or StepDef that takes back."""


@dataclass(slots=True)
class Found:
    """An operation in the source: what is known of it, and the `undo=` keywords inside it."""

    site: Site
    undos: list[tuple[ast.keyword, Undoing]] = field(default_factory=list[tuple[ast.keyword, Undoing]])
    node: ast.AST = field(default_factory=ast.Pass)
    undo_numbers: list[int] = field(default_factory=list[int])
    """Indexes of its undos in `Program.undos`."""


class Operations:
    """Recognises operations in one function."""

    def __init__(
        self,
        refusals: Refusals,
        namespace: Mapping[str, Any],
        saga_name: str,
        own: frozenset[str],
        hints: Mapping[str, Any],
        body: list[ast.stmt],
    ) -> None:
        self.refusals = refusals
        self.namespace = namespace
        self.saga = saga_name
        self.own = own
        self.hints = hints
        self.assigned = assignments(body)

    def union(self, members: Any) -> Any:
        """The union of some types."""
        return union(members)

    # -- names ---------------------------------------------------------------------------------------------

    def resolve(self, node: ast.expr) -> Any:
        """What a dotted name means outside of this function's locals; UNRESOLVED otherwise."""
        if isinstance(node, ast.Name):
            if node.id in self.own or node.id == self.saga:
                return UNRESOLVED
            return self.namespace.get(node.id, UNRESOLVED)
        if isinstance(node, ast.Attribute):
            base = self.resolve(node.value)
            if base is UNRESOLVED or not isinstance(base, types.ModuleType | type):
                return UNRESOLVED
            return getattr(base, node.attr, UNRESOLVED)
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Name | ast.Attribute):
            base = self.resolve(node.value)  # a generic class: `Page[Order](…)`
            inner = self.resolve(node.slice)
            if isinstance(base, type) and inner is not UNRESOLVED:
                try:
                    return base[inner]  # type: ignore[index]
                except TypeError:
                    return UNRESOLVED
        return UNRESOLVED

    def class_of(self, node: ast.expr, base: type[Any]) -> Any:
        """The class of a command or event that an expression gives; UNRESOLVED when it cannot be told."""
        if isinstance(node, ast.Await):
            return UNRESOLVED
        if isinstance(node, ast.NamedExpr):
            return self.class_of(node.value, base)
        if isinstance(node, ast.Call):
            made = self.resolve(node.func)
            if isinstance(made, types.MethodType) and isinstance(made.__self__, type):
                made = made.__self__
            elif isinstance(made, types.FunctionType):
                made = _hints(made).get("return", UNRESOLVED)
            return made if isinstance(made, type) and issubclass(made, base) else UNRESOLVED
        if isinstance(node, ast.IfExp):
            yes, no = self.class_of(node.body, base), self.class_of(node.orelse, base)
            return yes if yes is no else UNRESOLVED
        if isinstance(node, ast.Name):
            return self._class_of_name(node.id, base)
        return UNRESOLVED

    def _class_of_name(self, name: str, base: type[Any]) -> Any:
        hint = self.hints.get(name, UNRESOLVED)
        if is_kind(hint, base):
            return hint
        if name not in self.own:
            value = self.namespace.get(name, UNRESOLVED)
            return value.__class__ if isinstance(value, base) else UNRESOLVED
        found: set[Any] = set()
        for value, annotation in self.assigned.get(name, ()):
            made = self.resolve(annotation) if annotation is not None else UNRESOLVED
            if is_kind(made, base):
                return made  # what is annotated once holds for every assignment
            if value is not None and (isinstance(value, ast.Call) or not _mentions(value, name)):
                made = self.class_of(value, base)
            found.add(made)
        made = found.pop() if len(found) == 1 else UNRESOLVED
        return made if isinstance(made, type) and issubclass(made, base) else UNRESOLVED

    def method(self, node: ast.AST) -> str:
        """`step` of a call `s.step(…)`, empty for anything else."""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            base = node.func.value
            if isinstance(base, ast.Name) and base.id == self.saga:
                return node.func.attr
        return ""

    def is_operation(self, node: ast.AST) -> bool:
        """Whether an expression builds an operation."""
        if self.method(node) in OPERATIONS or mapping.is_mapping(self, node):
            return True
        return isinstance(node, ast.Call) and isinstance(self.resolve(node.func), StepDef | SagaDef)

    # -- the awaited expression ----------------------------------------------------------------------------

    def classify(self, node: ast.expr, path: str, *, at: ast.AST | None = None) -> Found | None:
        """The operation that `node` builds; None when it is refused (and said so)."""
        at = at or node
        method = self.method(node)
        if isinstance(node, ast.Call) and method:
            if method == "step":
                return self._step(node, path, at)
            if method in inflight.FORMS:
                return inflight.classify(self, method, node, path, at)
            if method in OPERATIONS:
                return getattr(self, f"_{method}")(node, path, at)  # type: ignore[no-any-return]
            if method in LATER:
                return None  # said where the name stands (`accept`)
        if isinstance(node, ast.Call) and mapping.is_mapping(self, node):
            return mapping.chosen(self, node, path, at)
        if isinstance(node, ast.Call):
            target: Any = self.resolve(node.func)
            found: Any = target
            if isinstance(target, StepDef):
                return self._local(node, found, path, at)
            if isinstance(target, SagaDef):
                return self._frame(node, found, path, at)
            if isinstance(target, types.FunctionType) and target.__code__.co_flags & 0x80:
                text = f"{target.__name__} is a plain async function: the compiler cannot stop inside it"
                if target.__module__.partition(".")[0] == "asyncio":
                    self.refusals.add(at, "CP101", f"asyncio.{target.__name__} is no operation", CP101_FIX)
                else:
                    self.refusals.add(at, "CP102", text, "mark it @saga (part of this one) or @step")
                return None
        handle = inflight.result(self, node, path, at)
        if handle is not None:
            return handle
        shown = ast.unparse(node)
        self.refusals.add(at, "CP101", f"`{_cut(shown)}` is no operation of this saga", CP101_FIX)
        return None

    def site(self, node: ast.AST, path: str, kind: str, text: str, operation: str, **more: Any) -> Site:
        """A site that stands there."""
        line, column = getattr(node, "lineno", 0), getattr(node, "col_offset", 0)
        return Site(0, kind, text, operation, path, line, column, **more)

    def _step(self, node: ast.Call, path: str, at: ast.AST) -> Found | None:
        if len(node.args) != 1 or isinstance(node.args[0], ast.Starred):
            self.refusals.add(
                at, "CP101", "s.step takes one operation", "s.step(Command(…)) or s.step(fn(…))"
            )
            return None
        inner = node.args[0]
        if self.is_operation(inner):
            found = self.classify(inner, path, at=at)
        else:
            found = self.command(inner, path, "command", "step", at)
        return self.options(node, found) if found is not None else None

    def _ask(self, node: ast.Call, path: str, at: ast.AST) -> Found | None:
        if len(node.args) != 1 or isinstance(node.args[0], ast.Starred):
            self.refusals.add(at, "CP101", "s.ask takes one command", "s.ask(Command(…))")
            return None
        found = self.command(node.args[0], path, "ask", "ask", at)
        if found is None:
            return None
        self.options(node, found)
        replies = found.site.replies + ((Timeout,) if found.site.has_within else ())
        found.site.result = union(replies)
        return found

    def command(self, node: ast.expr, path: str, kind: str, word: str, at: ast.AST) -> Found | None:
        """A command, whose class tells the replies."""
        cls = self.class_of(node, Command)
        if cls is UNRESOLVED:
            if isinstance(node, ast.Call) and isinstance(self.resolve(node.func), type):
                self.refusals.add(
                    node,
                    "CP101",
                    f"{ast.unparse(node.func)} is no Command, so it has no replies to wait for",
                    "class X(Command[Success, Failure], …), or s.emit for an event",
                )
            else:
                advice.no_command(self, node)
            return None
        try:
            replies = message_spec(cls).replies
        except ContrapasError as why:
            self.refusals.add(node, why.code, why.text, why.fix)
            return None
        site = self.site(at, path, kind, cls.__name__, f"{word} {cls.__name__}", target=cls)
        site.replies = tuple(replies)
        site.result = replies[0]
        site.arguments = (cls, *replies)
        return Found(site)

    def _local(self, node: ast.Call, target: StepDef[..., Any, Any], path: str, at: ast.AST) -> Found:
        hints = _hints(target.fn)
        site = self.site(at, path, "local", target.name, f"local {target.name}", target=target)
        site.result = hints.pop("return", Any)
        site.arguments = tuple([hint for hint in hints.values() if not supplied(hint)])
        site.observe = target.observe
        site.forever = target.retry is not None and target.retry.attempts is None
        if target.undo is None:
            site.undo = "none"
        elif callable(target.undo):
            site.undo, site.undo_text = "op", f"undo of {target.name}"
        return Found(site)

    def _frame(self, node: ast.Call, target: SagaDef[..., Any], path: str, at: ast.AST) -> Found | None:
        first = node.args[0] if node.args else None
        if not (isinstance(first, ast.Name) and first.id == self.saga):
            self.refusals.add(
                at,
                "CP101",
                f"a called saga takes {self.saga} first",
                f"await {ast.unparse(node.func)}({self.saga}, …)",
            )
            return None
        site = self.site(at, path, "frame", target.name, f"frame {target.name}", target=target)
        site.result = _hints(target.fn).get("return", Any)
        return Found(site)

    def _wait(self, node: ast.Call, path: str, at: ast.AST) -> Found | None:
        classes: list[Any] = []
        for arg in node.args:
            cls = self.resolve(arg)
            if not (isinstance(cls, type) and issubclass(cls, Event)):
                self.refusals.add(arg, "CP207", *advice.unknown_event(self, arg))
                return None
            try:
                message_spec(cls)
            except ContrapasError as why:
                self.refusals.add(arg, why.code, why.text, why.fix)
                return None
            classes.append(cls)
        if not classes:
            self.refusals.add(at, "CP101", "s.wait names no event", "s.wait(Approved, Rejected, within=…)")
            return None
        names = "|".join(c.__name__ for c in classes)
        site = self.site(at, path, "wait", f"wait({names})", f"wait {names}")
        site.replies = tuple(classes)
        site.arguments = tuple(classes)
        found = Found(site)
        self.options(node, found)
        if conversation.foreign_command(self.refusals, at, site):
            return None
        site.result = union((*classes, *((Timeout,) if site.has_within else ())))
        return found

    def _sleep(self, node: ast.Call, path: str, at: ast.AST) -> Found:
        site = self.site(at, path, "sleep", "sleep", "sleep")
        if node.args and isinstance(node.args[0], ast.Constant):
            site.within = str(node.args[0].value)
            constants.length(self.refusals, node.args[0], "sleep", zero=True)
        site.has_within = True
        return self.options(node, Found(site))

    def _map(self, node: ast.Call, path: str, at: ast.AST) -> Found | None:
        found = manifold.map_site(self, node, path, at)
        return None if found is None else self.options(node, found)

    def _child(self, node: ast.Call, path: str, at: ast.AST) -> Found | None:
        found = manifold.child_site(self, node, path, at)
        return None if found is None else self.options(node, found)

    def _compensate(self, node: ast.Call, path: str, at: ast.AST) -> Found:
        return self.options(node, Found(self.site(at, path, "compensate", "compensate", "compensate")))

    def _all(self, node: ast.Call, path: str, at: ast.AST) -> Found | None:
        return self.join(node, path, at, "all", node.args)

    def _first(self, node: ast.Call, path: str, at: ast.AST) -> Found | None:
        return self.join(node, path, at, "first", node.args)

    def join(self, node: ast.Call, path: str, at: ast.AST, word: str, args: list[ast.expr]) -> Found | None:
        """Several operations as branches."""
        children: list[Found] = []
        starred = False
        for arg in args:
            if isinstance(arg, ast.Starred):
                starred = True
                several = self._listed(arg.value, path)
                if several is None:
                    return None
                children.extend(several)
            else:
                one = self.classify(arg, path)
                if one is None:
                    return None
                children.append(one)
        if not all(inflight.allowed(self, child, at) for child in children):
            return None
        for number, child in enumerate(children):
            for _, undoing in child.undos:
                undoing.position = (number, *undoing.position)
        names = ",".join(c.site.text for c in children)
        site = self.site(at, path, word, f"{word}({names})", f"{word} {names}".strip())
        site.children = tuple(c.site for c in children)
        site.starred = starred
        site.forever = bool(children) and all(c.site.forever for c in children)
        results = [c.site.result for c in children]
        if word == "first":
            site.result = union(results)
        elif starred:
            site.result = types.GenericAlias(list, (union(results) if results else Any,))
        else:
            site.result = types.GenericAlias(tuple, tuple(results) or ((),))
        found = Found(site, [u for c in children for u in c.undos])
        return self.options(node, found)

    def _listed(self, node: ast.expr, path: str) -> list[Found] | None:
        """Operations of `*[…]`, `*[op for …]`, or `*ops` of a local list filled with operations."""
        if isinstance(node, ast.List | ast.Tuple):
            found = [
                f
                for e in node.elts
                for f in (
                    (self._listed(e.value, path) or [])
                    if isinstance(e, ast.Starred)
                    else [self.classify(e, path)]
                )
            ]
            return None if any(f is None for f in found) else [f for f in found if f is not None]
        if isinstance(node, ast.ListComp | ast.GeneratorExp):
            one = self.classify(node.elt, path)
            return None if one is None else [one]
        if isinstance(node, ast.Name) and node.id in self.own:
            parts: list[Found] = []
            for value, _ in self.assigned.get(node.id, ()):
                if value is None or _mentions(value, node.id):
                    break
                if isinstance(value, ast.List | ast.Tuple | ast.ListComp):
                    more = self._listed(value, path)
                else:
                    one = self.classify(value, path)
                    more = None if one is None else [one]
                if more is None:
                    return None
                parts.extend(more)
            else:
                if parts:
                    return _once(parts)
        self.refusals.add(
            node,
            "CP101",
            f"what `{_cut(ast.unparse(node))}` holds cannot be told",
            "s.all(*[operation for …]), or list the operations",
        )
        return None

    # -- options -------------------------------------------------------------------------------------------

    def options(self, node: ast.Call, found: Found) -> Found:
        """What the keywords of the call say."""
        site = found.site
        retry: Any = None
        limit: tuple[ast.expr, int | None] | None = None
        for keyword in node.keywords:
            name, value = keyword.arg, keyword.value
            if name == "label":
                if isinstance(value, ast.Constant) and isinstance(value.value, str) and value.value:
                    site.explicit = value.value
                else:
                    self.refusals.add(value, "CP100", "label= is no text", 'label="…"')
            elif name == "until":
                site.has_within, site.limit = True, value
            elif name == "within":
                site.has_within = not (isinstance(value, ast.Constant) and value.value is None)
                if isinstance(value, ast.Constant) and value.value is not None:
                    site.within = str(value.value)
                limit = value, constants.length(self.refusals, value, "within=")
            elif name == "retry":
                retry = self._policy(value)
                site.forever = isinstance(retry, Retry) and retry.attempts is None
                site.retry = retry if isinstance(retry, Retry) else None
            elif name == "correlate":
                site.correlate, site.correlated = True, value
            elif name == "undo":
                self._undo(keyword, found, own=self.method(node) == "map")
            elif name in ("fresh", "undo_failed"):
                conversation.switch(self.refusals, site, name, value)
            elif name is None:
                self.refusals.add(keyword, "CP100", "options of an operation as **mapping", "write them out")
            else:
                advice.option(self, node, keyword)
        conversation.undoes_failures(self.refusals, node, found)
        if limit is not None:
            constants.fits(
                self.refusals, limit[0], site, limit[1], retry if isinstance(retry, Retry) else None
            )
        return found

    def _cancel(self, node: ast.Call, path: str, at: ast.AST) -> Found | None:
        found = conversation.cancel_site(self, node, path, at)
        return None if found is None else self.options(node, found)

    def _policy(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Call) and self.resolve(node.func) is Retry:
            return constants.policy(self.refusals, node)
        advice.policy(self, node)
        return self.resolve(node)

    def _undo(self, keyword: ast.keyword, found: Found, own: bool) -> None:
        value = keyword.value
        if found.site.kind == "map" and not manifold.takes_back(self, value, own=own):
            return
        undoing = self._undoing(value, found.site)
        if undoing is None:
            self.refusals.add(
                value,
                "CP118",
                f"undo=`{_cut(ast.unparse(value))}` is a form the compiler does not know",
                "a command instance, a @step call, lambda ok: one of these, or None",
            )
            return
        undoing.of = found.site.text
        found.site.undo = undoing.form
        found.site.undo_text, found.site.undo_target = undoing.text, undoing.target
        found.undos.append((keyword, undoing))

    def _undoing(self, value: ast.expr, site: Site) -> Undoing | None:
        if isinstance(value, ast.Constant) and value.value is None:
            return Undoing("none")
        if not isinstance(value, ast.Lambda):
            target = self._takes_back(value)
            if target is None or scopes.has_await(value):
                return None
            return Undoing("op", text=_called(target), target=target)
        args = value.args
        if (
            len(args.args) + len(args.posonlyargs) != 1
            or args.vararg
            or args.kwonlyargs
            or args.kwarg
            or args.defaults
        ):
            return None
        target = self._takes_back(value.body)
        if target is None or any(isinstance(n, ast.Await | ast.NamedExpr) for n in trees.walk(value.body)):
            return None
        parameter = (args.posonlyargs + args.args)[0].arg
        needs = parameter in set(scopes.reads(value.body))
        if needs and site.kind in ("wait", "sleep", "compensate"):
            self.refusals.add(
                value, "CP209", f"{site.kind} has no reply that an undo could read", "a command instance"
            )
        return Undoing(
            "lambda" if needs else "op",
            parameter=parameter,
            body=value.body,
            needs_reply=needs,
            text=_called(target),
            target=target,
            reply=site.replies[0] if site.kind == "ask" else manifold.item_of(site),
        )

    def _takes_back(self, node: ast.expr) -> Any:
        """The command class or step that an expression gives; None: neither."""
        target: Any = self.resolve(node.func) if isinstance(node, ast.Call) else None
        if _is_step(target):
            return target
        cls = self.class_of(node, Command)
        return None if cls is UNRESOLVED else cls


def union(members: Any) -> Any:
    """The union of some types, in order; None for none."""
    flat = [None if m is type(None) else m for m in dict.fromkeys(members)]
    if not flat:
        return None
    if Any in flat:
        return Any
    try:
        return functools.reduce(_or, [type(None) if m is None else m for m in flat])
    except TypeError:
        return Union[tuple(flat)]  # noqa: UP007


def members(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, or the type itself."""
    if get_origin(annotation) in (Union, types.UnionType):
        return get_args(annotation)
    return (annotation,)


def _hints(fn: Any) -> dict[str, Any]:
    try:
        return hints_of(fn)
    except (DataError, TypeError, AttributeError):
        return dict(getattr(fn, "__annotations__", {}))


def _once(parts: list[Found]) -> list[Found]:
    seen: dict[str, Found] = {}
    for part in parts:
        first = seen.setdefault(part.site.text, part)
        if first is not part:
            first.undos.extend(part.undos)
    return list(seen.values())


def _mentions(value: ast.expr, name: str) -> bool:
    return any(isinstance(n, ast.Name) and n.id == name for n in trees.walk(value))


def _is_step(target: Any) -> bool:
    return isinstance(target, StepDef)


def _called(target: Any) -> str:
    return str(target.name if _is_step(target) else target.__name__)


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}…"


def _or(a: Any, b: Any) -> Any:
    return a | b
