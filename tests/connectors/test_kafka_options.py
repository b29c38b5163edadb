"""The address of a Kafka cluster: what may stand in it, what is refused and with which words, and that no secret is ever shown."""

from __future__ import annotations

import base64
import copy
import json
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from contrapas.errors import ContrapasError, Damaged, DataError, Fenced, Indeterminate, Refused, Retriable
from contrapas_kafka.allowed import ALLOWED, GROUP, OURS, SECRET
from contrapas_kafka.explain import explain, explain_connecting
from contrapas_kafka.options import Cluster

WORD = "hunter2-hunter2"
ENV = {"KAFKA_PASSWORD": WORD, "KAFKA_USER": "sagas"}


def refused(url: str, **more: bool) -> ContrapasError:
    with pytest.raises(ContrapasError) as caught:
        Cluster(url, environ=ENV, **more)
    return caught.value


# ---- what is there


def test_hosts_have_the_usual_port_and_may_be_several() -> None:
    assert Cluster("kafka://a.example.com").servers == "a.example.com:9092"
    assert Cluster("kafka://a:9093,b,[::1]:19092").servers == "a:9093,b:9092,[::1]:19092"
    assert Cluster("kafka://a:9093,b").place == "kafka://a:9093,b:9092"


def test_the_safest_protocol_is_taken_that_the_other_options_speak_of() -> None:
    assert Cluster("kafka://localhost").protocol == "plaintext"
    assert Cluster("kafka://k?ssl.ca.location=/etc/ca.pem").protocol == "ssl"
    url = "kafka://k?sasl.mechanism=scram-sha-512&sasl.username=sagas&sasl.password=env:KAFKA_PASSWORD"
    cluster = Cluster(url, environ=ENV)
    assert cluster.protocol == "sasl_ssl"
    assert cluster.settings()["sasl.mechanism"] == "SCRAM-SHA-512"
    assert cluster.settings()["sasl.password"] == WORD


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_the_client_takes_every_mechanism_that_is_offered(mechanism: str) -> None:
    url = f"kafka://127.0.0.1:1?sasl.mechanism={mechanism}&sasl.username=env:KAFKA_USER&sasl.password=env:KAFKA_PASSWORD"
    Producer(Cluster(url, environ=ENV).producer())


def test_a_bearer_token_is_read_from_its_file_again_and_again(tmp_path: Path) -> None:
    file = tmp_path / "token"
    body = base64.urlsafe_b64encode(json.dumps({"sub": "sagas", "exp": 4_000_000_000}).encode()).decode()
    file.write_text(f"e30.{body.rstrip('=')}.\n")
    file.chmod(0o600)
    cluster = Cluster(f"kafka://127.0.0.1:1?sasl.mechanism=OAUTHBEARER&sasl.oauthbearer.token=file:{file}")
    source = cluster.settings()["oauth_cb"]
    assert source("") == (file.read_text().strip(), 4_000_000_000.0)
    file.write_text("another")
    assert source("")[0] == "another"
    Producer(cluster.producer())


def test_the_client_takes_the_settings_of_every_role() -> None:
    cluster = Cluster("kafka://127.0.0.1:1?client.id=shop-1&compression.type=lz4&session.timeout.ms=9000")
    Producer(cluster.producer())
    AdminClient(cluster.admin())
    for committed in (True, False):
        Consumer(cluster.reader("shop.reader", committed=committed)).close()
    for classic in (True, False):
        Consumer(cluster.member("shop.workers", classic=classic)).close()


def test_what_our_guarantees_rest_on_is_set() -> None:
    cluster = Cluster("kafka://127.0.0.1:1")
    made = cluster.producer()
    assert made["acks"] == "all"
    assert made["enable.idempotence"] is made["enable.gapless.guarantee"] is True
    assert (made["message.timeout.ms"], made["linger.ms"], made["partitioner"]) == (0, 0, "murmur2")
    read = cluster.reader("g", committed=True)
    assert read["enable.auto.commit"] is read["enable.auto.offset.store"] is False
    assert read["isolation.level"] == "read_committed"
    assert read["auto.offset.reset"] == "error"
    assert cluster.reader("g", committed=False)["isolation.level"] == "read_uncommitted"
    assert cluster.member("g", classic=True)["partition.assignment.strategy"] == "cooperative-sticky"
    assert "session.timeout.ms" not in cluster.member("g", classic=False)
    assert "group.instance.id" not in cluster.member("g", classic=True)


