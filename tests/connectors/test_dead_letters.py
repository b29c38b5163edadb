"""`contrapas dlq` on every log: what is redriven is the original bit for bit, sent before it is noted, and not sent twice unasked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contrapas.cli import redrive
from contrapas.cli.main import main
from contrapas.core.lane import Draft
from contrapas.errors import Indeterminate
from contrapas.log import Log
from contrapas.log.sqlite import SqliteLog
from tests.cli.conftest import Ran
from tests.cli.dead_letters import Dead
from tests.cli.test_reading import fits, schema
from tests.installed import connector_listed

Cli = Callable[..., Ran]
SMALL = b'{"order_id":"o-1","sku":"mug","cents":0}'
BINARY = bytes(range(256)) * 3


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    monkeypatch.chdir(tmp_path)

    def run(*args: str) -> Ran:
        capsys.readouterr()
        code = main(list(args))
        out = capsys.readouterr()
        return Ran(code, out.out, out.err)

    return run


@pytest.fixture(params=["sqlite", "postgresql", "kafka"])
def dead(request: pytest.FixtureRequest, tmp_path: Path) -> Dead:
    kind: str = request.param
    if kind != "sqlite":
        connector_listed(kind)
    namespace, topic, url = "shop", "orders.events", f"sqlite:///{tmp_path}/shop.db"
    if kind == "sqlite":

        async def opened() -> Log:
            return SqliteLog(tmp_path / "shop.db", namespace, 4)

    elif kind == "postgresql":
        url = request.getfixturevalue("postgres").url

        async def opened() -> Log:
            from contrapas_postgres import connector

            return await connector.open(url, namespace, partitions=4, make=True, dev=True)

    else:
        broker = request.getfixturevalue("kafka")
        namespace, topic, url = broker.name, f"{broker.name}.orders.events", broker.url

        async def opened() -> Log:
            from contrapas_kafka import connector

            return await connector.open(url, namespace, partitions=4, make=True, dev=True)

    found = Dead(opened, url, namespace, topic)
    asyncio.run(_made(found, kind))
    return found


async def _made(dead: Dead, kind: str) -> None:
    log: Any = await dead.open()
    names = {dead.topic: 3, f"{dead.namespace}.dlq": 2}
    if kind == "kafka":
        from contrapas_kafka import connector

        made = await connector.plan(dead.url, dead.namespace, 4, names, dev=True)
        await connector.apply(made)
    else:
        await log.create_topics(names)
    await log.close()


def test_they_are_listed_by_source_and_cause_and_shown_one_by_one(dead: Dead, cli: Cli) -> None:
    laid = [(b"o-%d" % n, SMALL, "CP403", "cents: must be greater than 0") for n in range(3)]
    asyncio.run(dead.lay(*laid, (b"o-9", BINARY, "CP401", "not JSON at byte 0")))
    listed = cli("dlq", "list", *dead.where)
    assert listed.code == 0, listed.err
    head, first, second = listed.out.splitlines()
    assert head.split() == ["SOURCE", "N", "OLDEST", "CAUSE", "CODE"]
    assert first.startswith(dead.topic) and "cents: must be greater than 0" in first and "CP403 ×3" in first
    assert second.startswith(" ") and "CP401 ×1" in second
    rows = json.loads(cli("dlq", "list", *dead.where, "-o", "json").out)
    fits(rows, schema("dlq_list"))
    (found,) = rows
    assert (found["source"], found["count"], len(found["causes"])) == (dead.topic, 4, 2)
    shown = json.loads(cli("dlq", "show", *dead.where, "--where", "code=CP401", "-o", "json").out)
    fits(shown, schema("dlq_letters"))
    assert [(one["key"], one["value_hex"], one["value"]) for one in shown] == [("o-9", BINARY.hex(), None)]
    assert not any(name.startswith("cp-dlq") for name, _ in shown[0]["headers"])
    words = cli("dlq", "show", shown[0]["id"], *dead.where).out
    assert "CP401  not JSON at byte 0" in words and f"{dead.topic}/" in words


def test_a_redrive_is_a_plan_first_and_then_the_original_bit_for_bit(dead: Dead, cli: Cli) -> None:
    laid = [
        (b"o-1", SMALL, "CP403", "cents"),
        (b"o-2", BINARY, "CP401", "no"),
        (b"o-3", None, "CP411", "null"),
    ]
    asyncio.run(dead.lay(*laid))
    before = asyncio.run(dead.look(dead.topic))
    planned = cli("dlq", "redrive", dead.topic, *dead.where)
    assert planned.code == 6
    assert (
        f"plan: 3 records → {dead.topic}, key, value and headers bit for bit, new delivery id" in planned.out
    )
    assert "nothing done.  repeat with --yes" in planned.out
    assert asyncio.run(dead.look(dead.topic)) == before, "a plan sent something"
    done = cli("dlq", "redrive", dead.topic, *dead.where, "--yes")
    assert done.code == 0 and "3 records redriven" in done.out, done.err
    after = asyncio.run(dead.look(dead.topic))
    fresh = [r for r in after if (r.partition, r.offset) not in {(b.partition, b.offset) for b in before}]
    assert sorted((r.partition, r.key, r.value, r.headers[:-1]) for r in fresh) == sorted(
        (r.partition, r.key, r.value, r.headers) for r in before
    )
    assert [r.headers[-1][0] for r in fresh] == ["cp-delivery"] * 3
    assert len({r.headers[-1][1] for r in fresh}) == 3
    listed = cli("dlq", "list", *dead.where)
    assert "3 letters redriven or dropped: --all" in listed.out


def test_what_was_redriven_is_not_sent_again_unasked_and_says_so_when_it_is(dead: Dead, cli: Cli) -> None:
    asyncio.run(dead.lay((b"o-1", SMALL, "CP403", "cents")))
    assert cli("dlq", "redrive", dead.topic, *dead.where, "--yes").code == 0
    twice = cli("dlq", "redrive", dead.topic, *dead.where, "--yes")
    assert (
        twice.code == 6 and "CP815" in twice.err and "was redriven at" in twice.err and "--again" in twice.err
    )
    planned = cli("dlq", "redrive", dead.topic, *dead.where, "--again")
    assert planned.code == 6 and "1 of them were redriven before: they are sent once more" in planned.out
    assert cli("dlq", "redrive", dead.topic, *dead.where, "--again", "--yes").code == 0
    sent = [r for r in asyncio.run(dead.look(dead.topic)) if r.headers[-1][0] == "cp-delivery"]
    assert len(sent) == 2 and len({r.headers[-1][1] for r in sent}) == 2, "each delivery has its own id"
    (one,) = json.loads(cli("dlq", "show", "--all", *dead.where, "-o", "json").out)
    assert (one["disposition"], one["redrives"]) == ("redriven", 2)


def test_stopped_between_sending_and_noting_nothing_is_lost_and_the_delivery_is_the_same(
    dead: Dead, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(dead.lay((b"o-1", SMALL, "CP403", "cents")))
    publish = redrive.published

    async def cut(log: Log, drafts: list[Draft]) -> None:
        if drafts[0].to.endswith(".dlq"):
            raise Indeterminate("cut off")
        await publish(log, drafts)

    monkeypatch.setattr(redrive, "published", cut)
    stopped = cli("dlq", "redrive", dead.topic, *dead.where, "--yes")
    assert stopped.code == 7 and "0 were redriven and noted; the same command sends the rest" in stopped.err
    monkeypatch.setattr(redrive, "published", publish)
    assert cli("dlq", "redrive", dead.topic, *dead.where, "--yes").code == 0
    sent = [r for r in asyncio.run(dead.look(dead.topic)) if r.headers[-1][0] == "cp-delivery"]
    assert len(sent) == 2 and len({r.headers[-1][1] for r in sent}) == 1


def test_what_was_too_large_to_copy_is_read_where_it_lies_and_stays_when_it_is_another(
    dead: Dead, cli: Cli
) -> None:
    async def lay() -> None:
        log = await dead.open()
        headers = (("ce_id", b"big"), ("ce_source", b"/s"))
        await log.publish([Draft(dead.topic, 1, b"big", BINARY, headers)])
        (original,) = await dead.records(log, dead.topic)
        letter = dead.letter(original, "CP409", "too large")
        ref = letter._replace(value=b"", headers=(*letter.headers, ("cp-dlq-ref", b"1")))
        other = dead.letter(original._replace(key=b"gone", offset=original.offset + 7), "CP409", "too large")
        gone = other._replace(value=b"", headers=(*other.headers, ("cp-dlq-ref", b"1")))
        changed = dead.letter(original._replace(key=b"changed", value=b"x"), "CP403", "no")
        await log.publish([ref, gone, changed._replace(value=b"y")])
        await log.close()

    asyncio.run(lay())
    done = cli("dlq", "redrive", dead.topic, *dead.where, "--yes")
    assert done.code == 1 and "1 record redriven" in done.out
    assert "CP813" in done.err and "is gone" in done.err
    assert "CP520" in done.err and "sha-256 differs" in done.err
    first, again = asyncio.run(dead.look(dead.topic))
    assert (again.partition, again.key, again.value) == (first.partition, first.key, first.value)
    assert again.headers[:-1] == first.headers
    (row,) = json.loads(cli("dlq", "list", *dead.where, "-o", "json").out)
    assert row["count"] == 2, "what could not be sent is no longer dead"


def test_what_is_dropped_is_noted_with_its_reason_and_can_still_be_sent(dead: Dead, cli: Cli) -> None:
    asyncio.run(dead.lay((b"o-1", SMALL, "CP403", "cents"), (b"o-2", SMALL, "CP401", "no")))
    planned = cli("dlq", "drop", *dead.where, "--where", "code=CP401")
    assert planned.code == 6 and f"would drop 1 record: {dead.topic} ×1" in planned.out
    dropped = cli("dlq", "drop", *dead.where, "--where", "code=CP401", "--reason", "a test order", "--yes")
    assert dropped.code == 0, dropped.err
    (row,) = json.loads(cli("dlq", "list", *dead.where, "-o", "json").out)
    assert row["count"] == 1
    every = json.loads(cli("dlq", "show", "--all", *dead.where, "-o", "json").out)
    assert sorted((one["disposition"], one["settled_words"]) for one in every) == [
        ("dead", None),
        ("dropped", "a test order"),
    ]
    left = cli("dlq", "redrive", dead.topic, *dead.where)
    assert "plan: 1 record" in left.out and "left out: 1 dropped before" in left.err
    assert "plan: 2 records" in cli("dlq", "redrive", dead.topic, *dead.where, "--again").out


def test_a_copy_of_a_letter_counts_once_and_a_place_that_is_gone_is_said(dead: Dead, cli: Cli) -> None:
    async def lay() -> None:
        log = await dead.open()
        await log.publish([Draft(dead.topic, 0, b"k", SMALL, (("ce_id", b"1"),))])
        (original,) = await dead.records(log, dead.topic)
        letter = dead.letter(original, "CP403", "cents")
        await log.publish([letter, letter])
        await log.publish([dead.letter(original, "CP505", "gone", lane=f"{dead.namespace}.nowhere")])
        inbound = original._replace(key=b"o-7", headers=(("cp-kind", b"signal"), ("ce_id", b"2")))
        await log.publish([dead.letter(inbound, "CP414", "no instance", lane="in", instance="s/o-7")])
        await log.close()

    asyncio.run(lay())
    found = json.loads(cli("dlq", "list", *dead.where, "-o", "json").out)
    assert {row["source"]: row["count"] for row in found} == {
        dead.topic: 1,
        f"{dead.namespace}.nowhere": 1,
        f"{dead.namespace}.in": 1,
    }
    planned = cli("dlq", "redrive", "--where", "age<1d", *dead.where)
    assert "1 stay: CP505" in planned.err and planned.out.count("plan: 1 record") == 2
    assert cli("dlq", "redrive", f"{dead.namespace}.in", *dead.where, "--yes").code == 0
    (record,) = (
        asyncio.run(dead.look(f"{dead.namespace}.in")) if dead.url.startswith("kafka") else _lane(dead)
    )
    from contrapas.core.partition import partition

    assert (record.partition, record.key, record.value) == (partition(b"o-7", 4), b"o-7", SMALL)
    assert record.headers[:-1] == (("cp-kind", b"signal"), ("ce_id", b"2"))


def _lane(dead: Dead) -> list[Any]:
    async def look() -> list[Any]:
        log = await dead.open()
        try:
            found = [(await log.read("in", p, (await log.bounds("in", p))[0]))[0] for p in range(4)]
            return [record for some in found for record in some]
        finally:
            await log.close()

    return asyncio.run(look())


def test_what_is_asked_for_wrongly_is_said(dead: Dead, cli: Cli) -> None:
    asyncio.run(dead.lay((b"o-1", SMALL, "CP403", "cents")))
    none = cli("dlq", "redrive", *dead.where)
    assert none.code == 2 and "which dead letters are to be redriven?" in none.err
    unknown = cli("dlq", "redrive", f"{dead.topic}x", *dead.where)
    assert unknown.code == 3 and f"the nearest is '{dead.topic}'" in unknown.err
    assert cli("dlq", "show", "7@1", *dead.where).code == 3
    assert cli("dlq", "redrive", dead.topic, "--rate", "0/s", *dead.where).code == 2
    field = cli("dlq", "list", "--where", "cod=CP403", *dead.where)
    assert field.code == 2 and "the nearest is 'code'" in field.err
