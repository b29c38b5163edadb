"""An event loop in virtual time: a seed says which task goes on next, timers jump, a process may die between two callbacks.

Ring 2 runs the runtime's own coroutines on it. What it keeps of asyncio's promises, and what it does not:

* `call_soon` is first in, first out for plain callbacks (done callbacks of futures among them), as asyncio promises. Only
  a *step of a task* may be drawn before its turn: no task may count on when another one goes on. A task has at most one
  step waiting, so its own order is kept. With `shuffle` 0 the order is asyncio's to the letter.
* A timer is never early. Timers of one moment ring in the order in which they were set.
* Every callback belongs to the process in whose context it was made. One that is killed never runs again; one that stands
  still (SIGSTOP) has its callbacks kept until it goes on.
* Sockets, subprocesses, signals: not there (`NotImplementedError`). What goes to a thread runs at a later moment of the
  seed's choice, in one go; what it then says to the loop arrives later still.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Executor
from concurrent.futures import Future as Ticket
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from typing import Any, Protocol, TypeVar, TypeVarTuple, Unpack, cast

from contrapas.testing.simulation.universe import BEGIN_MS, Universe, Wrong

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
SPINS_MAX = 100_000
"""So many callbacks at one moment of time: it turns on the spot."""


class Owner(Protocol):
    """The process that a callback belongs to."""

    alive: bool
    held: list[Call] | None
    """While it stands still: what it would have done."""
    name: str

    def visited(self) -> bool:
        """One of its callbacks is about to run; False: it has just died."""
        ...


OWNER: ContextVar[Any] = ContextVar("contrapas_simulated_process", default=None)
"""Whose code runs here; None: nobody's, the world's own."""


class Killed(BaseException):
    """The process dies here."""


class Call(asyncio.TimerHandle):
    """One callback that waits for its turn."""

    __slots__ = ("args", "context", "fn", "off", "owner", "task")

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...], context: Context | None) -> None:
        # not the handle's own: it would look at the loop's debug mode, and keep what nobody asks for
        self.fn = fn
        self.args = args
        self.context = copy_context() if context is None else context
        self.off = False
        self.owner: Owner | None = self.context.get(OWNER)
        self.task = isinstance(getattr(fn, "__self__", None), asyncio.Task)

    def cancel(self) -> None:
        """As `Handle.cancel`."""
        self.off = True

    def cancelled(self) -> bool:
        """As `Handle.cancelled`."""
        return self.off


class SimLoop(asyncio.AbstractEventLoop):
    """The loop of one simulated world."""

    def __init__(self, universe: Universe, *, shuffle: float = 0.0) -> None:
        self.universe = universe
        self.shuffle = shuffle
        """How often a step of a task is drawn before its turn, where there is more than one thing to do."""
        self.found: Wrong | None = None
        """An invariant that does not hold, found where an exception would not come through."""
        self.tasks: list[tuple[asyncio.Task[Any], Owner | None]] = []
        """Tasks that are not over, or whose failure nobody has seen, and whose they are."""
        self.ran = 0
        self._ready: deque[Call] = deque()
        self._spins = 0
        self._at = -1
        self._prune = 256
        self.thread_ms = 0
        """How long what runs in a thread now takes: what it says to the loop arrives after that."""
        self.threaded_ms = 0
        """The same, of the last that did."""

    # ---- running

    @contextmanager
    def running(self) -> Generator[None]:
        """This loop is the running one for as long as the block lasts."""
        _set_running(self)
        try:
            yield
        finally:
            _set_running(None)

    def run_until(self, end: int, enough: Callable[[], bool] = lambda: False) -> None:
        """Let everything happen until then, or until it is enough. Wrong: an invariant does not hold."""
        u = self.universe
        while not enough():
            while self._ready:
                self._one()
                if self.found is not None:
                    raise self.found
            at = u.next_at()
            if at is None or at > end:
                break
            u.step()
            if self.found is not None:
                raise self.found

    def _one(self) -> None:
        call = self._next()
        if call.off:
            return
        owner = call.owner
        if owner is not None:
            if not owner.alive:
                return
            if owner.held is not None:  # it has its turn when the process goes on
                owner.held.append(call)
                return
            if not owner.visited():
                return
        self.ran += 1
        self._count()
        try:
            call.context.run(call.fn, *call.args)
        except Killed:
            return
        except Wrong:
            raise
        except BaseException as why:  # noqa: BLE001  a loop tells, and goes on
            self.call_exception_handler({"message": f"exception in {call.fn!r}", "exception": why})

    def _next(self) -> Call:
        ready = self._ready
        if self.shuffle and len(ready) > 1:
            chance = self.universe.chance
            if chance.order() < self.shuffle:
                at = chance.below(len(ready))
                call = ready[at]
                if call.task and at:
                    del ready[at]
                    return call
        return ready.popleft()

    def resume(self, owner: Owner) -> None:
        """A process goes on: what came meanwhile has its turn, in the order in which it came."""
        held, owner.held = owner.held, None
        self._ready.extendleft(reversed(held or ()))

    def _count(self) -> None:
        if self._at != self.universe.now:
            self._at, self._spins = self.universe.now, 0
        self._spins += 1
        if self._spins > SPINS_MAX:
            raise Wrong("I-44", f"{SPINS_MAX} callbacks, and time has not moved: something turns on the spot")

    # ---- what asyncio asks of a loop

    def time(self) -> float:
        """Seconds since the world began."""
        return (self.universe.now - BEGIN_MS) / 1000

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> Call:
        """As asyncio has it."""
        call = Call(callback, args, context)
        self._ready.append(call)
        return call

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> Call:
        """As asyncio has it; from what runs in a thread it comes when that is over."""
        call = Call(callback, args, context)
        if self.thread_ms:
            self.universe.at(self.thread_ms, lambda: self._ready.append(call))
        else:
            self._ready.append(call)
        return call

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> Call:
        """As asyncio has it."""
        return self.call_at(self.time() + max(0.0, delay), callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> Call:
        """As asyncio has it, in whole milliseconds and never early, not by a bit."""
        call, now = Call(callback, args, context), self.universe.now
        at = max(now, BEGIN_MS + math.ceil(when * 1000 - 1e-4))
        if (at - BEGIN_MS) / 1000 < when:
            at += 1
        self.universe.at(at - now, lambda: self._ring(call))
        return call

    def _ring(self, call: Call) -> None:
        if not call.off:
            self._ready.append(call)

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Context | None = None, **more: Any
    ) -> asyncio.Task[Any]:
        """A task of this loop."""
        mine = copy_context() if context is None else context
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=mine)
        self.tasks.append((task, mine.get(OWNER)))
        if len(self.tasks) > self._prune:
            self.tasks = [t for t in self.tasks if not t[0].done() or unseen(t[0])]
            self._prune = 2 * len(self.tasks) + 256
        return task

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """In no thread: at a later moment of the seed's choice, in one go."""
        if executor is not None:
            return asyncio.wrap_future(executor.submit(func, *args), loop=self)
        ticket: Ticket[T] = Ticket()
        context, owner = copy_context(), OWNER.get()

        def work() -> None:
            if owner is None or owner.alive:
                self.threaded(ticket, context, func, args, self.universe.chance.below(10))

        self.universe.at(self.universe.chance.below(10), work)
        return asyncio.wrap_future(ticket, loop=self)

    def threaded(
        self, ticket: Ticket[Any], context: Context, func: Any, args: tuple[Any, ...], ms: int
    ) -> None:
        """Run what a thread would; the loop hears of its end so much later."""
        if not ticket.set_running_or_notify_cancel():
            return
        self.thread_ms = ms
        _set_running(None)
        try:
            value = context.run(func, *args)
        except Wrong:
            raise
        except Killed:
            return
        except BaseException as why:  # noqa: BLE001  as an executor does
            ticket.set_exception(why)
        else:
            ticket.set_result(value)
        finally:
            _set_running(self)
            self.threaded_ms, self.thread_ms = self.thread_ms, 0

    # ---- the rest

    def get_debug(self) -> bool:
        """Never."""
        return False

    def is_running(self) -> bool:
        """While it is the running one."""
        return True

    def is_closed(self) -> bool:
        """Never."""
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """What asyncio would log is a finding."""
        why: Any = context.get("exception")
        if isinstance(why, Killed):
            return
        if isinstance(why, Wrong):
            self.found = self.found or why
            return
        task: Any = context.get("task") or context.get("future")
        owner = next((o for t, o in self.tasks if t is task), OWNER.get())
        if owner is not None and not owner.alive:
            return
        self.found = self.found or Wrong("loop", f"{context.get('message')}: {type(why).__name__}: {why}")

    def pending(self, owner: Owner | None) -> list[asyncio.Task[Any]]:
        """Tasks of a process that are not over."""
        return [t for t, mine in self.tasks if mine is owner and not t.done()]

    def failed(self) -> list[asyncio.Task[Any]]:
        """Tasks of living processes whose failure nobody has seen."""
        return [t for t, mine in self.tasks if t.done() and unseen(t) and (mine is None or mine.alive)]


