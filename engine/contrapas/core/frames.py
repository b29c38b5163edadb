"""Running the author's code: from one await to the next, through called sagas and back (X4), until everything waits.

`run` is the heart of a transition: it resumes what is to be resumed until every line of execution waits or has ended.
A value or an exception goes to the innermost frame; what leaves a frame goes to its caller; what leaves a branch to its
join; what leaves the root ends the instance, unwinds it, or is a bug (X5).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from contrapas.author.flight import FLIGHT
from contrapas.author.op import Op
from contrapas.author.timeout import Timeout
from contrapas.codec.exceptions import relink
from contrapas.codec.slots import load_group
from contrapas.core import begun as flying
from contrapas.core import (
    commands,
    ends,
    flight,
    issue,
    joins,
    limits,
    messages,
    moves,
    nested,
    settle,
    undo,
    unwind,
)
from contrapas.core.copies import moved_frame
from contrapas.core.envelope import Frame, Limit, Node
from contrapas.core.outcomes import (
    NONE_TEXT,
    TIMEOUT_TEXT,
    Kept,
    dump_body,
    keep_message,
    keep_saga,
    words_of,
)
from contrapas.core.plans import START, Plan, StatePlan
from contrapas.core.talk import talk_of
from contrapas.core.work import FATAL, JOIN, LOOK, Line, SagaBug, Unfit, Work
from contrapas.core.work import START as BEGIN
from contrapas.core.world import World
from contrapas.errors import Cancelled, StepFailed
from contrapas.machine import AWAIT

STRETCHES_MAX = 1_000
"""Awaits passed in one transition: more is a loop that never waits (L26)."""


def run(work: Work) -> None:
    """Resume what is to be resumed, until nothing is."""
    while work.todo or work.kept_answers:
        if not work.todo:
            settle.answer_kept(work)
            continue
        what, line, value, thrown = work.todo.popleft()
        if what == JOIN:
            joins.progress(work, line)
        elif what == BEGIN:
            if line.begun is not None and work.unissued.pop(id(line.begun), None) is not None:
                issue.issue(work, line, line.begun.label, value)
        elif what == LOOK:
            flight.look(work, line)
        else:
            _go(work, line, value, thrown)


def _go(work: Work, line: Line, value: Any, thrown: BaseException | None) -> None:
    node = line.node
    saga = ""
    while node.frames:
        work.stretches += 1
        if work.stretches > STRETCHES_MAX:
            raise SagaBug(RuntimeError(f"{STRETCHES_MAX} awaits were passed without waiting once"))
        frame = node.frames[-1]
        saga = frame.saga
        plan = work.plan(frame)
        thrown, op, value = _stretch(work, line, frame, plan, value, thrown)
        if op is not None:
            issue.issue(work, line, value, op)
            if frame.begun:
                flight.sweep(work, line)
            return
        node.frames.pop()
        if frame.undo >= 0:
            _settle_frame(work, frame, value, thrown)
    if len(line.nodes) == 1:
        _leave_root(work, line, value, thrown)
    else:
        _end_branch(work, line, saga, value, thrown)


def _stretch(
    work: Work, line: Line, frame: Frame, plan: Plan, value: Any, thrown: BaseException | None
) -> tuple[BaseException | None, Op[Any] | None, Any]:
    """Run the innermost frame once. Gives what left it; or what it awaits, and the label of where; or its result."""
    node = line.node
    if frame.label == START:
        at = None
        pc = 0
        loaded = work.fresh.pop(id(frame))
    else:
        at = plan.by_label.get(frame.label)
        if at is None or frame.graph != plan.graph:
            at = _standing(frame, plan, work.world)
        pc = at.index
        loaded = at.load(frame)
        for name in at.handling:
            live = work.live.get((id(frame), name))
            if live is not None:
                same = loaded.get(name, live)
                loaded.update({n: live for n, held in loaded.items() if held is same})
                loaded[name] = live
    ambients = _ambients(work, plan) if plan.machine.ambients else ()
    outer = _handled(work, node) if len(node.frames) > 1 else None
    raised: BaseException | None = None
    result: tuple[Any, ...] = ()
    token = None
    work.activation.line = line
    if plan.flies:
        work.activation.suffix = line.suffix
        token = FLIGHT.set(work.activation)
    try:
        if outer is None:
            result = plan.function(pc, value, thrown, loaded, work.saga, *ambients)
        else:
            relink(loaded.values(), outer)
            result = _inside(outer, plan.function, (pc, value, thrown, loaded, work.saga, *ambients))
    except FATAL:
        raise
    except BaseException as why:  # noqa: BLE001  whatever the author's code raises
        raised = why
    finally:
        if token is not None:
            FLIGHT.reset(token)
    return landed(work, line, frame, plan, at, loaded, raised, result)


def landed(
    work: Work,
    line: Line,
    frame: Frame,
    plan: Plan,
    at: StatePlan | None,
    loaded: dict[str, Any],
    raised: BaseException | None,
    result: tuple[Any, ...],
) -> tuple[BaseException | None, Op[Any] | None, Any]:
    """Take over what a stretch of the author's code gave; the frame stands at its next await, if there is one."""
    node = line.node
    if work.activation.effects:
        frame = _effects(work, line, frame)
    if raised is not None:
        return raised, None, None
    if result[0] != AWAIT:
        return None, None, result[1]
    index: int = result[1]
    values: dict[str, Any] = result[3]
    state = plan.by_index[index]
    assert state is not None
    texts = state.save(None if at is None else at.touches, frame.slots, loaded, values)
    new = node.frames[-1] = moved_frame(frame, plan.graph, state.label, texts)
    for name in state.handling:
        if isinstance(values.get(name), BaseException):
            work.live[(id(new), name)] = values[name]
            work.alive.append(new)
    return None, result[2], state.label


