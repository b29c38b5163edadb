"""Random sagas over the accepted subset, from a seed (T3).

The text is the same on every Python and platform. Programs are well typed as far as the compiler's inference needs it;
they may read unbound names, raise, and loop up to a bound. Words of the vocabulary come from `differential_prelude`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Final

from contrapas.testing import forms
from contrapas.testing.differential_load import loaded
from contrapas.testing.differential_shrink import valid

__all__ = ["Lines", "Programs", "loaded", "source_of"]
HEAD: Final = "from __future__ import annotations\n\n"
INTS: Final = ("a", "b", "c", "d")
Lines = list[str]


class Programs:
    """Writes one program."""

    def __init__(self, seed: str, *, further: bool = True, focus: str = "") -> None:
        self.random = random.Random(f"contrapas {seed}")
        if further:
            forms.loaded()
        self.further = further
        """Forms of `testing.forms` too; without them the texts stay the same for ever."""
        self.numbers = forms.of(forms.NUMBERS, focus) if further else []
        self.statements = forms.of(forms.STATEMENTS, focus) if further else []
        self.often = 4 if focus else 1
        """Of one module of `testing.forms` alone, and those often: for tests of that module."""
        self.counter = 0
        self.budget = self.random.randrange(6, 34)
        self.subs: list[str] = []
        self.handling = 0
        self.loops = 0
        self.final = 0
        self.awaits = True
        self.ints: list[str] = []
        self.calls = 0
        self.trying = 0

    def module(self) -> str:
        """The text of a module with `main` and up to two sagas that it calls."""
        parts: list[str] = []
        for number in range(self.random.choice((0, 0, 1, 1, 2))):
            budget, self.budget = self.budget, self.random.randrange(3, 9)
            parts.append(self.function(f"sub{number}", "n: int, ys: list[int]"))
            self.subs.append(f"sub{number}")
            self.budget = budget
        options, first = "", "Go"
        if self.further and self.chance(0.2):
            options, first = self.random.choice(forms.HEADS)(self)
        parts.append(self.function("main", f"go: {first}", options))
        return HEAD + "\n\n\n".join(parts) + "\n"

    def function(self, name: str, parameters: str, options: str = "") -> str:
        """One saga."""
        self.ints = ["n"] if name != "main" else ["go.n"]
        self.handling = self.loops = self.final = 0
        body: Lines = []
        for var in INTS[: self.random.randrange(2, 5)]:
            body.append(f"{var} = {self.random.randrange(5)}")
            self.ints.append(var)
        self.bound = frozenset(self.ints)
        body.append(f"xs: list[int] = {self.random.choice(('[]', '[1, 2]', '[3, 1, 2]'))}")
        if name == "main":
            body.append("ys = " + self.random.choice(("xs", "[5]", "xs[:1]")))
        body.append("m: dict[str, int] = " + self.random.choice(("{}", "{'x': 1, 'y': 2}")))
        body.append("t = 'w'")
        body.append("p = (1, 2)")
        if self.chance(0.2):
            body.append("cell = Cell(1, xs)")
            self.cell = True
        else:
            self.cell = False
        body += self.block(depth=0)
        if not self.ends(body):
            body.append(f"return {self.number(1)}")
        text = "\n".join(f"    {line}" for line in body)
        return f"@saga{options}\nasync def {name}(s: Saga, {parameters}) -> int:\n{text}"

    # -- choices -------------------------------------------------------------------------------------------

    def chance(self, part: float) -> bool:
        """True for this part of all calls."""
        return self.random.random() < part

    def fresh(self, word: str) -> str:
        """A name that nothing else uses."""
        self.counter += 1
        return f"{word}{self.counter}"

    def ends(self, body: Lines) -> bool:
        """Whether the last statement leaves."""
        return bool(body) and body[-1].split(" ")[0] in ("return", "raise")

    # -- expressions ---------------------------------------------------------------------------------------

    def var(self) -> str:
        """A number by name."""
        return self.random.choice(self.ints)

    def sure(self) -> str:
        """A number by a name that is bound for certain: what is unbound has other names in a scope of its own."""
        return self.random.choice([n for n in self.ints if n in self.bound])

    def number(self, depth: int) -> str:
        """An expression of type int."""
        choice = self.random.random()
        if depth <= 0 or choice < 0.18:
            return self.var() if self.chance(0.7) else str(self.random.randrange(7))
        if self.awaits and choice < 0.42:
            return self.awaited(depth)
        forms: tuple[Callable[[int], str], ...] = (
            lambda d: f"({self.number(d)} {self.random.choice('+-')} {self.number(d)})",
            lambda d: f"({self.number(d)} * {self.number(d)} % 17)",
            lambda d: f"log({self.random.randrange(99)}, {self.number(d)})",
            lambda d: f"both({self.number(d)}, {self.number(d)})",
            lambda d: (
                f"both({self.number(d)}, {self.number(d)}, *{self.several(d)}, z={self.number(d)}, **{self.mapping(d)})"
            ),
            lambda d: f"({self.number(d)} if {self.cond(d)} else {self.number(d)})",
            lambda d: f"({self.number(d)} {self.random.choice(('and', 'or'))} {self.number(d)})",
            lambda d: f"len({self.several(d)})",
            lambda d: f"len({self.text(d)})",
            lambda d: f"sum({self.several(d)})",
            lambda d: f"({self.several(d)} or [0])[{self.random.choice(('0', '-1'))}]",
            lambda d: f"m.get({self.text(d)}, {self.number(d)})",
            lambda d: f"p[{self.random.randrange(2)}]",
            lambda d: f"({self.random.choice(INTS[:2])} := {self.number(d)})",
            lambda d: f"max({self.number(d)}, {self.number(d)})",
            lambda d: (
                f"boom({self.number(d)})" if self.trying or self.chance(0.3) else f"abs({self.number(d)})"
            ),
            lambda d: f"sum([v % 7 for v in {self.several(d)} if v > {self.sure()}])",
            lambda d: f"apply(lambda v: v + {self.sure()}, {self.number(d)})",
            lambda d: f"cell.bump({self.number(d)})" if self.cell else f"-{self.var()}",
            lambda d: f"({self.number(d)} << ({self.number(d)} % 3)) % 97",
        )
        return self.random.choice(forms)(depth - 1)

    def still(self, depth: int) -> str:
        """A number without an await: operations of a join are built in one go."""
        awaits, self.awaits = self.awaits, False
        made = self.number(depth)
        self.awaits = awaits
        return made

    def awaited(self, depth: int) -> str:
        """An await that gives a number."""
        d = depth - 1
        if self.numbers and self.chance(0.15 * self.often):
            return str(self.random.choice(self.numbers)(self, d))
        several: list[Callable[[], str]] = [
            lambda: f"(await num({self.number(d)}))",
            lambda: f"(await num({self.number(d)}, {self.number(d)}))",
            lambda: f"(await total({self.several(d)}, {self.number(d)}, z={self.number(d)}))",
            lambda: f"len(await word({self.number(d)}))",
            lambda: f"int(await flag({self.number(d)}))",
            lambda: f"((await maybe({self.number(d)})) or {self.number(d)})",
            lambda: f"(await s.step(paid({self.number(d)}), undo=None))",
            lambda: (
                f"(await s.step(num({self.number(d)}), undo=lambda n: Refund(k='k', cents=n + {self.sure()})))"
            ),
            lambda: (
                f"(await s.step(Charge(k='k', cents={self.number(d)}), undo=Refund(k='k', cents={self.number(0)}))).cents"
            ),
            lambda: f"sum(await s.all(num({self.still(d)}), num({self.still(d)})))",
            lambda: f"sum(await s.all(*[num(v, {self.sure()}) for v in {self.several(d)}[:3]]))",
            lambda: f"(await s.first(num({self.still(d)}), num({self.still(d)})))",
            lambda: f"sum([await num(v, {self.sure()}) for v in {self.several(d)}[:3] if {self.sure()} % 2])",
            lambda: f"len({{await word(v) for v in {self.several(d)}[:2]}})",
            lambda: f"sum((await table({self.number(d)})).values())",
            lambda: f"(await pair({self.number(d)}))[{self.random.randrange(2)}]",
        ]
        for sub in self.subs:
            if self.calls < 4:
                several.append(partial(self.called, sub, d))
                several.append(partial(self.joined, sub, d))
        return self.random.choice(several)()

    def joined(self, sub: str, depth: int) -> str:
        """A called saga as a branch."""
        return f"sum(await s.all({sub}(s, {self.still(depth)}, [1]), num({self.still(depth)})))"

    def called(self, sub: str, depth: int) -> str:
        """A called saga."""
        self.calls += 1
        return f"(await {sub}(s, {self.number(depth)}, {self.several(depth)}))"

    def several(self, depth: int) -> str:
        """An expression of type list[int]."""
        if depth <= 0 or self.chance(0.5):
            return self.random.choice(("xs", "ys", "xs", "[1, 2]"))
        d = depth - 1
        forms = (
            lambda: f"[{self.number(d)}, {self.number(d)}]",
            lambda: f"[{self.number(d)}, *{self.several(d)}]",
            lambda: f"({self.several(d)} + [{self.number(d)}])",
            lambda: f"{self.several(d)}[:{self.number(0)}]",
            lambda: f"[v + {self.sure()} for v in {self.several(d)}]",
            lambda: f"(await nums({self.number(d)}))" if self.awaits else "ys",
            lambda: f"sorted({self.several(d)})",
            lambda: f"list(range({self.random.randrange(4)}))",
        )
        return self.random.choice(forms)()

    def mapping(self, depth: int) -> str:
        """An expression of type dict[str, int]."""
        if depth <= 0 or self.chance(0.5):
            return "m"
        d = depth - 1
        forms = (
            lambda: f"{{'q': {self.number(d)}, **m}}",
            lambda: f"{{{self.text(d)}: {self.number(d)}, 'r': {self.number(d)}}}",
            lambda: f"{{**m, {self.text(d)}: {self.number(d)}}}",
            lambda: f"(await table({self.number(d)}))" if self.awaits else "m",
        )
        return self.random.choice(forms)()

    def text(self, depth: int) -> str:
        """An expression of type str."""
        if depth <= 0 or self.chance(0.4):
            return self.random.choice(("t", "'x'", "'y'"))
        d = depth - 1
        forms = (
            lambda: f"f'{{{self.bare(d)}}}-{{t!r}}'[:9]",
            lambda: (
                f"f'{{Shown({self.bare(d)})}}{{Shown({self.bare(d)}):{self.random.choice(('', '>4', '{a}'))}}}'[:9]"
            ),
            lambda: f"(await word({self.number(d)}))" if self.awaits else "t",
            lambda: f"t.upper().replace('A', {self.text(d)})[:9]",
            lambda: f"(t + {self.text(d)})[:9]",
            lambda: f"str({self.number(d)})",
        )
        return self.random.choice(forms)()

    def bare(self, depth: int) -> str:
        """A number that may stand in an f-string of any Python: without quotes and braces."""
        made = self.number(depth)
        if not set("'{}:") & set(made):
            return made
        return f"(await num({self.var()}))" if self.awaits else self.var()

    def cond(self, depth: int) -> str:
        """A condition."""
        if depth <= 0:
            return f"{self.var()} % 2" if self.chance(0.5) else f"{self.var()} < {self.random.randrange(6)}"
        d = depth - 1
        forms = (
            lambda: f"{self.number(d)} < {self.number(d)}",
            lambda: f"{self.number(d)} < {self.number(d)} <= {self.number(d)}",
            lambda: f"not {self.cond(d)}",
            lambda: f"({self.cond(d)} and {self.cond(d)})",
            lambda: f"({self.cond(d)} or {self.cond(d)})",
            lambda: f"{self.number(d)} in {self.several(d)}",
            lambda: f"(await flag({self.number(d)}))" if self.awaits else "xs",
            lambda: "cell" if self.cell else f"{self.several(d)}",
        )
        return self.random.choice(forms)()

    # -- statements ----------------------------------------------------------------------------------------

    def block(self, depth: int, least: int = 1) -> Lines:
        """One or more statements."""
        body: Lines = []
        for _ in range(self.random.randrange(least, 4 if depth else 7)):
            if self.budget <= 0 and body:
                break
            self.budget -= 1
            body += self.statement(depth)
            if self.leaves(body):
                break
        return body or ["pass"]

    def leaves(self, body: Lines) -> bool:
        """Whether nothing after it could run."""
        return bool(body) and body[-1].split(" ")[0] in ("return", "raise", "break", "continue")

    def statement(self, depth: int) -> Lines:
        """One statement."""
        if self.awaits and self.statements and self.chance(0.08 * self.often):
            return list(self.random.choice(self.statements)(self, depth))
        simple = (
            self.assign, self.assign, self.mutate, self.unpack, self.noted, self.annotated, self.jump, self.removal,
        )  # fmt: skip
        rare = (self.emit, self.asserted, self.local_function, self.compensated, self.compensated)
        compound = (
            self.if_, self.if_, self.while_, self.for_, self.for_, self.try_, self.try_, self.try_,
            self.with_, self.match_, self.scope_, self.waited, self.asked,
        )  # fmt: skip
        if depth >= 4 or self.budget <= 0 or self.chance(0.45):
            return self.random.choice(simple if self.chance(0.85) else rare)(depth)
        before = frozenset(self.ints)
        made = self.random.choice(compound)(depth)
        # What only some ways bind is seldom read behind: most programs would end there.
        self.ints = [n for n in self.ints if n in before or self.chance(0.06)]
        return made

    def assign(self, depth: int) -> Lines:
        """`a = …`, `a += …`, several targets."""
        name = self.random.choice([n for n in self.ints if n.isidentifier()] or ["a"])
        if name.startswith("c_"):
            name = "a"
        form = self.random.randrange(5)
        if form == 0:
            return [f"{name} += {self.number(3)}"]
        if form == 1:
            return [f"t = {self.text(3)}"]
        if form == 2:
            return [f"{name} = b = {self.number(3)}"]
        self.know(name)
        return [f"{name} = {self.number(4)}"]

    def know(self, name: str) -> None:
        """A number that may be read from now on; perhaps it is unbound on some way."""
        if name not in self.ints:
            self.ints.append(name)

    def mutate(self, depth: int) -> Lines:
        """Changes of lists and dicts in place."""
        forms = (
            lambda: (
                [f"if len(xs) < 6: xs.append({self.number(3)})"]
                if self.chance(0.5)
                else ["if len(xs) < 6:", f"    xs.append({self.number(3)})"]
            ),
            lambda: [f"if len(ys) < 6: ys.append({self.number(2)})"],
            lambda: [f"m[{self.text(2)}] = {self.number(3)}"],
            lambda: [
                "if xs:",
                f"    xs[{self.number(1)} % len(xs)] {self.random.choice(('=', '+='))} {self.number(2)}",
            ],
            lambda: ["if xs:", "    xs.pop()"],
            lambda: [f"xs = {self.several(3)}"],
            lambda: ["ys = xs"],
            lambda: [f"xs += {self.several(2)}[:2]"],
            lambda: [f"cell.n = {self.number(3)}" if self.cell else f"m = {self.mapping(3)}"],
            lambda: [f"cell.n -= {self.number(3)}" if self.cell else "ys = list(xs)"],
        )
        return self.random.choice(forms)()

    def unpack(self, depth: int) -> Lines:
        """Several targets at once."""
        forms = (
            lambda: f"a, b = {self.number(2)}, {self.number(2)}",
            lambda: f"a, b = b, {self.number(3)}",
            lambda: f"a, *ys = [{self.number(2)}, {self.number(2)}, {self.number(2)}]",
            lambda: f"a, m[{self.text(1)}] = {self.number(2)}, {self.number(2)}",
            lambda: f"p = ({self.number(2)}, {self.number(2)})",
            lambda: "a, b = p",
            lambda: f"(a, b), t = (await pair({self.number(1)})), 'z'" if self.awaits else "a, b = p",
        )
        return [self.random.choice(forms)()]

    def noted(self, depth: int) -> Lines:
        """A call of `log`."""
        word = self.random.choice((self.number, self.number, self.text, self.several, self.cond))
        return [f"log('{self.fresh('n')}', {word(3)})"]

    def annotated(self, depth: int) -> Lines:
        """A new name with an annotation."""
        name = self.fresh("v")
        line = f"{name}: int = {self.number(3)}"
        self.know(name)
        return [line]

    def removal(self, depth: int) -> Lines:
        """`del`."""
        names = [n for n in self.ints if n.startswith("v")]
        if names and self.chance(0.4):
            return [f"del {self.random.choice(names)}"]
        return (
            [f"del xs[{self.number(1)}:]"]
            if self.chance(0.5)
            else ["if xs:", f"    del xs[{self.number(1)} % len(xs)]"]
        )

    def jump(self, depth: int) -> Lines:
        """`return`, `raise`, `break`, `continue`."""
        choice = self.random.random()
        if self.loops and choice < 0.45:
            return [self.random.choice(("break", "continue"))]
        if depth == 0:
            return self.noted(depth)
        if choice < 0.65 and not self.final:
            return [f"return {self.number(3)}"]
        if self.handling and choice < 0.8:
            return self.random.choice(
                (["raise"], [f"again({self.number(1)})"], [f"raise Odder({self.number(2)}) from None"])
            )
        forms = (
            lambda: f"raise Odd({self.number(2)})",
            lambda: f"raise Odder({self.number(2)}, tag={self.text(1)})",
            lambda: f"raise ValueError({self.number(2)}) from Odd({self.number(1)})",
            lambda: f"raise StepFailed({self.text(1)})",
        )
        return [self.random.choice(forms)()]

    def emit(self, depth: int) -> Lines:
        """Immediate calls."""
        event = f"s.emit(Done(k='k', n={self.number(2)}))"
        return [self.random.choice((event, "s.point_of_no_return()", "s.deadline('1h')"))]

    def asserted(self, depth: int) -> Lines:
        """`assert`."""
        return [f"assert {self.cond(2)}, {self.number(2)}"]

    def local_function(self, depth: int) -> Lines:
        """A function over locals."""
        name = self.fresh("f")
        inner = self.random.choice(
            (f"return v + {self.sure()}", "return v * 2", f"return v + len(xs) + {self.sure()}")
        )
        return [
            f"def {name}(v: int) -> int: {inner}",
            f"a = {self.number(2)}",
            f"b = apply({name}, {self.number(2)})",
        ]

    def compensated(self, depth: int) -> Lines:
        """Unwind now, or let time pass."""
        return (
            [self.random.choice(("await s.compensate()", "await s.sleep('1m')"))] if self.awaits else ["pass"]
        )

    def inside(self, lines: Lines) -> Lines:
        """Indented."""
        return [f"    {line}" for line in lines]

    def if_(self, depth: int) -> Lines:
        """`if`, `elif`, `else`."""
        lines = [f"if {self.cond(3)}:", *self.inside(self.block(depth + 1))]
        if self.chance(0.3):
            lines += [f"elif {self.cond(2)}:", *self.inside(self.block(depth + 1))]
        if self.chance(0.5):
            lines += ["else:", *self.inside(self.block(depth + 1))]
        return lines

    def while_(self, depth: int) -> Lines:
        """`while` up to a bound, with `else`."""
        name = self.fresh("w")
        body = self.looped(depth)
        test = f"{name} < {self.random.randrange(1, 4)}"
        test = f"{test} and {self.cond(2)}" if self.chance(0.5) else test
        lines = [f"{name} = 0", f"while {test}:", f"    {name} += 1", *self.inside(body)]
        return lines + self.orelse(depth)

    def looped(self, depth: int) -> Lines:
        """The body of a loop."""
        final, self.final = self.final, 0
        self.loops += 1
        body = self.block(depth + 1) if not final else self.without_return(depth)
        self.loops -= 1
        self.final = final
        return body

    def without_return(self, depth: int) -> Lines:
        """A body in a `finally`: its own loop may be left, the `finally` may not."""
        lines = self.block(depth + 1)
        stay = "log('stay')"
        return [
            line[: len(line) - len(line.lstrip())] + stay if line.lstrip().startswith("return ") else line
            for line in lines
        ]

    def orelse(self, depth: int) -> Lines:
        """`else` of a loop."""
        return ["else:", *self.inside(self.block(depth + 1))] if self.chance(0.3) else []

    def for_(self, depth: int) -> Lines:
        """`for` over what cursors know."""
        i, v = self.fresh("i"), self.fresh("v")
        forms: tuple[tuple[str, Callable[[], str]], ...] = (
            (v, lambda: self.several(2)),
            (v, lambda: f"{self.several(1)}[:3]"),
            (v, lambda: f"range({self.random.randrange(4)})"),
            (f"{i}, {v}", lambda: f"enumerate({self.several(2)}[:3])"),
            (f"{i}, {v}", lambda: f"zip(xs, {self.several(2)})"),
            (f"{i}, ({v}, b)", lambda: f"enumerate(zip({self.several(1)}, range(3)), {self.var()})"),
            (v, lambda: f"reversed({self.several(1)}[:3])"),
            (f"t, {v}", lambda: "dict(m).items()"),
            (v, lambda: f"dict({self.mapping(1)}).values()"),
            (v, lambda: f"({self.number(2)}, {self.number(2)})"),
            (v, lambda: "sorted({3, 1, 2})"),
        )
        target, over = self.random.choice(forms)
        head = f"for {target} in {over()}:"
        self.ints.extend(n for n in (i, v) if n in target)
        return [head, *self.inside(self.looped(depth)), *self.orelse(depth)]

    def try_(self, depth: int) -> Lines:
        """`try` in all its forms."""
        self.trying += 1
        lines = ["try:", *self.inside(self.block(depth + 1))]
        self.trying -= 1
        shape = self.random.random()
        if shape < 0.85:
            for kind in self.random.sample(_HANDLERS, self.random.choice((1, 1, 2))):
                named = self.fresh("e") if kind and self.chance(0.6) else ""
                head = f"except {kind} as {named}:" if named else f"except {kind}:".replace(" :", ":")
                self.handling += 1
                body = self.block(depth + 1)
                self.handling -= 1
                if named and self.chance(0.6):
                    body = [f"log('{named}', {named}.args)", *body]
                lines += [head, *self.inside(body)]
                if not kind:
                    break
            if self.chance(0.25):
                lines += ["else:", *self.inside(self.block(depth + 1))]
        if shape > 0.55:
            final, loops = self.final, self.loops
            self.final, self.loops = 1, 0
            lines += ["finally:", *self.inside(self.without_return(depth))]
            self.final, self.loops = final, loops
        return lines

    def with_(self, depth: int) -> Lines:
        """A `with` without awaits inside."""
        awaits, self.awaits = self.awaits, False
        loops, self.loops = self.loops, 0
        final, self.final = self.final, self.final or self.random.randrange(2)
        body = self.block(depth + 1)
        self.awaits, self.loops, self.final = awaits, loops, final
        swallow = ", swallow=True" if self.chance(0.3) else ""
        return [f"with Guard({self.random.randrange(9)}{swallow}):", *self.inside(body)]

    def match_(self, depth: int) -> Lines:
        """`match` over lists, tuples, numbers."""
        v = self.fresh("v")
        self.know(v)
        cases = self.random.sample(
            (
                f"[{v}, *ys]", f"[{v}, 2] | [2, {v}]", f"[_, {v}, *_] if {v} > 1", "[]", f"[1, {v} as d]", f"[0 | 1 | 2 as {v}, *_]",
            ),
            self.random.randrange(1, 4),
        )  # fmt: skip
        subject = self.several(2)
        lines = [f"match {subject}:"]
        for case in cases:
            lines += self.inside([f"case {case}:", *self.inside(self.block(depth + 1))])
        if self.chance(0.5):
            lines += self.inside(["case _:", *self.inside(self.block(depth + 1))])
        return lines

    def scope_(self, depth: int) -> Lines:
        """`async with s.scope():`"""
        if not self.awaits:
            return self.if_(depth)
        return ["async with s.scope():", *self.inside(self.block(depth + 1))]

    def waited(self, depth: int) -> Lines:
        """`match await s.wait(…)`."""
        if not self.awaits:
            return self.assign(depth)
        v = self.fresh("v")
        self.know(v)
        return [
            "match await s.wait(Approved, Rejected, within='9h'):",
            *self.inside(["case Approved(by=t):", *self.inside(self.block(depth + 1))]),
            *self.inside([f"case Rejected(why={v}):", *self.inside(self.block(depth + 1))]),
            *self.inside(["case Timeout():", *self.inside(self.block(depth + 1))]),
        ]

    def asked(self, depth: int) -> Lines:
        """`await s.ask(…)` as a value."""
        if not self.awaits:
            return self.assign(depth)
        name = self.fresh("r")
        return [
            f"{name} = await s.ask(Charge(k='k', cents={self.number(2)}))",
            f"if isinstance({name}, Charged):",
            *self.inside(self.block(depth + 1)),
            "else:",
            *self.inside([f"log('{name}', {name})", *self.block(depth + 1)]),
        ]


_HANDLERS: Final = (
    "StepFailed", "StepFailed", "Odd", "Odder", "ValueError", "(Odd, StepFailed)", "Exception", "Exception", "Cancelled",
    "BaseException", "UnboundLocalError", "",
)  # fmt: skip


def source_of(seed: int, *, further: bool = True, focus: str = "") -> str:
    """The text of the program of a seed; what Python itself refuses is written anew. further: with `testing.forms`.
    focus: one of its modules, whose forms come often and alone."""
    for attempt in range(100):
        text = Programs(f"{seed}.{attempt}", further=further, focus=focus).module()
        if valid(text):
            return text
    raise AssertionError(f"seed {seed} gives no program")
