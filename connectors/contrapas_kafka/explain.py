"""What an error of the client means: one of the seam's three errors, or why nothing can go on, with the command that mends it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError, KafkaException

from contrapas.errors import (
    ContrapasError,
    Damaged,
    DataError,
    Fenced,
    Indeterminate,
    LogError,
    Refused,
    Retriable,
    Unreachable,
)

if TYPE_CHECKING:
    from contrapas_kafka.options import Cluster

_WHERE: Final = re.compile(r"^\w+://\S+: (?=\S)| \(after \d+ms in state [^)]*\)$")
"""What the client puts around its sentence: the address of the broker, and how far it was."""
FAILURES: Final = (KafkaException, OSError, TimeoutError)
"""What a call of the client may raise, beside the errors of its arguments."""

_AWAY: Final = frozenset(
    [
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._RESOLVE,
        KafkaError._TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._MSG_TIMED_OUT,
        KafkaError._WAIT_COORD,
        KafkaError._UNKNOWN_BROKER,
        KafkaError._DESTROY,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NETWORK_EXCEPTION,
    ]
)
"""No answer, or nobody to ask."""

_SOON: Final = frozenset(
    [
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.NOT_CONTROLLER,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.UNSTABLE_OFFSET_COMMIT,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.THROTTLING_QUOTA_EXCEEDED,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError._QUEUE_FULL,
        KafkaError._WAIT_CACHE,
        KafkaError._NOENT,  # no partition has a leader that the client knows of
        KafkaError._IN_PROGRESS,
        KafkaError._PREV_IN_PROGRESS,
        KafkaError._STATE,
    ]
)
"""The broker said no for now: nothing was done."""

_UNCLEAR: Final = frozenset(
    [
        KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
        KafkaError.UNKNOWN_PRODUCER_ID,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError._GAPLESS_GUARANTEE,
        KafkaError._FATAL,
        KafkaError._PURGE_INFLIGHT,
        KafkaError._INCONSISTENT,
    ]
)
"""What was sent may stand there, or not: after these a producer is made anew."""

_KEYS: Final = frozenset([KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED])
_MECHANISM: Final = frozenset([KafkaError.UNSUPPORTED_SASL_MECHANISM, KafkaError.ILLEGAL_SASL_STATE])
MISSING: Final = frozenset(
    [KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION]
)
_OTHER_TOPIC: Final = frozenset([KafkaError.UNKNOWN_TOPIC_ID, KafkaError.INCONSISTENT_TOPIC_ID])
_POSITION: Final = frozenset([KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET])
_LARGE: Final = frozenset(
    [KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE, KafkaError.INVALID_MSG_SIZE]
)
_OLD: Final = frozenset(
    [
        KafkaError.UNSUPPORTED_VERSION,
        KafkaError._UNSUPPORTED_FEATURE,
        KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT,
    ]
)
_TORN: Final = frozenset([KafkaError.INVALID_MSG, KafkaError._BAD_MSG, KafkaError._BAD_COMPRESSION])
_GROUP_LOST: Final = frozenset(
    [
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.FENCED_MEMBER_EPOCH,
        KafkaError.STALE_MEMBER_EPOCH,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.UNRELEASED_INSTANCE_ID,
        KafkaError._MAX_POLL_EXCEEDED,
        KafkaError._ASSIGNMENT_LOST,
    ]
)

_FORBIDDEN: Final = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "topic",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "group",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "cluster",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "transactional-id",
}


def error_of(why: BaseException) -> KafkaError | None:
    """The client's error inside of an exception."""
    if isinstance(why, KafkaException) and why.args and isinstance(why.args[0], KafkaError):
        return why.args[0]
    return None


def code_of(why: BaseException | KafkaError | None) -> int | None:
    """Its number; None where there is none."""
    error = why if isinstance(why, KafkaError) else error_of(why) if why is not None else None
    return None if error is None else int(error.code())


def is_position(error: KafkaError) -> bool:
    """Whether it says that there is no such offset."""
    return error.code() in _POSITION


def is_groups(error: KafkaError) -> bool:
    """Whether it speaks of the group that a reader must name and never joins: it is no reason not to read."""
    return error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED


def is_refusal(error: KafkaError) -> bool:
    """Whether a topic says of a record what it will say again: too large, not taken so, not allowed, not there."""
    code = error.code()
    return code in _LARGE or code in _FORBIDDEN or code in MISSING or code == KafkaError.INVALID_RECORD


def is_fatal(error: KafkaError) -> bool:
    """Whether the client that said it can do nothing more: a new one is made."""
    return bool(error.fatal()) or error.code() in (KafkaError._FATAL, KafkaError._GAPLESS_GUARANTEE)


