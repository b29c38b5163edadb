"""Commands against a worker that runs in another process, as a user has it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

APP = """
from contrapas import App, Command, Event, Saga, Service, Timeout, saga, step


class Asked(Event, topic="refunds.events", key="refund_id"):
    refund_id: str
    cents: int


class Approved(Event, topic="refunds.events", key="refund_id"):
    refund_id: str
    by: str


class Decided(Event, topic="refunds.events", key="refund_id"):
    refund_id: str
    granted: bool


class Held(Event, topic="money.events", key="refund_id"):
    refund_id: str


class Hold(Command[Held], topic="money.commands", key="refund_id"):
    refund_id: str


class Freed(Event, topic="money.events", key="refund_id"):
    refund_id: str


class Free(Command[Freed], topic="money.commands", key="refund_id"):
    refund_id: str


@step(undo=None)
def note(text: str) -> str:
    return text


@saga(deadline="5d")
async def approve(s: Saga, asked: Asked) -> Decided:
    await s.step(Hold(refund_id=asked.refund_id), undo=Free(refund_id=asked.refund_id), within="10s")
    answer = await s.wait(Approved, within="9h")
    granted = not isinstance(answer, Timeout)
    await note("decided")
    if asked.cents == 13:
        raise KeyError("unlucky")
    return Decided(refund_id=asked.refund_id, granted=granted)


money = Service("money")


@money.on(Hold)
async def hold(c: Hold) -> Held:
    return Held(refund_id=c.refund_id)


@money.on(Free)
async def free(c: Free) -> Freed:
    return Freed(refund_id=c.refund_id)


