"""What `--contrapas-coverage` counts as walked: states, arrows, undos, of operations in flight too."""

from __future__ import annotations

from contrapas.testing import Sagas
from contrapas.testing.coverage import Coverage, Walked
from tests.scenarios.patterns import cancelling, joins
from tests.scenarios.patterns.pattern import Scenario


async def walked(scenario: Scenario, saga: str) -> Walked:
    coverage = Coverage()
    sagas = Sagas(coverage=coverage)
    await scenario(sagas)
    sagas.close()
    return coverage.sagas[saga]


async def test_what_was_begun_and_taken_back_is_covered_and_the_other_way_is_missed() -> None:
    marks = (await walked(cancelling.wcp19_cancel_task, "cancel_task")).classes()
    assert marks["begin(PackGoods)"] == marks["undo(PackGoods)"] == marks["next"] == "covered"
    assert marks["ShipGoods"] == marks["next", "ShipGoods"] == "missed"


async def test_a_state_that_was_passed_within_one_transition_is_covered() -> None:
    found = await walked(joins.wcp28_blocking_discriminator, "blocking_discriminator")
    assert "result" in found.states
    assert found.classes()["OrderClosed"] == "covered"


async def test_every_box_and_every_arrow_of_the_picture_has_a_word() -> None:
    found = await walked(cancelling.wcp25_cancel_region, "cancel_region")
    marks = found.classes()
    assert set(marks.values()) == {"covered", "missed"}
    assert found.graph.states.keys() <= marks.keys()
    assert marks["START"] == "covered"
