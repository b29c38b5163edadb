"""B-13, I-09: whatever others write on the inbound lane and the topics, in any mixture, stops no partition and loses nothing."""

from __future__ import annotations

import random

import pytest

from contrapas.core.lane import Draft, Headers, Record
from contrapas.core.partition import partition
from tests.catalogue import faulty
from tests.catalogue.desk import TOPIC, desk

JUNK = [b"", b"\xff\xfe", b"\x00", b"a\nb", "²".encode(), b"9" * 40, b"x" * 3000, b"claim/", b"/", b"@", b"0"]
INSTANCES = [
    b"claim/k-1",
    b"claim/k-2",
    b"survives/k-1",
    b"claim/nobody",
    b"nosuch/k-1",
    b"claim/n-1",
    b"$part",
]
WORDS: dict[str, list[bytes]] = {
    "ce_id": [b"e-1", b"e-2", b"e-3"],
    "ce_source": [b"/a", b"/contrapas/desk/door"],
    "ce_specversion": [b"1.0", b"1.0", b"1.0", b"0.3"],
    "ce_type": [b"Opened", b"Approved", b"Closed", b"Paid", b"Pay", b"Nothing"],
    "ce_time": [b"2023-11-14T22:00:00Z", b"2023-01-01", b"0001-01-01T00:00:00Z"],
    "ce_correlationid": INSTANCES,
    "content-type": [b"application/cloudevents+json", b"application/json"],
    "cp-kind": [
        b"start", b"event", b"command", b"reply", b"signal", b"query", b"answer", b"bind", b"bound", b"unbind",
        b"deliver", b"delivered", b"operate",
    ],
    "cp-to": INSTANCES,
    "cp-reply-to": [b"memory", b"desk.in/0", b"desk.in/7", b"desk.in/-1", b"other.in/0"],
    "cp-in-reply-to": [b"claim/k-1/x/Pay/1", b"e-1"],
    "cp-outcome": [b"ok", b"error", b"declined", b"other"],
    "cp-wait": [b"w-1"],
    "cp-value": [b"k-1"],
    "cp-delivery": [b"d-1"],
    "cp-run": [b"r-1"],
    "cp-source": [b"other.events@x-1/7@3", b"in/9@1", b"a@b/8@2"],
    "cp-source-key": [b"k-1"],
    "traceparent": [b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
}  # fmt: skip
BODIES = [
    b'{"id":"k-1","cents":1}',
    b'{"id":"k-2","cents":2,"rate":"1.5"}',
    b'{"id":"k-1","by":"ann"}',
    b'{"id":"k-1","ref":"r"}',
    b'{"verb":"pause","reason":7}',
    b'{"verb":"retry"}',
    b'{"verb":"shutdown"}',
    b'{"type":"Approved","wait_id":"w-1","instance":"claim/k-1","outcome":"ok","value":"k-1","reason":1}',
    b'{"type":"Approved","wait_id":"w-1","instance":"nowhere","outcome":"refused"}',
    b'{"type":"a/b","wait_id":"","instance":"","outcome":""}',
    b'{"id":"e-9","source":"/s","specversion":"1.0","type":"Opened","data":{"id":"k-1","cents":1}}',
    b'{"id":"e-8","source":"/s","type":"Opened","data_base64":"!"}',
    b'{"id":"e-7","source":"/s","type":"Opened","data":[1],"time":"no"}',
    b"[]",
    b"null",
    b"",
    b"\x80\x04.",
    b'{"a":' * 100 + b"1" + b"}" * 100,
]


def forged(rnd: random.Random, number: int) -> Draft:
    """A message that somebody could write: real parts, junk parts, in any mixture."""
    names = rnd.sample(sorted(WORDS), rnd.randint(0, 9))
    if rnd.random() < 0.6:
        names = [*{*names, "ce_id", "ce_source", "ce_specversion", "ce_type"}]
    headers: Headers = tuple((n, rnd.choice(JUNK if rnd.random() < 0.1 else WORDS[n])) for n in names)
    key = rnd.choice([b"k-1", b"k-1", b"k-2", b"nobody", b"", b"\xff", b"k" * 300])
    value = rnd.choice(BODIES)
    if rnd.random() < 0.3:
        return Draft(TOPIC, -1, key, value, headers, f"f-{number}")
    at = rnd.randint(0, 1) if rnd.random() < 0.1 else partition(key, 2)
    return Draft("in", at, key, value, headers, f"f-{number}")


@pytest.mark.parametrize("seed", range(6))
async def test_b13_any_mixture_of_forged_messages_stops_nothing_and_adds_up(seed: int) -> None:
    rnd = random.Random(seed)
    async with desk(faulty.survives) as d:
        for _ in range(20):
            await d.rig.log.publish([forged(rnd, n) for n in range(20)])
            await d.rig.turn(rnd.choice([0, 1, 1000]), 3)
        await d.settle()
        assert d.worker.troubles == {}
        assert sorted(d.worker.stations) == [0, 1]
        assert d.dead()


KINDS = [kind.decode() for kind in WORDS["cp-kind"] if kind not in (b"bind", b"unbind", b"delivered")]


@pytest.mark.parametrize("kind", ["", *KINDS])
@pytest.mark.parametrize(
    "place", ["$wait/Approved/k-15", "$item/claim/k-15/x/map[0]/1", "$graph/app", "$part"]
)
async def test_a_message_that_names_a_record_of_the_engine_changes_nothing_there(
    kind: str, place: str
) -> None:
    async with desk() as d:
        await d.put(b'{"id":"k-15","by":"ann"}', key=b"k-15", type="Approved", id="real")
        await d.settle()
        kept = _records_of_the_engine(d.rig.records())
        assert "$wait/Approved/k-15" in kept
        word = (("cp-kind", kind.encode()),) if kind else ()
        for number, key in enumerate(("k-15", place.partition("/")[2] or "x", place)):
            headers: Headers = (*word, ("cp-to", place.encode()))
            for body in (b'{"id":"k-15","by":"eve"}', b'{"verb":"kill"}', b'{"id":"k-15","cents":1}'):
                for name in ("Approved", "Opened", "Paid"):
                    ident = f"{number}{name}{len(body)}"
                    await d.put(body, key=key.encode(), type=name, id=ident, headers=headers, to="in")
        await d.settle()
        assert _records_of_the_engine(d.rig.records()) == kept
        assert d.worker.troubles == {}
        await d.put(b'{"id":"k-15","cents":1}', key=b"k-15", id="start")
        await d.settle()
        assert d.rig.status("claim/k-15") == "done"
        closed = [r.value for r in d.rig.records("desk.closed")]
        assert closed == [b'{"id":"k-15","by":"ann"}']


def _records_of_the_engine(records: list[Record]) -> dict[str, bytes | None]:
    """The newest of each that is no instance, claims and the newest graphs aside."""
    return {
        (r.key or b"").decode(): r.value
        for r in records
        if (r.key or b"").startswith((b"$wait/", b"$item/", b"$graph/"))
    }
