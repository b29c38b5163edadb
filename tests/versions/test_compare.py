"""C1 to C9: what an old record may hold against what new code may ask for, rule by rule."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from contrapas.errors import DataError
from contrapas.machine.data import from_data, portable, to_data
from contrapas.versions.compare import compare, standing
from tests.versions.pairs import compared, fits, machine, program

BASE = "a = await num(1)\nb = await num(2)\nreturn a + b"


def test_unchanged_code_is_the_same_in_every_state() -> None:
    assert fits(BASE, BASE) == {"num": "same", "num#2": "same"}


def test_comments_and_formatting_change_nothing() -> None:
    assert set(fits(BASE, "# why\na = await num(\n    1\n)\nb = await num(2)\nreturn (a + b)").values()) == {
        "same"
    }


def test_what_stands_behind_the_change_stays_the_same_and_what_stands_before_it_is_compatible() -> None:
    found = fits(BASE, "a = await num(1)\nt = await word(3)\nb = await num(2)\nreturn a + b")
    assert found == {"num": "compatible CP307", "num#2": "same"}


def test_c1_a_state_that_is_gone_is_orphaned_and_its_successor_proposed() -> None:
    found = compared(BASE, "a = await num(1)\nt = await word(1)\nreturn a")["main"].states["num#2"]
    assert (found.verdict, found.codes) == ("orphaned", ("CP302",))
    assert 'migrate={"num#2": "num"}' in found.findings[0].fix


def test_c1_an_explicit_label_on_another_kind_of_operation_is_orphaned() -> None:
    old = "await s.sleep('1s', label='x')\nreturn 1"
    new = "await s.wait(Done, within='1s', label='x')\nreturn 1"
    assert fits(old, new) == {"x": "orphaned CP302"}


def test_c2_a_local_that_the_old_record_lacks_is_missing() -> None:
    found = fits("a = await num(1)\nreturn a", "x = go.n\na = await num(1)\nreturn a + x")
    assert found == {"num": "needs migration CP301"}


def test_c2_a_dead_local_is_there_too_and_may_be_used_by_the_new_code() -> None:
    assert fits(
        "x = go.n + 1\na = await num(1)\nreturn a", "x = go.n + 1\na = await num(1)\nreturn a + x"
    ) == {"num": "compatible CP307"}


def test_c2_a_renamed_local_is_proposed() -> None:
    found = compared(
        "cents = go.n + 1\na = await num(1)\nreturn a + cents",
        "price = go.n + 1\na = await num(1)\nreturn a + price",
    )["main"].states["num"]
    assert found.codes == ("CP301",)
    assert "locals['price'] = locals.pop('cents')" in found.findings[0].fix


def test_c2_a_local_bound_on_one_way_only_may_be_missing() -> None:
    old = "if go.n:\n    x = 1\na = await num(1)\nreturn a"
    new = "x = 1\na = await num(1)\nreturn a + x"
    assert fits(old, new) == {"num": "needs migration CP301"}


@pytest.mark.parametrize(
    ("before", "after", "fine"),
    [
        ("int", "int | None", True),
        ("int", "float", True),
        ("int | None", "int", False),
        ("float", "int", False),
        ("int", "str", False),
        ("list[int]", "list[int | None]", True),
        ("list[int]", "set[int]", False),
        ("dict[str, int]", "dict[str, float]", True),
        ("dict[str, int]", "dict[int, int]", False),
        ("int | str", "int | str | None", True),
        ("int | str", "str | int", True),
        ("tuple[int, int]", "tuple[int, int, int]", False),
    ],
)
def test_c3_types_may_only_widen(before: str, after: str, fine: bool) -> None:
    def body(hint: str) -> str:
        return program(f"x: {hint} = made()\na = await num(1)\nreturn log(x, a)", "def made(): return 1\n\n")

    found = fits(body(before), body(after))["num"]
    assert found in ("same", "compatible CP307") if fine else found == "needs migration CP303"


MODEL = "from dataclasses import dataclass, field\n@dataclass\nclass Item:\n    sku: str\n{}\n\n"


@pytest.mark.parametrize(
    ("extra", "fine"),
    [("    n: int = 0", True), ("    n: int | None = None", True), ("    n: int", False), ("", True)],
)
def test_c3_a_new_field_needs_a_default(extra: str, fine: bool) -> None:
    body = "x = Item(sku='a', n=1) if go.n > 9 else Item('b')\na = await num(1)\nreturn log(x.sku, a)"
    body = body if extra else body.replace(", n=1", "")
    old = program("x = Item('b')\na = await num(1)\nreturn log(x.sku, a)", MODEL.format(""))
    if extra == "    n: int":
        body = "x = Item(sku='a', n=1)\na = await num(1)\nreturn log(x.sku, a)"
    found = fits(old, program(body, MODEL.format(extra)))["num"]
    assert ("CP303" not in found) is fine


def test_c3_a_changed_model_changes_the_fingerprint_though_no_line_of_the_saga_did() -> None:
    body = "x = Item('b')\na = await num(1)\nreturn log(x.sku, a)"
    one, other = (machine(program(body, MODEL.format(e))) for e in ("", "    n: int = 0"))
    assert one.graph != other.graph


def test_c4_a_reply_that_is_not_accepted_any_more() -> None:
    old = "r = await s.wait(Done, Charged, within='1s', label='w')\nreturn 1"
    new = "r = await s.wait(Done, within='1s', label='w')\nreturn 1"
    assert fits(old, new) == {"w": "needs migration CP304"}
    assert fits(new, old) == {"w": "compatible CP307"}


def test_c5_a_loop_put_around_a_state_or_changed_in_kind() -> None:
    loop = "for x in [1, 2]:\n    a = await num(x)\nreturn 1"
    assert fits("x = 1\na = await num(x)\nreturn 1", loop) == {"num": "needs migration CP305"}
    other = "for i, x in enumerate([1, 2]):\n    a = await num(x)\nreturn 1"
    assert "CP305" in fits(loop, other)["num"]
    assert fits(loop, "x = 1\na = await num(x)\nreturn 1")["num"].startswith("compatible")


def test_c5_a_cursor_that_counts_in_a_local_is_none_that_holds_its_items() -> None:
    named = "xs = [1, 2]\nfor x in xs:\n    a = await num(x)\nreturn 1"
    own = "xs = [1, 2]\nfor x in xs:\n    a = await num(x)\n    xs = [3]\nreturn 1"
    assert "CP305" in fits(named, own)["num"]
    assert "CP305" in fits(own, named)["num"]


FINALLY = "for x in [1, 2]:\n    try:\n        a = await num(x)\n        {}\n    finally:\n        await word(1)\nreturn 1"


@pytest.mark.case(75, "record of n under n+1 at every label, exits added and reordered")
def test_c5_exits_may_be_added_and_reordered_but_not_taken_away() -> None:
    plain, more = FINALLY.format("log(a)"), FINALLY.format("if a: break")
    assert fits(plain, more)["word"].startswith("compatible")
    assert fits(more, plain)["word"] == "needs migration CP305"
    two = FINALLY.format("if a: break\n        if a > 1: return 7")
    swapped = FINALLY.format("if a > 1: return 7\n        if a: break")
    assert fits(two, swapped)["word"].startswith("compatible")
    assert fits(plain, FINALLY.format("if a: return 7"))["word"].startswith("compatible")


def test_c5_a_state_that_moved_into_a_handler() -> None:
    old = "try:\n    a = await num(1)\nexcept StepFailed:\n    a = 1\nb = await word(2)\nreturn a"
    new = "try:\n    a = await num(1)\nexcept StepFailed:\n    b = await word(2)\n    a = 1\nreturn a"
    assert fits(old, new)["word"].startswith("needs migration CP305")


def test_c6_a_try_or_a_scope_around_a_state() -> None:
    tried = "try:\n    a = await num(1)\nexcept StepFailed:\n    a = 1\nreturn a"
    assert fits("a = await num(1)\nreturn a", tried) == {"num": "needs migration CP306"}
    scoped = "async with s.scope():\n    a = await num(1)\nreturn a"
    assert fits("a = await num(1)\nreturn a", scoped) == {"num": "needs migration CP306"}


UNDO = "x = go.n\na = await s.step(num(1), undo=lambda ok: Refund(k='k', cents=ok + {}))\nb = await word(2)\nreturn a"


def test_c6_an_undo_that_may_be_on_the_stack_keeps_its_captures() -> None:
    assert fits(UNDO.format("x"), UNDO.format("1"))["word"] == "same"
    assert fits(UNDO.format("1"), UNDO.format("x")) == {
        "num": "needs migration CP306",
        "word": "needs migration CP306",
    }
    gone = UNDO.format("x").replace(", undo=lambda ok: Refund(k='k', cents=ok + x)", ", undo=None")
    assert fits(UNDO.format("x"), gone)["word"] == "needs migration CP306"


CALLED = "@saga\nasync def leg(s: Saga, n: int) -> int:\n{}\n"
ROOT = "@saga\nasync def main(s: Saga, go: Go) -> int:\n    return await leg(s, 1)\n"


def test_c8_a_frame_below_counts_for_the_state_that_called_it() -> None:
    old = CALLED.format("    return await num(n)") + ROOT
    new = CALLED.format("    x = 1\n    a = await num(n)\n    return a + x") + ROOT
    found = compared(old, new)
    assert found["leg"].states["num"].codes == ("CP301",)
    assert found["main"].states["leg"].codes == ("CP308",)
    gentle = CALLED.format("    a = await num(n)\n    return a + 1") + ROOT
    assert compared(old, gentle)["main"].states["leg"].verdict == "compatible"


def test_a_saga_that_is_gone_orphans_all_its_states() -> None:
    found = compare(machine(BASE), None)
    assert {f.verdict for f in found.states.values()} == {"orphaned"}


def test_a_mapping_sends_a_state_to_another_and_is_judged_there() -> None:
    gone = "a = await num(1)\nt = await s.step(num(3), undo=None, label='later')\nreturn a + t"
    found = compared(BASE, gone, {"main": {"num#2": "later"}})["main"].states["num#2"]
    assert (found.verdict, found.to) == ("compatible", "later")


def test_the_states_behind_which_an_undo_may_stand() -> None:
    found = machine("a = await num(1)\nwhile a:\n    b = await word(1)\n    a = await num(2)\nreturn 1")
    assert standing(found, "word") == {"num", "word", "num#2"}
    assert standing(found, "num") == {"num"}


@pytest.mark.parametrize(
    "body", [BASE, UNDO.format("x"), FINALLY.format("if a: break"), program(BASE, MODEL.format(""))]
)
def test_a_machine_goes_to_json_and_back_unchanged(body: str) -> None:
    whole = machine(body)
    text = json.dumps(to_data(whole))
    again = from_data(json.loads(text))
    assert again == portable(whole) == portable(again)
    assert json.dumps(to_data(again)) == text
    assert {f.verdict for f in compare(again, whole).states.values()} == {"same"}


@pytest.mark.parametrize("spoil", ["format", "unknown", "missing", "type", "deep"])
def test_a_graph_that_is_not_as_written_is_refused_with_its_place(spoil: str) -> None:
    data = to_data(machine(BASE))
    match spoil:
        case "format":
            data["format"] = 2
        case "unknown":
            data["what"] = 1
        case "missing":
            del data["slots"]
        case "type":
            data["states"] = {}
        case _:
            data["states"][0]["slots"] = [1]
    with pytest.raises(DataError) as caught:
        from_data(data)
    assert caught.value.code == "CP314"


def test_every_field_of_a_state_an_edge_and_a_slot_is_written_or_stays_with_the_code_on_purpose() -> None:
    from dataclasses import fields

    from contrapas.machine import Edge, Slot, State
    from contrapas.machine import data as form

    written: list[tuple[Any, Mapping[str, Any]]] = [
        (State, form._STATE),  # pyright: ignore[reportPrivateUsage]
        (Edge, form._EDGE),  # pyright: ignore[reportPrivateUsage]
        (Slot, form._SLOT),  # pyright: ignore[reportPrivateUsage]
    ]
    for cls, readers in written:
        assert {f.name for f in fields(cls)} - set(readers) - {"codec"} == set(), cls
