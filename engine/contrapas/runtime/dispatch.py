"""What a commit made true now happens: local steps start, messages leave, doors are answered, waiters are woken.

Messages leave in order. Where the log stored them with the commit nothing is left to do; elsewhere one task per
partition publishes them, and the decider learns when they are known to have left. Ids are derived, so a repeat after a
crash is the same message.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from contrapas.core.lane import Draft
from contrapas.failpoints import NAMES, failpoint
from contrapas.runtime.apply import answer_bytes
from contrapas.runtime.batch import Answer, Duties, Leaving
from contrapas.runtime.egress import Refusal, refused_input

if TYPE_CHECKING:
    from contrapas.runtime.station import Station

_PARTITION = re.compile("[0-9]{1,9}")
NAMES["relay.read"] = "messages of a commit are in hand, none is published"
NAMES["relay.published"] = "messages are published, nobody has noted it"
NAMES["relay.marked"] = "messages are noted as published in memory, not on the log"
NAMES["dispatch.steps"] = "the steps of a commit have been started, its messages not sent"


def dispatch(s: Station, duties: Duties) -> None:
    """Do, in order, what a commit asks for. Starts things; waits for nothing."""
    for record in duties.ended:
        s.ears.ended(record)
    for call in duties.steps if not s.partition.draining else ():
        s.runner.start(s.number, s.partition.epoch, call)
    if duties.steps:
        failpoint("dispatch.steps")
    if duties.out:
        s.outgoing.append(duties.out)
        s.send.set()
    for answer in duties.answers:
        tell(s, answer)


def tell(s: Station, answer: Answer) -> None:
    """Through memory if the door is in this process, else over the lane that it reads."""
    if answer.to == "memory":
        s.ears.answered(answer)
        return
    lane, _, number = answer.to.rpartition("/")
    if lane.removeprefix(f"{s.setting.namespace}.") == "in" and _PARTITION.fullmatch(number):
        at = int(number)
        if at < s.setting.doors.partitions:
            headers = (("cp-kind", b"answer"), ("cp-in-reply-to", answer.id.encode()))
            draft = Draft("in", at, answer.id.encode()[:200] or b"-", answer_bytes(answer), headers)
            s.outgoing.append([draft])
            s.send.set()


async def publish(s: Station) -> None:
    """Send what waits to be sent, oldest first, for as long as the station lives."""
    try:
        while True:
            while s.outgoing:
                drafts = s.outgoing[0]
                failpoint("relay.read")
                refused = await s.egress.send(drafts)
                if refused:
                    await refuse(s, refused, _owners(drafts))
                failpoint("relay.published")
                s.outgoing.popleft()
                if dict(drafts[0].headers).get("cp-kind") != b"answer":
                    s.partition.left()
                    s.room.set()
                    s.wake.set()
                failpoint("relay.marked")
            s.send.clear()
            await s.send.wait()
    except asyncio.CancelledError:
        raise
    except BaseException as why:  # noqa: BLE001  a failure here ends the station, whatever it is
        s.fail(why)


async def send(s: Station, drafts: list[Draft]) -> None:
    """Publish until it is known to be done; a repeat carries the same ids. Raises what the inbound lane says for good."""
    for refusal in await s.egress.send(drafts):
        raise refusal.why


async def send_again(s: Station, drafts: list[Draft], owners: Mapping[str, str]) -> None:
    """What a takeover sends again, before its first commit."""
    refused = await s.egress.send(drafts)
    if refused:
        await refuse(s, refused, owners)


async def refuse(s: Station, refused: Sequence[Refusal], owners: Mapping[str, str]) -> None:
    """Destinations that refuse for good stop who sent there, and nobody else: the instance stands still and keeps the
    message. What nobody holds becomes a dead letter."""
    held: dict[str, list[Refusal]] = {}
    loose: list[Refusal] = []
    for one in refused:
        if one.draft.to == "in":
            raise one.why
        owner = owners.get(one.draft.message_id)
        if owner is None:
            loose.append(one)
        else:
            held.setdefault(owner, []).append(one)
    if loose:
        await s.egress.send(s.egress.letters(loose, s.now()))
    for instance, some in held.items():  # before anything that is known to have left is forgotten
        s.partition.results.appendleft(refused_input(instance, some))
    s.wake.set()


def _owners(drafts: list[Draft]) -> dict[str, str]:
    if not isinstance(drafts, Leaving):
        return {}
    return {
        drafts[at].message_id: who
        for first, count, who in drafts.owners
        for at in range(first, first + count)
    }
