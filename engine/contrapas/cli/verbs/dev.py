"""`contrapas dev`: server and worker of one app in a child process, replaced when the user saves a file."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from types import FrameType
from typing import Any

import click

from contrapas.cli import exits, positions, program, screen, text
from contrapas.cli.children import Child, Files, listen
from contrapas.cli.options import Run, command, verb
from contrapas.cli.provide import provide
from contrapas.cli.verbs.check import near
from contrapas.runtime.open import shown

CRASHES = 3


@command("dev", "Run an app for its developer: worker, HTTP server, check, reload on save.")
@click.argument("target", metavar="[MODULE:APP]", required=False)
@click.option("--port", type=click.IntRange(0, 65535), help="7070, or the next free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="This machine only.")
@click.option(
    "--drain", metavar="TIME", default="2s", show_default=True, help="For running steps at a reload."
)
@click.option(
    "--read-only",
    is_flag=True,
    help="Follow the log's topics as an observer; nothing is produced or made there.",
)
@click.option(
    "--from", "first", metavar="POS", help="With --read-only: start, end (default), -100, +5, @-1h."
)
@verb(log=True)
def dev(
    run: Run,
    target: str | None,
    port: int | None,
    host: str,
    drain: str,
    read_only: bool,
    first: str | None,
) -> int:
    """MODULE is a dotted name or a file: sagas/order/saga.py:app."""
    from contrapas.web.guard import token_at

    name = program.target_of(target, run.settings)
    if first is not None and not read_only:
        raise exits.Usage(
            "CP814", "--from says where --read-only begins", fix="contrapas dev --read-only --from POS"
        )
    if read_only:
        from contrapas.cli.readonly import checked

        checked(str(run.settings.get("log") or ""), first or "end")
    wanted = port if port is not None else run.settings.get("port")
    listening = listen(wanted, host)
    try:
        plan: dict[str, Any] = {
            "target": name,
            "log": run.settings.get("log") or "",
            "serve": listening.fileno(),
            "check": True,
            "dev": True,
            "tell": True,
            "drain_ms": positions.duration_ms(drain),
            "token": token_at(".contrapas"),
            "write_lock": True,
            "prepare": True,
            "ascii": run.look.ascii,
            "color": run.look.color,
            "verbose": run.verbose,
        }
        url = f"http://{host}:{listening.getsockname()[1]}"
        if not read_only:
            return Dev(run, plan, url).run()
        os.makedirs(".contrapas", mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="read-only-", dir=".contrapas") as folder:
            own = {"read_only": folder, "first": first or "end", "prepare": False, "dev": False}
            return Dev(run, {**plan, **own}, url).run()
    finally:
        listening.close()


class Dev:
    """The parent: it never imports the user's module."""

    def __init__(self, run: Run, plan: dict[str, Any], url: str) -> None:
        self.look = run.look
        self.plan = plan
        self.url = url
        self.files = Files()
        self.stopped = 0
        self.crashes: list[float] = []
        self.spare: Child

    def run(self) -> int:
        """Until a signal."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signal)
        child = Child(self.plan).load()
        self._reached(child)
        if child.wait("prepared", "failed") != "prepared":
            return child.failure()
        self._header(child)
        try:
            if not self.plan.get("read_only"):
                provide(self.look, str(child.events["prepared"]["log"]), child.events["prepared"], self._say)
        except BaseException:
            child.stop()
            raise
        if (code := self._begin(child)) is not None:
            return code
        self.spare = Child({**self.plan, "spare": True})
        try:
            while not self.stopped:
                time.sleep(0.05)
                child.look()
                if saved := self.files.changed():
                    child = self._replaced(child, saved)
                elif not child.alive:
                    child = self._again(child)
        finally:
            child.stop()
            self.spare.kill()
        return exits.INTERRUPTED if self.stopped == signal.SIGINT else exits.DONE

    def _reached(self, child: Child) -> None:
        """With --read-only: a server that does not answer is said while the app is still being loaded."""
        if not self.plan.get("read_only"):
            return
        from contrapas.cli.readonly import reach

        try:
            reach(str(self.plan["log"]))
        except BaseException:
            child.kill()
            raise

    def _signal(self, number: int, frame: FrameType | None) -> None:
        self.stopped = number

    def _header(self, child: Child) -> None:
        from importlib.metadata import version

        about = child.events["prepared"]
        self.files.watch([str(path) for path in about["files"]])
        self._say(
            f"contrapas {version('contrapas')}   {about['namespace']}   log {text.escape(shown(str(about['log'])))}"
        )
        if folder := self.plan.get("read_only"):
            self._say(
                "  read-only: sagas only observe; nothing is produced there, no group joined, no topic made"
            )
            self._say(
                f"  lanes  contrapas ls --log sqlite:///{folder}/{about['namespace']}.db   until this ends"
            )
        self._say(f"  web    {self.url}/?token={self.plan['token']}")

    def _begin(self, child: Child) -> int | None:
        child.go()
        if child.wait("ready", "failed") == "ready":
            self._say(
                f"  ready  after {time.monotonic() - child.began:.2f}s, {child.events['ready']['owned']} partitions"
            )
            return None
        return child.failure()

    def _replaced(self, old: Child, saved: list[str]) -> Child:
        """The new code's process, or the old one when the new code cannot run."""
        began = time.monotonic()
        fresh = self._next()
        names = ", ".join(near(path) for path in saved[:3])
        if fresh.wait("prepared", "failed") != "prepared":
            fresh.stop()
            running = "still running" if old.alive else "stopped with"
            self._say(f"{names} cannot run: {running} the code from before")
            return old
        self.files.watch([str(path) for path in fresh.events["prepared"]["files"]])
        old.stop()
        fresh.go()
        if fresh.wait("ready", "failed") == "ready":
            self._say(f"{_clock()}  {names} changed, read again in {time.monotonic() - began:.1f}s")
        return fresh

    def _next(self) -> Child:
        """The spare, told to load; another one takes its place."""
        fresh = self.spare if self.spare.alive else Child(self.plan)
        fresh.began = time.monotonic()
        fresh.load()
        self.spare = Child({**self.plan, "spare": True})
        return fresh

    def _again(self, child: Child) -> Child:
        """After the worker ended by itself: at once, but not for ever."""
        code = child.stop()
        now = time.monotonic()
        self.crashes = [at for at in self.crashes if now - at < 30] + [now]
        self._say(f"{_clock()}  worker ended with {code if code >= 0 else signal.Signals(-code).name}")
        if len(self.crashes) >= CRASHES:
            self._say("it ended three times in 30s: it starts again when a file is saved")
            while not self.stopped and not self.files.changed():
                time.sleep(0.05)
            self.crashes.clear()
            if self.stopped:
                return child
        else:
            time.sleep(0.3)
        fresh = self._next()
        if fresh.wait("prepared", "failed") == "prepared":
            fresh.go()
            fresh.wait("ready", "failed")
        return fresh

    def _say(self, words: str) -> None:
        screen.line(self.look, words)
        import sys

        sys.stdout.flush()


def _clock() -> str:
    return time.strftime("%H:%M:%S")
