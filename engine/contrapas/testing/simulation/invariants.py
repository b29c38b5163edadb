"""The invariants by number: what each says, and of those that a simulation in one process cannot see, why not."""

from __future__ import annotations

from collections.abc import Mapping

NAMES: Mapping[str, str] = {
    "I-01": "what was acknowledged is in every later fold",
    "I-02": "one accepted transition per version, no gaps",
    "I-03": "bytes to a record and back are the same bytes",
    "I-04": "what is restored is what counts, to the byte",
    "I-05": "compaction never changes the fold",
    "I-06": "a position never leads",
    "I-07": "a write of unknown fate is decided by the next claim, for ever",
    "I-08": "damage is found, never folded",
    "I-09": "other writers change no state",
    "I-11": "a former owner adds nothing that counts",
    "I-12": "nothing leaves a commit that does not count",
    "I-13": "a rebalance in mid-step loses nothing",
    "I-14": "after a fence no step starts",
    "I-15": "one process runs one copy of a step",
    "I-17": "a step with a result never runs again",
    "I-18": "the books come out even",
    "I-19": "every attempt has the same key",
    "I-20": "what is sent was committed",
    "I-23": "what ended is kept for its time",
    "I-24": "the same question gets the same answer",
    "I-27": "undos come in reverse order",
    "I-28": "unknown is undone as if it had happened",
    "I-29": "an undo that fails is not reported as done",
    "I-30": "what is done stays done",
    "I-31": "once faults stop, everything ends",
    "I-33": "an observer sends nothing",
    "I-34": "an acknowledged start survives every crash",
    "I-35": "two equal starts give one instance",
    "I-36": "no timer is early",
    "I-38": "every input became something",
    "I-39": "dead letters keep their bytes",
    "I-50": "an acknowledgement follows what it names",
}
ASYNC: Mapping[str, str] = {
    "I-16": "nothing of a lost partition works on",
    "I-43": "a stop ends in time, and leaves nothing over",
    "I-44": "nothing turns on the spot",
}
"""Those that only ring 2 looks at."""
NOT_HERE: Mapping[str, str] = {
    "I-10": "a log that was recreated or restored: real processes",
    "I-16": "prefetch and timers belong to an object of one epoch; planted M-19 shows that they would be missed",
    "I-21": "outbox order: the participants' store",
    "I-22": "outbox marks: the participants' store",
    "I-25": "one namespace to a world",
    "I-26": "inspection: real processes (R-22)",
    "I-32": "cancel racing completion: `check`, and the order of records (I-02)",
    "I-37": "timer racing its cancel: the order of records (I-02, I-36)",
    "I-40": "size sweep: bad-input catalogue",
    "I-41": "head of line: real time, R-17",
    "I-42": "memory: soak",
    "I-43": "SIGTERM: real processes",
    "I-44": "watchdog: real processes",
    "I-45": "golden logs",
    "I-46": "versioning: tests of `versions`",
    "I-47": "authorisation: not built yet",
    "I-48": "canary scan: `checkers.canary`, over tests that print",
    "I-49": "erasure: not built yet",
}
