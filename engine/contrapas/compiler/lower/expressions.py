"""Expressions with awaits inside: exploded left to right, what was evaluated before an await is held (L13 to L18)."""

from __future__ import annotations

import ast
from typing import Any

from contrapas.compiler import entity_calls, scopes
from contrapas.compiler.lower.builder import Builder, Unknown, call, load, place
from contrapas.machine.ir import Block


class Expressions(Builder):
    """Turns an expression into statements of blocks and a rest without await."""

    def expr(self, node: ast.expr, hint: str = "") -> ast.expr:
        """An expression without await that gives the same, evaluated once, where it is used next."""
        if not scopes.has_await(node):
            return node
        method = getattr(self, f"_x_{type(node).__name__.lower()}", None)
        if method is None:
            raise Unknown(node)
        return method(node, hint)  # type: ignore[no-any-return]

    def operands(self, nodes: list[ast.expr], hints: list[str]) -> list[ast.expr]:
        """Several expressions, evaluated left to right; what comes before a later await is held."""
        last = max((i for i, n in enumerate(nodes) if scopes.has_await(n)), default=-1)
        done: list[ast.expr] = []
        for number, node in enumerate(nodes):
            value = self.expr(node, hints[number])
            done.append(self.hold(value, nodes[number + 1 :], hints[number]) if number < last else value)
        return done

    def hold(self, value: ast.expr, later: list[ast.expr], hint: str) -> ast.expr:
        """Keep a value over a later await: by name where that is safe, else in a slot."""
        if isinstance(value, ast.Constant):
            return value
        if isinstance(value, ast.Starred):
            inner = place(ast.List([value], ast.Load()), value)
            return place(ast.Starred(self.spill(inner, hint), ast.Load()), value)
        if isinstance(value, _Mapping):
            mapping = place(ast.Dict([None], [value.value]), value)
            return place(_Mapping(self.spill(mapping, hint)), value)
        if isinstance(value, ast.Name):
            if value.id.startswith("@"):
                return value
            if value.id not in scopes.rebinds(later) and value.id not in self.rebound:
                if value.id not in self.ambient:
                    self.touch(value)
                return value
        elif _copies_captures(value) or isinstance(value, ast.Lambda) and not list(scopes.same_scope(value)):
            return value
        elif isinstance(value, ast.Attribute) and self.outside(value):
            self.touch(value)
            return value
        return self.spill(value, hint)

    def outside(self, node: ast.expr) -> bool:
        """A dotted name whose root is a global, or supplied anew at each activation."""
        while isinstance(node, ast.Attribute):
            node = node.value
        return isinstance(node, ast.Name) and not node.id.startswith("@") and node.id not in self.own

    def touch(self, value: ast.expr) -> None:
        """Evaluate and drop: what is unbound fails here, before anything is issued."""
        self.emit(place(ast.Expr(_reading(value)), value))

    def spill(self, value: ast.expr, hint: str, *, role: str = "arg", type: Any = None) -> ast.Name:
        """Keep a value in a hidden slot."""
        name = self.hidden(role, value, hint, text=ast.unparse(value), type=type)
        self.assign(name, value, value)
        return place(load(name), value)

    # -- conditions ----------------------------------------------------------------------------------------

    def condition(self, node: ast.expr, yes: Block, no: Block) -> None:
        """Go to `yes` or `no`; each truth value is asked for once (L17)."""
        if not scopes.has_await(node):
            self.branch(node, yes, no)
        elif isinstance(node, ast.BoolOp):
            for value in node.values[:-1]:
                more = self.new()
                if isinstance(node.op, ast.And):
                    self.condition(value, more, no)
                else:
                    self.condition(value, yes, more)
                self.start(more)
            self.condition(node.values[-1], yes, no)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            self.condition(node.operand, no, yes)
        elif isinstance(node, ast.IfExp):
            body, orelse = self.new(), self.new()
            self.condition(node.test, body, orelse)
            self.start(body)
            self.condition(node.body, yes, no)
            self.start(orelse)
            self.condition(node.orelse, yes, no)
        else:
            self.branch(self.expr(node), yes, no)

    # -- simple forms --------------------------------------------------------------------------------------

    def _x_await(self, node: ast.Await, hint: str) -> ast.expr:
        name = self.hidden("arg", node, hint or self.found[id(node)].site.text, text=ast.unparse(node))
        self.await_into(node, name)
        site = self.found[id(node)].site
        if site.kind not in ("result", "next"):  # what these give, the handles tell
            self.program.hidden[name].type = site.result
        return place(load(name), node)

    def await_into(self, node: ast.Await, into: str) -> None:
        """Issue an awaited operation."""
        found = self.found[id(node)]
        op = self.operation(node)
        self.issue(found, op, into)

    def operation(self, node: ast.Await) -> ast.expr:
        """The expression that builds the operation, without awaits."""
        if self.found[id(node)].site.kind == "result":
            return place(call("@handle", self.expr(node.value)), node)
        return self.expr(node.value)

    def _x_binop(self, node: ast.BinOp, hint: str) -> ast.expr:
        left, right = self.operands([node.left, node.right], [hint, hint])
        return place(ast.BinOp(left, node.op, right), node)

    def _x_unaryop(self, node: ast.UnaryOp, hint: str) -> ast.expr:
        return place(ast.UnaryOp(node.op, self.expr(node.operand, hint)), node)

    def _x_attribute(self, node: ast.Attribute, hint: str) -> ast.expr:
        return place(ast.Attribute(self.expr(node.value, hint), node.attr, ast.Load()), node)

    def _x_subscript(self, node: ast.Subscript, hint: str) -> ast.expr:
        value, index = self.subscript(node, hint)
        return place(ast.Subscript(value, index, ast.Load()), node)

    def subscript(self, node: ast.Subscript, hint: str) -> tuple[ast.expr, ast.expr]:
        """Object and index; the index may be a slice, or a tuple with slices."""
        parts = _index_parts(node.slice)
        value, *rest = self.operands([node.value, *parts], [hint] * (1 + len(parts)))
        return value, _index_from(node.slice, rest)

    def _x_tuple(self, node: ast.Tuple, hint: str) -> ast.expr:
        return place(ast.Tuple(self._elements(node.elts, hint), ast.Load()), node)

    def _x_list(self, node: ast.List, hint: str) -> ast.expr:
        return place(ast.List(self._elements(node.elts, hint), ast.Load()), node)

    def _x_set(self, node: ast.Set, hint: str) -> ast.expr:
        return place(ast.Set(self._elements(node.elts, hint)), node)

    def _elements(self, elts: list[ast.expr], hint: str) -> list[ast.expr]:
        return self.operands(elts, [f"{hint}.{i}" if hint else str(i) for i in range(len(elts))])

    def _x_starred(self, node: ast.Starred, hint: str) -> ast.expr:
        return place(ast.Starred(self.expr(node.value, hint), ast.Load()), node)

    def _x_slice(self, node: ast.Slice, hint: str) -> ast.expr:
        parts = _index_parts(node)
        return _index_from(node, self.operands(parts, [hint] * len(parts)))

    def _x_namedexpr(self, node: ast.NamedExpr, hint: str) -> ast.expr:
        name = self.comprehension_target(node.target.id)
        if isinstance(node.value, ast.Await):
            self.await_into(node.value, name)
        else:
            self.assign(name, self.expr(node.value, hint), node)
        return place(load(name), node)

    def comprehension_target(self, name: str) -> str:
        """Where `name := …` binds; a comprehension never renames it."""
        return name

    def _x_dict(self, node: ast.Dict, hint: str) -> ast.expr:
        """In CPython's chunks (L14): what stands before `**m` becomes a dict before anything after it is evaluated."""
        chunks = _chunks(node)
        last = max(i for i, c in enumerate(chunks) if scopes.has_await([n for pair in c for n in pair if n]))
        acc: ast.expr | None = None
        rest: list[tuple[ast.expr | None, ast.expr]] = []
        for number, chunk in enumerate(chunks):
            if number > last:
                rest.extend(chunk)
                continue
            nodes = [n for pair in chunk for n in pair if n is not None]
            flat = self.operands(nodes, [hint] * len(nodes))
            if chunk[0][0] is None:
                made = place(ast.Dict([None], flat), node)
            else:
                made = place(ast.Dict(list(flat[::2]), list(flat[1::2])), node)
            if len(chunks) == 1:
                return made
            acc = self._merge(acc, made, hint, node)
        assert acc is not None
        if not rest:
            return acc
        return place(ast.Dict([None, *(k for k, _ in rest)], [acc, *(v for _, v in rest)]), node)

    def _merge(self, acc: ast.expr | None, chunk: ast.expr, hint: str, at: ast.AST) -> ast.expr:
        if acc is None:
            return self.spill(chunk, hint)
        update = ast.Call(ast.Attribute(acc, "update", ast.Load()), [chunk], [])
        self.emit(place(ast.Expr(update), at))
        return acc

    # -- calls ---------------------------------------------------------------------------------------------

    def _x_call(self, node: ast.Call, hint: str) -> ast.expr:
        name = _callee(node.func)
        func = self._function(node.func, [*node.args, *(k.value for k in node.keywords)], name)
        nodes: list[ast.expr] = [*node.args]
        hints = [f"{name}.{i}" for i in range(len(node.args))]
        for keyword in node.keywords:
            if keyword.arg is None:
                nodes.append(place(_Mapping(keyword.value), keyword.value))
                hints.append(f"{name}.kwargs")
            else:
                nodes.append(keyword.value)
                hints.append(f"{name}.{keyword.arg}")
        flat = self.operands(nodes, hints)
        count = len(node.args)
        keywords = [
            place(ast.keyword(k.arg, v.value if isinstance(v, _Mapping) else v), k)
            for k, v in zip(node.keywords, flat[count:], strict=True)
        ]
        return place(ast.Call(func, flat[:count], keywords), node)

    def _function(self, func: ast.expr, args: list[ast.expr], name: str) -> ast.expr:
        """The callee (L16): a name stays, a method's receiver is held and its attribute looked up late."""
        awaits = scopes.has_await(args)
        if isinstance(func, ast.Name):
            return self.hold(func, args, name) if awaits else func
        if isinstance(func, ast.Attribute):
            if self.outside(func):
                root = func
                while isinstance(root.value, ast.Attribute):
                    root = root.value
                if not (isinstance(root.value, ast.Name) and root.value.id in self.ambient):
                    self.touch(func)
                return func
            if awaits and isinstance(func.value, ast.Call) and entity_calls.is_receiver(func.value):
                return place(
                    ast.Attribute(self._receiver(func.value, args, name), func.attr, ast.Load()), func
                )
            value = self.expr(func.value, f"{name}.self")
            if not awaits:
                return place(ast.Attribute(value, func.attr, ast.Load()), func)
            held = place(ast.Attribute(self.hold(value, args, f"{name}.self"), func.attr, ast.Load()), func)
            self.touch(held)
            return held
        value = self.expr(func, name)
        return self.spill(value, name) if awaits else value

    def _receiver(self, node: ast.Call, args: list[ast.expr], name: str) -> ast.expr:
        """`Chat.at(key)` is no value that can be stored: the key is held, and it is built anew where it is called."""
        hints = [f"{name}.key"] * len(node.args)
        keys = [self.hold(key, args, f"{name}.key") for key in self.operands(node.args, hints)]
        named = [
            place(ast.keyword(k.arg, self.hold(self.expr(k.value, f"{name}.key"), args, f"{name}.key")), k)
            for k in node.keywords
        ]
        return place(ast.Call(node.func, keys, named), node)

    def _x__mapping(self, node: _Mapping, hint: str) -> ast.expr:
        return place(_Mapping(self.expr(node.value, hint)), node)

    # -- choices -------------------------------------------------------------------------------------------

    def _x_ifexp(self, node: ast.IfExp, hint: str) -> ast.expr:
        result = self.hidden("arg", node, hint, text=ast.unparse(node))
        yes, no, after = self.new(), self.new(), self.new()
        self.condition(node.test, yes, no)
        for block, value in ((yes, node.body), (no, node.orelse)):
            self.start(block)
            self._into(result, value, hint)
            self.goto(after)
        return place(load(result), node)

    def _x_boolop(self, node: ast.BoolOp, hint: str) -> ast.expr:
        result = self.hidden("arg", node, hint, text=ast.unparse(node))
        after = self.new()
        self._choose(node, result, hint, after, after)
        self.start(after)
        return place(load(result), node)

    def _choose(self, node: ast.expr, result: str, hint: str, yes: Block, no: Block) -> None:
        """Keep the value of `node`, then go by its truth, which is asked for once however deep it stands."""
        if isinstance(node, ast.BoolOp):
            for value in node.values[:-1]:
                more = self.new()
                if isinstance(node.op, ast.And):
                    self._choose(value, result, hint, more, no)
                else:
                    self._choose(value, result, hint, yes, more)
                self.start(more)
            self._choose(node.values[-1], result, hint, yes, no)
            return
        self._into(result, node, hint)
        if yes is no:
            self.goto(yes)
        else:
            self.branch(place(load(result), node), yes, no)

    def _into(self, name: str, value: ast.expr, hint: str) -> None:
        if isinstance(value, ast.Await):
            self.await_into(value, name)
        else:
            self.assign(name, self.expr(value, hint), value)

    def _x_compare(self, node: ast.Compare, hint: str) -> ast.expr:
        if len(node.ops) == 1:
            left, right = self.operands([node.left, node.comparators[0]], [hint, hint])
            return place(ast.Compare(left, node.ops, [right]), node)
        result = self.hidden("arg", node, hint, text=ast.unparse(node))
        after = self.new()
        left = node.left
        for number, (op, right) in enumerate(zip(node.ops, node.comparators, strict=True)):
            first, second = self.operands([left, right], [hint, hint])
            final = number == len(node.ops) - 1
            if not final and not isinstance(second, ast.Constant):
                # Python evaluates the middle operand before it compares, and keeps it for the next comparison.
                first = self.hold(first, [right], hint)
                second = self.spill(second, hint)
            self.assign(result, place(ast.Compare(first, [op], [second]), node), node)
            if not final:
                more = self.new()
                self.branch(place(load(result), node), more, after)
                self.start(more)
            left = second
        self.goto(after)
        return place(load(result), node)

    # -- text ----------------------------------------------------------------------------------------------

    def _x_joinedstr(self, node: ast.JoinedStr, hint: str) -> ast.expr:
        """Each part is formatted to text before the next one is evaluated (L15)."""
        last = max(i for i, v in enumerate(node.values) if scopes.has_await(v))
        parts: list[ast.expr] = []
        for number, part in enumerate(node.values):
            if isinstance(part, ast.FormattedValue) and number <= last:
                formatted: ast.expr = place(ast.JoinedStr([self._formatted(part, hint)]), part)
                if number < last:
                    text = self.spill(formatted, hint, type=str)
                    part = place(ast.FormattedValue(text, -1, None), part)
                else:
                    part = formatted.values[0]  # type: ignore[attr-defined]
            parts.append(part)
        return place(ast.JoinedStr(parts), node)

    def _formatted(self, part: ast.FormattedValue, hint: str) -> ast.FormattedValue:
        if part.format_spec is None or not scopes.has_await(part.format_spec):
            return place(
                ast.FormattedValue(self.expr(part.value, hint), part.conversion, part.format_spec), part
            )
        value = self.expr(part.value, hint)
        conversion = part.conversion
        if conversion != -1:  # CPython converts before it evaluates the format
            helper = {115: "@str", 114: "@repr", 97: "@ascii"}[conversion]
            value, conversion = place(call(helper, value), part), -1
        value = self.hold(value, [part.format_spec], hint)
        return place(ast.FormattedValue(value, conversion, self.expr(part.format_spec, hint)), part)


