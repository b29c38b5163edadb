"""`App`: what a user declares, and its doors into the runtime. Inert until a command or `lifespan()` runs it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, Literal, NamedTuple, TypeVar

from contrapas.author.event import Event
from contrapas.author.op import Op
from contrapas.author.saga import Saga, SagaDef
from contrapas.author.service import NAME, Service
from contrapas.errors import DataError, Refused

if TYPE_CHECKING:
    from contrapas.runtime.definition import Definition

E = TypeVar("E", bound=Event)
T = TypeVar("T")


class Use(NamedTuple):
    """A saga of the app, and how it runs."""

    saga: SagaDef[..., Any]
    mode: str
    on_late: str = "alert"


class App:
    """A namespace, with its sagas, services and providers. `App("shop")` owns the lanes `shop.in` and `shop.log`."""

    def __init__(self, namespace: str) -> None:
        if not isinstance(namespace, str) or NAME.fullmatch(namespace) is None:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DataError(
                "CP850",
                f"App({namespace!r:.80}): a namespace has 1 to 40 of a-z, 0-9 and '-', and begins with a letter or digit",
                got=repr(namespace)[:80],
                fix="name it like shop or shop-eu",
            )
        self.namespace = namespace
        self._sagas: dict[str, Use] = {}
        self._services: dict[str, Service] = {}
        self._provided: dict[Any, Callable[[], Any]] = {}
        self._file: str = sys._getframe(1).f_code.co_filename  # pyright: ignore[reportPrivateUsage]

    def orchestrate(self, *sagas: SagaDef[..., Any]) -> None:
        """Run these sagas: they send their commands."""
        for saga in sagas:
            self._use(Use(saga, "orchestrate"))

    def observe(self, *sagas: SagaDef[..., Any], on_late: Literal["alert", "compensate"] = "alert") -> None:
        """Follow with these sagas what services do among themselves: nothing is sent, the outcome is recorded.

        on_late: `alert` only records and reports lateness; `compensate` sends the undo commands when it unwinds.
        """
        if on_late not in ("alert", "compensate"):
            raise DataError("CP850", f"on_late={on_late!r:.80}", expected="'alert' or 'compensate'")
        for saga in sagas:
            self._use(Use(saga, "observe", on_late))

    def serve(self, *services: Service) -> None:
        """Run the reactions of these services in our workers."""
        for service in services:
            if self._services.setdefault(service.name, service) is not service:
                raise Refused("CP143", f"two services are named '{service.name}'", fix="rename one")

    def provide(self, kind: type[T], make: Callable[[], T], /) -> None:
        """Supply parameters of type `kind` with `make()`, anew for each activation or delivery; never stored."""
        if kind in self._provided:
            raise Refused("CP143", f"{kind.__name__} is provided already", fix="one provider for each type")
        self._provided[kind] = make

    def definition(self) -> Definition:
        """What was declared, as plain values."""
        from contrapas.runtime.definition import Definition, SagaUse

        return Definition(
            namespace=self.namespace,
            sagas=tuple(SagaUse(saga=u.saga, mode=u.mode, on_late=u.on_late) for u in self._sagas.values()),
            services=tuple(self._services.values()),
            provided=dict(self._provided),
            file=self._file,
        )

    async def start(self, saga: Callable[Concatenate[Saga, E, ...], Op[Any]], event: E, /) -> str:
        """TODO"""
        return ""

    async def signal(self, saga: SagaDef[..., Any], key: str, event: Event, /) -> str:
        """TODO"""
        return ""

    def _use(self, use: Use) -> None:
        if not _is_saga(use.saga):
            raise DataError("CP850", f"{use.saga!r:.80} is no saga", fix="mark the function with @saga")
        before = self._sagas.setdefault(use.saga.name, use)
        if before is use:
            return
        if before.saga is not use.saga:
            raise Refused(
                "CP143", f"two sagas are named '{use.saga.name}'", fix='@saga(name="…") on one of them'
            )
        if before != use:
            raise Refused(
                "CP143",
                f"{use.saga.name} is declared twice: {before.mode}, then {use.mode}",
                fix="a saga has one mode in a namespace: keep one line",
            )


def _is_saga(value: object) -> bool:
    return isinstance(value, SagaDef)
