"""The engine as a rule machine: starts, signals, time, crashes, rebalances, compaction, cancels, kills, a new release, in any
order, on a log that refuses former owners and on one that leaves them void. The model is a dict."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from contrapas.core.envelope import ENDED, InstanceRecord
from contrapas.core.envelope_avro import decode
from contrapas.core.fold import fold
from contrapas.errors import ContrapasError, Unreachable
from contrapas.log.memory import MemoryLog
from contrapas.runtime import sweep, worker
from contrapas.runtime.client import Client, Told
from contrapas.runtime.clock import JumpClock
from contrapas.runtime.sweep import sweep as swept
from tests.catalogue.desk import Approved, Opened, built, definition_of
from tests.catalogue.faulty import keeps_its_own
from tests.fuzz.fuzzing import TIME_S
from tests.runtime.rig import Rig

DAY_MS = 86_400_000
KEYS = st.sampled_from(("k-1", "k-2", "k-3", "ü∀"))
RELEASES: tuple[tuple[Any, ...], ...] = ((), (keeps_its_own,))
"""What stands beside the claim: the next release knows one saga more."""


class Engine(RuleBasedStateMachine):
    """Claims wait two days for an approval. What was acknowledged is in the model, and the log has to agree."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.model: dict[str, dict[str, Any]] = {}
        self.sent: dict[str, set[str]] = {}
        self.release = 0
        self.rig: Rig

    @initialize(fence=st.sampled_from(("refuse", "order")), partitions=st.integers(1, 3))
    def opens(self, fence: Any, partitions: int) -> None:
        """One worker on an empty log."""
        clock = JumpClock()
        log = MemoryLog("desk", partitions, clock=clock, fence=fence)
        self.rig = Rig(log, definition_of(), built(), clock)
        self.go(self.rig.worker())

    # ---- moving

    def go(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run it to its end while time passes, in the machine's own loop."""

        async def run() -> Any:
            task = asyncio.ensure_future(work)
            for _ in range(8000):
                if task.done():
                    return task.result()
                await self.rig.turn(5)
                await asyncio.sleep(0)
            task.cancel()
            raise AssertionError("no answer")

        return self.loop.run_until_complete(run())

    def settled(self) -> None:
        """Let everything happen that can."""
        self.loop.run_until_complete(self._settled())

    async def _settled(self) -> None:
        before, quiet = -1, 0
        while quiet < 40:
            await self.rig.turn(1)
            now = sum(shelf.end for lane in self.rig.log.store.lanes.values() for shelf in lane)
            quiet = quiet + 1 if now == before else 0
            before = now

    def living(self) -> list[int]:
        """Workers that run."""
        return [n for n, task in enumerate(self.rig.tasks) if not task.done()]

    def asked(self, work: Callable[[Client], Coroutine[Any, Any, Told]]) -> str:
        """The verdict of a door, or the code of its refusal."""

        async def ask() -> str:
            client = self.rig.client(self.rig.workers[self.living()[-1]])
            try:
                told = await work(client)
                return str(told.verdict or "accepted")
            except Unreachable as why:
                assert why.code == "CP507", why
                return "unknown"
            except ContrapasError as why:
                return why.code
            finally:
                await client.close()
                self.rig.clients.remove(client)

        return str(self.go(ask()))

    # ---- rules

    @rule(key=KEYS, cents=st.integers(1, 2))
    def start(self, key: str, cents: int) -> None:
        """New, the same again, or another under a taken key."""
        event = Opened(id=key, cents=cents)
        said = self.asked(lambda c: c.start("claim", event, timeout_ms=20_000))
        known = self.model.get(key)
        if said == "unknown":
            self.settled()
        gone = known is not None and "ended" in known and self.rig.clock() - known["since"] > 30 * DAY_MS
        if gone and said in ("applied", "accepted", "kept", "unknown"):  # its record was let go: another run
            del self.model[key]
            known = None
        if known is None:
            assert said in ("applied", "accepted", "unknown", "kept"), said
            self.model[key] = {"cents": cents, "since": self.rig.clock(), "by": None, "told": set()}
        else:
            assert said in (("duplicate", "unknown") if known["cents"] == cents else ("CP412",)), said

    @rule(key=KEYS, by=st.sampled_from(("ann", "bob")))
    def signal(self, key: str, by: str) -> None:
        """An approval, to whoever is there or not."""
        status = self.status(key)
        said = self.asked(lambda c: c.signal("claim", key, Approved(id=key, by=by), timeout_ms=20_000))
        self.settled()
        self.sent.setdefault(key, set()).add(by)
        if key not in self.model:
            assert said in ("kept", "early", "parked", "duplicate"), said  # for a day, for whoever comes
        elif status == "waiting" and said == "applied":
            self.model[key]["by"] = by
        else:
            assert status != "waiting" or said in ("unknown", "applied"), said

    @rule(ms=st.sampled_from((1, 1_000, 60_000, 3_600_000, DAY_MS, 2 * DAY_MS)))
    def time_passes(self, ms: int) -> None:
        """Timers fire, and what is superseded is removed."""
        self.rig.clock.advance(ms)
        self.settled()

    @rule()
    def crash(self) -> None:
        """kill -9 of a worker; another process comes up."""
        self.loop.run_until_complete(self.rig.kill(self.living()[-1]))
        if not self.living():
            self.go(self.rig.worker())
        self.settled()

    @rule()
    def rebalance(self) -> None:
        """One worker joins; at most three."""
        if len(self.living()) < 3:
            self.go(self.rig.worker())
        self.settled()

    @rule()
    def upgrade(self) -> None:
        """All workers end, and the other release begins."""
        for n in self.living():
            self.loop.run_until_complete(self.rig.kill(n))
        self.release = 1 - self.release
        self.rig.definition = definition_of(*RELEASES[self.release])
        self.rig.world = built(RELEASES[self.release])
        self.go(self.rig.worker())
        self.settled()

    @rule(key=KEYS, verb=st.sampled_from(("cancel", "kill", "pause", "resume", "retry")))
    def operate(self, key: str, verb: str) -> None:
        """An operator."""
        ended = self.status(key) in ENDED
        said = self.asked(lambda c: c.operate(f"claim/{key}", verb, timeout_ms=20_000))
        self.settled()
        if key not in self.model:
            assert said in ("CP414", "CP813"), said
        elif said == "applied" and verb in ("cancel", "kill"):
            assert not ended
            self.model[key]["told"].add(verb)

    # ---- what holds

    def records(self) -> dict[str, InstanceRecord]:
        """The newest record of each instance, as the fold has them."""
        found: dict[str, InstanceRecord] = {}
        for shelf in self.rig.log.store.lanes.get("log", []):
            judge, states = fold(shelf.records, floor=shelf.end)
            assert judge.error is None
            for record in states.values():
                if dict(record.headers).get("cp-kind") == b"instance" and record.value is not None:
                    one = decode(record.value)
                    found[one.key] = one
        return found

    def status(self, key: str) -> str:
        """Of an instance."""
        record = self.records().get(key)
        return record.status if record is not None else ""

    @invariant()
    def the_log_agrees_with_the_model(self) -> None:
        """Nothing acknowledged is lost, nothing comes about by itself, what has ended stays."""
        found = self.records()
        assert found.keys() <= self.model.keys(), "an instance that nobody started"
        for key, known in self.model.items():
            age = self.rig.clock() - known["since"]
            record = found.get(key)
            if record is None:
                assert known.get("ended") and age > 30 * DAY_MS, f"{key} is lost"
                continue
            self.one(key, known, record, age)

    def one(self, key: str, known: dict[str, Any], record: InstanceRecord, age: int) -> None:
        """What one instance is, and what it may have become."""
        assert record.version >= known.get("version", 0), f"{key} went back"
        known["version"] = record.version
        if record.status in ENDED:
            ended = (record.status, record.outcome, record.outcome_body)
            assert known.setdefault("ended", ended) == ended, f"{key} has ended twice"
            if record.outcome:
                may = {known["by"]} if known["by"] else {"nobody", *self.sent.get(key, ())}
                assert json.loads(record.outcome_body)["by"] in may, (key, may, record.outcome_body)
            else:
                assert known["told"], f"{key} ended {record.status}, and nobody asked for it"
        else:
            assert "ended" not in known, f"{key} lives again"
            assert record.status in ("waiting", "paused", "unwinding", "running"), record.status
            assert known["by"] is None or record.status == "paused", f"{key} was approved and waits"
            assert age <= 2 * DAY_MS + 60_000 or record.status == "paused", f"the timer of {key} did not fire"

    def teardown(self) -> None:
        """After every run."""
        if hasattr(self, "rig"):
            self.loop.run_until_complete(self.rig.close())
        self.loop.close()


def test_any_order_of_things_keeps_the_log_and_the_model_together(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hasty(*args: Any, **more: Any) -> Any:
        return await swept(*args, **{**more, "history_ms": 200})

    monkeypatch.setattr(sweep, "EVERY_MS", 200)
    monkeypatch.setattr(worker, "sweep", hasty)
    long = TIME_S > 0
    run_state_machine_as_test(
        Engine,
        settings=settings(
            max_examples=int(TIME_S * 4) if long else 12,
            stateful_step_count=60 if long else 25,
            derandomize=not long,
            database=None,
            deadline=None,
            print_blob=True,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=(
                HealthCheck.too_slow,
                HealthCheck.filter_too_much,
                HealthCheck.data_too_large,
            ),
        ),
    )
