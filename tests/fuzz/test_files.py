"""A damaged SQLite file opened as a log, or as a service's store: refused with a code, or right; never a crash, never wrong state."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from contrapas.core.fold import Fold, Verdict, damage
from contrapas.core.lane import Draft, Record
from contrapas.errors import ContrapasError
from contrapas.log.sqlite import SqliteLog
from contrapas.log.sqlite_admin import examine, verify
from contrapas.log.sqlite_read import SqliteReader
from contrapas.participant import Receipt
from contrapas.participant.sqlite import SqliteStore
from tests.core.test_envelope import small
from tests.fuzz.fuzzing import fuzz

PAGE = 4096


async def _made(path: Path) -> None:
    from contrapas.core.envelope_avro import encode
    from contrapas.core.headers import headers_of

    log = SqliteLog(path, "shop", 2)
    await log.create_topics({"orders": 2, "shop.dlq": 1})
    lease = await log.acquire(0, "w")
    for version in range(1, 5):
        drafts: list[Draft] = []
        for n in range(12):
            record = small()
            record.instance, record.version, record.epoch = f"place_order/o-{n}", version, lease.epoch
            value = encode(record)
            drafts.append(Draft("", 0, record.instance.encode(), value, headers_of(record, value)))
        await lease.commit(drafts, [Draft("in", 1, b"x", b"%d" % version)], lease.control)
    await log.publish(
        [Draft("orders", -1, b"k%d" % n, b"v" * 50, (("ce_id", b"%d" % n),), str(n)) for n in range(40)]
    )
    await lease.release()
    await log.close()


State = dict[bytes, bytes]


async def taken(path: Path) -> State:
    """What an owner would go on with: the newest record of each key, checked as it checks them; then it writes."""
    log = SqliteLog(path, "shop", 2)
    try:
        lease = await log.acquire(0, "heir")
        end = (await log.bounds("log", 0))[1]
        judge, found = Fold(floor=end), State()
        async for records in log.latest(0, upto=end):
            for record in records:
                verdict = judge.judge(record)
                if judge.error is not None:
                    raise judge.error
                if verdict is Verdict.APPLIED and record.value is not None:
                    if (bad := damage(record)) is not None:
                        raise bad
                    found[record.key] = record.value
        await lease.commit([], [], lease.control)
        await lease.release()
        return found
    finally:
        await log.close()


def looked(path: Path) -> State:
    """What a reader beside it sees, topics and inbound lane included."""
    reader = SqliteReader(str(path))
    try:
        found: State = {}
        for records in reader.latest(0):
            for record in records:
                _checked(found, record)
        reader.parts()
        for name, topic in reader.topics().items():
            for p in range(min(topic.partitions, 4)):
                list(reader.scan(name, p, *reader.bounds(name, p)))
        reader.read("in", 1, reader.bounds("in", 1)[0])
        reader.positions("shop")
        return found
    finally:
        reader.close()


def _checked(found: State, record: Record) -> None:
    if (bad := damage(record)) is not None:
        raise bad
    if record.value is not None and record.key[:1] != b"$":
        found[record.key] = record.value


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good") / "log.db"
    asyncio.run(_made(path))
    with sqlite3.connect(path) as conn:
        conn.execute("pragma wal_checkpoint(truncate)")
    conn.close()
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "shop.db"
    asyncio.run(_served(path))
    return path


RECEIPT = Receipt("shop", "payments", "/orders", "e-1", b"d" * 32)


async def _served(path: Path) -> None:
    store = SqliteStore(path)
    try:
        await store.prepare()
        async with store.begin() as tx:
            await tx.take(RECEIPT)
        await store.status()
        await store.examine()
    finally:
        await store.close()


Edits = list[tuple[str, int, int]]
EDITS: Any = st.lists(
    st.tuples(
        st.sampled_from(("bit", "bit", "byte", "zero", "junk", "page", "swap", "cut", "head", "grow")),
        st.integers(0, 10**6 - 1),
        st.integers(0, 255),
    ),
    min_size=1,
    max_size=3,
)


def edited(data: bytes, edits: Edits) -> bytes:
    """The file's bytes after something happened to them. Places are in millionths."""
    out = bytearray(data)
    for what, where, with_ in edits:
        at = where * len(out) // 10**6
        if at >= len(out):
            continue
        page = at // PAGE * PAGE
        match what:
            case "bit":
                out[at] ^= 1 << (with_ & 7)
            case "byte":
                out[at] = with_
            case "zero":
                out[at : at + with_] = bytes(len(out[at : at + with_]))
            case "junk":
                out[at : at + 16] = bytes([with_]) * len(out[at : at + 16])
            case "page":
                out[page : page + PAGE] = bytes([with_]) * PAGE
            case "swap":
                other = with_ * len(out) // 256 // PAGE * PAGE
                one, two = bytes(out[page : page + PAGE]), bytes(out[other : other + PAGE])
                out[page : page + PAGE], out[other : other + PAGE] = two, one
            case "cut":
                del out[max(at, 1) :]
            case "head":
                out[min(where % 100, len(out) - 1)] = with_
            case _:
                out += bytes([with_]) * 700
    return bytes(out)