def go_on(
    work: Work,
    frame: Frame,
    plan: Plan,
    at: StatePlan,
    loaded: dict[str, Any],
    raised: BaseException | None,
    result: tuple[Any, ...],
) -> None:
    """Go on from a first stretch of the root's only frame that was run before there was a `Work` (`straight`)."""
    line = work.root
    work.stretches = 1
    thrown, op, value = landed(work, line, frame, plan, at, loaded, raised, result)
    if op is not None:
        issue.issue(work, line, value, op)
        return
    line.node.frames.pop()
    _leave_root(work, line, value, thrown)


def _ambients(work: Work, plan: Plan) -> tuple[Any, ...]:
    """Fresh ambient values, the same for every stretch of a saga in this transition."""
    name = plan.machine.name
    found = work.ambients.get(name)
    if found is None:
        found = work.ambients[name] = work.world.ambient(plan.machine)
    return found


def _standing(frame: Frame, plan: Plan, world: World) -> StatePlan:
    """Where a frame stands in the code here; Unfit when there is no such place, or it needs what was not kept."""
    state = plan.by_label.get(frame.label)
    if state is None:
        raise Unfit(f"{frame.saga} has no state {frame.label!r} here")
    if frame.graph != plan.graph:
        moves.standing(frame, world)
    return state


def _handled(work: Work, node: Node) -> BaseException | None:
    """The exception that the nearest caller is handling."""
    for frame in reversed(node.frames[:-1]):
        state = work.plan(frame).by_label.get(frame.label)
        if state is None:
            continue
        for name in state.handling:
            text = frame.slots.get(name)
            if text is None:
                continue
            live = work.live.get((id(frame), name))
            if live is None:
                loaded = _exception(state, name, frame.slots)
                if not isinstance(loaded, BaseException):
                    continue
                live = work.live[(id(frame), name)] = loaded
                work.alive.append(frame)
            return live
    return None


def _exception(state: StatePlan, name: str, texts: Mapping[str, str]) -> Any:
    """A handled exception; the text of one that a local holds too may refer to that local's."""
    group = next((g for g in state.groups if name in g), None)
    if group is not None and '"$ref"' in texts[name]:
        return load_group(group, texts)[name]
    return state.every[name].load_text(texts[name])


def _inside(
    outer: BaseException, function: Callable[..., tuple[Any, ...]], args: tuple[Any, ...]
) -> tuple[Any, ...]:
    """Call with an exception being handled, as the caller's `except` block would."""
    trace, context = outer.__traceback__, outer.__context__
    try:
        raise outer
    except BaseException:  # noqa: BLE001  it is `outer`, just raised
        outer.__traceback__, outer.__context__ = trace, context
        return function(*args)