app = App("refunds")
app.orchestrate(approve)
app.serve(money)
"""


class Ran(NamedTuple):
    code: int
    out: str
    err: str


Cli = Callable[..., Ran]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    here = tmp_path_factory.mktemp("refunds")
    (here / "refunds.py").write_text(APP)
    worker = subprocess.Popen(
        [sys.executable, "-m", "contrapas", "worker", "refunds:app", "--drain", "1s"],
        cwd=here,
        env=plain(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert worker.stderr is not None
    said = ""
    while "ready" not in said:
        line = worker.stderr.readline()
        assert line, said
        said += line
    yield here
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    assert "drained, released" in worker.stderr.read()
    worker.stderr.close()


def plain() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("CONTRAPAS_")}


@pytest.fixture
def run(folder: Path) -> Cli:
    def inner(*args: str, given: str = "") -> Ran:
        ran = subprocess.run(
            [sys.executable, "-m", "contrapas", *args],
            check=False,
            cwd=folder,
            env=plain(),
            capture_output=True,
            text=True,
            input=given,
        )
        return Ran(ran.returncode, ran.stdout, ran.stderr)

    return inner


def until(run: Cli, key: str, state: str) -> None:
    for _ in range(200):
        if run("ls", f"approve/{key}", "--where", f'state="{state}"', "-o", "id").out.strip():
            return
        time.sleep(0.05)
    raise AssertionError(run("instance", "describe", key).out)


def test_a_saga_is_started_signalled_and_waited_for(run: Cli) -> None:
    started = run("instance", "start", "approve", "refund_id=r-1", "cents=100", "-o", "json")
    assert started.code == 0, started.err
    assert json.loads(started.out)["instance"] == "approve/r-1"
    until(run, "r-1", "wait(Approved)")
    assert run("instance", "signal", "r-1", "Approved", "by=ops@example.com").code == 0
    waited = run("instance", "wait", "r-1", "--timeout", "10s")
    assert (waited.code, waited.out) == (0, "r-1 ended Decided (done)\n")


def test_a_repeated_start_is_a_success_and_another_body_a_conflict(run: Cli) -> None:
    assert (
        run(
            "instance", "start", "approve", "--body", '{"refund_id":"r-2","cents":1}', "--timeout", "10s"
        ).code
        == 0
    )
    again = run("instance", "start", "approve", "refund_id=r-2", "cents=1", "--timeout", "10s")
    assert again.code == 0 and "duplicate" in again.out
    other = run("instance", "start", "approve", "refund_id=r-2", "cents=2", "--timeout", "10s")
    assert other.code == 6 and "CP412" in other.err


def test_an_event_that_does_not_fit_is_refused_by_the_owner(run: Cli) -> None:
    wrong = run("instance", "start", "approve", "refund_id=r-3", 'cents="many"', "--timeout", "10s")
    assert wrong.code == 6 and "CP403" in wrong.err
    assert run("instance", "start", "aprove", "refund_id=r-3").code == 3
    assert run("instance", "signal", "r-0", "Approved", "by=x").code == 3
    assert run("instance", "signal", "r-2", "Aproved", "by=x").code == 2


def test_cancel_is_a_dry_run_without_yes_and_takes_back_what_was_done(run: Cli) -> None:
    run("instance", "start", "approve", "refund_id=r-4", "cents=1", "--timeout", "10s")
    until(run, "r-4", "wait(Approved)")
    plan = run("instance", "cancel", "approve/r-4*", "--reason", "outage")
    assert plan.code == 6
    assert plan.out.splitlines() == [
        "would cancel 1 instance (first: r-4) and run 1 undo step: Free ×1",
        "nothing done.  repeat with --yes",
    ]
    done = run("instance", "cancel", "approve/r-4*", "--reason", "outage", "--yes")
    assert done.code == 0, done.err
    assert run("instance", "wait", "r-4").code == 8
    trace = run("instance", "trace", "r-4").out
    assert "↩ undo(Hold)" in trace and "compensated" in trace
    again = run("instance", "cancel", "r-4", "--yes")
    assert again.code == 6 and "CP815" in again.err


def test_a_bug_in_the_saga_parks_it_and_kill_unwinds_it(run: Cli) -> None:
    run("instance", "start", "approve", "refund_id=r-5", "cents=13", "--timeout", "10s")
    until(run, "r-5", "wait(Approved)")
    run("instance", "signal", "r-5", "Approved", "by=x", "--timeout", "10s")
    waited = run("instance", "wait", "r-5")
    assert waited.code == 8 and "CP847" in waited.out
    described = run("instance", "describe", "r-5").out
    assert "KeyError" in described and "instance retry r-5" in described
    retried = run("instance", "retry", "r-5")
    assert retried.code in (0, 6), retried.err
    assert run("instance", "kill", "r-5").code == 6
    assert run("instance", "kill", "r-5", "--yes").code == 0
    assert "(compensated)" in run("instance", "wait", "r-5").out


def test_nobody_answers_in_time_is_unknown_and_safe_to_repeat(run: Cli) -> None:
    late = run("instance", "signal", "r-2", "Approved", "by=x", "--timeout", "1ms")
    assert late.code == 7
    assert "CP507" in late.err and "instance describe" in late.err and "--event-id" in late.err


def test_rows_of_a_file_become_events_once(run: Cli, folder: Path) -> None:
    (folder / "asked.csv").write_text(
        "id,amount,when\nc-1,100,2026-11-20T10:00:00+01:00\nc-2,200,2026-11-20T10:00:01Z\n"
    )
    args = (
        "topic",
        "produce",
        "refunds.events",
        "--file",
        "asked.csv",
        "--key",
        "id",
        "--type",
        "=Asked",
        "--time",
        "when",
    )
    fields = ("--field", "refund_id=id", "--field", "cents=amount:int")
    for _ in range(2):
        sent = run(*args, *fields)
        assert sent.code == 0 and "2 records to refunds.events" in sent.err, sent.err
    until(run, "c-1", "wait(Approved)")
    until(run, "c-2", "wait(Approved)")
    assert "version" in run("instance", "describe", "c-1").out
    lines = "\n".join(json.dumps({"refund_id": f"j-{n}", "cents": n}) for n in range(3))
    sent = run("topic", "produce", "refunds.events", "--key", "refund_id", "--type", "=Asked", given=lines)
    assert sent.code == 0, sent.err
    until(run, "j-2", "wait(Approved)")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "id,amount\nx,1,2\n", "a.csv:2  error CP818  the row: expected 2 columns, got 3"),
        ("b.csv", "id,amount\nx,many\n", "b.csv:2  error CP818  amount: expected int, got many"),
        ("c.csv", "key,amount\nx,1\n", "c.csv:2  error CP818  there is no column 'id'"),
        ("d.csv", "id,amount\n,1\n", "d.csv:2  error CP818  id: expected a value, got nothing"),
        ("e.csv", "id,id\nx,1\n", "column 'id' stands twice"),
        ("f.csv", b"id,amount\n\xff,1\n", "not UTF-8"),
        ("g.csv", f"id,amount\n{'k' * 300},1\n", "expected a key of 1 to 200 bytes"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_and_nothing_is_sent(
    run: Cli, folder: Path, name: str, content: str | bytes, words: str
) -> None:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    args = (
        "--file",
        name,
        "--key",
        "id",
        "--type",
        "=Asked",
        "--field",
        "refund_id=id",
        "--field",
        "cents=amount:int",
    )
    ran = run("topic", "produce", "refunds.events", *args)
    assert ran.code == 2
    assert words in ran.err
    assert "records were sent" not in ran.err


def test_produce_names_a_missing_topic_or_file(run: Cli) -> None:
    assert "CP505" in run("topic", "produce", "nothing.here", "--key", "id", given='{"id":"x"}').err
    assert run("topic", "produce", "refunds.events", "--file", "absent.csv", "--key", "id").code == 3
    assert (
        "CP405" in run("topic", "produce", "refunds.events", "--key", "id", given='{"id":"x","id":"y"}').err
    )


def test_lists_name_what_the_worker_does(run: Cli) -> None:
    assert "8 of 8 partitions owned by 1 worker" in run("doctor").out
    assert "approve@" in run("graph", "approve").out
    rows = run("log", "describe").out.splitlines()
    assert rows[0].startswith("refunds   sqlite:///")
    assert all(":" in row.split()[2] for row in rows[2:])


def test_a_step_that_outlives_the_drain_is_a_warning(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "refunds.py").write_text(APP)
    worker = subprocess.Popen(
        [sys.executable, "-m", "contrapas", "worker", "refunds.py:app", "--drain", "5s"],
        cwd=tmp_path,
        env=plain(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert worker.stderr is not None
    said = ""
    while "ready" not in said:
        line = worker.stderr.readline()
        assert line, said
        said += line
    worker.terminate()
    assert worker.wait(20) == 0
    worker.stderr.close()
    assert "warning CP806  step note may take 30s, --drain is 5s" in said
