"""Services behind a bad network: messages wait, come twice, are lost and sent again; every effect is entered in a ledger."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from contrapas.core.lane import Draft, Headers, Record
from contrapas.core.world import MessageType
from contrapas.errors import Indeterminate, Retriable
from contrapas.runtime.reaction import Handler, read_message
from contrapas.testing.bench import at_once, handlers_of, lanes_of

if TYPE_CHECKING:
    from contrapas.testing.simulation.play import Play

LOST_MS = 200_000
"""By then what was lost in the network has come."""
FATES = ("answer lost", "not done, no answer", "answer twice", "answer late", "gave up")


@dataclass(slots=True)
class Effect:
    """What a command did at its participant."""

    id: str
    name: str
    instance: str
    key: str
    order: int
    applied: bool = False
    undone: bool = False
    barred: bool = False
    """Its undo came first."""
    attempts: int = 0
    reply: Draft | None = None


@dataclass(slots=True)
class Ledger:
    """Every effect, by the id of its command."""

    effects: dict[str, Effect] = field(default_factory=dict[str, Effect])
    undos: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    """Instance -> ids of the commands that were taken back, in the order in which that was first asked."""
    of: dict[str, list[Effect]] = field(default_factory=dict[str, list[Effect]])
    """Instance -> its effects, in the order in which they were first asked."""

    def asked(self, id: str, name: str, instance: str, key: str) -> Effect:
        """A command arrives."""
        found = self.effects.get(id)
        if found is None:
            mine = self.of.setdefault(instance, [])
            found = self.effects[id] = Effect(id, name, instance, key, len(mine))
            mine.append(found)
        elif not found.name:
            found.name, found.key = name, key
        found.attempts += 1
        return found

    def undo(self, id: str, instance: str) -> None:
        """An undo of a command arrives: it is taken back, or barred from happening."""
        order = self.undos.setdefault(instance, [])
        if id not in order:
            order.append(id)
        found = self.effects.get(id)
        if found is None:
            found = self.effects[id] = Effect(id, "", instance, "", -1)
            self.of.setdefault(instance, []).append(found)
        if found.applied:
            found.undone = True
        else:
            found.barred = True


class Mailbox:
    """All participants of a world."""

    def __init__(self, play: Play) -> None:
        self.play = play
        self.ledger = Ledger()
        world = play.world
        self._commands = {m.name.encode(): m for m in world.types.messages.values() if m.command}
        self._handlers: dict[str, list[tuple[str, dict[str, Handler]]]] = {}
        served: set[str] = set()
        for service in play.load.definition.services:
            mine = handlers_of(service, world, play.load.definition.provided)
            served |= set(mine)
            for lane in lanes_of(mine):
                self._handlers.setdefault(lane, []).append((service.name, mine))
        self._served = served
        self._taken = play.setting.routes
        self._known: dict[tuple[str, str], list[Draft]] = {}
        self._fields: dict[str, list[tuple[str, Any]]] = {}
        self.reacts = True
        """Services of the app are played here; else by workers."""

    def arrived(self, lane: str, record: Record) -> None:
        """A record was stored on a lane that participants may read."""
        headers = dict(record.headers)
        u = self.play.universe
        for name, mine in self._handlers.get(lane, ()) if self.reacts else ():
            if record.value and read_message(mine, record, lane, lane, self.play.setting.doors) is not None:
                u.at(self._delay(), partial(self._react, name, lane, mine, record))
        if headers.get("cp-kind") == b"command":
            mt = self._commands.get(headers.get("ce_type", b""))
            if mt is None or mt.name in self._served or self._is_for_saga(mt):
                return
            u.at(self._delay(), lambda: self._command(mt, record, headers))
            if u.chance.fault("duplicate delivery", u.rates.duplicate):
                u.at(self._delay() * 3, lambda: self._command(mt, record, headers))

    def _lost(self, mt: MessageType, record: Record, headers: dict[str, bytes]) -> None:
        """What was not answered is delivered again, some of it when its time is over."""
        u = self.play.universe
        u.at(u.chance.below(LOST_MS), lambda: self._command(mt, record, headers))

    def _is_for_saga(self, mt: MessageType) -> bool:
        routes = self._taken
        return mt.name in routes.starts or mt.name in routes.takes

    def _delay(self) -> int:
        u = self.play.universe
        if u.chance.fault("slow network", u.rates.step / 4):
            return u.chance.below(60_000)
        return u.chance.below(30)

    def _command(self, mt: MessageType, record: Record, headers: dict[str, bytes]) -> None:
        u = self.play.universe
        ident, instance = headers["ce_id"].decode(), headers.get("ce_correlationid", b"").decode()
        ledger = self.ledger
        effect = ledger.asked(ident, mt.name, instance, record.key.decode())
        self.play.watch.asked(effect, headers, record)
        fate = ""
        if u.chance.fault("participant", u.rates.step):
            fate = FATES[int(u.chance.bad() * len(FATES))]
            u.chance.faults[f"participant: {fate}"] += 1
        if fate == "not done, no answer":
            u.sometimes["unknown outcome that had not happened"] += 1
            self._lost(mt, record, headers)
            return
        if effect.barred:
            u.sometimes["undo overtook its command"] += 1
            return
        if fate == "gave up":
            self._answer(effect, mt, "", b'{"reason":"away"}', "error", headers, f"{ident}#{effect.attempts}")
            return
        if effect.reply is None:
            name, body = self._reply(mt, json.loads(record.value or b"{}"))
            good = name == mt.replies[0]
            effect.applied = good
            undoes = headers.get("cp-undoes")
            if undoes is not None and good:
                ledger.undo(undoes.decode(), instance)
            value = json.dumps(body).encode()
            effect.reply = self._draft(
                effect, mt, name, value, "ok" if good else "declined", headers, f"{ident}#r"
            )
        if fate == "answer lost":
            u.sometimes["unknown outcome that had happened"] += effect.applied
            self._lost(mt, record, headers)
            return
        delay = u.chance.below(90_000) if fate == "answer late" else 0
        if delay:
            u.at(delay, lambda: self._late(effect))
        self.send([effect.reply], delay)
        if fate == "answer twice":
            self.send([effect.reply], u.chance.below(5_000))

    def _late(self, effect: Effect) -> None:
        self.play.universe.sometimes["late reply after undo"] += effect.undone

    def _reply(self, mt: MessageType, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        play = self.play
        own = play.load.replies.get(mt.name)
        if own is not None:
            return own(play, body)
        declined = len(mt.replies) > 1 and play.universe.chance.order() < 0.15
        name = mt.replies[1 if declined else 0]
        return name, self.filled(name, body)

    def filled(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Fields of a message from those of another, and something for the rest."""
        fields = self._fields.get(name)
        if fields is None:
            model = self.play.world.types.messages[name].cls
            fields = self._fields[name] = [
                (field, 1 if hint.annotation is int else True if hint.annotation is bool else f"{field}-x")
                for field, hint in model.model_fields.items()
            ]
        return {field: body.get(field, other) for field, other in fields}

    def _answer(
        self,
        effect: Effect,
        mt: MessageType,
        name: str,
        value: bytes,
        outcome: str,
        headers: Mapping[str, bytes],
        ident: str,
    ) -> None:
        self.send([self._draft(effect, mt, name, value, outcome, headers, ident)], 0)

    def _draft(
        self,
        effect: Effect,
        mt: MessageType,
        name: str,
        value: bytes,
        outcome: str,
        headers: Mapping[str, bytes],
        ident: str,
    ) -> Draft:
        types = self.play.world.types.messages
        topic = types[name or mt.replies[0]].topic
        key = effect.key.encode()
        found: list[tuple[str, bytes]] = [
            ("ce_specversion", b"1.0"),
            ("ce_id", ident.encode()),
            ("ce_source", b"/participants"),
            ("ce_partitionkey", key),
            ("content-type", b"application/json"),
            ("ce_correlationid", effect.instance.encode()),
            ("cp-kind", b"reply"),
            ("cp-in-reply-to", effect.id.encode()),
            ("cp-outcome", outcome.encode()),
        ]
        if name:
            found.append(("ce_type", name.encode()))
        if "cp-run" in headers:
            found.append(("cp-run", headers["cp-run"]))
        at = -1
        if not topic:
            key = effect.instance.partition("/")[2].encode()
            found.append(("cp-to", effect.instance.encode()))
            at = self.play.partition_of(key)
        made: Headers = tuple(found)
        return Draft(topic or "in", at, key, value, made, ident)

    def send(self, drafts: list[Draft], delay_ms: int) -> None:
        """Publish, again and again until it is acknowledged."""
        if delay_ms:
            self.play.universe.at(delay_ms, lambda: self.send(drafts, 0))
            return
        try:
            self.play.store.publish(drafts)
        except (Retriable, Indeterminate):
            self.play.universe.at(20 + self.play.universe.chance.below(500), lambda: self.send(drafts, 0))

    def _react(self, service: str, lane: str, mine: dict[str, Handler], record: Record) -> None:
        """A reaction of a service of the app; a redelivery gets the first answer."""
        play = self.play
        handler = read_message(mine, record, lane, lane, self.play.setting.doors)
        if handler is None:
            return
        topic = play.store.topic(lane)
        d = handler.decode(
            record, lane=lane, source=f"{lane}@{topic.id if topic else ''}", doors=play.setting.doors
        )
        known = self._known.get((service, d.id))
        if known is None:
            events = at_once(handler.call(d, 1))
            known = handler.drafts(
                events, d, play.world.types, play.load.definition.namespace, service, play.options.partitions
            )
            self._known[service, d.id] = known
        u = play.universe
        if known:
            self.send(known, 0)
            if u.chance.fault("duplicate delivery", u.rates.duplicate):
                self.send(known, u.chance.below(3_000))
