"""B-41: what ends the process is counted on the log, and parks at last; a worker that is started again goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

from tests.catalogue.files import made, opened, put
from tests.catalogue.shell import Cli


def statuses(cli: Cli) -> dict[str, tuple[str, str]]:
    """Key -> (status, error), as `ls` has it."""
    ran = cli("ls", "-o", "json")
    return {r["key"]: (r["status"], r["waits_for"]) for r in json.loads(ran.out)}


def life(cli: Cli, until: str = "") -> tuple[int, str]:
    """One worker, until it ends by itself or an instance is parked; its exit code and words."""
    worker = subprocess.Popen(
        cli.command("worker", "desk:app", "--drain", "1s"), cwd=cli.here, env=cli.env, stderr=subprocess.PIPE
    )
    end = time.monotonic() + 30
    while worker.poll() is None and time.monotonic() < end:
        time.sleep(0.3)
        if until and statuses(cli).get(until, ("",))[0] == "parked":
            worker.send_signal(signal.SIGTERM)
            break
    _, err = worker.communicate(timeout=20)
    return worker.returncode, err.decode()


def test_b41_a_step_that_calls_exit_ends_the_worker_with_1_and_is_counted(cli: Cli) -> None:
    path: Path = made(cli.here)
    put(path, opened("exits-1"))
    for number in range(2):
        code, err = life(cli)
        assert code == 1, err
        assert "CP844" in err
        assert "step check of claim/exits-1 ended the worker: sys.exit(0)" in err
        assert "Traceback" not in err
        parts = json.loads(cli("log", "describe", "-o", "json").out)["parts"]
        assert parts[0]["takeovers"] == number, parts


def test_b41_a_step_that_kills_its_process_again_and_again_parks_and_its_neighbours_go_on(cli: Cli) -> None:
    path = made(cli.here)
    put(path, opened("n-1"), opened("dies-1"), opened("n-2"))
    codes: list[int] = []
    for _ in range(10):
        code, _ = life(cli, "dies-1")
        codes.append(code)
        if code == 0:
            break
    assert codes[-1] == 0, codes
    assert set(codes[:-1]) == {3}
    assert 3 <= len(codes) - 1 <= 7
    found = statuses(cli)
    assert found["dies-1"][0] == "parked"
    assert "CP844" in found["dies-1"][1]
    assert (found["n-1"][0], found["n-2"][0]) == ("done", "done")
