import pytest

from contrapas.cli.exits import Usage
from contrapas.cli.where import holds, parse, selected

FIELDS = ("id", "saga", "state", "status", "error", "age", "tries")
ROW = {
    "id": "o-9",
    "saga": "place_order",
    "state": "ReserveStock",
    "status": "waiting",
    "error": None,
    "age": 900_000,
    "tries": 3,
}


@pytest.mark.parametrize(
    "text",
    [
        "state=ReserveStock",
        "state!=ChargeCard and age>10m",
        "state ~ stock",
        "age >= 900000 and tries<4",
        'id="o-9"',
        "error!=x",
        "tries=3",
    ],
)
def test_conditions_that_hold(text: str) -> None:
    assert holds(parse(text, FIELDS), ROW)


@pytest.mark.parametrize("text", ["state=Other", "age>1h", "error=x", "tries>3", 'error~"503"'])
def test_conditions_that_do_not_hold(text: str) -> None:
    assert not holds(parse(text, FIELDS), ROW)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "state",
        "state=",
        "stat=x",
        "state=a or state=b",
        "__import__('os')",
        "state=a and",
        "(state=a)",
        "state=a;x",
        "x" * 2000,
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(Usage) as caught:
        parse(text, FIELDS)
    assert caught.value.code == "CP808"


def test_an_unknown_field_names_the_nearest() -> None:
    with pytest.raises(Usage, match="'state'"):
        parse("stat=x", FIELDS)


def test_selectors_are_globs_over_saga_and_key() -> None:
    assert selected("o-9", "place_order", "o-9")
    assert selected("place_order/*", "place_order", "o-9")
    assert not selected("book_trip/*", "place_order", "o-9")
    assert not selected("o-1*", "place_order", "o-9")
