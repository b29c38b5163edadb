"""What is wrong with a picture as a picture: things on top of each other."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from contrapas.draw.place import Area, Picture, Wire, Words
from contrapas.draw.scheme import Arrow

Segment = tuple[tuple[float, float], tuple[float, float]]


def faults(picture: Picture) -> list[str]:
    """One line for each fault: overlapping boxes and words, wires through boxes and words, wires that hide others."""
    boxes = [*picture.boxes.items(), *((one.id, area) for _, one, area in picture.beside)]
    words = list(_words(picture))
    found: list[str] = []
    standing = sorted(
        [(f"box {a}", area) for a, area in boxes]
        + [(f"words {a}", one.area) for a, one in words]
        + [(f"bar of {w.arrow.source}", w.bar) for w in picture.wires if w.bar is not None],
        key=lambda item: item[1].y,
    )
    for number, (a, one) in enumerate(standing):
        for b, two in standing[number + 1 :]:
            if two.y >= one.bottom:
                break
            found += [f"{a} covers {b}"] if _overlap(one, two) else []
    for wire in picture.wires:
        found += _wire(picture, wire, boxes, words)
    for node, undo, area in picture.beside:
        link = ((area.right, area.middle), (picture.boxes[node.id].x, area.middle))
        found += [f"link {undo.id} crosses {b}" for b, box in boxes if _crosses(link, box)]
    found += _hidden(picture)
    whole = Area(0, 0, picture.width, picture.height)
    for name, area in [*boxes, *((n, w.area) for n, w in words), *((s.name, s.area) for s in picture.scopes)]:
        if area.x < 0 or area.y < 0 or area.right > whole.width or area.bottom > whole.height:
            found.append(f"{name} leaves the picture")
    return found


def _words(picture: Picture) -> Iterator[tuple[str, Words]]:
    for wire in picture.wires:
        if wire.words is not None:
            yield "→".join(wire.arrow.ends), wire.words
        if wire.bar_words is not None:
            yield "pivot of " + "→".join(wire.arrow.ends), wire.bar_words
    for scope in picture.scopes:
        yield scope.name, scope.words


def _wire(
    picture: Picture, wire: Wire, boxes: list[tuple[str, Area]], words: list[tuple[str, Words]]
) -> Iterator[str]:
    name = "→".join(wire.arrow.ends)
    for segment in itertools.pairwise(wire.points):
        if segment[0][0] != segment[1][0] and segment[0][1] != segment[1][1]:
            yield f"wire {name} is slanted"
        yield from (f"wire {name} crosses box {b}" for b, box in boxes if _crosses(segment, box))
        yield from (f"wire {name} crosses words {b}" for b, one in words if _crosses(segment, one.area))
        for x, y in segment:
            if not (0 <= x <= picture.width and 0 <= y <= picture.height):
                yield f"wire {name} leaves the picture"


def _hidden(picture: Picture) -> Iterator[str]:
    """Wires to different targets that lie on each other, so that nobody sees which goes where."""
    lines: dict[tuple[int, float], list[tuple[float, float, Arrow]]] = {}
    for wire in picture.wires:
        for one, two in itertools.pairwise(wire.points):
            axis = 0 if one[0] == two[0] else 1
            low, high = sorted((one[1 - axis], two[1 - axis]))
            lines.setdefault((axis, one[axis]), []).append((low, high, wire.arrow))
    for together in lines.values():
        for (low, high, a), (low_b, high_b, b) in itertools.combinations(together, 2):
            if a.target != b.target and min(high, high_b) - max(low, low_b) > 1:
                yield f"wire {'→'.join(a.ends)} lies on wire {'→'.join(b.ends)}"


def _overlap(one: Area, two: Area) -> bool:
    return one.x < two.right and two.x < one.right and one.y < two.bottom and two.y < one.bottom


def _crosses(segment: Segment, area: Area) -> bool:
    """Whether a level or upright piece runs through the inside of an area."""
    (x1, y1), (x2, y2) = segment
    if (y1 <= area.y and y2 <= area.y) or (x1 >= area.right and x2 >= area.right):
        return False
    inside = 0.5
    return (
        max(x1, x2) > area.x + inside
        and min(x1, x2) < area.right - inside
        and max(y1, y2) > area.y + inside
        and min(y1, y2) < area.bottom - inside
    )
