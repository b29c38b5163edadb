"""A failed attempt of a local step, with the user's line first: kept while the step fails, told when its record is there."""

from __future__ import annotations

import linecache
import os
import sys
import sysconfig
import traceback
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, cast

from contrapas.author.sensitive import masked, sensitive_paths
from contrapas.cli.text import escape
from contrapas.core.world import StepType, World
from contrapas.errors import StepFailed
from contrapas.runtime.steps import idempotency_key

KEPT = 200
_OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_STDLIB = sysconfig.get_paths()["stdlib"]


class Failure(NamedTuple):
    """What is told of an exception."""

    place: str
    call: str
    source: tuple[str, ...]
    error: str
    hidden: int


class Watch:
    """Wraps the steps of a world so that the exceptions of their attempts are kept by idempotency key."""

    def __init__(self) -> None:
        self.failures: OrderedDict[str, Failure] = OrderedDict()

    def over(self, world: World) -> None:
        """Watch every step of this world from now on."""
        steps = cast("dict[str, StepType]", world.types.steps)
        for name, step in list(steps.items()):
            steps[name] = replace(step, fn=self._async(step.fn) if step.is_async else self._plain(step.fn))

    def keep(self, error: BaseException, args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> None:
        """Remember the newest failure of the step that runs here."""
        key = idempotency_key()
        self.failures[key] = failure(error, args, kwargs, name)
        self.failures.move_to_end(key)
        while len(self.failures) > KEPT:
            self.failures.popitem(last=False)

    def _async(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        async def inner(*args: Any, **kwargs: Any) -> Any:
            try:
                return await fn(*args, **kwargs)
            except StepFailed:
                raise
            except Exception as error:
                self.keep(error, args, kwargs, fn.__name__)
                raise

        return inner

    def _plain(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*args: Any, **kwargs: Any) -> Any:
            try:
                return fn(*args, **kwargs)
            except StepFailed:
                raise
            except Exception as error:
                self.keep(error, args, kwargs, fn.__name__)
                raise

        return inner


def failure(error: BaseException, args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> Failure:
    """The user's innermost line, the lines before it, the error in one line, and how many other frames there were."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if user_file(frame.filename)]
    call = ", ".join([*(_short(a) for a in args), *(f"{k}={_short(v)}" for k, v in kwargs.items())])
    words = f"{type(error).__name__}: {escape(str(error))}"
    if not own:
        return Failure("", f"{name}({call})", (), words, len(frames))
    at = own[-1]
    number = at.lineno or 1
    source: list[str] = []
    for line in range(max(1, number - 2), number + 1):
        text = linecache.getline(at.filename, line).rstrip("\n")
        if text.strip() or line == number:
            source.append(f" {'>' if line == number else ' '} {line} | {escape(text, cut=120)}")
    if at.colno is not None and at.end_colno is not None and at.end_lineno == at.lineno:
        gutter = len(f" > {number} | ")
        source.append(" " * (gutter + at.colno) + "~" * max(1, min(at.end_colno - at.colno, 100)))
    inside = os.path.relpath(at.filename)
    place = f"{at.filename if inside.startswith('..') else inside}:{number}"
    return Failure(place, f"{name}({call})", tuple(source), words, len(frames) - len(own))


def user_file(path: str) -> bool:
    """Whether a frame is the user's own: not ours, not the standard library's, not a package's."""
    if path.startswith(("<", _OWN, _STDLIB, os.path.join(sys.base_prefix, "lib"))):
        return False
    return "site-packages" not in path and "dist-packages" not in path


def _short(value: Any) -> str:
    from pydantic import BaseModel

    try:
        if isinstance(value, BaseModel) and (paths := sensitive_paths(type(value))):
            return escape(f"{type(value).__name__}({masked(value.model_dump(mode='json'), paths)})", cut=60)
        return escape(repr(value), cut=60)
    except Exception:  # noqa: BLE001  a repr of the user's may raise anything
        return f"<{type(value).__name__}>"