class _Mapping(ast.expr):
    """`**mapping` among the operands of a call."""

    _fields = ("value",)

    def __init__(self, value: ast.expr) -> None:
        super().__init__()
        self.value = value


def _chunks(node: ast.Dict) -> list[list[tuple[ast.expr | None, ast.expr]]]:
    """Items as CPython groups them: each `**m` alone, the others in runs of at most sixteen."""
    chunks: list[list[tuple[ast.expr | None, ast.expr]]] = []
    for key, value in zip(node.keys, node.values, strict=True):
        run = bool(chunks) and key is not None and chunks[-1][0][0] is not None and len(chunks[-1]) < 16
        if run:
            chunks[-1].append((key, value))
        else:
            chunks.append([(key, value)])
    return chunks


def _copies_captures(node: ast.expr) -> bool:
    """The stand-in for an `undo=` lambda: its names are copied at issue, which is later."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "@UndoRef"


def _reading(node: ast.expr) -> ast.expr:
    """A copy of a name or dotted name, to be read."""
    if isinstance(node, ast.Name):
        return ast.Name(node.id, ast.Load())
    if isinstance(node, ast.Attribute):
        return ast.Attribute(_reading(node.value), node.attr, ast.Load())
    return node


def _callee(func: ast.expr) -> str:
    if isinstance(func, ast.Attribute):
        return func.attr
    return func.id if isinstance(func, ast.Name) else "call"


def _index_parts(index: ast.expr) -> list[ast.expr]:
    if isinstance(index, ast.Slice):
        return [p for p in (index.lower, index.upper, index.step) if p is not None]
    if isinstance(index, ast.Tuple):
        return [p for e in index.elts for p in _index_parts(e)]
    return [index]


def _index_from(index: ast.expr, parts: list[ast.expr]) -> ast.expr:
    """The inverse of `_index_parts`; takes from `parts`."""
    if isinstance(index, ast.Slice):
        lower = parts.pop(0) if index.lower is not None else None
        upper = parts.pop(0) if index.upper is not None else None
        step = parts.pop(0) if index.step is not None else None
        return place(ast.Slice(lower, upper, step), index)
    if isinstance(index, ast.Tuple):
        return place(ast.Tuple([_index_from(e, parts) for e in index.elts], ast.Load()), index)
    return parts.pop(0)