def _effects(work: Work, line: Line, frame: Frame) -> Frame:
    """Take over what the code said on its way, in program order."""
    node = line.node
    effects, work.activation.effects = work.activation.effects, []
    work.told_before += sum(1 for e in effects if e[0] == "tell")
    frame = node.frames[-1] = work.same(frame)
    frame.scopes = list(frame.scopes)
    for effect in effects:
        match effect:
            case ("emit", event):
                mt = work.type_of(event)
                work.send_event(mt, dump_body(event), messages.key_of(mt, event))
            case ("enter", _):
                frame.scopes.append(len(node.undo))
            case ("enter", _, within, until):
                frame.scopes.append(len(node.undo))
                limits.enter(work, line, frame, within, until)
            case ("leave", _):
                frame.scopes.pop()
                frame.limits = [limit for limit in frame.limits if limit.depth < len(frame.scopes)]
            case ("pivot",):
                _pivot(work)
                frame = node.frames[-1]
            case ("forget",):  # an entity's handler has ended well: nothing of it is taken back any more
                node.undo.clear()
            case ("reply", name, event):
                commands.reply(work, name, event)
            case ("show", model):
                _show(work, model)
            case ("note", text):
                work.record.talk = replace(talk_of(work.record), note=text)
            case ("begin", handle, op):
                flight.begin(work, line, frame, handle, op)
            case ("cancel", handle):
                flight.handed(work, line, handle)
            case ("kill",):
                flight.kill(work, line)
                frame = node.frames[-1]
            case ("tell", command, after, handle):
                commands.tell(work, command, after, "" if handle is None else handle.text)
            case ("untell", handle):
                commands.untell(work, handle.text)
            case ("deadline", within, until):
                work.record.deadline = (
                    work.at + within if within is not None else int(until.timestamp() * 1000)
                )
            case _:
                raise SagaBug(TypeError(f"unknown effect {effect[0]!r}"))
    return frame


def _show(work: Work, model: Any) -> None:
    """The instance's view; one of the class that `@saga(show=...)` names."""
    machine = work.world.machines.get(work.record.saga)
    wanted = machine.show if machine is not None else None
    if wanted is not None and not isinstance(model, wanted):
        raise SagaBug(TypeError(f"{work.record.saga} shows {wanted.__name__}, not {type(model).__name__}"))
    name = type(model).__name__
    work.record.talk = replace(talk_of(work.record), view_type=name, view=dump_body(model))


def _pivot(work: Work) -> None:
    """The point of no return empties every stack; what was open stays open at its foot (U8)."""
    work.record.pivoted = True
    for line in undo.lines(work.root):
        line.node.undo.clear()
        for i, frame in enumerate(line.node.frames):
            if frame.scopes:
                moved = line.node.frames[i] = work.same(frame)
                moved.scopes = [0] * len(frame.scopes)
        unwind.drive(work, line)  # of what it was taking back nothing is left


def _settle_frame(work: Work, frame: Frame, value: Any, thrown: BaseException | None) -> None:
    """A called saga ended that has an undo as a whole."""
    if thrown is None:
        undo.settle(work, frame.undo, "done", reply=keep_saga(work.world, frame.saga, value))
    elif isinstance(thrown, StepFailed) and not thrown.unknown:
        undo.settle(work, frame.undo, "failed")
    else:
        undo.settle(work, frame.undo, "unknown", lost=True)


def _end_branch(work: Work, line: Line, saga: str, value: Any, thrown: BaseException | None) -> None:
    """A branch has its value or its exception; its join decides what follows."""
    node = line.node
    if node.limit is not None:
        later, thrown = _limited(work, line, node.limit, thrown)
        if later:
            return
    if thrown is not None:
        node.error = work.types.dump_exception(thrown)
    elif saga:
        node.result = keep_saga(work.world, saga, value)
    elif isinstance(value, Kept):
        node.result = str(value)
    elif isinstance(value, Timeout):
        node.result = TIMEOUT_TEXT
    else:
        node.result = NONE_TEXT if value is None else keep_message(work.world, value)
    if line.begun is not None:
        flight.ended(work, line)
        return
    parent = line.parent
    join = parent.node.join
    assert join is not None
    join.done_order.append(line.position)
    work.rejoin(parent)


def _limited(work: Work, line: Line, limit: Limit, thrown: BaseException | None) -> tuple[bool, Any]:
    """A branch with a limit is a scope: where it fails, what was done in it is taken back first, and it ends later."""
    line.node.limit = None
    late = StepFailed(flying.reason(limit), step=line.saga) if limit.expired else None
    thrown = late or thrown
    if not isinstance(thrown, (StepFailed, Cancelled)) or not line.node.undo:
        return False, thrown
    cause = work.types.dump_exception(thrown)
    unwind.begin(work, line, 0, "failed" if late is None else "expired", cause=cause)
    return True, None


def _leave_root(work: Work, line: Line, value: Any, thrown: BaseException | None) -> None:
    """The saga is over: its outcome, its unwinding, or a bug in it."""
    if work.record.map:
        nested.left(work, value, thrown)
    elif thrown is None:
        ends.returned(work, value)
    elif not isinstance(thrown, (StepFailed, Cancelled)):
        raise SagaBug(thrown)
    elif work.record.pivoted:
        raise SagaBug(thrown, code="CP704")
    else:
        unwind.begin(work, line, 0, "raise", cause=words_of(thrown), whole=True)
