"""The demo plays its story, and `dev` replaces its child when a file is saved."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from contrapas.cli import scene
from contrapas.cli.verbs.play import Alone

ROOT = Path(__file__).parents[2]


def plain() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("CONTRAPAS_")}


def section(text: str) -> str:
    """From the first event to the end of the saga."""
    return text[text.index("class CardCharged") : text.index("tracking=parcel.tracking)") + 26]


def test_the_sample_is_the_worked_saga_with_services_beside_it() -> None:
    worked = (ROOT / "sagas" / "order" / "saga.py").read_text(encoding="utf-8")
    assert section(scene.sample()) == section(worked)


def test_the_demo_plays_its_story_by_itself(tmp_path: Path) -> None:
    (tmp_path / "order_saga.py").write_text("mine = True\n")
    ran = subprocess.run(
        [sys.executable, "-m", "contrapas", "demo"],
        check=False,
        cwd=tmp_path,
        env=plain(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for words in (
        "check  place_order  4 states, 2 undos, 9 transitions, 2 outcomes",
        "ReserveStock ✗ OutOfStock   ↩ RefundCard ✓   OrderRejected",
        "worker killed (SIGKILL) while o-3 was in ReserveStock",
        "read the tail of the log, 1 instance goes on",
        "warning CP703  ChargeCard may be charged and never refunded",
        "every outcome as expected",
    ):
        assert words in ran.stdout
    assert (tmp_path / "order_saga.py").read_text() == "mine = True\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["order_saga.py"]


def test_an_outcome_that_differs_fails_the_demo() -> None:
    from types import SimpleNamespace

    alone = Alone(look=SimpleNamespace(ascii=False), stage=SimpleNamespace())  # type: ignore[arg-type]
    record = SimpleNamespace(status="done", outcome="OrderRejected", out=[], operations=list)
    alone.compare("o-1", [record], "done", "OrderConfirmed", ())  # type: ignore[list-item]
    assert alone.wrong == ["o-1 ended OrderRejected (done), expected OrderConfirmed (done)"]


def test_dev_serves_reloads_on_save_and_keeps_the_old_code_when_the_new_cannot_run(tmp_path: Path) -> None:
    file = tmp_path / "order_saga.py"
    file.write_text(scene.sample(), encoding="utf-8")
    dev = subprocess.Popen(
        [sys.executable, "-m", "contrapas", "dev", "order_saga:app", "--port", "0"],
        cwd=tmp_path,
        env=plain(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert dev.stdout is not None
    said: list[str] = []

    def until(words: str) -> str:
        assert dev.stdout is not None
        limit = time.monotonic() + 30
        while time.monotonic() < limit:
            line = dev.stdout.readline()
            said.append(line)
            if words in line:
                return line
            assert line, "".join(said)
        raise AssertionError("".join(said))

    until("ready")
    file.write_text(scene.without_undo(scene.sample())[0], encoding="utf-8")
    until("CP703")
    until("order_saga.py changed, read again in")
    file.write_text("x = (\n", encoding="utf-8")
    until("error CP810")
    until("still running the code from before")
    file.write_text(scene.sample(), encoding="utf-8")
    until("order_saga.py changed, read again in")
    assert (tmp_path / "sagas.lock.json").exists()
    assert (tmp_path / ".contrapas" / "token").stat().st_mode & 0o777 == 0o600
    dev.send_signal(signal.SIGINT)
    assert dev.wait(20) == 130
    dev.stdout.close()


def test_a_killed_dev_leaves_no_worker_behind(tmp_path: Path) -> None:
    (tmp_path / "order_saga.py").write_text(scene.sample(), encoding="utf-8")
    dev = subprocess.Popen(
        [sys.executable, "-m", "contrapas", "dev", "order_saga:app", "--port", "0"],
        cwd=tmp_path,
        env=plain(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert dev.stdout is not None
    while "ready" not in dev.stdout.readline():
        pass
    dev.kill()
    rest = dev.stdout.read()  # ends when the child, which shares the pipe, has ended too
    dev.wait()
    dev.stdout.close()
    assert "Traceback" not in rest


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["dev", "order_saga:app", "--host", "0.0.0.0"], 6, "CP827"),
        (["dev", "nowhere:app", "--port", "0"], 3, "CP809"),
        (["dev", "order_saga:app", "--port", "0", "--log", "nats://localhost:4222"], 6, "CP510"),
        (["dev", "broken:app", "--port", "0"], 6, "CP810"),
        (["dev", "refused:app", "--port", "0"], 6, "CP101"),
        (["check", "broken:app"], 4, "CP810"),
        (["check", "refused:app"], 4, "CP101"),
        (["worker", "refused:app"], 6, "CP101"),
        (["worker", "order_saga:app", "--log", "sqlite:////proc/none/x.db"], 6, "CP516"),
    ],
)
def test_what_cannot_start_says_why_within_the_line_budgets(
    tmp_path: Path, args: list[str], code: int, words: str
) -> None:
    (tmp_path / "order_saga.py").write_text(scene.sample(), encoding="utf-8")
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    refused = scene.sample().replace("s.point_of_no_return()", "await asyncio.sleep(1)")
    (tmp_path / "refused.py").write_text(refused, encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "-m", "contrapas", *args],
        check=False,
        cwd=tmp_path,
        env=plain(),
        capture_output=True,
        text=True,
        timeout=30,
    )
    said = ran.stdout + ran.stderr
    assert words in said
    assert ran.returncode == code, said
    assert len(said.splitlines()) <= 8 and "Traceback" not in said
