"""Cursors, and comprehensions with awaits: loops over a fresh accumulator, their variables renamed (L20, L21)."""

from __future__ import annotations

import ast
import builtins

from contrapas.compiler import scopes
from contrapas.compiler.lower.builder import call, load, place
from contrapas.compiler.lower.expressions import Expressions
from contrapas.machine.ir import Block

Comprehension = ast.ListComp | ast.SetComp | ast.DictComp


class Comprehensions(Expressions):
    """Loops through own cursors."""

    def cursor(self, iterable: ast.expr, hint: str, rebound: set[str]) -> tuple[str, str]:
        """A cursor over an iterable, and the name of the sequence where it stores only its position."""
        value = self.expr(iterable, f"iter.{hint}")
        name = self.hidden("iter", iterable, hint, text=ast.unparse(iterable))
        if isinstance(value, ast.Name) and value.id in self.own and value.id not in rebound | self.rebound:
            self.assign(name, call("@named", value), iterable)
            return name, value.id
        self.assign(name, call("@cursor", self._composed(value)), iterable)
        return name, ""

    def _composed(self, value: ast.expr) -> ast.expr:
        """`enumerate`, `zip` and `reversed`, the builtins, become cursors over cursors."""
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
            name = value.func.id
            builtin = self.program.namespace.get(name) is getattr(builtins, name, None)
            if name in ("enumerate", "zip", "reversed") and name not in self.own and builtin:
                inner = [self._composed(a) for a in value.args]
                return place(ast.Call(load(f"@{name}"), inner, value.keywords), value)
        return value

    def loop_head(self, cursor: str, named: str, done: Block, at: ast.expr) -> tuple[Block, ast.expr]:
        """The block that asks the cursor for a further item; building goes on where there is one."""
        head, inner = self.new(), self.new()
        self.goto(head)
        self.branch(self._ask(cursor, named, "more", at), inner, done, kind="more", slot=cursor)
        self.start(inner)
        return head, self._ask(cursor, named, "take", at)

    def _ask(self, cursor: str, named: str, word: str, at: ast.expr) -> ast.expr:
        if named:
            return place(call(f"@{word}", load(cursor), load(named)), at)
        return place(ast.Call(ast.Attribute(load(cursor), word, ast.Load()), [], []), at)

    def take(self, target: ast.expr, item: ast.expr, at: ast.AST) -> None:
        """Bind a loop's target to the next item."""
        if scopes.has_await(target):
            item = self.spill(item, "item")
        self.store(target, item, at)

    def store(self, target: ast.expr, value: ast.expr, at: ast.AST) -> None:
        """Bind one target (`lower.statements`)."""
        raise NotImplementedError

    def _x_listcomp(self, node: ast.ListComp, hint: str) -> ast.expr:
        return self._comprehension(node, hint, ast.List([], ast.Load()))

    def _x_setcomp(self, node: ast.SetComp, hint: str) -> ast.expr:
        return self._comprehension(node, hint, call("@set"))

    def _x_dictcomp(self, node: ast.DictComp, hint: str) -> ast.expr:
        return self._comprehension(node, hint, ast.Dict([], []))

    def _x_generatorexp(self, node: ast.GeneratorExp, hint: str) -> ast.expr:
        """Only its first iterable may await, and that is evaluated here, outside of the generator."""
        node.generators[0].iter = self.expr(node.generators[0].iter, hint)
        return node

    def _comprehension(self, node: Comprehension, hint: str, empty: ast.expr) -> ast.expr:
        if not scopes.has_await(_inside(node)):  # only the first iterable awaits: the rest stays native
            node.generators[0].iter = self.expr(node.generators[0].iter, hint)
            return node
        # The first iterable is evaluated outside, before the accumulator exists for anybody.
        first = self.expr(node.generators[0].iter, hint)
        if not isinstance(first, ast.Name | ast.Constant):
            first = self.spill(first, f"iter.{hint}" if hint else "iter")
        acc = self.hidden("acc", node, hint, text=ast.unparse(node))
        self.assign(acc, place(empty, node), node)
        names = {n: self.hidden("var", node, n) for n in sorted(scopes.comprehension_names(node))}
        renaming = Renaming(names)
        after = self.new()
        with self.at("comprehension"):
            self._generators(node, 0, first, acc, renaming, after)
        self.start(after)
        return place(load(acc), node)

    def _generators(
        self, node: Comprehension, number: int, first: ast.expr, acc: str, renaming: Renaming, done: Block
    ) -> None:
        generator = node.generators[number]
        iterable = first if number == 0 else renaming.of(generator.iter)
        hint = iterable.id.strip("@") if isinstance(iterable, ast.Name) else "items"
        cursor, named = self.cursor(iterable, hint, scopes.rebinds(_inside(node)))
        head, item = self.loop_head(cursor, named, done, iterable)
        self.take(renaming.target(generator.target), item, iterable)
        for condition in generator.ifs:
            passed = self.new()
            self.condition(renaming.of(condition), passed, head)
            self.start(passed)
        if number + 1 < len(node.generators):
            self._generators(node, number + 1, first, acc, renaming, head)
        else:
            self._element(node, acc, renaming)
            self.goto(head)

    def _element(self, node: Comprehension, acc: str, renaming: Renaming) -> None:
        if isinstance(node, ast.DictComp):
            key, value = self.operands([renaming.of(node.key), renaming.of(node.value)], ["key", "value"])
            # `acc[k] = v` would evaluate `v` first; a comprehension evaluates the key first.
            pair = self.hidden("item", node)
            self.assign(pair, place(ast.Tuple([key, value], ast.Load()), node), node)
            target = ast.Subscript(load(acc), _part(pair, 0), ast.Store())
            self.emit(place(ast.Assign([target], _part(pair, 1)), node))
            return
        value = self.expr(renaming.of(node.elt), "element")
        word = "append" if isinstance(node, ast.ListComp) else "add"
        func = ast.Attribute(load(acc), word, ast.Load())
        self.emit(place(ast.Expr(ast.Call(func, [value], [])), node.elt))


