"""A set of constants has no order: loaded from a cache it may come in another one, and is the same code still."""

from __future__ import annotations

import types

from contrapas.compiler.source import _equal  # pyright: ignore[reportPrivateUsage]


def code(members: list[int]) -> types.CodeType:
    made = compile("def f(x):\n    return x in {0, 8}", "f.py", "exec").co_consts[0]
    assert isinstance(made, types.CodeType)
    consts = tuple(frozenset(members) if isinstance(c, frozenset) else c for c in made.co_consts)
    return made.replace(co_consts=consts)


def test_sets_of_constants_are_compared_without_their_order() -> None:
    assert repr(frozenset([0, 8])) != repr(frozenset([8, 0]))
    assert _equal(code([0, 8]), code([8, 0]))
    assert not _equal(code([0, 8]), code([0, 9]))