def _refused(why: Exception) -> bool:
    return isinstance(why, ContrapasError) and why.code[:3] in ("CP5", "CP8", "CP4")


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def put(place: Path, data: bytes) -> Path:
    """The file alone in its folder."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    path = place / "log.db"
    path.write_bytes(data)
    return path


def _owned(path: Path) -> State:
    return asyncio.run(taken(path))


def _found(path: Path) -> bool:
    try:
        return any(True for _ in verify(str(path)))
    except Exception as why:
        if not _refused(why):
            raise
        return True


def test_a_damaged_log_is_refused_or_right(good: Path, place: Path) -> None:
    whole = looked(good)
    data = good.read_bytes()

    @fuzz(120, EDITS)
    def run(edits: Edits) -> None:
        path = put(place / "x", edited(data, edits))
        wrong = False
        looks: tuple[Callable[[Path], State], ...] = (looked, _owned)
        for look in looks:
            try:
                wrong |= look(path) != whole
            except Exception as why:
                if not _refused(why):
                    raise
        examine(str(path))
        if wrong:  # pages that changed places look right, each by itself: whoever looks for damage finds them
            assert any(what == "swap" for what, _, _ in edits), "a wrong state, and nobody said so"
        assert _found(path) or not wrong

    run()


def test_a_damaged_store_is_refused_or_right(store: Path, place: Path) -> None:
    data = store.read_bytes()

    @fuzz(30, EDITS)
    def run(edits: Edits) -> None:
        path = put(place / "y", edited(data, edits))
        try:
            asyncio.run(_served(path))
        except Exception as why:
            if not _refused(why):
                raise

    run()


@pytest.mark.parametrize("live", ["few", "many"])
def test_a_newest_record_that_is_gone_from_the_lane_is_missed(good: Path, place: Path, live: str) -> None:
    path = put(place / live, good.read_bytes())
    conn = sqlite3.connect(path)
    (gone,) = conn.execute("select i from latest where p = 0 and key = ?", (b"place_order/o-3",)).fetchone()
    conn.execute("delete from lane_log where i = ?", (gone,))
    if live == "few":
        conn.execute("update part set log_head = log_head + 100000 where p = 0")
    conn.commit()
    conn.close()
    with pytest.raises(ContrapasError, match="lost"):
        looked(path)


def test_a_schema_whose_text_is_damaged_is_told_as_damage(good: Path, place: Path) -> None:
    data = good.read_bytes()
    path = put(place / "schema", data.replace(b"lane_topic", b"lane_\xecopic", 1))
    with pytest.raises(ContrapasError) as why:
        looked(path)
    assert why.value.code == "CP520"
