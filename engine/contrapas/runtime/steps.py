"""Local steps: run after the commit that issued them, at most one copy of each in a process, results through memory.

An async step is driven at once, up to its first real wait: most finish there and cost no task. What waits goes on as a
task of its own. A plain function runs in a thread. Every attempt has its time; what takes longer is given up, its outcome
unknown. `StepFailed` raised by the step is a definite failure, any other exception a failed attempt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context, ContextVar, copy_context
from dataclasses import replace
from functools import partial
from typing import Any, Final

from contrapas.author.service import Delivery
from contrapas.codec.quick import Dump, dump_of, exact_codec
from contrapas.core.envelope import Cause
from contrapas.core.fresh import fresh_result
from contrapas.core.world import UNREAD, Input, StepCall, StepType, Types
from contrapas.errors import Cancelled, ContrapasError, DataError, StepFailed
from contrapas.failpoints import NAMES, failpoint
from contrapas.runtime.clock import Clock, Handle
from contrapas.runtime.stored_steps import Stored, error_text, in_store, reason_of

NAMES["step.done"] = "a local step has ended, its result is not queued yet"
NAMES["step.started"] = "a local step was issued by a commit and is about to run"
RESULT_MAX: Final = 900_000
_GOES_ON: Final = object()
_FAILURES: Final = (Exception, asyncio.CancelledError, Cancelled)
"""What a step raises is its outcome; anything else ends the process."""
_CALL: ContextVar[StepCall | None] = ContextVar("contrapas_step", default=None)


def delivery_to(call: StepCall, partition: int) -> Delivery:
    """What a step's `Delivery` parameter is filled with."""
    key = call.instance.partition("/")[2]
    return Delivery(key=key, partition=partition, attempt=call.attempt, idempotency_key=call.key)


def idempotency_key() -> str:
    """The key of the step that runs here: the same at every attempt, on every worker. Empty outside a step."""
    call = _CALL.get()
    return call.key if call is not None else ""


class Running:
    """One step in progress."""

    __slots__ = ("began", "call", "cancel", "epoch", "future", "limit", "partition")

    def __init__(self, partition: int, epoch: int, call: StepCall) -> None:
        self.partition = partition
        self.epoch = epoch
        self.call = call
        self.cancel: Callable[[], object] | None = None
        self.limit: Handle | None = None
        self.future: Future[None] | None = None
        """Of a plain function: its place in the queue for a thread."""
        self.began: float | None = None
        """ms: when a thread took it; what waits for one has not begun."""


Deliver = Callable[[int, int, Input], None]
"""(partition, epoch, result): called on the loop."""


