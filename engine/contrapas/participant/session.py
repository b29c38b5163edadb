"""The session of the delivery in hand: each task sees its own, none outside of a delivery."""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import Generic

from typing_extensions import TypeVar

from contrapas.errors import Refused

S = TypeVar("S")


class Current(Generic[S]):
    """What `Store.session` gives; a store sets it when a transaction begins, and takes it back at its end."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._held: ContextVar[S | None] = ContextVar("contrapas_session", default=None)

    def get(self) -> S:
        """The session. Refused CP850 outside of a delivery."""
        found = self._held.get()
        if found is None:
            raise Refused(
                "CP850",
                f"the store {self._name!r} has no delivery in hand here",
                fix="take the session as a parameter of a reaction or @step: Annotated[T, Depends(store.session)]; "
                "in code of your own begin a transaction yourself and give it to store.publish",
            )
        return found

    def set(self, session: S) -> Token[S | None]:
        """From here on, in this task."""
        return self._held.set(session)

    def reset(self, token: Token[S | None]) -> None:
        """No longer."""
        self._held.reset(token)