# ---- what is refused


@pytest.mark.parametrize(
    "url",
    [
        "kafka://",
        "kafka:///shop",
        "kafka://host:0",
        "kafka://host:99999",
        "kafka://host:port",
        "kafka://host,",
        "kafka://a b",
        "kafka://host/shop",
        "kafka://host#shop",
        "kafka:host:9092",
        "kafka://[::1",
    ],
)
def test_an_address_that_names_no_broker_is_refused_with_the_form(url: str) -> None:
    why = refused(url)
    assert why.code == "CP501"
    assert "kafka://host:9092" in why.fix


@pytest.mark.parametrize("name", sorted(OURS))
def test_an_option_that_our_guarantees_fix_is_refused_with_its_reason(name: str) -> None:
    why = refused(f"kafka://localhost?{name}=1")
    assert why.code == "CP801"
    assert f"{name} is not for choice: {OURS[name]}" in why.text
    assert f"take {name} out" in why.fix


def test_an_unknown_option_is_refused_with_the_nearest() -> None:
    why = refused("kafka://localhost?ssl.ca.locaton=/etc/ca.pem")
    assert why.code == "CP801"
    assert "'ssl.ca.locaton'" in why.text
    assert why.fix == "did you mean ssl.ca.location?"
    assert "take it out" in refused("kafka://localhost?colour=red").fix


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("security.protocol=tls", "none of plaintext, ssl"),
        ("sasl.mechanism=GSSAPI", "none of PLAIN, SCRAM-SHA-256"),
        ("enable.ssl.certificate.verification=maybe", "none of true, false"),
        ("ssl.endpoint.identification.algorithm=", "is empty"),
        ("socket.timeout.ms=soon", "no number from 1000 to 60000"),
        ("socket.timeout.ms=999999999999999999", "no number"),
        ("session.timeout.ms=1", "no number from"),
        ("session.timeout.ms=٣٠٠٠", "no number from"),
        ("group.protocol=static", "none of auto, classic, consumer"),
        ("client.id=a%0ab", "control characters"),
        ("compression.type=brotli", "none of zstd"),
        ("contrapas.dev=yes", "none of true, false"),
        ("client.id=a&client.id=b", "stands twice"),
        ("sasl.mechanism=PLAIN&sasl.mechanisms=PLAIN", "stands twice"),
        ("client.id=env:NAME", "takes no reference"),
    ],
)
def test_a_value_that_is_none_is_refused(option: str, words: str) -> None:
    why = refused(f"kafka://localhost?{option}")
    assert why.code == "CP801"
    assert words in why.text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("sasl.mechanism=PLAIN", "needs sasl.username"),
        ("sasl.mechanism=PLAIN&sasl.username=sagas", "needs sasl.password"),
        ("sasl.username=sagas", "without sasl.mechanism"),
        ("sasl.mechanism=OAUTHBEARER", "needs a token"),
        (
            "security.protocol=ssl&sasl.mechanism=PLAIN&sasl.username=a&sasl.password=env:KAFKA_PASSWORD",
            "has no SASL in it",
        ),
        ("ssl.certificate.location=/etc/me.pem", "its key belong together"),
        ("security.protocol=plaintext&ssl.ca.location=/etc/ca.pem", "without TLS"),
    ],
)
def test_options_that_need_others_are_refused(options: str, words: str) -> None:
    why = refused(f"kafka://localhost?{options}")
    assert why.code == "CP801"
    assert words in why.text


