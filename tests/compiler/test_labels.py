"""Names of states and hidden slots: minted once, kept through edits, never used again; the lock file that remembers them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from contrapas.codec.registry import Registry
from contrapas.compiler import Compiled, compile_all
from contrapas.compiler.lock import LockFile, load, parse
from contrapas.errors import DataError
from contrapas.testing.differential_programs import loaded

HEAD = "@saga\nasync def main(s: Saga, go: Go) -> int:\n"


def built(body: str, lock: LockFile | None = None) -> Compiled:
    text = HEAD + "\n".join(f"    {line}" for line in body.strip("\n").split("\n")) + "\n"
    done = compile_all([loaded(text, f"<labels {hash(text)}>")["main"]], registry=Registry(), lock=lock)
    assert not done.refusals, done.refusals
    return done


def labels(done: Compiled) -> list[str]:
    return [s.label for s in sorted(done.machines["main"].states.values(), key=lambda s: s.index)]


def locked(done: Compiled, before: LockFile | None = None) -> LockFile:
    pair = (done.programs["main"], done.machines["main"])
    return parse((before or LockFile()).updated([pair]).dump())


TWICE = "a = await num(1)\nb = await num(2)\nreturn a + b"


def test_the_second_await_of_one_text_gets_a_serial() -> None:
    assert labels(built(TWICE)) == ["num", "num#2"]


@pytest.mark.case(74, "insert, delete, move, duplicate, wrap a call; rename a step; extract a saga")
def test_an_inserted_await_leaves_the_others_their_names() -> None:
    before = locked(built(TWICE))
    after = built(
        "a = await num(1)\nx = await word(3)\nc = await num(4)\nb = await num(2)\nreturn a + b + c", before
    )
    assert labels(after)[1] == "word"
    assert sorted(labels(after)) == ["num", "num#2", "num#3", "word"]


def test_comments_formatting_and_renamed_locals_change_no_name_and_no_fingerprint() -> None:
    first = built("a = await num(1)\nif a:\n    a = await num(2)\nreturn a")
    same = built("# why\na = await num(\n    1,\n)\n\nif a:  # so\n    a = await num(2)\nreturn a")
    assert first.machines["main"].graph == same.machines["main"].graph
    renamed = built("x = await num(1)\nif x:\n    x = await num(2)\nreturn x", locked(first))
    assert labels(renamed) == labels(first)
    assert renamed.machines["main"].graph != first.machines["main"].graph


@pytest.mark.case(74, "insert, delete, move, duplicate, wrap a call; rename a step; extract a saga")
def test_a_retired_name_is_never_used_again() -> None:
    lock = locked(built(TWICE))
    less = built("a = await num(1)\nreturn a", lock)
    lock = locked(less, lock)
    saga = lock.saga("main")
    assert saga is not None
    assert (labels(less), saga.retired) == (["num"], ("num#2",))
    more = built(TWICE, lock)
    assert labels(more) == ["num", "num#3"]
    gone = locked(built("return 1", lock), lock)
    assert labels(built("return await num(1)", gone)) == ["num#3"]


@pytest.mark.case(74, "insert, delete, move, duplicate, wrap a call; rename a step; extract a saga")
def test_wrapping_in_an_if_keeps_the_name() -> None:
    lock = locked(built(TWICE))
    wrapped = built("a = await num(1)\nb = 0\nif a:\n    b = await num(2)\nreturn a + b", lock)
    assert labels(wrapped) == ["num", "num#2"]


@pytest.mark.case(74, "insert, delete, move, duplicate, wrap a call; rename a step; extract a saga")
def test_a_moved_await_keeps_its_name() -> None:
    lock = locked(built("a = await num(1)\nt = await word(2)\nreturn a + len(t)"))
    moved = built("t = await word(2)\na = await num(1)\nreturn a + len(t)", lock)
    assert labels(moved) == ["word", "num"]


def test_an_explicit_label_stays_and_may_not_stand_twice() -> None:
    body = "a = await s.step(num(1), undo=None, label='charge')\nreturn a + await num(2)"
    assert labels(built(body)) == ["charge", "num"]
    text = HEAD + "    await s.sleep('1s', label='x')\n    await s.sleep('1s', label='x')\n    return 1\n"
    done = compile_all([loaded(text, "<labels twice>")["main"]], registry=Registry())
    assert [r.code for r in done.refusals] == ["CP322"]


def test_a_retired_label_named_again_is_refused() -> None:
    lock = locked(built("await s.sleep('1s', label='x')\nreturn 1"))
    lock = locked(built("return 1", lock), lock)
    text = HEAD + "    await s.sleep('2s', label='x')\n    return 1\n"
    done = compile_all([loaded(text, "<labels retired>")["main"]], registry=Registry(), lock=lock)
    assert [r.code for r in done.refusals] == ["CP323"]


def test_hidden_slots_keep_their_names_when_something_is_inserted_before() -> None:
    loop = "for line in xs:\n    await num(line)"
    first = built(f"xs = await nums(1)\n{loop}\nreturn both(go.n + 1, await num(2))")
    names = {s.name for s in first.machines["main"].slots.values() if s.role != "local"}
    assert "iter.xs" in names
    assert "arg.both.0" in names
    again = built(
        f"xs = await nums(1)\n{loop.replace('line', 'other')}\n{loop}\nreturn both(go.n + 1, await num(2))",
        locked(first),
    )
    assert names < {s.name for s in again.machines["main"].slots.values()}
    assert "iter.xs#2" in again.machines["main"].slots


def test_the_lock_file_reads_back_as_it_was_written_and_builds_the_same(tmp_path: Path) -> None:
    body = (
        "xs = await nums(1)\nfor x in xs:\n    try:\n        await s.step(paid(x), undo=lambda ok: Refund(k='k', cents=ok + x))\n"
        "    finally:\n        await s.sleep('1s')\nreturn 1"
    )
    done = built(body)
    lock = locked(done)
    path = tmp_path / "sagas.lock.json"
    assert load(path) is None
    assert lock.save(path)
    assert not lock.save(path)
    again = load(path)
    assert again is not None
    assert again.dump() == lock.dump() == path.read_text()
    same = built(body, again)
    assert same.machines["main"].graph == done.machines["main"].graph
    assert locked(same, again).dump() == lock.dump()
    assert again.check([(same.programs["main"], same.machines["main"])]) == []
    other = built("return 1", again)
    assert [e.code for e in again.check([(other.programs["main"], other.machines["main"])])] == ["CP321"]
    assert [e.code for e in LockFile().check([(same.programs["main"], same.machines["main"])])] == ["CP321"]
    text = json.loads(path.read_text())["main"]
    assert [s["label"] for s in text["states"]] == labels(done)
    assert text["undos"][0]["captures"] == {"x": "int"}


GOOD = locked(built(TWICE)).dump()


@pytest.mark.parametrize(
    "text",
    [
        "",
        GOOD[: len(GOOD) // 2],
        GOOD.replace("},\n", "},\n<<<<<<< HEAD\n=======\n>>>>>>> other\n", 1),
        "<<<<<<< HEAD\n" + GOOD,
        "[]",
        '{"main": {}}',
        GOOD.replace('"format": 1', '"format": 99'),
        GOOD.replace('"num#2"', '"num"'),
        GOOD.replace('"op": "local num"', '"op": 5', 1),
        GOOD.replace('"states": [', '"states": [5, ', 1),
        GOOD.replace('"retired": []', '"retired": [], "retired": []'),
    ],
    ids=[
        "empty",
        "torn",
        "marks",
        "marks first",
        "list",
        "no format",
        "format",
        "twice",
        "type",
        "state",
        "key twice",
    ],
)
def test_a_damaged_lock_file_is_an_error_with_its_place(text: str) -> None:
    with pytest.raises(DataError) as caught:
        parse(text, "x.lock.json")
    assert caught.value.code == "CP321"
    assert caught.value.place.startswith("x.lock.json:")


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ("x = open('f')\nawait num(1)\nlog(x)\nreturn 1", "CP201", "`x`"),
        ("x = (v for v in [1])\nawait num(1)\nlog(x)\nreturn 1", "CP202", "`x`"),
        ("x = log\nawait num(1)\nx(1)\nreturn 1", "CP202", "`x`"),
        ("x = num(1)\nawait num(2)\nreturn await x", "CP206", "`x`"),
        ("log(Guard(1), await num(1))\nreturn 1", "CP204", "`Guard(1)`"),
        ("x = unknown_thing()\nawait num(1)\nlog(x)\nreturn 1", "CP201", "annotate"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_its_name(body: str, code: str, words: str) -> None:
    text = HEAD + "".join(f"    {line}\n" for line in body.split("\n"))
    done = compile_all([loaded(text, f"<refused {code} {len(text)}>")["main"]], registry=Registry())
    assert [r.code for r in done.refusals][:1] == [code]
    assert words in done.refusals[0].text + done.refusals[0].fix


def test_what_is_dead_before_the_await_is_no_problem() -> None:
    assert labels(built("x = open\nlog(x)\nawait num(1)\nx = open\nreturn 1")) == ["num"]


TYPES: list[tuple[str, str, str]] = [
    ("x = go.n / 2", "x", "float"),
    ("x = [go.n]\nx.append(1)", "x", "list[int]"),
    ("x = {}\nx['a'] = [1]", "x", "dict[str, list[int]]"),
    ("x = None\nif go.n:\n    x = 'a'", "x", "None | str"),
    ("x, *y = await pair(1)", "y", "list[int]"),
    ("x = [(i, v) for i, v in enumerate('ab')]", "x", "list[tuple[int, str]]"),
    ("x = await s.wait(Approved, Rejected, within='1h')", "x", "Approved | Rejected | Timeout"),
    ("x = await s.ask(Charge(k='k', cents=1))", "x", "Charged | Declined"),
    ("x = await s.all(num(1), word(2))", "x", "tuple[int, str]"),
    ("x = await s.all(*[num(v) for v in [1]])", "x", "list[int]"),
    ("x = await s.first(num(1), word(2))", "x", "int | str"),
    ("x = max(sorted({3: 'a'}.items()))", "x", "tuple[int, str]"),
    ("x = Cell(1).xs[0]", "x", "int"),
    ("x = f'{go.n}'.split()", "x", "list[str]"),
    ("x = {k: v for k, v in zip('ab', [1.5])}", "x", "dict[str, float]"),
    ("x = go.model_copy()", "x", "Go"),
    ("x = m if (m := go.k) else None", "x", "str | None"),
]


@pytest.mark.parametrize(("body", "name", "text"), TYPES, ids=[t[0] for t in TYPES])
def test_the_type_of_a_local_is_found(body: str, name: str, text: str) -> None:
    done = built(f"{body}\nawait num(1)\nlog({name})\nreturn 1")
    slot: Any = done.machines["main"].slots[name]
    assert slot.type_text == text