def explain(
    why: Exception | KafkaError,
    cluster: Cluster,
    *,
    sent: bool,
    resource: str = "",
    operation: str = "",
    place: str = "",
) -> ContrapasError:
    """The error as ours. sent: a record, or a change, was on its way, so that nobody knows what became of it if no answer
    came. resource, operation: what was asked for (`shop.log`, `Write`), for a right that is missing."""
    if isinstance(why, ContrapasError):
        return why
    where = place or resource or cluster.place
    error = why if isinstance(why, KafkaError) else error_of(why)
    if error is None:
        return _without_code(str(why), why, cluster, where, sent)
    code, words = int(error.code()), cluster.scrub(_words(error))
    if code in _FORBIDDEN:
        return forbidden(cluster, _FORBIDDEN[code], resource, operation, words)
    if code in _UNCLEAR or (sent and code in _AWAY):
        return Indeterminate(f"Kafka gave no clear answer: {words}", place=where)
    if code in _AWAY:
        return Retriable(f"Kafka does not answer: {words}", place=where)
    if code in _SOON:
        return Retriable(f"Kafka cannot do it now: {words}", place=where)
    if code in _GROUP_LOST:
        return Fenced(f"the group goes on without this member: {words}", place=where)
    if (found := _of_data(code, words, where)) is not None:
        return found
    return _for_good(code, words, cluster, where)


def _of_data(code: int, words: str, where: str) -> ContrapasError | None:
    """What is wrong with a record, a position, or a topic."""
    if code in _LARGE:
        return DataError("CP409", f"a record is too large for its topic: {words}", place=where)
    if code == KafkaError.INVALID_RECORD:
        return DataError("CP413", f"the topic refuses the record: {words}", place=where)
    if code in _TORN:
        return Damaged(
            "CP520",
            f"the broker's bytes are damaged: {words}",
            expected="its checksum",
            got=words,
            place=where,
        )
    if code in _POSITION:
        return LogError("CP519", f"there is no such position any more: {words}", place=where)
    if code in _OTHER_TOPIC:
        text = f"the topic is another one than before, of the same name: {words}"
        return LogError("CP506", text, fix="contrapas doctor; contrapas explain CP506", place=where)
    return None


def _for_good(code: int, words: str, cluster: Cluster, where: str) -> ContrapasError:
    """What trying again does not change."""
    if code in MISSING:
        return LogError("CP505", f"the topic does not exist: {words}", fix=creation(cluster), place=where)
    if code in _KEYS:
        return keyless(cluster, words)
    if code in _MECHANISM:
        fix = "take another sasl.mechanism, or have the broker enable this one"
        return Refused(
            "CP821", f"the broker does not know this way to log in: {words}", fix=fix, place=cluster.place
        )
    if code == KafkaError._SSL:
        return untrusted(cluster, words)
    if code in _OLD:
        text = f"the broker does not know this request: {words}"
        return Refused("CP518", text, fix="update it to Kafka 3.3 or newer", place=cluster.place)
    if code in (KafkaError._FS, KafkaError._INVALID_ARG):
        return _unusable(words.removeprefix("Failed to create admin client: "), cluster)
    return Unreachable(
        "CP501", f"Kafka cannot do it: {words}", again=False, fix="contrapas doctor --log URL", place=where
    )


def _unusable(words: str, cluster: Cluster) -> Refused:
    """An option that the client does not take: mostly a file, of which it says little."""
    name, _, rest = words.partition(" failed: ")
    path = cluster.file(name)
    if rest and path:
        try:
            with open(path, "rb"):
                why = "it holds nothing of the kind, or not in PEM"
        except OSError as no:
            why = no.strerror or type(no).__name__
        words = f"{name}={path}: {why}"
    fix = "correct the option; of a file its path, owner and mode"
    return Refused("CP801", f"the address cannot be used: {words}", fix=fix, place=cluster.place)


def _without_code(said: str, why: object, cluster: Cluster, where: str, sent: bool) -> ContrapasError:
    """A deadline of ours, a socket, an argument that the client refuses."""
    words = cluster.scrub((said or type(why).__name__).split("\n")[0][:300])
    if isinstance(why, TimeoutError):
        words = "no answer in time"
    if isinstance(
        why, OSError | TimeoutError | KafkaException | RuntimeError
    ):  # RuntimeError: the client was closed
        return (
            Indeterminate(words, place=where)
            if sent
            else Retriable(f"Kafka does not answer: {words}", place=where)
        )
    return Refused("CP801", f"the client refuses: {words}", fix="correct the address", place=cluster.place)


def explain_connecting(
    why: Exception | None, said: list[KafkaError], cluster: Cluster, tries: str = ""
) -> ContrapasError:
    """Why there is no connection. said: what the client reported meanwhile, which is clearer than its last word."""
    if isinstance(why, ContrapasError):
        return why
    for error in refusing(said):
        return _tls_or_keys(error, cluster)
    clear = [e for e in said if e.code() in (KafkaError._RESOLVE, KafkaError._TRANSPORT)]
    last = clear[-1] if clear else None if why is None else error_of(why)
    if (
        last is None
        and why is not None
        and error_of(why) is None
        and not isinstance(why, OSError | TimeoutError)
    ):
        return explain(why, cluster, sent=False)
    if last is not None and last.code() not in _AWAY:
        return explain(last, cluster, sent=False)
    words = _words(last) if last is not None else str(why) if isinstance(why, OSError) else ""
    reason = reason_of(cluster.scrub(words)) if words else "no answer"
    more = f", {tries}" if tries else ""
    servers = cluster.servers if len(cluster.servers) < 100 else cluster.servers[:97] + "…"
    return Unreachable(
        "CP501",
        f"cannot reach Kafka at {servers} ({reason}{more})",
        fix="start the broker, correct the address, or use the built-in log: leave --log out",
    )


