"""`Client`: start, signal, operate on and wait for instances, from the worker's own process or from another one.

Accepting needs no owner: a publish to `<ns>.in` is the acknowledgement. An answer of the owner comes through memory where
the owner is in this process, else over a partition of `<ns>.in` that this client reads from its end. Answers are not
stored: losing one costs a time-out (CP507, outcome unknown), never a fact.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from contrapas.codec.strict import load_json
from contrapas.core.decode import object_of
from contrapas.core.envelope import ENDED, InstanceRecord
from contrapas.core.lane import Draft
from contrapas.core.partition import partition as partition_of
from contrapas.core.world import MessageType
from contrapas.errors import DataError, Refused, Retriable, Unreachable
from contrapas.log import Log
from contrapas.runtime.apply import shown
from contrapas.runtime.batch import Answer, Setting
from contrapas.runtime.doors import event_draft, key_of, plain_draft, topic_draft, value_of
from contrapas.runtime.worker import Worker

ASK_AGAIN_MS = 5_000
MANY = 2_000
MANY_BYTES = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What is known of an instance."""

    instance: str
    verdict: str = ""
    """Of the message that asked: `applied kept no-op duplicate refused absent …`; empty: only accepted."""
    status: str = ""
    state: str = ""
    version: int = 0
    outcome: str = ""
    """Registered name of the event it returned."""
    outcome_body: str = ""
    code: str = ""
    reason: str = ""
    event_id: str = ""
    """Repeating the message under this id is safe."""
    view_type: str = ""
    """Registered name of the model that the instance shows."""
    view: str = ""
    """Its JSON text."""
    note: str = ""

    @property
    def ended(self) -> bool:
        """It has come to an end."""
        return self.status in ENDED