def test_everything_wrong_is_said_at_once() -> None:
    why = refused("kafka://localhost?acks=1&colour=red&socket.timeout.ms=x")
    assert len(why.text.splitlines()) == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("session.timeout.ms=6000&heartbeat.interval.ms=3000", "less than three heartbeats"),
        ("max.poll.interval.ms=5000", "below session.timeout.ms"),
    ],
)
def test_b57_times_that_contradict_each_other_are_refused(options: str, words: str) -> None:
    why = refused(f"kafka://localhost?{options}")
    assert why.code == "CP806"
    assert words in why.text


# ---- secrets


@pytest.mark.parametrize("name", sorted(SECRET))
def test_a_secret_in_the_address_is_refused_and_not_repeated(name: str) -> None:
    why = refused(f"kafka://localhost?{name}={WORD}")
    assert why.code == "CP802"
    assert f"{name}=env:KAFKA_" in why.fix
    assert WORD not in str(why) + why.fix + why.place + repr(why)


def test_a_password_before_the_host_is_refused_and_not_repeated() -> None:
    why = refused(f"kafka://sagas:{WORD}@broker.example.com:9093")
    assert why.code == "CP802"
    assert "kafka://broker.example.com:9093?sasl.username=sagas&sasl.password=env:KAFKA_PASSWORD" in why.fix
    assert WORD not in str(why) + why.fix + repr(why)


def test_no_secret_is_shown_anywhere(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("key-word-key-word\n")
    file.chmod(0o600)
    url = (
        "kafka://k?sasl.mechanism=PLAIN&sasl.username=sagas&sasl.password=env:KAFKA_PASSWORD"
        f"&ssl.key.password=file:{file}"
    )
    cluster = Cluster(url, environ=ENV)
    shown = repr(cluster) + str(cluster) + cluster.place + cluster.user
    assert WORD not in shown and "key-word" not in shown
    assert "sasl.password=env:KAFKA_PASSWORD" in cluster.place
    assert cluster.scrub(f"bad {WORD} and key-word-key-word") == "bad *** and ***"
    with pytest.raises(TypeError):
        copy.deepcopy(cluster)
    assert Cluster(cluster.place, environ=ENV).place == cluster.place


def test_an_error_that_quotes_a_secret_does_not_show_it() -> None:
    cluster = Cluster(
        "kafka://k?sasl.mechanism=PLAIN&sasl.username=sagas&sasl.password=env:KAFKA_PASSWORD", environ=ENV
    )
    for code in (KafkaError._AUTHENTICATION, KafkaError._TRANSPORT, KafkaError._SSL, KafkaError.UNKNOWN):
        error = KafkaError(code, f"cannot: {WORD}")
        for found in (
            explain(error, cluster, sent=True),
            explain_connecting(KafkaException(error), [error], cluster),
        ):
            assert WORD not in str(found) + found.fix + found.place


def test_a_reference_to_nothing_is_refused(tmp_path: Path) -> None:
    base = "kafka://k?sasl.mechanism=PLAIN&sasl.username=sagas&sasl.password="
    assert "there is no such variable" in refused(base + "env:NOWHERE").text
    assert "No such file" in refused(base + f"file:{tmp_path}/none").text
    empty = tmp_path / "empty"
    empty.touch(mode=0o600)
    assert "holds no text" in refused(base + f"file:{empty}").text
    assert refused(base + f"file:{tmp_path}").code == "CP801"


def test_b53_a_secret_file_that_everybody_can_read_is_refused_but_in_dev(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(WORD)
    file.chmod(0o644)
    url = f"kafka://k?sasl.mechanism=PLAIN&sasl.username=sagas&sasl.password=file:{file}"
    why = refused(url)
    assert why.code == "CP802"
    assert f"chmod 600 {file}" in why.fix
    assert Cluster(url, dev=True).settings()["sasl.password"] == WORD


# ---- the way to the broker


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("kafka://broker.example.com:9092", "records travel readable"),
        (
            "kafka://b?security.protocol=sasl_plaintext&sasl.mechanism=PLAIN&sasl.username=a&sasl.password=env:KAFKA_PASSWORD",
            "passwords and records travel readable",
        ),
        ("kafka://b?enable.ssl.certificate.verification=false", "certificate is not checked"),
        ("kafka://b?ssl.endpoint.identification.algorithm=none", "host name is not checked"),
    ],
)
def test_b54_an_unprotected_way_is_refused_but_in_dev(url: str, words: str) -> None:
    with pytest.raises(Refused) as caught:
        Cluster(url, environ=ENV).check_protected()
    assert caught.value.code == "CP803"
    assert words in caught.value.text
    Cluster(url, environ=ENV, dev=True).check_protected()
    joint = "&" if "?" in url else "?"
    Cluster(f"{url}{joint}contrapas.dev=true", environ=ENV).check_protected()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9092", "[::1]:9092", "127.8.9.1"])
