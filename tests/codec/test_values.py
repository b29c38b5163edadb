"""What goes into a slot comes out of it: equal, of the same class, from equal text."""

from __future__ import annotations

import collections
import dataclasses
import enum
import ipaddress
import math
import pathlib
import types
import uuid
from collections import abc
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypedDict, TypeVar
from zoneinfo import ZoneInfo

import pytest
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, field_validator

from contrapas.author.event import Event
from contrapas.author.sensitive import Sensitive
from contrapas.author.timeout import Timeout
from contrapas.codec.registry import Registry
from contrapas.errors import DataError

T = TypeVar("T")
Cents = NewType("Cents", int)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Odd(enum.Enum):
    PAIR = (1, 2)


class Point(NamedTuple):
    x: int
    y: float


class Options(TypedDict, total=False):
    name: str
    size: int


class Line(BaseModel):
    model_config = ConfigDict(frozen=True)
    sku: str
    n: Annotated[int, Field(gt=0)] = 1


class Order(Event, key="order_id"):
    order_id: str
    cents: int
    ratio: float = 1.0
    at: datetime | None = None
    amount: Decimal | None = None
    lines: tuple[Line, ...] = ()
    tags: dict[str, int] = {}
    secret: Annotated[str, Sensitive] = ""


class Basket(BaseModel):
    lines: list[Line] = []
    seen: set[str] = set()
    next: Basket | None = None


class Keeper(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int
    _hidden: list[int] = PrivateAttr(default_factory=list[int])

    @property
    def hidden(self) -> list[int]:
        return self._hidden


class Doubler(BaseModel):
    n: int

    @field_validator("n")
    @classmethod
    def double(cls, n: int) -> int:
        return n * 2


@dataclasses.dataclass(frozen=True, slots=True)
class Money:
    cents: int
    currency: str = "EUR"


@dataclasses.dataclass
class Box(Generic[T]):
    item: T
    items: list[T] = dataclasses.field(default_factory=list[Any])


@dataclasses.dataclass
class Counted:
    n: int

    def __post_init__(self) -> None:
        self.n += 1


class Bag(dict[str, int]):
    pass


class Stack(list[int]):
    pass


CASES: list[tuple[Any, Any, str | None]] = [
    (int, 5, "5"),
    (int, True, "true"),
    (int, 10**40, "1" + "0" * 40),
    (bool, False, "false"),
    (str, "$x\n\u00e9\U0001f600", None),
    (type(None), None, "null"),
    (float, 1.5, "1.5"),
    (float, 1, "1"),
    (float, float("inf"), '"Infinity"'),
    (float, -0.0, "-0.0"),
    (float, 1e16, None),
    (float, 5e-324, None),
    (bytes, b"\x00\xff", '"AP8="'),
    (bytearray, bytearray(b"ab"), '"YWI="'),
    (Decimal, Decimal("1.10"), '"1.10"'),
    (Decimal, Decimal("1E+5"), None),
    (Fraction, Fraction(1, 3), '"1/3"'),
    (complex, 1 + 2j, None),
    (datetime, datetime(2024, 1, 1, tzinfo=UTC), '"2024-01-01T00:00:00Z"'),
    (datetime, datetime(2024, 1, 1, 1, 2, 3, 4), '"2024-01-01T01:02:03.000004"'),
    (
        datetime,
        datetime(2024, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")),
        '"2024-01-01T00:00:00+01:00[Europe/Berlin]"',
    ),
    (datetime, datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")), None),
    (datetime, datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=-5))), None),
    (date, date(2024, 2, 29), '"2024-02-29"'),
    (date, datetime(2024, 2, 29, 1), None),
    (time, time(1, 2, 3, tzinfo=UTC), '"01:02:03Z"'),
    (timedelta, timedelta(days=-1, microseconds=7), "[-1,0,7]"),
    (range, range(1, 10, 3), "[1,10,3]"),
    (uuid.UUID, uuid.UUID(int=7), None),
    (ipaddress.IPv4Address, ipaddress.IPv4Address("10.0.0.1"), '"10.0.0.1"'),
    (pathlib.PurePosixPath, pathlib.PurePosixPath("a/b"), '"a/b"'),
    (SecretStr, SecretStr("s"), '"s"'),
    (Colour, Colour.BLUE, '"blue"'),
    (Level, Level.HIGH, "2"),
    (Odd, Odd.PAIR, '"PAIR"'),
    (Literal["a", 1], "a", '"a"'),
    (Cents, 5, "5"),
    (Annotated[int, "x"], 5, "5"),
    (list[int], [1, True, 3], "[1,true,3]"),
    (list[Any], [1, "a", None, [2.5], {"$k": (1, 2)}], None),
    (tuple[int, str], (1, "a"), '[1,"a"]'),
    (tuple[int, ...], (1, 2, 3), "[1,2,3]"),
    (tuple[()], (), "[]"),
    (set[str], {"b", "a", "c"}, '["a","b","c"]'),
    (frozenset[int], frozenset({10, 9}), "[10,9]"),
    (collections.deque[int], collections.deque([1, 2]), "[1,2]"),
    (dict[str, int], {"b": 1, "a": 2, "$x": 3, "$$y": 4}, '{"b":1,"a":2,"$$x":3,"$$$y":4}'),
    (dict[int, str], {2: "b", 1: "a"}, '[[2,"b"],[1,"a"]]'),
    (dict[tuple[int, int], list[str]], {(1, 2): ["x"]}, '[[[1,2],["x"]]]'),
    (collections.OrderedDict[str, int], collections.OrderedDict(b=1, a=2), None),
    (collections.Counter[str], collections.Counter("abca"), None),
    (collections.defaultdict[str, list[int]], collections.defaultdict(list, {"a": [1]}), None),
    (int | None, None, "null"),
    (int | None, 5, "5"),
    (int | str | float, 1.0, "1.0"),
    (int | str | float, 1, "1"),
    (float | str, float("-inf"), None),
    (float | str, "Infinity", '"Infinity"'),
    (str | bytes, b"ab", None),
    (str | bytes, "ab", '"ab"'),
    (list[int] | list[str], ["a"], None),
    (list[int] | tuple[int, ...], (1, 2), None),
    (dict[str, int] | Line, {"$type": 5}, None),
    (Line | Money, Money(5), '{"$type":"Money","cents":5,"currency":"EUR"}'),
    (Line | Money | None, None, "null"),
    (Line | None, Line(sku="a"), '{"sku":"a","n":1}'),
    (Order | Timeout, Timeout(), '{"$type":"Timeout"}'),
    (Point, Point(1, 2.5), "[1,2.5]"),
    (Options, {"name": "x"}, '{"name":"x"}'),
    (Line, Line(sku="a", n=2), '{"sku":"a","n":2}'),
    (Order, Order(order_id="o", cents=5, ratio=math.inf), None),
    (Order, Order(order_id="$o", cents=5, tags={"$a": 1}, lines=(Line(sku="$"),)), None),
    (Order, Order(order_id="o", cents=5, at=datetime(2024, 1, 1, tzinfo=UTC), amount=Decimal("1.0")), None),
    (Basket, Basket(lines=[Line(sku="a")], seen={"a"}, next=Basket()), None),
    (Keeper, Keeper.model_validate({"a": 1, "more": [1, (2, 3)]}), None),
    (Doubler, Doubler(n=2), '{"n":4}'),
    (Money, Money(5), '{"cents":5,"currency":"EUR"}'),
    (Box[int], Box(1, [2, 3]), None),
    (Box[Line], Box(Line(sku="a")), None),
    (Counted, Counted(1), '{"n":2}'),
    (Bag, Bag(a=1), '{"a":1}'),
    (Stack, Stack([1, 2]), "[1,2]"),
    (Any, {"a": [Line(sku="x"), Money(1), {1, 2}, float("inf"), b"x", {1: 2}]}, None),
    (BaseModel | None, None, "null"),
]


