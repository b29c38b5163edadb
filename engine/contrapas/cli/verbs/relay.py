"""`contrapas relay MODULE:STORE`: sends what a store's outbox holds onto the log, in a process of its own."""

from __future__ import annotations

import asyncio
import signal
from types import ModuleType
from typing import Any

import click

from contrapas.cli import child, exits, positions, screen, text
from contrapas.cli.calm import calm
from contrapas.cli.options import Run, command, verb
from contrapas.errors import Refused
from contrapas.participant import Claim, Store
from contrapas.runtime import find
from contrapas.runtime.care import care
from contrapas.runtime.definition import Definition
from contrapas.runtime.open import open_log, shown
from contrapas.runtime.relay import Relay
from contrapas.runtime.stores import is_store


@command(
    "relay",
    "Send what a store's outbox holds to the log until SIGTERM: then what is committed by now is sent and noted.\n\n"
    "Any number of relays may run for a store, in workers and by themselves: one sends, the others wait to take over.",
)
@click.argument("target", metavar="MODULE:STORE")
@click.option("--drain", metavar="TIME", help="How long the last rows may take at the end (30s).")
@verb(log=True)
def relay(run: Run, target: str, drain: str | None) -> int:
    """MODULE is a dotted name or a file; without `:STORE` the name is `store`."""
    child.logs(run.verbose)
    drain_ms = positions.duration_ms(drain or run.settings.get("drain", "30s"))
    store, module = found(target)
    if store.sender != "relay":
        raise Refused(
            "CP850",
            f"{text.escape(target)}: Debezium sends this outbox; a relay beside it would send everything twice",
            fix='sender="relay" of the store, once the connector is stopped',
        )
    namespace = run.settings.get("namespace") or namespace_of(module, store)
    if not namespace:
        raise exits.Usage(
            "CP814",
            f"{text.escape(target)}: the namespace is not named, and no App in its module says it",
            fix="contrapas relay MODULE:STORE --namespace NS",
        )
    url = str(run.settings.get("log") or f"sqlite:///.contrapas/{namespace}.db")
    return asyncio.run(_relay(store, url, str(namespace), drain_ms))


def found(target: str) -> tuple[Store, ModuleType]:
    """The store, and its module. Refused CP809 when there is none of that name."""
    module, name = find.load(target, default="store")
    value: Any = getattr(module, name, None)
    if not is_store(value):
        value = getattr(value, "store", None)  # a service stands for its store
    if not is_store(value):
        near = [n for n, v in vars(module).items() if is_store(v)]
        path = find.split(target, "store")[0]
        raise Refused(
            "CP809",
            f"{path} has no store named '{name}'",
            fix=f"{path}:{near[0]}" if near else "store = PostgresStore(pool)",
        )
    return value, module


def namespace_of(module: ModuleType, store: Store) -> str:
    """Of the app in the store's module that serves it; of the only app there; else empty."""
    apps: list[Any] = [
        value
        for value in vars(module).values()
        if callable(getattr(value, "definition", None)) and not isinstance(value, type)
    ]
    definitions: list[Definition] = [app.definition() for app in apps]
    using = [d for d in definitions if any(service.store is store for service in d.services)]
    names = {d.namespace for d in (using or definitions)}
    return names.pop() if len(names) == 1 else ""


async def _relay(store: Store, url: str, namespace: str, drain_ms: int) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    log = await open_log(url, namespace, make=False)
    try:
        for finding in await store.examine():
            if finding.refused:
                raise Refused(finding.code, finding.text, fix=finding.fix, place=finding.place)
            screen.note(f"warning {finding.code}  {text.escape(finding.text)}")
        calm(50_000, 50, 100)  # rows are many small objects that die together
        relay = Relay(store, log, namespace)
        relay.on_claim = _claimed(store.name)
        relay.on_wait = lambda why: screen.note(f"waiting   {text.escape(why)}")
        screen.note(
            f"outbox {text.escape(store.name)}   to {text.escape(shown(url))}   namespace {namespace}"
        )
        work = loop.create_task(relay.run())
        pruning = loop.create_task(care(store, relay.clock, relay.chance))
        told = loop.create_task(stop.wait())
        try:
            await asyncio.wait((work, told), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                await relay.stop(drain_ms)
                await asyncio.wait((work,), timeout=1)
        finally:
            told.cancel()
            work.cancel()
            pruning.cancel()
            await asyncio.gather(work, told, pruning, return_exceptions=True)
        if not work.cancelled() and (why := work.exception()) is not None:
            raise why
        state = relay.state()
        screen.note(f"released   {text.plural(state.sent, 'row')} sent, up to seq {state.last}")
        return exits.DONE
    finally:
        await log.close()
        await store.close()


def _claimed(name: str) -> Any:
    def say(claim: Claim) -> None:
        screen.note(f"relaying   outbox {text.escape(name)} from seq {claim.last + 1}, epoch {claim.epoch}")

    return say
