from contrapas.cli.tale import tale
from contrapas.cli.travel import stages
from contrapas.core.envelope import InstanceRecord


def test_each_operation_is_told_once_with_how_it_ended(compensated_records: list[InstanceRecord]) -> None:
    told = [(s.label, s.mark, s.took_ms, s.answer, s.place) for s in stages(compensated_records)]
    assert told == [
        ("ChargeCard", "✓", 41, "CardCharged", "payments.events/0@199"),
        ("ReserveStock", "✗", 38, "OutOfStock", "stock.events/0@371"),
        ("undo(ChargeCard)", "↩", 55, "CardRefunded", "payments.events/0@200"),
    ]


def test_the_tale_of_an_instance_is_one_line(compensated_records: list[InstanceRecord]) -> None:
    assert (
        tale(compensated_records)
        == "o-9  ChargeCard ✓ 41ms   ReserveStock ✗ OutOfStock   ↩ RefundCard ✓   OrderRejected"
    )
    assert tale(compensated_records[:2]) == "o-9  ChargeCard ✓ 41ms   ReserveStock …"
    assert (
        tale(compensated_records[:3]) == "o-9  ChargeCard ✓ 41ms   ReserveStock ✗ OutOfStock   ↩ RefundCard …"
    )


def test_a_history_cut_at_the_floor_is_fine(compensated_records: list[InstanceRecord]) -> None:
    assert [s.label for s in stages(compensated_records[2:])] == ["undo(ChargeCard)"]
