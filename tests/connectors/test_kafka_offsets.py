"""What is asked again of offsets: an answer that holds none, and a leader that is another one by now. Of whoever asks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from contrapas.errors import LogError, Refused, Retriable
from contrapas_kafka.asking import Asking
from contrapas_kafka.calls import Calls
from contrapas_kafka.inquiry import Inquiry, patiently
from contrapas_kafka.offsets import NONE, STALE, offsets_of
from contrapas_kafka.options import Cluster

Answer = int | Exception
SPOT = ("orders", 0)


class Client:
    """An admin client whose answers to `list_offsets` are told, one a question; the last one stays."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.looked = 0
        """How often it has learnt its brokers and leaders anew."""

    def list_offsets(self, places: Mapping[Any, Any], **_: object) -> dict[Any, Future[Any]]:
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        found: dict[Any, Future[Any]] = {}
        for place in places:
            found[place] = future = Future[Any]()
            if isinstance(answer, int):
                future.set_result(SimpleNamespace(offset=answer))
            else:
                future.set_exception(answer)
        return found

    def list_topics(self, **_: object) -> None:
        self.looked += 1
        if self.looked > 1:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))


def error(code: int) -> Exception:
    return KafkaException(KafkaError(code))


Ask = Callable[[Client], Awaitable[int]]


async def by_asking(client: Client) -> int:
    """As the log asks while it runs."""
    calls = Calls(Cluster("kafka://127.0.0.1:1"))
    asking = Asking(calls)
    asking.__dict__["_client"] = client
    try:
        return await asking.end(*SPOT, stable=True)
    finally:
        await asking.close()
        calls.close()


async def by_inquiry(client: Client) -> int:
    """As commands, `doctor` and a start ask."""
    inquiry = Inquiry(Cluster("kafka://127.0.0.1:1"))
    inquiry.__dict__["_client"] = client
    return (await patiently(lambda: inquiry.ends([SPOT], committed=True)))[SPOT]


both = pytest.mark.parametrize("ask", [by_asking, by_inquiry])


@both
async def test_an_answer_without_an_offset_and_without_an_error_is_asked_for_again(ask: Ask) -> None:
    client = Client(-1001, -1001, 7)
    assert await ask(client) == 7
    assert client.asked == 3


@both
@pytest.mark.parametrize("code", sorted(STALE))
async def test_a_leader_that_is_another_one_is_looked_up_before_it_is_asked_again(
    ask: Ask, code: int
) -> None:
    client = Client(error(code), 9)
    assert await ask(client) == 9
    assert (client.asked, client.looked) == (2, 1)


@both
async def test_a_look_that_fails_takes_nothing_from_the_question(ask: Ask) -> None:
    client = Client(*[error(KafkaError.NOT_LEADER_FOR_PARTITION)] * 3, 4)
    assert await ask(client) == 4
    assert client.looked == 3


@both
async def test_what_does_not_change_is_not_asked_again(ask: Ask) -> None:
    client = Client(error(KafkaError.UNKNOWN_TOPIC_OR_PART))
    with pytest.raises(LogError) as missing:
        await ask(client)
    assert missing.value.code == "CP505"
    assert (client.asked, client.looked) == (1, 0)
    with pytest.raises(Refused) as refused:
        await ask(Client(error(KafkaError.TOPIC_AUTHORIZATION_FAILED)))
    assert "may not Describe topic orders" in refused.value.text


@both
async def test_no_record_of_such_a_time_is_an_answer(ask: Ask) -> None:
    client = Client(NONE)
    assert await ask(client) == NONE
    assert client.asked == 1


async def test_who_does_not_wait_gets_what_says_try_again() -> None:
    inquiry = Inquiry(Cluster("kafka://127.0.0.1:1"))
    inquiry.__dict__["_client"] = Client(-1001)
    with pytest.raises(Retriable):
        await inquiry.starts([SPOT])


def test_each_partition_has_its_own_answer() -> None:
    answers = offsets_of(Client(3), {("a", 0): 0, ("b", 1): 0}, committed=False, seconds=1)
    assert answers == {("a", 0): 3, ("b", 1): 3}