@pytest.mark.parametrize(("tp", "value", "text"), CASES, ids=[f"{i}-{c[0]}" for i, c in enumerate(CASES)])
def test_a_value_comes_back_equal_and_of_its_class(tp: Any, value: Any, text: str | None) -> None:
    registry = Registry()
    for known in (Line, Money):
        registry.codec(known)
    codec = registry.codec(tp)
    written = codec.dump(value)
    if text is not None:
        assert written == text
    back = codec.load(written)
    assert back == value
    assert type(back) is type(value)
    assert repr(back).replace("TzInfo(0)", "datetime.timezone.utc") == repr(value) or isinstance(
        value, set | frozenset
    )
    assert codec.dump(back) == written
    assert codec.load(written) is not back or codec.frozen or value is None


def test_nan_stays_nan() -> None:
    codec = Registry().codec(float)
    assert codec.dump(math.nan) == '"NaN"'
    assert math.isnan(codec.load('"NaN"'))
    order = Order(order_id="o", cents=1, ratio=math.nan)
    orders = Registry().codec(Order)
    assert math.isnan(orders.load(orders.dump(order)).ratio)


def test_private_and_extra_parts_of_a_model_are_kept() -> None:
    keeper = Keeper.model_validate({"a": 1, "b": 2})
    keeper.hidden.append(7)
    codec = Registry().codec(Keeper)
    back = codec.load(codec.dump(keeper))
    assert back.hidden == [7]
    assert back.model_extra == {"b": 2}


