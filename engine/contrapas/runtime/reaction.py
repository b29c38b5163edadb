"""One reaction of a service: its message from a record, its parameters by type, what it emits as messages."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
from collections.abc import Awaitable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, cast

from contrapas.author.service import Delivery, Depends, mark_of, store_of
from contrapas.codec.strict import load_model
from contrapas.core.decode import Doors, message_in, to_json
from contrapas.core.lane import Draft, Headers, Record
from contrapas.core.messages import time_text
from contrapas.core.partition import partition as partition_of
from contrapas.core.world import MessageType, Types
from contrapas.errors import DataError

_POOL = ThreadPoolExecutor(32, thread_name_prefix="contrapas-service")


class Unfit(Exception):
    """A reaction returned what its annotation does not name (CP604)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """A message on its way into a reaction."""

    record: Record
    headers: Mapping[str, bytes]
    body: Any
    id: str
    event_source: str
    lane: str

    @property
    def undoes(self) -> str:
        """Of an undo command: the id of the command that it takes back."""
        return self.headers.get("cp-undoes", b"").decode(errors="replace")


class Handler:
    """A reaction, ready to be called."""

    def __init__(
        self, reaction: Any, message: MessageType, provided: Mapping[Any, Any], store: Any = None
    ) -> None:
        self.reaction = reaction
        self.message = message
        self.name: str = reaction.name
        self.emits: tuple[type, ...] = reaction.emits
        self.store = store
        """It runs in this store's transaction; None: in none."""
        self._provided = provided
        self._is_async = inspect.iscoroutinefunction(reaction.fn)
        parameters = list(inspect.signature(reaction.fn).parameters)
        self._more = [(name, reaction.hints.get(name)) for name in parameters[1:]]
        for name, kind in self._more:
            if (mark := mark_of(kind)) is not None:
                _check(self.name, name, mark, store)

    def decode(self, record: Record, *, lane: str, source: str, doors: Doors) -> Delivered:
        """The message of a record. DataError: what the strict door refuses; `Wanted`: fetch its schema first."""
        a = message_in(record, lane, source, doors)
        to_json(a, doors)
        body = load_model(self.message.cls, a.value, name=self.message.name)
        return Delivered(
            record=record, headers=a.headers, body=body, id=a.id, event_source=a.event_source, lane=lane
        )

    async def call(self, d: Delivered, attempt: int, happened: bool | None = None) -> list[Any]:
        """Run it; what it emits, in order. Unfit for what it may not emit. happened: of an undo, whether its step did."""
        more = {name: self._supply(kind, d, attempt, happened) for name, kind in self._more}
        if self._is_async:
            result = await _own(self.reaction.fn(d.body, **more))
        else:
            loop = asyncio.get_running_loop()
            context = copy_context()
            work = loop.run_in_executor(_POOL, lambda: context.run(self.reaction.fn, d.body, **more))
            result = await (_ended(work) if self.store is not None else work)
        if result is None:
            return []
        events: list[Any] = list(cast("list[Any]", result)) if isinstance(result, list | tuple) else [result]
        for event in events:
            if type(event) not in self.emits:
                allowed = ", ".join(c.__name__ for c in self.emits) or "nothing"
                raise Unfit(f"it returned {type(event).__name__}, its annotation names {allowed}")
        return events

    def _supply(self, kind: Any, d: Delivered, attempt: int, happened: bool | None) -> Any:
        if kind is Delivery:
            r = d.record
            return Delivery(
                key=r.key.decode(errors="replace"),
                topic=d.lane,
                partition=r.partition,
                offset=r.offset,
                attempt=attempt,
                headers=d.headers,
                idempotency_key=d.id,
                undoes=d.undoes,
                happened=happened,
            )
        if (mark := mark_of(kind)) is not None:
            return mark.dependency()
        if kind in self._provided:
            return self._provided[kind]()
        raise DataError("CP850", f"{self.name}: nothing provides {kind!r}", fix="app.provide(type, make)")

    def drafts(
        self, events: list[Any], d: Delivered, types: Types, namespace: str, service: str, count: int
    ) -> list[Draft]:
        """The events as messages; of a command's replies the record key and the way back are the command's."""
        found: list[Draft] = []
        for number, event in enumerate(events):
            cls: type = event.__class__
            message = types.message_of(cls)
            reply = self.message.command and message.name in self.message.replies
            outcome = "ok" if not reply or message.name == self.message.replies[0] else "declined"
            value: bytes = event.model_dump_json(by_alias=True).encode()
            key = d.record.key if reply else str(getattr(event, message.key)).encode()
            found.append(
                self._draft(
                    message.name,
                    message.topic,
                    value,
                    key,
                    d,
                    number,
                    reply,
                    outcome,
                    namespace,
                    service,
                    count,
                )
            )
        return found

    def gave_up(
        self, d: Delivered, why: str, types: Types, namespace: str, service: str, count: int
    ) -> list[Draft]:
        """The answer to a command whose reaction kept raising: the outcome is unknown."""
        if not self.message.command:
            return []
        first = types.messages[self.message.replies[0]]
        value = _reason(why)
        attempt = d.headers.get("cp-attempt", b"1").decode(errors="replace")[:9]
        number = f"gave-up-{attempt}"  # an answer to that attempt only: a later one is another message
        return [
            self._draft(
                "", first.topic, value, d.record.key, d, number, True, "error", namespace, service, count
            )
        ]

    def _draft(
        self,
        type_name: str,
        topic: str,
        value: bytes,
        key: bytes,
        d: Delivered,
        number: int | str,
        reply: bool,
        outcome: str,
        namespace: str,
        service: str,
        count: int,
    ) -> Draft:
        ident = f"{service}/{_scoped(d, namespace)}#{number}"
        headers: Headers = (
            ("ce_specversion", b"1.0"),
            ("ce_id", ident.encode()),
            ("ce_source", f"/services/{namespace}/{service}".encode()),
            *((("ce_type", type_name.encode()),) if type_name else ()),
            ("ce_subject", key),
            ("ce_time", time_text(d.record.timestamp_ms)),
            ("ce_partitionkey", key),
            ("ce_causationid", d.id.encode()),
            ("content-type", b"application/json"),
        )
        instance = d.headers.get("ce_correlationid")
        if instance is not None:
            headers = (*headers, ("ce_correlationid", instance))
        if reply:
            headers = (
                *headers,
                ("cp-kind", b"reply"),
                ("cp-in-reply-to", d.id.encode()),
                ("cp-outcome", outcome.encode()),
            )
            if (run := d.headers.get("cp-run")) is not None:
                headers = (*headers, ("cp-run", run))
        headers = (*headers, *((n, d.headers[n]) for n in ("traceparent", "tracestate") if n in d.headers))
        to = topic or "in"
        if to == "in" and reply and instance is not None:
            key = instance.partition(b"/")[2]
            headers = (*headers, ("cp-to", instance))
        return Draft(to, partition_of(key, count) if to == "in" else -1, key, value, headers, ident)


