"""Handlers of entities as plain coroutines: what the compiled form `(s, self, …) -> (self, result)` is compared with."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from contrapas.author.saga import SagaDef
from contrapas.compiler.entities import HandlerSaga


def native_of(saga: SagaDef[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    """The coroutine function that is run natively, with `s` first; of a handler it takes and gives the fields too."""
    if not isinstance(saga, HandlerSaga):
        return saga.fn
    fn = saga.fn
    takes = bool(saga.call.saga)

    async def run(s: Any, me: Any, *args: Any, **kwargs: Any) -> Any:
        result = await (fn(me, s, *args, **kwargs) if takes else fn(me, *args, **kwargs))
        return me, result

    given = list(inspect.signature(fn).parameters.values())
    first = inspect.Parameter(saga.saga_name.lstrip("@"), inspect.Parameter.POSITIONAL_OR_KEYWORD)
    made: Any = run
    made.__signature__ = inspect.Signature([first, given[0], *given[2 if takes else 1 :]])
    made.__wrapped__ = fn
    return run


def inner_frame(coroutine: Any) -> Any:
    """The frame of the author's code: of a handler, one deeper. None: it is through."""
    if (
        coroutine.cr_frame is None
        or coroutine.cr_code.co_name != "run"
        or coroutine.cr_code.co_filename != __file__
    ):
        return coroutine.cr_frame
    return getattr(coroutine.cr_await, "cr_frame", None)
