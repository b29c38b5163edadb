"""`contrapas worker MODULE:APP`: runs the sagas and services of one app in this process until it is told to stop."""

from __future__ import annotations

import click

from contrapas.cli import child, exits, positions, program, screen, text
from contrapas.cli.options import Run, command, verb
from contrapas.core.world import World


@command(
    "worker",
    "Run the sagas and services of an app until SIGTERM: then running steps end, positions are written.",
)
@click.argument("target", metavar="MODULE:APP", required=False)
@click.option("--drain", metavar="TIME", help="How long running steps may take at the end (30s).")
@click.option("--concurrency", type=click.IntRange(min=1), help="Threads for plain steps (32).")
@click.option(
    "--checkpoints",
    metavar="DIR",
    help="Where what makes takeovers quick is kept; none: nowhere (server logs: .contrapas).",
)
@click.option(
    "--standby", is_flag=True, help="Follow partitions of other workers too, so that a takeover is quick."
)
@click.option(
    "--dev", is_flag=True, help="For development: a server that may lose what it confirmed is enough."
)
@verb(log=True)
def worker(
    run: Run,
    target: str | None,
    drain: str | None,
    concurrency: int | None,
    checkpoints: str | None,
    standby: bool,
    dev: bool,
) -> int:
    """MODULE is a dotted name or a file."""
    child.logs(run.verbose)
    name = program.target_of(target, run.settings)
    drain_ms = positions.duration_ms(drain or run.settings.get("drain", "30s"))
    ready = program.prepare(name, run.settings)
    if ready.lock is not None and (stale := ready.stale()):
        raise stale[0]
    if ready.lock is None and ready.definition.sagas:
        screen.note(
            "warning CP321  there is no sagas.lock.json beside the app: the next release may name its states otherwise, "
            "and what then does not fit parks   (contrapas check --update, and commit it)"
        )
    for warning in ready.warnings:
        screen.note(f"{warning.place}  warning {warning.code}  {text.escape(warning.text)}")
    slow_steps(ready.world, drain_ms)
    url = str(run.settings.get("log") or f"sqlite:///.contrapas/{ready.definition.namespace}.db")
    sagas = ", ".join(use.saga.name for use in ready.definition.sagas) or "no saga"
    services = text.plural(len(ready.definition.services), "service")
    screen.note(
        f"{ready.definition.namespace}   {text.escape(url)}   {sagas}   {services}   drain {text.duration(drain_ms)}"
    )
    import asyncio

    plan = child.Plan(
        target=name,
        log=url,
        lenient=dev,
        drain_ms=drain_ms,
        threads=concurrency or int(run.settings.get("concurrency", 32)),
        checkpoints=checkpoints or str(run.settings.get("checkpoints", "")),
        standby=standby,
    )
    code = asyncio.run(child.run(plan, ready, Said(), run.look))
    screen.note("drained, released")
    return code if code else exits.DONE


class Said(child.Report):
    """Says on stderr when the worker is ready."""

    def __init__(self) -> None:
        super().__init__(-1)

    def __call__(self, event: str, **more: object) -> None:
        """Only `ready` is for people."""
        if event == "ready":
            screen.note(f"ready   {more.get('owned', 0)} partitions")


def slow_steps(world: World, drain_ms: int) -> None:
    """Warn about steps that may outlive a drain: a restart in their middle repeats them."""
    for step in world.types.steps.values():
        if step.timeout_ms > drain_ms:
            screen.note(
                f"warning CP806  step {step.name} may take {text.duration(step.timeout_ms)}, --drain is "
                f"{text.duration(drain_ms)}: a restart in its middle repeats it"
            )