def _check(reaction: str, name: str, mark: Depends[Any], store: Any) -> None:
    """DataError CP850 for what cannot be supplied: another store's session, a function that waits or yields."""
    asked = store_of(mark)
    fn = mark.dependency
    if asked is not None and asked is not store:
        has = f"its service has {store.name!r}" if store is not None else "its service has none"
        raise DataError(
            "CP850",
            f"{reaction}: {name} is the session of the store {asked.name!r}, and {has}",
            fix="Service(name, store=store)",
        )
    if inspect.iscoroutinefunction(fn) or inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise DataError(
            "CP850",
            f"{reaction}: {name} depends on {getattr(fn, '__name__', fn)}, which waits or yields: a dependency returns its value",
            fix="a plain function; what must be closed belongs into the reaction",
        )


async def _own(work: Awaitable[Any]) -> Any:
    """What it gives. A cancellation that nobody asked of this delivery is a failure like any other: as one of its own it
    would end the delivery unfinished, and the position would wait behind it for ever."""
    try:
        return await work
    except asyncio.CancelledError as why:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise RuntimeError(f"something it waited for was cancelled{f': {why}' if str(why) else ''}") from None


async def _ended(work: asyncio.Future[Any]) -> Any:
    """What it gives. A thread cannot be stopped: a cancelled delivery waits for its end, for the session is in its hands."""
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise


def read_message(
    handlers: Mapping[str, Handler], record: Record, lane: str, source: str, doors: Doors
) -> Handler | None:
    """Which reaction a record is for; None: none of these. DataError: it does not say, and is broken where it should;
    `Wanted`: fetch its schema first."""
    name = ""
    kind = b""
    structured = False
    for header, value in record.headers:
        if header == "ce_type":
            name = value.decode(errors="replace")
        elif header == "cp-kind":
            kind = value
        elif len(header) == 12 and header.lower() == "content-type":
            structured = value.lstrip()[:23].lower() == b"application/cloudevents"
    if kind not in (b"", b"event", b"command", b"reply"):
        return None
    if structured or (not name and lane in doors.mappings):
        name = message_in(record, lane, source, doors).type if record.value else ""
    return handlers.get(name)


def _scoped(d: Delivered, namespace: str) -> str:
    """An id that no delivery from another source has: ids of a saga's commands begin with its name, other ids are anything."""
    saga = d.event_source.removeprefix(f"/contrapas/{namespace}/")
    if saga != d.event_source and d.id.startswith(f"{saga}/"):
        return d.id
    return f"{hashlib.sha256(d.event_source.encode()).hexdigest()[:12]}/{d.id}"


def _reason(why: str) -> bytes:
    import json

    return json.dumps({"reason": why[:1000]}, ensure_ascii=False).encode()