def reason_of(words: str) -> str:
    """The end of the client's sentence in plain words."""
    low = words.lower()
    for sign, plain in (
        ("connection refused", "connection refused"),
        ("failed to resolve", "no such host"),
        ("host resolution", "no such host"),
        ("name or service not known", "no such host"),
        ("name resolution", "no such host"),
        ("nodename nor servname", "no such host"),
        ("no route to host", "no route to the host"),
        ("network is unreachable", "the network is unreachable"),
        ("timed out", "no answer"),
        ("connection setup timed out", "no answer"),
        ("disconnected", "the other side hangs up: is TLS or SASL expected there?"),
        ("connection reset", "the other side hangs up: is TLS or SASL expected there?"),
    ):
        if sign in low:
            return plain
    return words[:160]


def refusing(said: list[KafkaError]) -> list[KafkaError]:
    """What of the client's reports says that we are not let in, and will not be by trying again."""
    return [e for e in said if e.code() in _KEYS | _MECHANISM or e.code() == KafkaError._SSL or _alert(e)]


def _alert(error: KafkaError) -> bool:
    """Whether the broker ended the connection with an alert of TLS: our certificate is missing, too old, or a stranger's."""
    return (
        error.code() == KafkaError._TRANSPORT and "SSL routines" in error.str() and " alert " in error.str()
    )


def _tls_or_keys(error: KafkaError, cluster: Cluster) -> ContrapasError:
    words = cluster.scrub(_words(error))
    if error.code() == KafkaError._SSL:
        return untrusted(cluster, words)
    return unwelcome(cluster, words) if _alert(error) else _for_good(int(error.code()), words, cluster, "")


def keyless(cluster: Cluster, words: str) -> Refused:
    """The broker does not believe that we are who we say."""
    fix = "correct sasl.username, the secret that sasl.password refers to, or sasl.mechanism"
    return Refused(
        "CP821", f"the broker lets nobody in as {cluster.user}: {words}", fix=fix, place=cluster.place
    )


def untrusted(cluster: Cluster, words: str) -> Refused:
    """The certificate, ours or the broker's, or its name, is not accepted."""
    fix = "ssl.ca.location=/path/ca.pem of the broker's authority; the host as its certificate names it"
    return Refused("CP803", f"no TLS with the broker: {words}", fix=fix, place=cluster.place)


def unwelcome(cluster: Cluster, words: str) -> Refused:
    """The broker asks for a certificate of ours, and takes none or not this one."""
    reason = words.partition(" alert ")[2].partition(":")[0]
    fix = "ssl.certificate.location=/path/cert.pem and ssl.key.location=/path/key.pem that the broker's authority has signed"
    if cluster.certified:
        text = f"the broker does not accept our certificate ({reason})"
        fix += "; openssl x509 -noout -dates -issuer -in cert.pem shows until when, and by whom"
    else:
        text = f"the broker asks for a certificate of ours ({reason})"
    return Refused("CP803", text, fix=fix, place=cluster.place)


def needs_tls(cluster: Cluster, where: str) -> Refused:
    """What listens there speaks TLS, and we did not."""
    how = "sasl_ssl" if cluster.protocol.startswith("sasl_") else "ssl, or sasl_ssl with sasl.mechanism"
    fix = f"add security.protocol={how}, and ssl.ca.location=/path/ca.pem of the broker's authority"
    return Refused("CP803", f"{where} expects TLS, and the address says none", fix=fix, place=cluster.place)


def without_tls(cluster: Cluster) -> Unreachable:
    """Somebody listens there and speaks no TLS."""
    fix = "the port of a listener with TLS; security.protocol=plaintext on this machine or for development"
    return Unreachable(
        "CP501", f"cannot reach Kafka at {cluster.servers[:100]} (no TLS is spoken there)", fix=fix
    )


def forbidden(cluster: Cluster, kind: str, name: str, operation: str, words: str = "") -> Refused:
    """A right that is missing: principal, resource, operation, and the command that gives it."""
    operation = operation or ("Read" if kind == "group" else "Describe")
    flag = "--cluster" if kind == "cluster" else f"--{kind} '{name or '…'}'"
    fix = f"kafka-acls.sh --bootstrap-server {cluster.servers.split(',')[0]} --add --allow-principal '{cluster.user}' "
    what = f"{kind} {name}".strip()
    text = f"{cluster.user} may not {operation} {what}"
    return Refused("CP822", text, fix=fix + f"--operation {operation} {flag}", place=name or cluster.place)


def creation(cluster: Cluster, namespace: str = "NS", topics: str = "") -> str:
    """The command that makes what is missing."""
    return f"contrapas topic create --log '{cluster.place}' --namespace {namespace}{topics} --apply"


def _words(error: Any) -> str:
    words = (str(error.str()) or str(error.name())).split("\n")[0]
    return _WHERE.sub("", words)[:300]
