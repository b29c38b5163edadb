"""An app as a mere observer of the topics it names: every saga only follows, and nothing of it acts on the world outside.

No service reacts, no entity is served, no step runs but those that may under `observe`, and of these none that writes to
a store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NoReturn, cast

from contrapas.codec.messages import MessageType, StepType
from contrapas.core.world import Types, World
from contrapas.errors import Refused
from contrapas.runtime.definition import Definition

__all__ = ["observers"]


class _Still:
    """A registry whose steps do not run, except those that only look."""

    def __init__(self, types: Types) -> None:
        self._types = types
        self._steps = {name: _still(step) for name, step in types.steps.items()}

    @property
    def messages(self) -> Mapping[str, MessageType]:
        return self._types.messages

    @property
    def steps(self) -> Mapping[str, StepType]:
        return self._steps

    def message_of(self, cls: type, /) -> MessageType:
        return self._types.message_of(cls)

    def dump_exception(self, exc: BaseException, /) -> str:
        return self._types.dump_exception(exc)

    def load_exception(self, text: str, /) -> BaseException:
        return self._types.load_exception(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._types, name)


def _still(step: StepType) -> StepType:
    if step.observe and step.store is None:
        return step

    def refused(*args: object, **kwargs: object) -> NoReturn:
        raise Refused("CP526", f"the step {step.name} acts: it does not run while the log is only read")

    # whoever calls it all the same does not meet the user's function, nor its session
    return replace(step, fn=refused, is_async=False, observe=False, store=None, supplied=(), delivery="")


def observers(definition: Definition, world: World) -> tuple[Definition, World]:
    """The same app with every saga under `observe`, whatever it declares, and everything that acts left out. world: as it
    was built of the definition."""
    uses = tuple(replace(use, mode="observe", on_late="alert") for use in definition.sagas)
    modes = {use.saga.name: ("observe", "alert") for use in uses if not use.saga.retired}
    still = replace(definition, sagas=uses, services=(), entities=())
    types = cast(Types, _Still(world.types))
    return still, replace(world, types=types, modes=modes, plans={}, step_plans={}, older={})
