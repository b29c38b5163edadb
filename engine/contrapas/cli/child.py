"""The process that runs an app under `dev`, `demo` and `worker`: prepare, wait for the word, work and serve, drain.

Its standard input is its leash: `load` lets it import the user's module, `go` lets it begin, the end of input stops it,
so that no worker outlives a command that was killed; a spare one has everything of ours imported and waits. It reports on a pipe, one JSON object a line: `failed`, `prepared`, `ready`, `gone`.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import logging
import os
import signal
import socket
import sys
import time
from typing import Any, NamedTuple

from contrapas.cli import exits, fail, screen, teller
from contrapas.cli.calm import calm
from contrapas.cli.program import Prepared, prepare
from contrapas.cli.stepfail import Watch
from contrapas.errors import ContrapasError
from contrapas.runtime import settings as configuration
from contrapas.runtime.client import Client
from contrapas.runtime.keeper import folder_of
from contrapas.runtime.open import open_log
from contrapas.runtime.worker import Worker, topics_of


class Plan(NamedTuple):
    """What a child is to do; travels as JSON in its first argument."""

    target: str
    log: str
    work: bool = True
    serve: int = -1
    """File descriptor of a listening socket, -1: no server."""
    report: int = -1
    """File descriptor of the pipe to the parent, -1: none."""
    leash: bool = False
    spare: bool = False
    """It waits for its turn: import what will be needed then."""
    check: bool = False
    dev: bool = False
    """Tables that the log needs at a server are made."""
    tell: bool = False
    drain_ms: int = 30_000
    threads: int = 32
    token: str = ""
    write_lock: bool = False
    strict_lock: bool = False
    ascii: bool = False
    color: bool = False
    verbose: bool = False
    lenient: bool = False
    """The log's server may be one that production refuses; nothing is made."""
    prepare: bool = False
    """Make the tables of stores where there are none."""
    checkpoints: str = ""
    """Folder; `none`: they are not kept; empty: as the log needs it."""
    standby: bool = False
    read_only: str = ""
    """Folder for lanes of our own; the topics of `log` are followed, and nothing is written there. Empty: not so."""
    first: str = "end"
    """Then: where following begins."""


def main(plan: Plan) -> int:
    """Run the plan; the exit code of the process."""
    said = Report(plan.report)
    if plan.spare:
        warm()
    if plan.leash and sys.stdin.readline().strip() != "load":
        return exits.DONE
    look = screen.Look(color=plan.color, ascii=plan.ascii)
    try:
        ready = prepared(plan, look)
    except ContrapasError as error:
        code = fail.show(error, verbose=plan.verbose)
        said("failed", exit=code)
        return code
    if not plan.log:
        plan = plan._replace(log=f"sqlite:///.contrapas/{ready.definition.namespace}.db")
    said(
        "prepared",
        namespace=ready.definition.namespace,
        log=plan.log,
        files=user_files(),
        partitions=ready.definition.partitions,
        topics=sorted(topics_of(ready.definition, ready.world)),
    )
    if plan.leash and sys.stdin.readline().strip() != "go":
        return exits.DONE
    try:
        return asyncio.run(run(plan, ready, said, look))
    except ContrapasError as error:
        code = fail.show(error, verbose=plan.verbose)
        said("failed", exit=code)
        return code
    except KeyboardInterrupt:
        return exits.INTERRUPTED


def warm() -> None:
    """What every child needs sooner or later, before it is waited for."""
    import contrapas

    for name in (
        "uvicorn",
        "contrapas.check.report",
        "contrapas.cli.verbs.check",
        "contrapas.log.sqlite",
        "contrapas.web.server",
        "contrapas.web.serving",
    ):
        importlib.import_module(name)
    for name in contrapas.__all__:
        getattr(contrapas, name)


class Report:
    """The pipe to the parent."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __call__(self, event: str, **more: Any) -> None:
        """One event; a parent that is gone does not matter."""
        if self.fd >= 0:
            with contextlib.suppress(OSError):
                os.write(self.fd, json.dumps({"event": event, **more}).encode() + b"\n")


def prepared(plan: Plan, look: screen.Look) -> Prepared:
    """Import, compile, explore, and say what was found."""
    ready = prepare(plan.target, configuration.load())
    if plan.strict_lock and ready.lock is not None and (stale := ready.stale()):
        raise stale[0]
    if plan.check:
        from contrapas.check.report import check_app
        from contrapas.cli.verbs.check import report_lines

        report = check_app(ready.world.machines, ready.definition)
        lines = report_lines(report, ready.warnings)
        teller.show(
            look, [f"  check  {line}" if n < len(report.stats) else line for n, line in enumerate(lines)]
        )
    if plan.write_lock:
        with contextlib.suppress(OSError):
            ready.write_lock()
    return ready


async def run(plan: Plan, ready: Prepared, said: Report, look: screen.Look) -> int:
    """Work and serve until told to stop, or until the worker ends by itself."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if plan.leash:
        _leash(loop, stop)
    definition = ready.definition
    if plan.read_only:
        return await _follow(plan, ready, said, look, stop)
    log = await open_log(
        plan.log,
        definition.namespace,
        partitions=definition.partitions,
        make=not plan.lenient,
        dev=plan.dev,
    )
    watch = Watch()
    if plan.tell:
        watch.over(ready.world)
    folder = folder_of(plan.checkpoints, plan.log)
    worker = Worker(
        log, definition, ready.world, threads=plan.threads, checkpoints=folder, standby=plan.standby
    )
    client = Client(log, worker.setting, worker=worker if plan.work else None)
    tasks: list[asyncio.Task[Any]] = []
    work: asyncio.Task[None] | None = None
    try:
        if plan.prepare:
            for relay in worker.relays:
                await relay.store.prepare()
        if plan.work:
            work = loop.create_task(worker.run())
            first = loop.create_task(worker.ready.wait())
            await asyncio.wait((work, first), return_when=asyncio.FIRST_COMPLETED)
            first.cancel()
        else:
            from contrapas.runtime.worker import create_topics

            await create_topics(log, definition, worker.setting)
        if plan.serve >= 0:
            tasks.append(loop.create_task(_serve(plan, client, worker)))
        if plan.tell:
            tasks.append(loop.create_task(_tell(plan, definition.namespace, watch, look)))
        if work is None or not work.done():
            said("ready", owned=len(worker.stations))
        if work is not None:
            calm(20_000, 20, 20)
        waiting = [loop.create_task(stop.wait()), *([work] if work else [])]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        waiting[0].cancel()
        if work is not None:
            await worker.stop(plan.drain_ms)
            await work
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await client.close()
        await log.close()
    said("gone")
    return exits.DONE