def loop_of(universe: Universe, *, shuffle: float) -> SimLoop:
    """A loop. What it has not got stays as the abstract one has it, which type checkers take for unfinished."""
    make: Any = SimLoop
    return cast(SimLoop, make(universe, shuffle=shuffle))


async def wait_for(awaited: Any, timeout: float | None) -> Any:
    """`asyncio.wait_for` as Python 3.12 has it: that of 3.11 takes other turns, and a seed would be two worlds."""
    if timeout is not None and timeout <= 0:
        future = asyncio.ensure_future(awaited)
        if future.done():
            return future.result()
        future.cancel()
        await asyncio.wait([future])
        raise TimeoutError
    async with asyncio.timeout(timeout):
        return await awaited


class _Gathered(asyncio.Future[list[Any]]):
    """What `gather` gives; cancelled, it cancels its children and waits for them."""

    def __init__(self, children: list[asyncio.Future[Any]], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.children = children
        self.asked = False

    def cancel(self, msg: Any | None = None) -> bool:
        """As `Future.cancel`."""
        if self.done():
            return False
        heard = [child.cancel() for child in self.children]
        self.asked |= any(heard)
        return any(heard)


def gather(*awaited: Any, return_exceptions: bool = False) -> asyncio.Future[list[Any]]:
    """`asyncio.gather` as Python 3.11 has it: later ones take a shorter way where a child is over already."""
    loop = asyncio.get_running_loop()
    children: list[asyncio.Future[Any]] = [asyncio.ensure_future(one) for one in awaited]
    outer, left = _Gathered(children, loop), len(children)
    if not children:
        outer.set_result([])

    def over(child: asyncio.Future[Any]) -> None:
        nonlocal left
        left -= 1
        why = asyncio.CancelledError() if child.cancelled() else child.exception()
        if outer.done():
            return
        if why is not None and not return_exceptions:
            outer.set_exception(why)
        elif not left and outer.asked:
            outer.set_exception(asyncio.CancelledError())
        elif not left:
            outer.set_result([_came_of(c) for c in children])

    for child in children:
        child.add_done_callback(over)
    return outer


def _came_of(child: asyncio.Future[Any]) -> Any:
    if child.cancelled():
        return asyncio.CancelledError()
    return child.exception() or child.result()


def unseen(task: asyncio.Task[Any]) -> bool:
    """It has failed, and nobody has asked."""
    return bool(getattr(task, "_log_traceback", False))


_set_running: Callable[[asyncio.AbstractEventLoop | None], None] = asyncio._set_running_loop
