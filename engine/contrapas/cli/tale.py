"""One line per instance, as `dev` and `demo` tell it: every step with how it went, then the outcome."""

from __future__ import annotations

from collections.abc import Sequence

from contrapas.cli import travel
from contrapas.cli.text import duration, escape
from contrapas.core.envelope import ENDED, InstanceRecord


def tale(records: Sequence[InstanceRecord], *, marks: Sequence[str] = ()) -> str:
    """`o-1  ChargeCard ✓ 41ms   ReserveStock ✓ 38ms   OrderConfirmed`.

    records: of one instance, oldest first. marks: keys of operations answered while nobody was there.
    """
    last = records[-1]
    parts = [
        _part(stage, stage.key in marks) for stage in travel.stages(records) if stage.kind != "compensate"
    ]
    if end := ending(last):
        parts.append(end)
    return f"{escape(last.key)}  " + "   ".join(part for part in parts if part)


def ending(record: InstanceRecord) -> str:
    """The outcome of an ended instance, or why it stands still; empty while it goes on."""
    if record.status == "parked":
        parked = record.parked
        return f"▣ parked {parked.code}: {escape(parked.reason)}" if parked else "▣ parked"
    if record.status == "settling":
        return f"{escape(record.outcome)} (settling)".strip()
    if record.status not in ENDED:
        return ""
    if record.outcome:
        return escape(record.outcome)
    return f"{record.status} {escape(record.error)}".strip()


def _part(stage: travel.Stage, early: bool) -> str:
    label = escape(stage.label)
    match stage.mark:
        case travel.UNDONE:
            return f"↩ {escape(stage.name)} ✓"
        case travel.OK:
            if early:
                return f"{label} ✓ (answered before the crash, {stage.place or 'on the log'})"
            return f"{label} ✓ {duration(stage.took_ms or 0)}"
        case travel.OPEN:
            name = f"↩ {escape(stage.name)}" if stage.label.startswith("undo(") else label
            return f"{name} … attempt {stage.attempts}" if stage.attempts > 1 else f"{name} …"
        case _:
            return f"{label} {stage.mark} {escape(stage.answer)}".rstrip()