class Renaming(ast.NodeTransformer):
    """Gives a comprehension's variables names of their own, so that they neither clash nor leak."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def of(self, node: ast.expr) -> ast.expr:
        """A renamed expression; the awaits in it stay the same objects."""
        renamed: ast.expr = self.visit(node)
        return renamed

    def target(self, node: ast.expr) -> ast.expr:
        """A renamed target."""
        return self.of(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self.names.get(node.id, node.id)
        return node

    def visit_NamedExpr(self, node: ast.NamedExpr) -> ast.AST:
        node.value = self.visit(node.value)
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        inner = self._without(set(scopes.arguments(node.args)))
        node.args = self.visit(node.args)
        node.body = inner.visit(node.body)
        return node

    def visit_ListComp(self, node: ast.ListComp) -> ast.AST:
        return self._inner(node)

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp  # type: ignore[assignment]

    def _inner(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> ast.AST:
        node.generators[0].iter = self.visit(node.generators[0].iter)
        inner = self._without(scopes.comprehension_names(node))
        for number, generator in enumerate(node.generators):
            if number:
                generator.iter = inner.visit(generator.iter)
            generator.ifs = [inner.visit(i) for i in generator.ifs]
            generator.target = inner.visit(generator.target)
        if isinstance(node, ast.DictComp):
            node.key, node.value = inner.visit(node.key), inner.visit(node.value)
        else:
            node.elt = inner.visit(node.elt)
        return node

    def _without(self, names: set[str]) -> Renaming:
        return Renaming({k: v for k, v in self.names.items() if k not in names})


def _inside(node: Comprehension) -> list[ast.expr]:
    """What a comprehension evaluates in its own scope."""
    inside = [c for g in node.generators for c in (g.target, *g.ifs)]
    inside += [g.iter for g in node.generators[1:]]
    return [*inside, node.key, node.value] if isinstance(node, ast.DictComp) else [*inside, node.elt]


def _part(name: str, number: int) -> ast.expr:
    return ast.Subscript(load(name), ast.Constant(number), ast.Load())
