"""SQLite on a disk that fails: traced syncs, I/O errors at every call, no space left."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from contrapas.core.fold import fold
from contrapas.errors import Unreachable
from contrapas.log.sqlite import SqliteLog
from contrapas.log.sqlite_admin import verify
from contrapas.log.sqlite_read import SqliteReader
from tests.log.child import record
from tests.log.processes import run


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> str:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: the layer between SQLite and the disk cannot be built")
    made = tmp_path_factory.mktemp("shim") / "faulty.so"
    source = Path(__file__).with_name("faulty.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", made, source, "-ldl"], check=True)
    return str(made)


def test_every_acknowledgement_follows_a_sync_of_its_own(tmp_path: Path, shim: str) -> None:
    code, lines = run("write-on", tmp_path / "log.db", "20", LD_PRELOAD=shim, FAULTY_TELL="1")
    assert code == 0 and lines.count("ack 20") == 1
    if "sync" not in lines:
        pytest.skip("this Python's SQLite is linked in, its calls cannot be watched")
    synced = 0
    for said in lines:
        if said == "sync":
            synced += 1
        elif said.startswith("ack"):
            assert synced > 0, f"{said} without a sync before it"
            synced = 0


@pytest.mark.parametrize("call", ("sync", "write", "read"))
@pytest.mark.parametrize("nth", (1, 2, 3, 5, 8, 12, 17))
def test_an_io_error_at_any_call_loses_nothing_and_stops_the_log(
    tmp_path: Path, shim: str, call: str, nth: int
) -> None:
    path = tmp_path / "log.db"
    run("write-on", path, "2")
    env = {"LD_PRELOAD": shim, "FAULTY_TELL": "1", "FAULTY_CALL": call, "FAULTY_NTH": str(nth)}
    code, lines = run("write-on", path, "10", FAULTY_ERRNO=str(errno.EIO), **env)
    assert code == 0, lines
    errors = [said for said in lines if said.startswith("error")]
    acked = [int(said.split()[1]) for said in lines if said.startswith("ack")]
    if call == "sync" and "failed sync" in lines and errors:
        # after a sync that failed nothing is acknowledged any more
        at = lines.index("failed sync")
        assert not any(said.startswith("ack") for said in lines[at:])
    assert all(said.split()[1] in ("CP516", "CP523", "CP520") for said in errors)
    reader = SqliteReader(str(path))
    judge, _ = fold(reader.scan("log", 0, 0, 1 << 40))
    reader.close()
    assert len(set(judge.known.values())) == 1, "half a commit"
    assert judge.known[b"a"] >= max(acked, default=2)
    assert list(verify(str(path))) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no small disk: {done.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


async def test_a_full_disk_is_named_and_the_log_goes_on_when_there_is_space(small_disk: Path) -> None:
    log = SqliteLog(small_disk / "log.db", "shop", 4)
    lease = await log.acquire(0, "owner")
    (small_disk / "ballast").write_bytes(bytes(700_000))
    version = 0
    with pytest.raises(Unreachable) as full:
        while version < 100:
            await lease.commit([record("k", version + 1, lease.epoch, b"x" * 50_000)], [], lease.control)
            version += 1
    assert full.value.code == "CP516" and full.value.again
    (small_disk / "ballast").unlink()
    for _ in range(3):
        await lease.commit([record("k", version + 1, lease.epoch, b"x" * 5_000)], [], lease.control)
        version += 1
    records, _ = await log.read("log", 0, 0)
    assert fold(records)[0].known == {b"k": version}
    await log.close()
    assert list(verify(str(small_disk / "log.db"))) == []
