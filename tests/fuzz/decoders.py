"""Every decoder of bytes that others may have written: what it reads, what it writes back, which errors it may raise."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from contrapas.author.link import Claims, sign, verify
from contrapas.codec.strict import load_json
from contrapas.compiler.lock import LockFile, parse
from contrapas.core import deadletter
from contrapas.core import decode as door
from contrapas.core import rendezvous as meeting
from contrapas.core.control import decode_control, encode_control, new_control
from contrapas.core.decode import Doors, Rejected, TopicMapping
from contrapas.core.envelope import Cause, InstanceRecord
from contrapas.core.envelope_avro import decode, encode
from contrapas.core.envelope_item import decode_item, encode_item, head_of, owner_bytes
from contrapas.core.envelope_rendezvous import decode as decode_meeting
from contrapas.core.envelope_rendezvous import encode as encode_meeting
from contrapas.core.fold import Fold
from contrapas.core.lane import Record
from contrapas.core.partition import partition
from contrapas.errors import ContrapasError
from contrapas.log.sqlite_rows import pack_headers, unpack_headers
from contrapas.machine import Machine
from contrapas.machine.data import to_data
from contrapas.runtime.graphs import body_of, machine_of
from tests.catalogue.desk import built
from tests.core.test_envelope import made
from tests.fuzz import decoders_more as more

SECRET = "a secret of a test, long enough"
COUNT = 4
KEY = b"k-1"


class Decoder(NamedTuple):
    """One of them."""

    seeds: tuple[bytes, ...]
    read: Callable[[bytes], Any]
    codes: frozenset[str]
    """Codes of the errors that it documents."""
    write: Callable[[Any], bytes] | None = None
    """Its inverse, where there is one: what was written and read again is equal."""
    plain: bool = True
    """ValueError is documented too."""


def coded(why: BaseException) -> str:
    """The code of one of our errors, else empty."""
    return why.code if isinstance(why, ContrapasError) else ""


@cache
def doors() -> Doors:
    """What decides at the inbound lane, for the desk of the catalogue."""
    types = built().types
    return Doors(
        types=types,
        partitions=COUNT,
        mappings={
            "legacy": TopicMapping(topic="legacy", type="/meta/type", id="/meta/id", time="at", key="id"),
            "one": TopicMapping(topic="one", type="=Opened", id="header:id"),
        },
        by_topic={"desk.events": ("Opened", "Approved"), "desk.closed": ("Closed",)},
    )


def arrived(data: bytes) -> Any:
    """One message of the inbound lane: headers, packed as the log packs them, a length, the value."""
    try:
        size = int.from_bytes(data[:2], "big")
        headers = unpack_headers(data[2 : 2 + size])
    except ValueError:
        headers, size = (), 0
    record = Record(partition(KEY, COUNT), 7, KEY, data[2 + size :], headers, 1_700_000_000_000)
    found = door.decode(record, doors())
    if isinstance(found, Rejected):
        letter = deadletter.dead_letter(record, namespace="desk", code=found.code, error=found.text, at=1)
        kept = Record(0, 0, letter.key, letter.value, letter.headers, 1)
        _, again = deadletter.restore(kept, delivery="d")
        assert again.value == (record.value or b"")
        assert again.headers[:-1] == door.original_headers(record.headers)
    return found


def message(headers: dict[str, str], value: Any) -> bytes:
    """What `arrived` reads."""
    packed = pack_headers(tuple((n, v.encode()) for n, v in headers.items()))
    raw = value if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False).encode()
    return len(packed).to_bytes(2, "big") + packed + raw


def _messages() -> tuple[bytes, ...]:
    ce = {"ce_id": "e-1", "ce_source": "/x", "ce_type": "Opened", "ce_time": "2023-11-14T22:13:20.5Z"}
    opened = {"id": "k-1", "cents": 5, "rate": "1.5", "ü∀": [{"a": None}, 1.5e3, True]}
    event = {"specversion": "1.0", "id": "e-1", "source": "/x", "type": "Opened", "data": opened}
    structured = {"content-type": "application/cloudevents+json"}
    wait = {"type": "Approved", "value": "v", "wait_id": "w", "instance": "claim/k-1", "outcome": "ok"}
    return (
        message(ce, opened),
        message({**ce, "cp-kind": "start", "cp-to": "claim/k-1"}, opened),
        message(structured, event),
        message(structured, {**event, "data_base64": "eyJpZCI6ImstMSIsImNlbnRzIjo1fQ==", "inreplyto": "r"}),
        message(
            {"cp-source": "legacy@t1/3@99", "cp-source-key": "k-1"}, {"meta": {"type": "Opened"}, **opened}
        ),
        message({"cp-source": "one@t1/3@99", "id": "7"}, opened),
        message({"cp-source": "desk.closed@t1/3@99"}, {"id": "k-1", "by": "x"}),
        message(
            {"cp-kind": "reply", "cp-in-reply-to": "claim/k-1/r/pay/1", "cp-outcome": "error"},
            {"reason": "x"},
        ),
        message(
            {"cp-kind": "operate", "cp-to": "claim/k-1", "ce_id": "o", "ce_source": "/op"}, {"verb": "cancel"}
        ),
        *(
            message({"cp-kind": kind, "cp-to": "claim/k-1"}, wait)
            for kind in ("bind", "bound", "unbind", "delivered")
        ),
        message({"cp-kind": "query", "cp-to": "claim/k-1"}, b""),
        message({"cp-kind": "answer"}, b"{}"),
    )


def folded(data: bytes) -> Any:
    """A stretch of a log lane: each record a length and packed headers; the value is fixed."""
    judge = Fold(floor=3)
    offset = at = 0
    while at + 2 <= len(data):
        size = int.from_bytes(data[at : at + 2], "big")
        headers = unpack_headers(data[at + 2 : at + 2 + size])
        judge.judge(Record(0, offset, b"k", b"v", headers, 0))
        at, offset = at + 2 + size, offset + 1
    return judge.known, judge.epoch


def lane(*versions: tuple[str, str]) -> bytes:
    """What `folded` reads."""
    out = b""
    for version, epoch in versions:
        packed = pack_headers(
            (("cp-kind", b"instance"), ("cp-version", version.encode()), ("cp-epoch", epoch.encode()))
        )
        out += len(packed).to_bytes(2, "big") + packed
    return out


def _meeting() -> bytes:
    r = meeting.Rendezvous(type="Go", value="ü")
    meeting.bind(r, wait_id="w1", instance="s/a", at=0)
    for n in range(3):
        cause = Cause(kind="event", type="Go", source="in", id=str(n), partition=0, offset=n, value=b"{}")
        meeting.event_arrives(r, cause, identity=f"/x\0{n}", position="in/0", at=n)
    return encode_meeting(r)


def _link(data: bytes) -> Claims:
    return verify(SECRET, data.decode("latin-1"), 0)


def _resign(data: bytes) -> Claims:
    """A genuine signature over any payload: what a token says is read as carefully as who signed it."""
    import base64

    from contrapas.author import link

    payload = base64.urlsafe_b64encode(data).decode().rstrip("=")
    mac: Any = vars(link)["_mac"](SECRET, payload)
    return verify(SECRET, f"{payload}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}", 0)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _graph(machine: Machine) -> bytes:
    return _json({"machine": to_data(machine)})


def _lock(data: bytes) -> LockFile:
    return parse(data.decode(errors="replace"))


def _dumped(found: LockFile) -> bytes:
    return found.dump().encode()


_CLAIMS = Claims(instance="claim/ü", run="0a", type="Approved", body='{"id":"ü"}', until=1 << 42)


@cache
def decoders() -> dict[str, Decoder]:
    """All of them by name."""
    damaged = frozenset({"CP520"})
    rng = random.Random(1)
    records: list[InstanceRecord] = [made(InstanceRecord, random.Random(seed)) for seed in range(12)]
    item = encode_item(
        head_of("s/a", "s/a/r/map/1", "map", "step"),
        3,
        2,
        owner_bytes(7, "w", 9),
        "done",
        1,
        4,
        "[1]",
        "ü",
        55,
    )
    sources = {("orders.events@t", 3): 5, ("in", 0): 2**62}
    control = new_control(12)._replace(cursor=sources, owner="ü", epoch=9, trying="x")
    machine = built().machines["claim"]
    lock = """{"format": 1, "claim": {"graph": "g", "states": [{"label": "wait", "path": "/0", "op": "wait",
        "slots": {"e": "Opened"}, "replies": ["A"]}], "hidden": [{"name": "h", "role": "r", "path": "/"}],
        "undos": [{"label": "u", "captures": {}, "needs_reply": true}], "retired": ["x"]}}"""
    documents = (
        b'{"id":"k","cents":5,"x":[1,2.5,-3e2,null,true,{"\\u00fc":"\\ud83d\\ude00"}]}',
        b"[" * 60 + b"]" * 60,
        json.dumps({f"k{n}": [n, str(n)] for n in range(200)}).encode(),
    )
    texts = frozenset({"CP401", "CP405", "CP406", "CP407", "CP408", "CP417"})
    return {
        "instance": Decoder(tuple(encode(r) for r in records), decode, damaged, encode),
        "item": Decoder((item,), decode_item, damaged),
        "rendezvous": Decoder((_meeting(),), decode_meeting, damaged, encode_meeting),
        "control": Decoder(
            (encode_control(control), encode_control(new_control(1))), decode_control, damaged, encode_control
        ),
        "graph": Decoder(
            (body_of(machine),), machine_of, frozenset({"CP314"}), _graph
        ),
        "headers": Decoder(
            tuple(pack_headers(tuple((f"h{n}", rng.randbytes(n)) for n in range(k))) for k in (0, 1, 3, 30)),
            unpack_headers,
            frozenset(),
            pack_headers,
        ),
        "json": Decoder(documents, load_json, texts, _json),
        "event": Decoder(_messages(), arrived, frozenset()),
        "lane": Decoder((lane(("1", "1"), ("2", "1"), ("3", "2"), ("4", "2")),), folded, frozenset()),
        "link": Decoder((sign(SECRET, _CLAIMS).encode(),), _link, frozenset({"CP831", "CP832"})),
        "claims": Decoder(
            (json.dumps(["s/ü", "r", "T", "{}", 1 << 42], ensure_ascii=False).encode(),),
            _resign,
            frozenset({"CP831", "CP832"}),
        ),
        "lock": Decoder((lock.encode(),), _lock, frozenset({"CP321"}),
                        _dumped),
        "slot": Decoder(more.slots(), more.slot, frozenset({"CP202", "CP403"}), more.of_slot),
        "exception": Decoder(
            more.exceptions(), more.thrown, frozenset({"CP403"}), str.encode
        ),
        "payload": Decoder(
            more.payloads(), more.payload, frozenset({"CP403", "CP404", "CP406", "CP409", "CP410", "CP419", "CP420"})
        ),
        "framing": Decoder(more.frames(), more.framing, frozenset({"CP419"})),
        "schema": Decoder(more.schema_texts(), more.schema, frozenset({"CP403", "CP409"})),
        "letter": Decoder(more.letters(), more.letter, frozenset()),
    }  # fmt: skip


def checksum(value: bytes) -> bytes:
    """As the header `cp-sum` says it."""
    return b"%08x" % zlib.crc32(value)
