import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel

from contrapas import Sensitive
from contrapas.cli.machines import APP
from contrapas.cli.mask import Masks
from contrapas.cli.stepfail import failure
from contrapas.runtime import graphs
from tests.cli.conftest import note

Cli = Callable[..., tuple[int, str, str]]
MASKS = Masks({"Paid": ["/card", "/lines/*/iban"], "Free": []}, ["card", "iban"])


def test_a_message_is_masked_by_its_type_and_a_local_by_names() -> None:
    assert (
        MASKS.message("Paid", '{"card":"4111","lines":[{"iban":"DE1","n":1}]}')
        == '{"card":"•••","lines":[{"iban":"•••","n":1}]}'
    )
    assert MASKS.message("Free", '{"card":"of the month"}') == '{"card":"of the month"}'
    assert MASKS.message("Unknown", '{"a":{"card":"4111"}}') == '{"a":{"card":"•••"}}'
    assert MASKS.value('[{"deep":{"card":"4111"}}]') == '[{"deep":{"card":"•••"}}]'
    assert MASKS.value('{"n":1}') == '{"n":1}'
    assert MASKS.message("Paid", "card no json") == "•••"


class Secret(BaseModel):
    card: Annotated[str, Sensitive]
    n: int


def test_arguments_of_a_failed_step_are_masked() -> None:
    try:
        raise ValueError("no")
    except ValueError as error:
        told = failure(error, (Secret(card="4111", n=1),), {}, "pay")
    assert "4111" not in told.call and "•••" in told.call


def test_the_note_has_one_key_and_only_one() -> None:
    assert APP.decode() == graphs.APP


def test_no_screen_shows_a_sensitive_field(shop: Path, cli: Cli) -> None:
    said = '{"types":{},"sagas":{},"attempts":{},"sensitive":{"types":{"OrderRejected":["/reason"],"ChargeCard":[]},"names":["sku","reason"]}}'
    asyncio.run(note(shop / ".contrapas" / "shop.db", {graphs.APP: said.encode()}))
    for args in (
        ["instance", "describe", "o-7"],
        ["instance", "describe", "o-7", "-o", "json"],
        ["instance", "describe", "o-9"],
        ["instance", "trace", "o-9"],
        ["instance", "wait", "o-9", "-o", "json"],
        ["topic", "read", "shop.log", "-o", "jsonl"],
        ["topic", "read", "payments.events"],
    ):
        out = cli(*args)[1]
        assert "mug" not in out and '"OutOfStock"}' not in out and b"mug".hex() not in out, args
    assert "•••" in cli("instance", "describe", "o-7")[1]
