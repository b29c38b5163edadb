"""Exceptions alive across an await: what a handler can see of them comes back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from contrapas.author.event import Event
from contrapas.codec.exceptions import OWN, OpaqueValue, relink
from contrapas.codec.registry import Registry
from contrapas.errors import Cancelled, DataError, OpaqueError, StepFailed


class Declined(Event, key="order_id"):
    order_id: str
    reason: str


class Odd(Exception):
    """Its constructor takes something else than its arguments."""

    def __init__(self, a: int, *, b: str) -> None:
        super().__init__(f"{a}-{b}")
        self.a = a
        self.b = [b]


class Picky(Exception):
    def __init__(self) -> None:
        raise AssertionError("the constructor was called")


class Lost(Exception):
    pass


class Noted(StepFailed):
    pass


def registry() -> Registry:
    made = Registry()
    made.add_message(Declined)
    for cls in (Odd, Picky, Noted):
        made.add_exception(cls)
    return made


def there_and_back(exc: Any) -> BaseException:
    types = registry()
    text = types.dump_exception(exc)
    back = types.load_exception(text)
    assert types.dump_exception(back) == text
    return back


def raised(exc: BaseException) -> BaseException:
    try:
        raise exc
    except BaseException as caught:  # noqa: BLE001  whatever was given
        return caught


def test_type_arguments_and_attributes_come_back() -> None:
    odd = Odd(1, b="x")
    odd.b.append("y")
    back = there_and_back(odd)
    assert type(back) is Odd
    assert back.args == ("1-x",)
    assert {k: v for k, v in vars(back).items() if k not in OWN} == {"a": 1, "b": ["x", "y"]}


def test_the_constructor_is_never_called() -> None:
    picky = Picky.__new__(Picky)
    picky.args = (1, (2, 3))
    assert there_and_back(picky).args == (1, (2, 3))


def test_a_step_failure_keeps_its_reply() -> None:
    reply = Declined(order_id="o", reason="limit")
    back = there_and_back(StepFailed("limit", step="ChargeCard", reply=reply, unknown=True))
    assert isinstance(back, StepFailed)
    assert (back.step, back.reason, back.reply, back.unknown) == ("ChargeCard", "limit", reply, True)
    assert str(back) == "ChargeCard: limit"
    assert type(there_and_back(Noted("x"))) is Noted
    assert isinstance(there_and_back(Cancelled("late")), Cancelled)


@pytest.mark.parametrize(
    "exc",
    [
        ValueError("x", 1),
        KeyError((1, 2)),
        FileNotFoundError(2, "gone", "f.txt"),
        OSError("plain"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        StopIteration(5),
        ZeroDivisionError(),
        TimeoutError("t"),
    ],
    ids=repr,
)
def test_builtin_exceptions_read_as_before(exc: Exception) -> None:
    back = there_and_back(exc)
    assert type(back) is type(exc)
    assert (back.args, str(back)) == (exc.args, str(exc))
    assert getattr(back, "errno", None) == getattr(exc, "errno", None)


def test_fields_outside_of_the_arguments_are_kept() -> None:
    try:
        nothing.at_all  # type: ignore[name-defined]  # noqa: B018
    except NameError as why:
        assert there_and_back(why).name == "nothing"  # type: ignore[attr-defined]
    assert there_and_back(ImportError("x", name="m", path="p")).path == "p"  # type: ignore[attr-defined]


def test_cause_context_and_suppress_flag_come_back() -> None:
    try:
        try:
            raise KeyError("first")
        except KeyError as first:
            raise ValueError("second") from first
    except ValueError as second:
        back = there_and_back(second)
    assert isinstance(back.__cause__, KeyError)
    assert back.__context__ is back.__cause__
    assert back.__suppress_context__
    quiet = ValueError()
    quiet.__suppress_context__ = True
    assert there_and_back(quiet).__suppress_context__


def test_groups_come_back_with_their_members() -> None:
    inner = ExceptionGroup("inner", [KeyError("k")])
    back: Any = there_and_back(ExceptionGroup("outer", [ValueError(1), inner]))
    assert type(back) is ExceptionGroup
    assert back.message == "outer"
    members: Any = getattr(back, "exceptions", ())
    assert repr(members) == "(ValueError(1), ExceptionGroup('inner', [KeyError('k')]))"


def test_an_exception_in_its_own_chain_comes_back_as_a_circle() -> None:
    odd = Odd(1, b="x")
    odd.me = odd  # type: ignore[attr-defined]
    odd.__context__ = context = ValueError("v")
    context.__cause__ = odd
    back = there_and_back(odd)
    assert back.me is back  # type: ignore[attr-defined]
    assert back.__context__ is not None
    assert back.__context__.__cause__ is back


def test_an_unregistered_type_becomes_opaque() -> None:
    back = there_and_back(raised(Lost("where", open)))
    assert isinstance(back, OpaqueError)
    assert back.type_name == "Lost"
    assert back.message.startswith("('where'")
    assert "test_exceptions.py" in back.trace


def test_what_cannot_be_stored_becomes_an_opaque_value() -> None:
    back = there_and_back(ValueError("x", open))
    assert back.args[0] == "x"
    assert isinstance(back.args[1], OpaqueValue)


def test_the_place_of_the_first_raise_is_kept_as_a_note() -> None:
    odd = raised(Odd(1, b="x"))
    odd.add_note("mine")
    back = there_and_back(odd)
    assert back.__notes__[0] == "mine"
    assert back.__notes__[1].startswith("raised at test_exceptions.py:")
    again = there_and_back(raised(back))
    assert again.__notes__ == back.__notes__


@pytest.mark.parametrize(
    "exc", [KeyboardInterrupt(), SystemExit(1), GeneratorExit(), MemoryError()], ids=repr
)
def test_what_must_end_the_process_is_never_stored(exc: BaseException) -> None:
    with pytest.raises(DataError):
        registry().dump_exception(exc)


@pytest.mark.parametrize(
    "data",
    [
        {"$type": "SystemExit", "args": [1]},
        {"$type": "Declined", "args": []},
        {"$type": "os.system", "args": ["ls"]},
        {"$type": "ValueError"},
        {"args": 1},
        [],
    ],
)
def test_a_record_cannot_name_what_is_no_registered_exception(data: Any) -> None:
    with pytest.raises(DataError) as caught:
        registry().load_exception(json.dumps(data))
    assert caught.value.code == "CP403"


def test_an_exception_equal_to_the_callers_is_not_taken_for_it_when_it_was_raised_inside_of_it() -> None:
    """Two begun steps that fail alike are stored before either is raised, so what they are alone says nothing."""
    callers = there_and_back(StepFailed("no 1"))
    own = there_and_back(StepFailed("no 1"))
    own.__context__ = there_and_back(callers)
    last = StepFailed("no 5")
    last.__context__ = own
    relink([last], callers)
    assert last.__context__ is own
    assert own.__context__ is callers