def test_the_way_to_this_machine_needs_no_protection(host: str) -> None:
    Cluster(f"kafka://{host}").check_protected()


# ---- errors of the client

CLUSTER = Cluster("kafka://localhost:9092")


@pytest.mark.parametrize(
    ("code", "sent", "kind", "ours"),
    [
        (KafkaError._TRANSPORT, False, Retriable, "CP523"),
        (KafkaError._TRANSPORT, True, Indeterminate, "CP507"),
        (KafkaError._TIMED_OUT, True, Indeterminate, "CP507"),
        (KafkaError.REQUEST_TIMED_OUT, False, Retriable, "CP523"),
        (KafkaError.NOT_ENOUGH_REPLICAS, True, Retriable, "CP523"),
        (KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND, True, Indeterminate, "CP507"),
        (KafkaError._GAPLESS_GUARANTEE, True, Indeterminate, "CP507"),
        (KafkaError._FATAL, True, Indeterminate, "CP507"),
        (KafkaError._QUEUE_FULL, False, Retriable, "CP523"),
        (KafkaError.MSG_SIZE_TOO_LARGE, True, DataError, "CP409"),
        (KafkaError.RECORD_LIST_TOO_LARGE, True, DataError, "CP409"),
        (KafkaError.INVALID_RECORD, True, DataError, "CP413"),
        (KafkaError.INVALID_MSG, False, Damaged, "CP520"),
        (KafkaError.OFFSET_OUT_OF_RANGE, False, ContrapasError, "CP519"),
        (KafkaError.UNKNOWN_TOPIC_ID, False, ContrapasError, "CP506"),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, False, ContrapasError, "CP505"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, True, Refused, "CP822"),
        (KafkaError.GROUP_AUTHORIZATION_FAILED, False, Refused, "CP822"),
        (KafkaError.CLUSTER_AUTHORIZATION_FAILED, False, Refused, "CP822"),
        (KafkaError.SASL_AUTHENTICATION_FAILED, False, Refused, "CP821"),
        (KafkaError._SSL, False, Refused, "CP803"),
        (KafkaError.UNSUPPORTED_VERSION, False, Refused, "CP518"),
        (KafkaError.UNKNOWN_MEMBER_ID, False, Fenced, "CP522"),
    ],
)
def test_each_error_of_the_client_means_one_of_ours(
    code: int, sent: bool, kind: type[ContrapasError], ours: str
) -> None:
    error = KafkaError(code, "words of the client")
    for why in (error, KafkaException(error)):
        found = explain(why, CLUSTER, sent=sent)
        assert isinstance(found, kind)
        assert found.code == ours


def test_a_missing_right_is_named_with_principal_resource_operation_and_the_command() -> None:
    error = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    found = explain(error, CLUSTER, sent=True, resource="shop.log", operation="Write")
    assert found.text == "User:ANONYMOUS may not Write topic shop.log"
    assert "--allow-principal 'User:ANONYMOUS' --operation Write --topic 'shop.log'" in found.fix


def test_no_option_is_in_two_tables() -> None:
    assert not (set(ALLOWED) | set(GROUP) | SECRET) & set(OURS)
    assert not set(ALLOWED) & set(GROUP)
    assert not (set(ALLOWED) | set(GROUP)) & SECRET