async def _follow(plan: Plan, ready: Prepared, said: Report, look: screen.Look, stop: asyncio.Event) -> int:
    """The same for `--read-only`: the app as an observer, on lanes of our own."""
    from contrapas.cli import readonly
    from contrapas.log.memory import MemoryLog
    from contrapas.runtime.ingress import topics_of as followed
    from contrapas.runtime.observing import observers
    from contrapas.runtime.worker import setting_of

    definition, world = observers(ready.definition, ready.world)
    names = topics_of(ready.definition, ready.world)
    needed = followed(setting_of(MemoryLog(definition.namespace), definition, world, writer=""))
    begun = readonly.begun(plan.read_only)
    log, found = await readonly.opened(
        plan.log, plan.read_only, plan.first, definition.namespace, names, needed
    )
    worker = Worker(log, definition, world, threads=plan.threads)
    client = Client(log, worker.setting, worker=worker)
    loop = asyncio.get_running_loop()
    tasks: list[asyncio.Task[Any]] = []
    try:
        if not begun:
            teller.show(look, await readonly.about(log, found, worker.setting))
        watch = Watch()
        watch.over(world)
        path = readonly.file_in(plan.read_only, definition.namespace)
        tasks.append(loop.create_task(readonly.follow(path, worker, log, world, watch, look)))
        await asyncio.sleep(0)
        work = loop.create_task(worker.run())
        first = loop.create_task(worker.ready.wait())
        await asyncio.wait((work, first), return_when=asyncio.FIRST_COMPLETED)
        first.cancel()
        if plan.serve >= 0:
            tasks.append(loop.create_task(_serve(plan, client, worker)))
        if not work.done():
            said("ready", owned=len(worker.stations))
        waiting = [loop.create_task(stop.wait()), work, tasks[0]]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        waiting[0].cancel()
        await worker.stop(plan.drain_ms)
        await work
        if tasks[0].done():
            tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await client.close()
        await log.close()
    said("gone")
    return exits.DONE


def user_files() -> list[str]:
    """The user's own source files that are loaded now: what a save may change."""
    from contrapas.cli.stepfail import user_file

    found = {str(getattr(module, "__file__", None) or "") for module in list(sys.modules.values())}
    return sorted(
        os.path.abspath(path) for path in found if path.endswith(".py") and user_file(os.path.abspath(path))
    )


def _leash(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    def readable() -> None:
        if not os.read(0, 4096):
            loop.remove_reader(0)
            stop.set()

    loop.add_reader(0, readable)


async def _serve(plan: Plan, client: Client, worker: Worker) -> None:
    from contrapas.web.server import create
    from contrapas.web.serving import serve, server_of

    app = create(client, token=plan.token, health=worker.health)
    await serve(server_of(app), [socket.socket(fileno=os.dup(plan.serve))])


async def _tell(plan: Plan, namespace: str, watch: Watch, look: screen.Look) -> None:
    from contrapas.cli.lanes import LogFile, far, file_of, is_far

    if is_far(plan.log):  # what it reads takes its time: beside the loop, and less often
        with await asyncio.to_thread(far, plan.log, namespace) as file:
            follow = await asyncio.to_thread(teller.Teller, file)
            while True:
                lines = await asyncio.to_thread(
                    teller.told, follow, watch.failures, time.time_ns() // 1_000_000
                )
                if lines:
                    teller.show(look, lines)
                await asyncio.sleep(0.2)
    if not plan.log.startswith("sqlite:"):
        return
    with LogFile(file_of(plan.log)) as file:
        follow = teller.Teller(file)
        while True:
            lines = teller.told(follow, watch.failures, time.time_ns() // 1_000_000)
            if lines:
                teller.show(look, lines)
            await asyncio.sleep(0.05)


def logs(verbose: bool) -> None:
    """Log lines on stderr, control characters escaped."""
    from contrapas.cli.text import escape

    class Lines(logging.Formatter):
        """`12:00:04 WARNING contrapas.runtime: text`."""

        def format(self, record: logging.LogRecord) -> str:
            """One line, and a traceback only with -v."""
            where = getattr(record, "instance", "")
            words = escape(record.getMessage(), cut=2000)
            trace = f"\n{self.formatException(record.exc_info)}" if verbose and record.exc_info else ""
            return f"{self.formatTime(record, '%H:%M:%S')}  {record.levelname.lower()}  {where}{'  ' if where else ''}{words}{trace}"

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines())
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler], force=True)
    for name in ("asyncio", "uvicorn", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if verbose:  # what a broker's client has to say
        logging.getLogger("contrapas.client").setLevel(logging.DEBUG)


if __name__ == "__main__":
    chosen = Plan(**json.loads(sys.argv[1]))
    logs(chosen.verbose)
    ended = main(chosen)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(ended)  # everything is closed; taking the interpreter apart would only delay the next child
