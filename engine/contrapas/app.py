"""`App`: what a user declares, and its doors into the runtime. Inert until a command or `lifespan()` runs it."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Concatenate, Literal, NamedTuple, TypeVar

from contrapas.author.duration import Duration, duration_ms
from contrapas.author.entity import Entity
from contrapas.author.event import Command, Event
from contrapas.author.op import Op
from contrapas.author.saga import Saga, SagaDef
from contrapas.author.service import NAME, Service
from contrapas.errors import DataError, Refused, StepFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import BaseModel
    from starlette.types import ASGIApp

    from contrapas.author.external import External
    from contrapas.runtime.client import Client, Told
    from contrapas.runtime.definition import Definition

E = TypeVar("E", bound=Event)
Ok = TypeVar("Ok", bound=Event)
Fail = TypeVar("Fail", bound=Event)
T = TypeVar("T")


class Use(NamedTuple):
    """A saga of the app, and how it runs."""

    saga: SagaDef[..., Any]
    mode: str
    on_late: str = "alert"
    unmatched: str = "park"


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
        self._entities: list[type[Entity]] = []
        self._externals: dict[str, External] = {}
        self._provided: dict[Any, Callable[[], Any]] = {}
        self._client: Client | None = None
        self._file: str = sys._getframe(1).f_code.co_filename  # pyright: ignore[reportPrivateUsage]

    def orchestrate(self, *sagas: SagaDef[..., Any]) -> None:
        """Run these sagas: they send their commands."""
        for saga in sagas:
            self._use(Use(saga, "orchestrate"))

    def observe(
        self,
        *sagas: SagaDef[..., Any],
        on_late: Literal["alert", "compensate"] = "alert",
        unmatched: Literal["park", "count", "adopt"] = "park",
    ) -> None:
        """Follow with these sagas what services do among themselves: nothing is sent, the outcome is recorded.

        on_late: `alert` only records and reports lateness; `compensate` sends the undo commands when it unwinds.
        unmatched: what becomes of an event whose start was never seen: `park` keeps it as an early event, `count` only
        counts it, `adopt` starts the saga by what `@saga(adopt=...)` makes of it.
        """
        if unmatched not in ("park", "count", "adopt"):
            raise DataError("CP850", f"unmatched={unmatched!r:.80}", expected="'park', 'count' or 'adopt'")
        if on_late not in ("alert", "compensate"):
            raise DataError("CP850", f"on_late={on_late!r:.80}", expected="'alert' or 'compensate'")
        for saga in sagas:
            if unmatched == "adopt" and saga.adopt is None:
                raise DataError(
                    "CP850",
                    f"{saga.name} is to adopt what it meets, and no function says how",
                    fix="@saga(adopt=fn), fn from the event to a start event",
                )
            self._use(Use(saga, "observe", on_late, unmatched))

    def serve(self, *services: Service | type[Entity]) -> None:
        """Run the reactions of these services, and the handlers of these entities, in our workers."""
        for service in services:
            if isinstance(service, type):
                self._entity(service)
                continue
            if self._services.setdefault(service.name, service) is not service:
                raise Refused("CP143", f"two services are named '{service.name}'", fix="rename one")

    def external(
        self, name: str, *, takes: Sequence[type[Event]] = (), emits: Sequence[type[Event]] = ()
    ) -> None:
        """Name a participant outside of the app: it is drawn, and who sends to it or waits for it is checked.

        takes: commands and events that it takes. emits: what it answers and emits.
        """
        if NAME.fullmatch(name) is None or name in self._services or name in self._externals:
            raise DataError(
                "CP850", f"external({name!r:.80}): the name is none, or is taken", fix="another name"
            )
        from contrapas.author.external import external

        at = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
        self._externals[name] = external(name, takes, emits, at.f_code.co_filename, at.f_lineno)

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
            sagas=tuple(
                SagaUse(saga=u.saga, mode=u.mode, on_late=u.on_late, unmatched=u.unmatched)
                for u in self._sagas.values()
            ),
            services=tuple(self._services.values()),
            entities=tuple(self._entities),
            externals=tuple(self._externals.values()),
            provided=dict(self._provided),
            file=self._file,
        )

    @asynccontextmanager
    async def lifespan(self, *, log: str | None = None, drain: Duration = "30s") -> AsyncGenerator[None]:
        """Run sagas, services and timers in this process for as long as the block lasts.

        For any ASGI app: `FastAPI(lifespan=lambda _: app.lifespan())`. log: the log's URL, else `CONTRAPAS_LOG`, else
        `[tool.contrapas]`, else the file of the namespace. drain: how long running steps may take at the end.
        """
        from contrapas.runtime.engine import Engine

        if self._client is not None:
            raise Refused(
                "CP850", f"{self.namespace} runs in this process already", fix="one lifespan at a time"
            )
        async with Engine.opened(self.definition(), log) as engine:
            self._client = engine.client
            try:
                async with engine.working(duration_ms(drain, what="drain=", zero=True)):
                    yield
            finally:
                self._client = None

    def asgi(self, *, hosts: Sequence[str] = (), token: str | None = None) -> ASGIApp:
        """The app's HTTP routes, to be mounted: `api.mount("/contrapas", app.asgi())`; they answer while `lifespan()` runs.

        Served by itself (`uvicorn.run(app.asgi())`) it enters the lifespan. Put your own authentication in front: whoever
        reaches it may start and signal. hosts: names under which it may be called, besides this machine's own. token:
        asked for where states are read, else `CONTRAPAS_TOKEN`; empty: who may read is decided in front.
        """
        import os

        from contrapas.web.mounted import Mounted

        said = os.environ.get("CONTRAPAS_TOKEN", "") if token is None else token
        return Mounted(lambda: self._client, self.lifespan, hosts=hosts, token=said)

    async def start(
        self,
        saga: Callable[Concatenate[Saga, E, ...], Op[Any]],
        event: E,
        /,
        *,
        event_id: str = "",
        within: Duration | None = None,
    ) -> Told:
        """Start an instance from its first event. Returns once the log has acknowledged.

        Repeating it under the same `event_id` is safe. within: wait so long for the owner's answer: a start for a taken
        key is a duplicate, or refused (CP412) when its payload differs.
        """
        name, ms = _named(saga), 0 if within is None else duration_ms(within, what="within=")
        async with self._doors() as client:
            return await client.start(name, event, event_id=event_id, timeout_ms=ms)

    async def signal(
        self,
        saga: SagaDef[..., Any],
        key: str,
        event: Event,
        /,
        *,
        event_id: str = "",
        within: Duration | None = None,
    ) -> Told:
        """Hand an event to one instance. Returns once the log has acknowledged; `within` as in `start`."""
        name, ms = _named(saga), 0 if within is None else duration_ms(within, what="within=")
        async with self._doors() as client:
            return await client.signal(name, key, event, event_id=event_id, timeout_ms=ms)

    async def ask(
        self,
        command: Command[Ok, Fail],
        /,
        *,
        timeout: Duration = "10s",
        event_id: str = "",
    ) -> Ok | Fail:
        """Ask the saga that takes this command, and wait for its reply: the success or a declared failure.

        StepFailed, with a reason and no reply, where the saga declines: `closed`, `busy`, `exists`, `absent`. Unreachable
        CP507 when nothing came in time: the outcome is unknown, and asking again under its `event_id` is safe.
        """
        async with self._doors() as client:
            told = await client.ask(
                command, event_id=event_id, timeout_ms=duration_ms(timeout, what="timeout=")
            )
            if told.verdict == "declined":
                raise StepFailed(told.reason, step=type(command).__contrapas_name__)
            from contrapas.core.outcomes import load_body

            return load_body(client.setting.world, told.outcome, told.outcome_body)  # type: ignore[no-any-return]

    async def view(self, saga: SagaDef[..., Any], key: str, /) -> BaseModel | None:
        """What an instance shows: the model of `@saga(show=...)`; None while it shows nothing.

        Refused CP414: there is no such instance. DataError CP403: what it shows is of another class, or no class is named.
        """
        name = _named(saga)
        async with self._doors() as client:
            told = await client.state(f"{name}/{key}")
        if not told.view:
            return None
        if saga.show is None:
            raise DataError(
                "CP403", f"{name} names no class of its view", got=told.view_type, fix="@saga(show=TheModel)"
            )
        try:
            return saga.show.model_validate_json(told.view)
        except ValueError as why:
            raise DataError(
                "CP403", f"{name}/{key}: {why}"[:500], expected=saga.show.__name__, got=told.view_type
            ) from None

    @asynccontextmanager
    async def _doors(self) -> AsyncGenerator[Client]:
        """The client of the running lifespan, else one for this call."""
        if self._client is not None:
            yield self._client
            return
        from contrapas.runtime.engine import Engine

        async with Engine.opened(self.definition(), None) as engine:
            yield engine.client

    def _entity(self, cls: type[Entity]) -> None:
        if not issubclass(cls, Entity):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DataError(
                "CP850", f"{cls!r:.80} is no service and no entity", fix="class Chat(Entity, key=…)"
            )
        if cls not in self._entities:
            self._entities.append(cls)
        cls.__contrapas_app__ = self

    def _use(self, use: Use) -> None:
        if not _is_saga(use.saga):
            raise DataError("CP850", f"{use.saga!r:.80} is no saga", fix="mark the function with @saga")
        name = f"{use.saga.name}@{use.saga.retired}" if use.saga.retired else use.saga.name
        before = self._sagas.setdefault(name, use)
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


def _named(saga: object) -> str:
    if not isinstance(saga, SagaDef):
        raise DataError("CP850", f"{saga!r:.80} is no saga", fix="mark the function with @saga")
    return saga.name


def _is_saga(value: object) -> bool:
    return isinstance(value, SagaDef)
