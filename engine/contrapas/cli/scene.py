"""The stage of `contrapas demo`: a folder with the sample saga, a log, a worker and a server as processes of their own."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from contrapas.cli import records, teller
from contrapas.cli.children import Child, listen
from contrapas.cli.lanes import LogFile, open_file
from contrapas.cli.provide import provide
from contrapas.core.envelope import ENDED, InstanceRecord
from contrapas.errors import ContrapasError, Refused, Unreachable
from contrapas.runtime.settings import Settings, Value

FILE = "order_saga.py"
TARGET = "order_saga:app"
LOG = "sqlite:///.contrapas/shop.db"
BROKEN = Path(".contrapas/card-service-broken")
PRICES = {"mug": 4200, "unicorn": 9900, "piano": 480_000}


def sample() -> str:
    """The text of the sample saga."""
    return (Path(__file__).parent / "templates" / FILE).read_text(encoding="utf-8")


def settle(alone: bool) -> tuple[Path, bool]:
    """The folder to play in, and whether it is ours to remove.

    Alone, without a terminal, it is a scratch folder, because the story edits the file. Else it is this folder, unless
    it is somebody's project, or a file of another content stands in the way: then `.contrapas/demo` below it.
    """
    if alone:
        return Path(tempfile.mkdtemp(prefix="contrapas-demo-")), True
    here = Path.cwd()
    busy = any((here / name).exists() for name in ("pyproject.toml", "setup.py", ".git"))
    if busy or not _ours(here / FILE):
        here = here / ".contrapas" / "demo"
        if not _ours(here / FILE):
            raise Refused(
                "CP816", f"{here / FILE} is not the demo's", fix="move it away, or run in another folder"
            )
        here.mkdir(mode=0o700, parents=True, exist_ok=True)
    return here, False


def _ours(path: Path) -> bool:
    """It is absent, or began as our sample: its first line says so."""
    try:
        return path.read_text(encoding="utf-8").startswith(sample().split("\n", 1)[0])
    except FileNotFoundError:
        return True
    except (OSError, UnicodeDecodeError):
        return False


class Scene:
    """The processes and the log; everything that is told is read from the log."""

    def __init__(self, look: Any, say: Callable[[str], None], log: str = LOG) -> None:
        self.look = look
        self.say = say
        self.url = log
        self.settings = Settings({"log": Value(log, "demo"), "namespace": Value("shop", "demo")}, {})
        self.wrote = 0
        self.listening = listen(None)
        self.port = int(self.listening.getsockname()[1])
        from contrapas.web.guard import token_at

        if not Path(FILE).exists():
            Path(FILE).write_text(sample(), encoding="utf-8")
            self.wrote = len(sample().splitlines())
        self.token = token_at(".contrapas")
        BROKEN.unlink(missing_ok=True)
        self.worker: Child | None = None
        self.server: Child | None = None
        self.log: LogFile | None = None
        self.teller: teller.Teller | None = None

    def plan(self, **more: Any) -> dict[str, Any]:
        """What both children share."""
        return {
            "target": TARGET,
            "log": self.url,
            "dev": True,
            "token": self.token,
            "drain_ms": 2000,
            "ascii": self.look.ascii,
            "write_lock": True,
            "prepare": True,
            **more,
        }

    def begin(self) -> None:
        """Start the worker, then the server; Refused when either cannot."""
        self.worker = self._started(self.plan(check=True))
        self.log = open_file(self.settings)
        self.teller = teller.Teller(self.log)
        self.server = Child(self.plan(work=False, serve=self.listening.fileno())).load()
        self.server.go()

    def _started(self, plan: dict[str, Any]) -> Child:
        child = Child(plan).load()
        if child.wait("prepared", "failed") == "prepared":
            if plan.get("check"):
                self._provided(child)
            child.go()
            if child.wait("ready", "failed") == "ready":
                return child
        child.stop()
        raise Unreachable("CP501", "the worker did not start", again=False, fix="its own words stand above")

    def _provided(self, child: Child) -> None:
        """On a server where nothing is made by itself: with a terminal, somebody is asked."""
        import sys

        try:
            alone = not (sys.stdin.isatty() and sys.stderr.isatty())
            provide(self.look, self.url, child.events["prepared"], self.say, unasked=alone)
        except BaseException:
            child.stop()
            raise

    def ready(self) -> None:
        """Wait until the server answers."""
        if self.server is None or self.server.wait("ready", "failed") != "ready":
            raise Unreachable("CP501", "the server did not start", again=False)

    def kill(self) -> None:
        """What a power cut does to the worker."""
        if self.worker is not None:
            self.worker.kill()
            self.worker = None

    def back(self) -> float:
        """A new worker takes over; gives the seconds until it owned everything."""
        began = time.monotonic()
        self.worker = self._started(self.plan())
        return time.monotonic() - began

    def reload(self) -> bool:
        """Worker and server with the code as it was saved; False when it cannot run."""
        fresh = Child(self.plan(check=True)).load()
        if fresh.wait("prepared", "failed") != "prepared":
            fresh.stop()
            return False
        if self.worker is not None:
            self.worker.stop()
            fresh.go()
            fresh.wait("ready", "failed")
            self.worker = fresh
        else:
            fresh.stop()
        if self.server is not None:
            self.server.stop()
        self.server = Child(self.plan(work=False, serve=self.listening.fileno())).load()
        self.server.go()
        return True

    def order(self, number: int, sku: str) -> str:
        """Place an order: its start is on the log when this returns, worker or not."""
        import json

        from contrapas.cli.door import opened

        key = f"o-{number}"
        body = json.dumps({"order_id": key, "sku": sku, "cents": PRICES[sku]}).encode()

        async def send() -> None:
            async with opened(self.settings) as door:
                await door.tell(f"place_order/{key}", "OrderPlaced", body, "start", event_id=f"demo-{key}")

        asyncio.run(send())
        return key

    def next_number(self) -> int:
        """The first order number that is free."""
        assert self.log is not None
        numbers = [
            int(h.key[2:]) for h in records.heads(self.log) if h.key.startswith("o-") and h.key[2:].isdigit()
        ]
        return max(numbers, default=0) + 1

    def story(self, key: str) -> list[InstanceRecord]:
        """The records of an order, oldest first; empty while there is none."""
        assert self.log is not None
        try:
            return records.history(self.log, records.one(self.log, f"place_order/{key}"))
        except ContrapasError:
            return []

    def until(self, key: str, holds: Callable[[InstanceRecord], bool], timeout_s: float = 20.0) -> bool:
        """Wait until an order's newest record is so."""
        limit = time.monotonic() + timeout_s
        while time.monotonic() < limit:
            story = self.story(key)
            if story and holds(story[-1]):
                return True
            time.sleep(0.02)
        return False

    def close(self) -> None:
        """End both processes and the log."""
        for child in (self.server, self.worker):
            if child is not None:
                child.stop()
        if self.log is not None:
            self.log.close()
        self.listening.close()


def ended(record: InstanceRecord) -> bool:
    """The order is over."""
    return record.status in ENDED


def without_undo(text: str) -> tuple[str, int]:
    """The sample without the refund of the card, and the line of the step that lost it."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if "undo=lambda ok: RefundCard" in line:
            step = next(n for n in range(number, -1, -1) if "s.step(" in lines[n])
            return "\n".join([*lines[:number], *lines[number + 1 :]]), step + 1
    return text, 0


def remove(folder: Path) -> None:
    """Take a scratch folder away."""
    import shutil

    os.chdir(tempfile.gettempdir())
    shutil.rmtree(folder, ignore_errors=True)