def test_a_subclass_goes_under_its_registered_name() -> None:
    class Special(Line):
        extra: int = 3

    registry = Registry()
    registry.codec(Special)
    codec = registry.codec(list[Line])
    back = codec.load(codec.dump([Line(sku="a"), Special(sku="b")]))
    assert [type(item) for item in back] == [Line, Special]


def test_a_slot_typed_as_event_holds_any_known_event() -> None:
    codec = Registry().codec(Event)
    order = Order(order_id="o", cents=1)
    back = codec.load(codec.dump(order))
    assert back == order
    assert type(back) is Order


@pytest.mark.parametrize(
    ("tp", "value", "path"),
    [
        (int, "5", ""),
        (list[int], [1, "2"], "/1"),
        (dict[str, list[int]], {"a/b": [1, None]}, "/a~1b/1"),
        (Any, {"f": [open]}, "/f/0"),
        (Any, iter([1]), ""),
        (tuple[int, int], (1, 2, 3), ""),
        (str, "\ud800", ""),
        (dict[str, str], {"k": "\udc00"}, "/k"),
        (Order, Line(sku="a"), ""),
        (int | str, 1.5, ""),
        (set[int], frozenset({1}), ""),
    ],
)
def test_what_does_not_fit_is_refused_with_its_path(tp: Any, value: Any, path: str) -> None:
    with pytest.raises(DataError) as caught:
        Registry().codec(tp).dump(value)
    assert (caught.value.code, caught.value.path) == ("CP202", path)


@pytest.mark.parametrize(
    ("tp", "text"),
    [
        (int, '"5"'),
        (int, "5.0"),
        (int, "{"),
        (list[int], '[1,"2"]'),
        (Order, '{"order_id":"o"}'),
        (Order, "[]"),
        (tuple[int, int], "[1]"),
        (Colour, '"green"'),
        (datetime, '"yesterday"'),
        (bytes, '"*"'),
        (Line | Money, '{"$type":"Basket"}'),
        (Any, '{"$type":"os.system","$value":"x"}'),
        (Any, '{"$type":"type","$value":"x"}'),
        (dict[int, int], "[[1]]"),
    ],
)
def test_text_that_does_not_fit_is_refused(tp: Any, text: str) -> None:
    with pytest.raises(DataError) as caught:
        Registry().codec(tp).load(text)
    assert caught.value.code == "CP403"


@pytest.mark.case(51, "two locals, one list; list in dict and as local; cycle")
def test_a_value_that_holds_itself_is_refused_with_its_path() -> None:
    loop: list[Any] = [1]
    loop.append([loop])
    with pytest.raises(DataError) as caught:
        Registry().codec(list[Any]).dump(loop)
    assert caught.value.code == "CP202"
    assert caught.value.path == "/1/0"
    assert "itself" in caught.value.text


@pytest.mark.parametrize(
    "tp",
    [
        type,
        object,
        types.FunctionType,
        types.GeneratorType,
        abc.Callable[[], int],
        type[int],
        list[type],
    ],
)
def test_types_without_a_form_are_refused(tp: Any) -> None:
    with pytest.raises(DataError) as caught:
        Registry().codec(tp)
    assert caught.value.code == "CP202"


def test_one_object_at_two_places_of_a_value_stays_one() -> None:
    codec = Registry().codec(list[list[int]])
    row = [0]
    back = codec.load(codec.dump([row, row, [0]]))
    back[0].append(1)
    assert back == [[0, 1], [0, 1], [0]]


def test_two_types_of_one_name_are_refused() -> None:
    def make(n: int) -> Any:
        class Twin(BaseModel):
            a: int = n

        return Twin

    registry = Registry()
    registry.codec(make(1))
    with pytest.raises(DataError) as caught:
        registry.codec(make(2))
    assert caught.value.code == "CP208"


def test_the_missing_field_of_an_older_text_takes_its_default() -> None:
    order = Registry().codec(Order).load('{"order_id":"o","cents":1}')
    assert order == Order(order_id="o", cents=1)


def test_equal_state_gives_equal_text_whatever_the_order_of_sets() -> None:
    codec = Registry().codec(Basket)
    names = [f"n{i}" for i in range(50)]
    assert codec.dump(Basket(seen=set(names))) == codec.dump(Basket(seen={name for name in reversed(names)}))


def test_frozen_types_are_known() -> None:
    registry = Registry()
    frozen = [int, str, tuple[int, ...], Line, Money, Colour, frozenset[str], Line | None, datetime]
    assert [registry.codec(tp).frozen for tp in frozen] == [True] * len(frozen)
    mutable = [list[int], Order, Basket, tuple[list[int], int], Box[int], Any]
    assert [registry.codec(tp).frozen for tp in mutable] == [False] * len(mutable)
