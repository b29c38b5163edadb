"""`contrapas demo`: the first minute. With a terminal and keys; without one it plays the same story by itself.

What it says about outcomes it reads from the log, and it ends with 0 only if every outcome was the expected one.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version

import click

from contrapas.cli import exits, scene, screen, tale, teller, text, travel
from contrapas.cli.children import Files
from contrapas.cli.lanes import is_far
from contrapas.cli.options import Run, command, verb
from contrapas.cli.scene import Scene
from contrapas.core.envelope import InstanceRecord
from contrapas.runtime.open import shown

KEYS = "keys:  n new order   k kill the worker (-9)   r restart it   b break the card service   q quit"


@command(
    "demo", "The first minute: a sample saga on the built-in log, and keys to kill and restart its worker."
)
@click.option("--alone", is_flag=True, help="Play the story without keys, as without a terminal.")
@click.option("--log", "url", metavar="URL", help="A log at a server instead of a file, in namespace shop.")
@verb()
def demo(run: Run, alone: bool, url: str | None) -> int:
    """Nothing is needed but this installation; the log is a file, unless another is named."""
    by_itself = alone or not (sys.stdin.isatty() and sys.stdout.isatty())
    came_from = os.getcwd()
    folder, ours = scene.settle(by_itself)
    os.chdir(folder)
    stage: Scene | None = None
    try:
        stage = Scene(run.look, lambda words: say(run.look, words), url or scene.LOG)
        header(run.look, stage, ours)
        stage.begin()
        return Alone(run.look, stage).play() if by_itself else WithKeys(run.look, stage).play()
    finally:
        if stage is not None:
            stage.close()
        os.chdir(came_from)
        if ours:
            scene.remove(folder)
            os.chdir(came_from)


def say(look: screen.Look, words: str) -> None:
    """A line, at once."""
    screen.line(look, words)
    sys.stdout.flush()


def header(look: screen.Look, stage: Scene, ours: bool) -> None:
    """What this is and where it lies."""
    without = "no account" if is_far(stage.url) else "no broker, no account"
    say(
        look,
        f"contrapas {version('contrapas')}   log {text.escape(shown(stage.url))}  {without}, no telemetry",
    )
    say(look, "")
    say(look, f"  web    http://127.0.0.1:{stage.port}/?token={stage.token}")
    wrote = (
        f"     wrote {stage.wrote} lines, edit and save to reload" if stage.wrote else "     as you left it"
    )
    where = "a scratch folder, removed at the end" if ours else os.getcwd()
    say(look, f"  code   ./{scene.FILE}{wrote}")
    say(look, f"  in     {where}")


class Alone:
    """The story without keys: what would be pressed is done, and every outcome is compared."""

    def __init__(self, look: screen.Look, stage: Scene) -> None:
        self.look = look
        self.stage = stage
        self.wrong: list[str] = []

    def play(self) -> int:
        """Success, compensation, kill -9 in mid-saga and completion, the missing undo; 0 if all was as expected."""
        stage = self.stage
        stage.ready()
        say(self.look, "")
        self.told(
            stage.order(1, "mug"), "done", "OrderConfirmed", ("ChargeCard ✓", "ReserveStock ✓", "ShipOrder ✓")
        )
        self.told(
            stage.order(2, "unicorn"),
            "compensated",
            "OrderRejected",
            ("ChargeCard ✓", "ReserveStock ✗", "RefundCard ↩"),
        )
        self.killed(stage.order(3, "piano"))
        self.forgotten()
        if self.wrong:
            for words in self.wrong:
                say(self.look, f"not as expected: {words}")
            return exits.FAILED
        say(self.look, "")
        say(
            self.look,
            "success, compensation, kill -9 and completion, a missing undo found: every outcome as expected",
        )
        say(
            self.look,
            "next  contrapas demo  on a terminal, with keys      contrapas graph order_saga:app      contrapas --help",
        )
        return exits.DONE

    def told(self, key: str, status: str, outcome: str, path: Sequence[str]) -> None:
        """Wait for the end of an order, tell it, compare it with what it should be."""
        if not self.stage.until(key, scene.ended):
            self.wrong.append(f"{key} has not ended")
        story = self.stage.story(key)
        if not story:
            self.wrong.append(f"{key} has no record")
            return
        say(self.look, f"{teller.clock(story[-1].at)}  {tale.tale(story)}")
        self.compare(key, story, status, outcome, path)

    def compare(
        self, key: str, story: Sequence[InstanceRecord], status: str, outcome: str, path: Sequence[str]
    ) -> None:
        """The log against the expectation."""
        last = story[-1]
        if (last.status, last.outcome) != (status, outcome):
            self.wrong.append(
                f"{key} ended {last.outcome or '–'} ({last.status}), expected {outcome} ({status})"
            )
        found = tuple(f"{s.name} {s.mark}" for s in travel.stages(story) if s.kind != "compensate")
        if found != tuple(path):
            self.wrong.append(f"{key} went {', '.join(found)}, expected {', '.join(path)}")

    def killed(self, key: str) -> None:
        """kill -9 while the order waits; nothing moves; a new worker goes on where the log says."""
        stage = self.stage
        if not stage.until(key, lambda r: r.state == "ReserveStock"):
            self.wrong.append(f"{key} did not come to ReserveStock")
        time.sleep(0.3)
        before = stage.story(key)
        stage.kill()
        if before:
            say(self.look, f"{teller.clock(before[-1].at)}  {tale.tale(before)}")
        say(
            self.look,
            f"{now()}  worker killed (SIGKILL) while {key} was in {before[-1].state if before else 'nothing'}",
        )
        time.sleep(0.7)
        stands = stage.story(key)
        if len(stands) != len(before):
            self.wrong.append(f"{key} moved without a worker")
        took = stage.back()
        say(
            self.look,
            f"{now()}  worker back after {took:.2f}s   read the tail of the log, 1 instance goes on",
        )
        self.told(key, "done", "OrderConfirmed", ("ChargeCard ✓", "ReserveStock ✓", "ShipOrder ✓"))
        after = stage.story(key)
        if after[: len(before)] != before:
            self.wrong.append(f"{key} does not continue the history it had")
        if len({record.epoch for record in after}) < 2:
            self.wrong.append(f"{key} was not taken over")
        charges = self.sent(key, "payments.commands", "ChargeCard")
        if charges != 1:
            self.wrong.append(f"{key} was charged under {charges} idempotency keys")

    def sent(self, key: str, topic: str, kind: str) -> int:
        """Different ids under which a command was sent for an order."""
        log = self.stage.log
        assert log is not None
        info = log.topic(topic)
        found: set[bytes] = set()
        for partition in range(info.partitions):
            for record in log.read(info, partition, info.starts[partition], info.heads[partition]):
                headers = dict(record.headers)
                if record.key == key.encode() and headers.get("ce_type") == kind.encode():
                    found.add(headers.get("ce_id", b""))
        return len(found)

    def forgotten(self) -> None:
        """Delete the refund from the sample and let `check` find it before any order runs into it."""
        whole = scene.sample()
        cut, line = scene.without_undo(whole)
        with open(scene.FILE, "w", encoding="utf-8") as file:
            file.write(cut)
        began = time.monotonic()
        ran = subprocess.run(
            [sys.executable, "-m", "contrapas", "check", scene.TARGET],
            check=False,
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        say(self.look, "")
        say(
            self.look,
            f"{now()}  {scene.FILE} without the undo= of ChargeCard, read again in {time.monotonic() - began:.1f}s",
        )
        for words in ran.stdout.splitlines():
            say(self.look, words)
        if (
            f"{scene.FILE}:{line}" not in ran.stdout
            or "CP703" not in ran.stdout
            or "the charge stands" not in ran.stdout
        ):
            self.wrong.append(
                f"check did not find the missing undo (exit {ran.returncode}): {text.escape(ran.stderr)}"
            )
        with open(scene.FILE, "w", encoding="utf-8") as file:
            file.write(whole)


class WithKeys:
    """The same stage with a person before it."""

    SKUS = ("mug", "unicorn", "piano")

    def __init__(self, look: screen.Look, stage: Scene) -> None:
        self.look = look
        self.stage = stage
        self.number = stage.next_number()
        self.first = self.number
        self.live = ""
        self.drawn = False
        self.files = Files()
        self.files.watch([os.path.abspath(scene.FILE)])

    def play(self) -> int:
        """Until q, the end of input, or Ctrl-C."""
        import termios
        import tty

        self.say("")
        self.say(KEYS)
        self.say("")
        before = termios.tcgetattr(sys.stdin.fileno())
        try:
            tty.setcbreak(sys.stdin.fileno())
            self._loop()
        except KeyboardInterrupt:
            pass
        finally:
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, before)
        self.say("")
        return exits.DONE

    def _loop(self) -> None:
        began = time.monotonic()
        while True:
            placed = self.number - self.first
            if placed < 3 and time.monotonic() - began > 2 * placed + 0.5:
                self._place(self.SKUS[placed])
            ready, _, _ = select.select([sys.stdin], [], [], 0.03)
            if ready and not self._key(sys.stdin.read(1)):
                return
            self._look()
            if self.files.changed():
                self._saved()
            worker = self.stage.worker
            if worker is not None and not worker.alive:
                self.say(f"{now()}  the worker ended with {worker.stop()}   r starts it")
                self.stage.worker = None

    def _key(self, key: str) -> bool:
        match key:
            case "q" | "":
                return False
            case "n":
                self._place(self.SKUS[self.number % 3])
            case "k":
                self._kill()
            case "r":
                self._restart()
            case "b":
                self._break()
            case _:
                self.say(KEYS)
        return True

    def _place(self, sku: str) -> None:
        key = self.stage.order(self.number, sku)
        self.number += 1
        if self.stage.worker is None:
            self.say(f"{now()}  {key}  placed: it is on the log and waits for a worker")

    def _kill(self) -> None:
        if self.stage.worker is None:
            self.say(f"{now()}  there is no worker   r starts one")
            return
        self.stage.kill()
        self._look()
        alive = [f"{s[-1].key} was in {s[-1].state}" for s in self._stories() if not scene.ended(s[-1])]
        self.say(f"{now()}  worker killed (SIGKILL){' while ' + ', '.join(alive[:3]) if alive else ''}")

    def _restart(self) -> None:
        if self.stage.worker is not None:
            self.say(f"{now()}  the worker runs   k kills it")
            return
        alive = sum(not scene.ended(s[-1]) for s in self._stories())
        took = self.stage.back()
        goes = f", {text.plural(alive, 'instance')} {'goes' if alive == 1 else 'go'} on" if alive else ""
        self.say(f"{now()}  worker back after {took:.2f}s   read the tail of the log{goes}")

    def _break(self) -> None:
        if scene.BROKEN.exists():
            scene.BROKEN.unlink()
            self.say(f"{now()}  the card service works again")
        else:
            scene.BROKEN.touch()
            self.say(f"{now()}  the card service is broken: it declines every charge   b repairs it")

    def _saved(self) -> None:
        began = time.monotonic()
        self.say("")
        if self.stage.reload():
            self.say(f"{now()}  {scene.FILE} changed, read again in {time.monotonic() - began:.1f}s")
        else:
            self.say(f"{now()}  {scene.FILE} cannot run: the code from before goes on")

    def _stories(self) -> list[list[InstanceRecord]]:
        assert self.stage.teller is not None
        return list(self.stage.teller.stories.values())

    def _look(self) -> None:
        follow = self.stage.teller
        assert follow is not None
        for instance, body, _ in follow.look():
            line = f"{teller.clock(body.at)}  {follow.line(instance)}"
            if scene.ended(body) or body.status in ("parked", "settling"):
                self.say(line)
                if scene.ended(body):
                    follow.forget(instance)
                self.live = ""
            else:
                self._redraw(line)

    def _redraw(self, line: str) -> None:
        """The instance that moved last, on a line that the next one takes over."""
        shown = text.plain(line) if self.look.ascii else line
        sys.stdout.write(f"\r{shown[: self.look.width - 1]}\x1b[K")
        sys.stdout.flush()
        self.drawn = True

    def say(self, words: str) -> None:
        """A line that stays."""
        if self.drawn:
            sys.stdout.write("\r\x1b[K")
            self.drawn = False
        say(self.look, words)


def now() -> str:
    """`12:00:04`."""
    return time.strftime("%H:%M:%S")