class Client:
    """The doors of one namespace."""

    def __init__(
        self,
        log: Log,
        setting: Setting,
        *,
        worker: Worker | None = None,
        draw: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self.log = log
        self.setting = setting
        self._worker = worker
        self._draw = draw
        self._asked: dict[str, asyncio.Future[Answer]] = {}
        self._reader: asyncio.Task[None] | None = None
        self._lane = 0
        self._reading = asyncio.Event()

    @property
    def worker(self) -> Worker | None:
        """The worker in this process, if there is one."""
        return self._worker

    # ---- starts, signals, events

    async def start(
        self, saga: str, event: Any, *, event_id: str = "", timeout_ms: int = 0, raw: bytes = b""
    ) -> Told:
        """Start an instance of `saga`. Returns once the log has acknowledged; with a time-out, once the owner has
        answered: `duplicate` for the same payload, Refused CP412 for another one under the same key.

        raw: the event as it came, stored as it is: with fields that its class does not know.
        """
        message = self._message(event)
        if saga not in self.setting.routes.starts.get(message.name, ()):
            raise DataError(
                "CP402",
                f"{message.name} does not start {saga}",
                expected=", ".join(n for n, s in self.setting.routes.starts.items() if saga in s)
                or "nothing",
                got=message.name,
            )
        key = key_of(message, event)
        value = value_of(message, event, raw)
        return await self._tell(f"{saga}/{key}", message, value, "start", event_id, timeout_ms)

    async def start_many(self, saga: str, events: Iterable[Any]) -> int:
        """Start many instances; returns once the log has acknowledged all of them. Gives how many."""
        drafts: list[Draft] = []
        count = size = 0
        for event in events:
            message = self._message(event)
            key = key_of(message, event)
            value = value_of(message, event)
            ident = self._draw()
            drafts.append(
                event_draft(
                    self.setting,
                    message,
                    value,
                    kind="start",
                    key=key,
                    to=f"{saga}/{key}",
                    event_id=ident,
                    at=0,
                )
            )
            size += len(value) + 300
            if len(drafts) >= MANY or size > MANY_BYTES:
                await self._publish(drafts)
                count += len(drafts)
                drafts, size = [], 0
        if drafts:
            await self._publish(drafts)
        return count + len(drafts)

    async def signal(
        self,
        saga: str,
        key: str,
        event: Any,
        *,
        event_id: str = "",
        timeout_ms: int = 0,
        raw: bytes = b"",
        run: str = "",
    ) -> Told:
        """Hand an event to one instance. raw: as in `start`. run: to that run of its key and no other."""
        message = self._message(event)
        value = value_of(message, event, raw)
        return await self._tell(f"{saga}/{key}", message, value, "signal", event_id, timeout_ms, run)

    async def ask(
        self,
        command: Any,
        *,
        event_id: str = "",
        timeout_ms: int = 10_000,
        raw: bytes = b"",
        saga: str = "",
        wait: bool = True,
    ) -> Told:
        """Ask the saga that takes this command. Gives its reply (`verdict` `reply`), or why it declined (`declined`).

        Unreachable CP507 when no answer came in time: the outcome is unknown, and asking again under the same id is
        safe. Refused CP815: the saga only observes. DataError CP402: no saga takes it. wait: False: returns once the log
        has acknowledged.
        """
        message = self._message(command)
        routes, modes = self.setting.routes, self.setting.world.modes
        takers = (*routes.starts.get(message.name, ()), *routes.takes.get(message.name, ()))
        takers = tuple([s for s in takers if not saga or s == saga])
        if not message.command or not takers:
            raise DataError(
                "CP402",
                f"{message.name} is no command that {saga or 'a saga here'} takes",
                expected="a command that a saga waits for or starts by",
                got=message.name,
            )
        name = next((s for s in takers if modes[s][0] != "observe"), "")
        if not name:
            raise Refused("CP815", f"{takers[0]} only observes: it answers no command", place=takers[0])
        value = value_of(message, command, raw)
        instance = f"{name}/{key_of(message, command)}"
        return await self._tell(instance, message, value, "command", event_id, timeout_ms if wait else 0)

    async def send(self, event: Any, *, event_id: str = "") -> str:
        """Publish an event on the topic of its class, as any service may. Gives its id."""
        message = self._message(event)
        ident = event_id or self._draw()
        key = key_of(message, event)
        draft = topic_draft(self.setting, message, value_of(message, event), key=key, event_id=ident, at=0)
        await self._publish([draft])
        return ident

    # ---- operating

    async def operate(self, instance: str, verb: str, *, reason: str = "", timeout_ms: int = 10_000) -> Told:
        """`cancel kill retry skip pause resume`. Raises Refused when the instance says no, or there is none."""
        ident = self._draw()
        body = {"verb": verb, "reason": reason}
        return await self._ask("operate", instance, body, ident, timeout_ms)

    async def state(self, instance: str, *, timeout_ms: int = 5_000) -> Told:
        """What the last committed record says. Refused CP414: there is no such instance."""
        local = self._local(instance)
        if local is not None:
            return local
        return await self._ask("query", instance, {}, self._draw(), timeout_ms)

    async def wait(self, instance: str, *, timeout_ms: int = 60_000) -> Told:
        """Wait until an instance ends or parks. Unreachable CP507 when it has not by then."""
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_ms / 1000
        pause = 0.05
        while True:
            worker = self._worker
            number = self._partition(instance)
            told: Told | None = None
            if worker is not None and worker.owns(number):
                told = self._local(instance)
                if told is None or not (told.ended or told.status == "parked"):
                    woken = await self._woken(worker, instance, until - loop.time())
                    told = _of_record(woken) if woken is not None else told
            else:
                left = max(1, int(1000 * (until - loop.time())))
                try:
                    told = await self.state(instance, timeout_ms=min(left, ASK_AGAIN_MS))
                except Refused:
                    told = None
                except Unreachable:  # who was to answer may have died with the question: it is asked again
                    if left <= ASK_AGAIN_MS:
                        raise
            if told is not None and (told.ended or told.status == "parked"):
                return told
            if loop.time() >= until:
                raise _late(f"{instance} has not ended within {timeout_ms / 1000:g} s", instance)
            if worker is None or not worker.owns(number):
                await asyncio.sleep(min(pause, max(0.0, until - loop.time())))
                pause = min(pause * 2, 1.0)

    async def _woken(self, worker: Worker, instance: str, seconds: float) -> InstanceRecord | None:
        future: asyncio.Future[InstanceRecord] = asyncio.get_running_loop().create_future()
        worker.waiting.setdefault(instance, []).append(future)
        try:
            return await asyncio.wait_for(future, max(0.0, min(seconds, 1.0)))
        except TimeoutError:
            return None
        finally:
            waiting = worker.waiting.get(instance)
            if waiting is not None and future in waiting:
                waiting.remove(future)
                if not waiting:
                    del worker.waiting[instance]

    async def close(self) -> None:
        """Stop reading answers."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
            self._reader = None

    # ---- inside

    def _message(self, event: Any) -> MessageType:
        cls: type = event.__class__
        return self.setting.world.types.message_of(cls)

    def _partition(self, instance: str) -> int:
        return partition_of(instance.partition("/")[2].encode(), self.setting.doors.partitions)

    def _local(self, instance: str) -> Told | None:
        if self._worker is None:
            return None
        station = self._worker.stations.get(self._partition(instance))
        record = station.partition.committed_record(instance) if station is not None else None
        return _of_record(record) if record is not None else None

    async def _tell(
        self,
        instance: str,
        message: MessageType,
        value: bytes,
        kind: str,
        event_id: str,
        timeout_ms: int,
        run: str = "",
    ) -> Told:
        ident = event_id or self._draw()
        reply_to = await self._reply_to(instance) if timeout_ms else ""
        draft = event_draft(
            self.setting,
            message,
            value,
            kind=kind,
            key=instance.partition("/")[2],
            to=instance,
            event_id=ident,
            at=0,
            reply_to=reply_to,
        )
        if run:
            draft = draft._replace(headers=(*draft.headers, ("cp-run", run.encode())))
        if not timeout_ms:
            await self._publish([draft])
            return Told(instance=instance, event_id=ident)
        return await self._answer(draft, ident, instance, timeout_ms)

    async def _ask(self, kind: str, instance: str, body: dict[str, str], ident: str, timeout_ms: int) -> Told:
        reply_to = await self._reply_to(instance)
        draft = plain_draft(self.setting, kind, instance, body, event_id=ident, reply_to=reply_to)
        return await self._answer(draft, ident, instance, timeout_ms)

    async def _answer(self, draft: Draft, ident: str, instance: str, timeout_ms: int) -> Told:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        asked = self._worker.answers if self._worker is not None else self._asked
        asked[ident] = self._asked[ident] = future
        try:
            await self._publish([draft])
            said = await asyncio.wait_for(future, timeout_ms / 1000)
        except TimeoutError:
            late = _late(f"no answer about {instance} within {timeout_ms / 1000:g} s", instance)
            late.event_id = ident
            raise late from None
        finally:
            asked.pop(ident, None)
            self._asked.pop(ident, None)
        if said.verdict in ("refused", "absent", "dead"):
            code = said.code or ("CP414" if said.verdict == "absent" else "CP815")
            raise Refused(code, said.reason or f"{instance}: {said.verdict}", place=instance)
        return Told(
            instance=said.instance,
            verdict=said.verdict,
            status=said.status,
            state=said.state,
            version=said.version,
            outcome=said.outcome,
            outcome_body=said.outcome_body,
            code=said.code,
            reason=said.reason,
            event_id=ident,
            view_type=said.view_type,
            view=said.view,
            note=said.note,
        )

    async def _publish(self, drafts: list[Draft]) -> None:
        for attempt in range(8):
            try:
                await self.log.publish(drafts)
                return
            except Retriable:
                await asyncio.sleep(0.01 * 2**attempt)
        await self.log.publish(drafts)

    async def _reply_to(self, instance: str) -> str:
        if self._worker is not None and self._worker.owns(self._partition(instance)):
            return "memory"
        if self._reader is not None and self._reader.done():
            self._reader = None
        if self._reader is None:
            self._lane = partition_of(self._draw().encode(), self.setting.doors.partitions)
            self._reading.clear()
            self._reader = asyncio.get_running_loop().create_task(self._read_answers())
        reader, begun = self._reader, asyncio.ensure_future(self._reading.wait())
        try:
            await asyncio.wait((reader, begun), return_when=asyncio.FIRST_COMPLETED)
            if not begun.done():
                reader.result()
        finally:
            begun.cancel()
        return f"{self.setting.namespace}.in/{self._lane}"

    async def _read_answers(self) -> None:
        _, at = await self.log.bounds("in", self._lane)
        self._reading.set()
        while True:
            try:
                records, at = await self.log.read("in", self._lane, at, wait_ms=5_000)
            except Retriable:
                await asyncio.sleep(0.05)
                continue
            for record in records:
                headers = dict(record.headers)
                if headers.get("cp-kind") == b"answer":
                    ident = headers.get("cp-in-reply-to", b"").decode(errors="replace")
                    future = self._asked.get(ident)
                    said = _said(ident, record.value or b"{}") if future is not None else None
                    if said is not None and future is not None and not future.done():
                        future.set_result(said)


def _said(ident: str, value: bytes) -> Answer | None:
    """The answer in a record; None for what is none."""
    try:
        body: dict[str, Any] = object_of(load_json(value))
        version = int(body.get("version", 0))
    except (DataError, TypeError, ValueError):
        return None
    return Answer(
        id=ident,
        to="",
        instance=str(body.get("instance", "")),
        verdict=str(body.get("verdict", "")),
        code=str(body.get("code", "")),
        reason=str(body.get("reason", "")),
        status=str(body.get("status", "")),
        state=str(body.get("state", "")),
        version=version,
        outcome=str(body.get("outcome", "")),
        outcome_body=str(body.get("outcome_body", "")),
        view_type=str(body.get("view_type", "")),
        view=str(body.get("view", "")),
        note=str(body.get("note", "")),
    )


def _of_record(record: InstanceRecord) -> Told:
    view_type, view, note = shown(record)
    return Told(
        instance=record.instance,
        verdict="state",
        status=record.status,
        state=record.state,
        version=record.version,
        outcome=record.outcome,
        outcome_body=record.outcome_body,
        code=record.parked.code if record.parked is not None else "",
        reason=record.parked.error if record.parked is not None else record.error,
        view_type=view_type,
        view=view,
        note=note,
    )


def _late(text: str, place: str) -> Unreachable:
    return Unreachable(
        "CP507",
        f"{text}: the outcome is unknown",
        fix=f"look with: contrapas instance describe {place}",
        place=place,
    )