class StepRunner:
    """All steps of one process."""

    def __init__(
        self, types: Types, deliver: Deliver, clock: Clock, *, threads: int = 32, namespace: str = ""
    ) -> None:
        self._types = types
        self.namespace = namespace
        """Part of a step's identity in a store's inbox."""
        self._deliver = deliver
        self._clock = clock
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._spare: _Carrier | None = None
        self._ways: dict[str, tuple[Dump, bool]] = {}
        self.running: dict[str, Running] = {}
        self._late: dict[str, Running] = {}
        """Plain functions whose time is over and that run on: nothing can end a thread."""
        self.on_fatal: Callable[[BaseException], None] | None = None

    def start(self, partition: int, epoch: int, call: StepCall) -> None:
        """Run a step, or adopt the copy of it that is still running here."""
        if (self.running or self._late) and self._adopted(partition, epoch, call):
            return
        failpoint("step.started")
        step = self._types.steps[call.step]
        if call.live is UNREAD:
            try:
                args, kwargs = step.args.load(call.body)
            except Exception as why:  # noqa: BLE001  what was stored does not fit today's step: that attempt failed
                self._deliver(partition, epoch, self._failed(call, why))
                return
        else:
            args, kwargs = call.live
        if step.delivery:
            kwargs = {**kwargs, step.delivery: delivery_to(call, partition)}
        if step.store is not None:
            own = partial(
                in_store,
                step,
                call,
                self.namespace,
                kwargs,
                args,
                self._dump,
                self._plain,
                self._clock,
                self._types,
            )
            self._drive(partition, epoch, call, replace(step, fn=own, is_async=True), (), {})
            return
        if step.supplied:
            try:
                kwargs = {**kwargs, **{name: make() for name, make in step.supplied}}
            except Exception as why:  # noqa: BLE001  whatever a dependency raises, that attempt failed
                self._deliver(partition, epoch, self._failed(call, why))
                return
        if step.is_async:
            self._drive(partition, epoch, call, step, args, kwargs)
        else:
            self._thread(Running(partition, epoch, call), step, args, kwargs)

    def _adopted(self, partition: int, epoch: int, call: StepCall) -> bool:
        """Is a copy of it still running here? It is this attempt's by now."""
        known = self.running.get(call.key)
        if known is not None:
            known.partition, known.epoch, known.call = partition, epoch, call
            return True
        late = self._late.pop(call.key, None)
        if late is not None:  # the next attempt is the copy that runs: it has the same key
            late.partition, late.epoch, late.call, late.began = partition, epoch, call, self._clock.ms()
            late.limit = self._clock.call_later(call.timeout_ms, lambda: self._expire(late))
            self.running[call.key] = late
            return True
        return False

    def drop(self, partition: int) -> None:
        """The partition is not ours any more: async steps are cancelled, what waits for a thread does not start, threads
        run out, results count for nobody."""
        for one in list(self.running.values()):
            if one.partition != partition:
                continue
            if one.cancel is not None:
                self._end(one)
                one.cancel()
            elif one.future is not None and one.future.cancel():
                self._end(one)

    def busy(self) -> int:
        """Steps in progress."""
        return len(self.running)

    def close(self) -> None:
        """Let go of the threads, and of the task kept ready; async steps that still run are cancelled."""
        for one in list(self.running.values()):
            if one.cancel is not None:
                self._end(one)
                one.cancel()
        if self._spare is not None:
            self._spare.task.cancel()
            self._spare = None
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    # ---- async steps

    def _drive(
        self, partition: int, epoch: int, call: StepCall, step: StepType, args: Any, kwargs: Any
    ) -> None:
        carrier, loop = self._spare, asyncio.get_running_loop()
        if carrier is None or carrier.spoiled(loop):
            carrier = self._spare = _Carrier(loop)
        coro: Any = None
        first: Any = None
        value: Any = _GOES_ON
        try:
            coro = step.fn(*args, **kwargs)
            first = carrier.begin(coro, call, loop)
        except StopIteration as stop:
            value = stop.value
        except _FAILURES as why:
            self._deliver(partition, epoch, self._failed(call, why))
            return
        except SystemExit as why:
            self._fatal(call, why)
            return
        if (
            value is not _GOES_ON
        ):  # out here, where what is wrong with the value has no exception as its context
            self._deliver(partition, epoch, self._result(call, step, value))
            return
        self._spare = None
        one = Running(partition, epoch, call)
        self.running[call.key] = one
        one.cancel = carrier.cancel
        one.limit = self._clock.call_later(call.timeout_ms, lambda: self._expire(one))
        carrier.carry(coro, first, lambda value, why: self._over(one, step, value, why))

    def _expire(self, one: Running) -> None:
        if self.running.get(one.call.key) is not one:
            return
        if one.future is not None:  # its time began when a thread took it
            left = one.call.timeout_ms
            if one.began is not None:
                left -= int(self._clock.ms() - one.began)
            if left > 0:
                one.limit = self._clock.call_later(left, lambda: self._expire(one))
                return
        self._end(one)
        why = TimeoutError(f"{one.call.step} took longer than {one.call.timeout_ms / 1000:g} s (CP842)")
        self._deliver(one.partition, one.epoch, self._failed(one.call, why))
        if one.cancel is not None:
            one.cancel()
        else:
            self._late[one.call.key] = one

    def _over(self, one: Running, step: StepType, value: Any, why: BaseException | None) -> None:
        """The end of a step. What goes wrong here is nobody's outcome: a step without an end would be pending for ever."""
        try:
            self._ended(one, step, value, why)
        except BaseException as wrong:  # noqa: BLE001  the process ends with it
            self._fatal(one.call, wrong)

    def _ended(self, one: Running, step: StepType, value: Any, why: BaseException | None) -> None:
        if self.running.get(one.call.key) is not one:
            if self._late.pop(one.call.key, None) is not None and why is None:
                self._deliver(one.partition, one.epoch, self._result(one.call, step, value))
            return
        self._end(one)
        if why is None:
            self._deliver(one.partition, one.epoch, self._result(one.call, step, value))
        elif isinstance(why, _FAILURES):
            self._deliver(one.partition, one.epoch, self._failed(one.call, why))
        else:
            self._fatal(one.call, why)

    def _fatal(self, call: StepCall, why: BaseException) -> None:
        """A step that ends the process: it stays pending, and counts against it when the next owner comes (CP844)."""
        if isinstance(why, SystemExit):
            words = f"step {call.step} of {call.instance} ended the worker: sys.exit({why.code!r})"
            why = ContrapasError("CP844", words, fix="raise an exception: a step must not end its process")
        if self.on_fatal is not None:
            self.on_fatal(why)

    def _end(self, one: Running) -> None:
        self.running.pop(one.call.key, None)
        if one.limit is not None:
            one.limit.cancel()

    # ---- plain functions

    def _thread(self, one: Running, step: StepType, args: Any, kwargs: Any) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="contrapas-step")
        loop = asyncio.get_running_loop()
        self.running[one.call.key] = one
        one.limit = self._clock.call_later(one.call.timeout_ms, lambda: self._expire(one))
        call = one.call

        def work() -> None:
            one.began = self._clock.ms()
            _CALL.set(call)
            value: Any = None
            why: BaseException | None = None
            try:
                value = step.fn(*args, **kwargs)
            except BaseException as raised:  # noqa: BLE001  whatever a step raises is its outcome
                why = raised
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._over, one, step, value, why)

        one.future = self._pool.submit(copy_context().run, work)

    # ---- results

    def _result(self, call: StepCall, step: StepType, value: Any) -> Input:
        if value.__class__ is Stored:
            failpoint("step.done")
            return fresh_result(call, value.text, UNREAD)
        try:
            text, exact = self._dump(step, value)
        except DataError as why:
            return self._failed(call, why)
        failpoint("step.done")
        return fresh_result(call, text, value if exact and '"$' not in text else UNREAD)

    def _dump(self, step: StepType, value: Any) -> tuple[str, bool]:
        """A result as text, and whether it may be handed on as it is besides. DataError CP843."""
        try:
            dump, exact = self._ways.get(step.name) or self._way(step)
            text = dump(value)
            if len(text) > RESULT_MAX:
                raise DataError(
                    "CP843",
                    f"{step.name} returned {len(text)} bytes, {RESULT_MAX} are allowed",
                    fix="store the large part elsewhere and return its address",
                )
        except Exception as why:  # noqa: BLE001  whatever a codec raises, the value does not fit
            fits = isinstance(why, DataError) and why.code == "CP843"
            raise (why if fits else _unfit(step.name, why)) from None
        return text, exact

    async def _plain(self, call: Callable[[], Any]) -> Any:
        """A plain function in a thread, to its end whatever becomes of the task: a session is in its hands."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="contrapas-step")
        work = asyncio.get_running_loop().run_in_executor(self._pool, copy_context().run, call)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait([work])
            raise

    def _way(self, step: StepType) -> tuple[Dump, bool]:
        """How results of a step become text, and whether they may be handed on as they are besides."""
        made = self._ways[step.name] = dump_of(step.result), exact_codec(step.result)
        return made

    def _failed(self, call: StepCall, why: BaseException) -> Input:
        failpoint("step.done")
        definite = isinstance(why, StepFailed)
        reason = reason_of(why)
        error = error_text(self._types, why)
        cause = Cause(kind="result", type=call.step, source="local", id=call.key, note=reason)
        return Input(
            cause=cause,
            instance=call.instance,
            at=0,
            type=call.step,
            in_reply_to=call.key,
            outcome="declined" if definite else "error",
            attempt=call.attempt,
            error=error,
            reason=reason,
            map=call.map,
            item=call.item,
        )


def _unfit(name: str, why: Exception) -> DataError:
    return DataError("CP843", f"{name} returned what cannot be stored: {why}"[:500], fix="return plain data")


class _Carrier:
    """A task kept ready, so that an async step sees a task of its own from its first line without costing one.

    The first stretch of the step runs at once, in the task's context and with it as the current task. Ends the step there,
    the task is free for the next one; waits it, the task carries it on.
    """

    __slots__ = ("_assigned", "_context", "_loop", "_rest", "_size", "_then", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._context: Context = copy_context()
        self._size = -1
        self._rest: _Rest | None = None
        self._assigned: asyncio.Future[_Rest] = loop.create_future()
        self._then: Callable[[Any, BaseException | None], None] | None = None
        self.task: asyncio.Task[None] = loop.create_task(self._run(), context=self._context)

    def spoiled(self, loop: asyncio.AbstractEventLoop) -> bool:
        """It left something in the context, or was cancelled, or belongs to a loop that is gone."""
        task = self.task
        return (
            self._loop is not loop or len(self._context) != self._size or task.done() or task.cancelling() > 0
        )

    def begin(self, coro: Coroutine[Any, Any, Any], call: StepCall, loop: asyncio.AbstractEventLoop) -> Any:
        """What the step waits for first. StopIteration when it has ended, else its exception."""
        outer = asyncio.current_task(loop)
        if outer is not None:
            _leave(loop, outer)
        _enter(loop, self.task)
        try:
            return self._context.run(_first, coro, call)
        finally:
            _leave(loop, self.task)
            if outer is not None:
                _enter(loop, outer)
            if self._size < 0:
                self._size = len(self._context)

    def carry(
        self, coro: Coroutine[Any, Any, Any], first: Any, then: Callable[[Any, BaseException | None], None]
    ) -> None:
        """Go on with it in the task."""
        self._then = then
        self._rest = _Rest(coro, first)
        self._assigned.set_result(self._rest)

    def cancel(self) -> None:
        """End the step that it carries: it is told so where it waits, even if the task has not taken it up yet."""
        if self._rest is not None and not self._rest.begun:
            self._rest.stopped = True
        else:
            self.task.cancel()

    async def _run(self) -> None:
        try:
            rest = await self._assigned
        except asyncio.CancelledError:
            return
        value: Any = None
        why: BaseException | None = None
        try:
            value = await rest
        except BaseException as raised:  # noqa: BLE001  whatever a step raises is its outcome
            why = raised
        assert self._then is not None
        self._then(value, why)


class _Rest(Awaitable[Any]):
    """A coroutine that was already begun, from the future it waits for on."""

    __slots__ = ("_coro", "_first", "begun", "stopped")

    def __init__(self, coro: Coroutine[Any, Any, Any], first: Any) -> None:
        self._coro = coro
        self._first = first
        self.begun = False
        self.stopped = False
        """It was cancelled before it was awaited: the first thing that it hears."""

    def __await__(self) -> Generator[Any, Any, Any]:
        waits, self.begun = self._first, True
        while True:
            try:
                try:
                    if self.stopped:
                        self.stopped = False
                        raise asyncio.CancelledError
                    value = yield waits
                except BaseException as thrown:  # noqa: BLE001  whatever a step raises is its outcome
                    waits = self._coro.throw(thrown)
                else:
                    waits = self._coro.send(value)
            except StopIteration as stop:
                return stop.value


def _first(coro: Coroutine[Any, Any, Any], call: StepCall) -> Any:
    _CALL.set(call)
    return coro.send(None)


_enter: Callable[[asyncio.AbstractEventLoop, asyncio.Task[Any]], None] = asyncio.tasks._enter_task
_leave: Callable[[asyncio.AbstractEventLoop, asyncio.Task[Any]], None] = asyncio.tasks._leave_task
