"""The rules of one transaction, as data: no I/O, no clock.

A transaction's life, and what may be sent when:

    READY --offsets--> RESERVED --produce--> WRITTEN --commit--> READY (next producer epoch)
      |                   |                     |
      +-------- an error that no retry can help: BROKEN --abort--> READY (next producer epoch)
                                                   +--- another process has the identity ---> DEAD

1. Offsets first: accepted offsets reserve the partitions for this transaction (KIP-447), and no record of a partition
   is produced before its offsets were accepted in the same transaction.
2. EndTxn(commit) is sent only from WRITTEN: every request of the transaction was answered, without an error for any
   partition. The broker forgets a request that it refused, and would commit the other requests.
3. After EndTxn(commit) was sent, EndTxn(abort) may be sent only when EndTxn(commit) cannot be in flight any more.
4. The reply of EndTxn brings the next producer epoch, sometimes with a new producer id. Sequences then restart at 0
   (KIP-890).
5. `TRANSITIONS` has the steps that were answered without an error. After an error the writer sets BROKEN or DEAD. After
   a stale member epoch the transaction keeps its state.

The same error means different things at different steps. `ACTIONS` is the table of Kafka's Java client
(TransactionManager, Sender), with corrections from our own measurements.
"""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any

from kio.schema.errors import ErrorCode as E


class TransactionStep(Enum):
    INIT = "InitProducerId"
    OFFSETS = "TxnOffsetCommit"
    PRODUCE = "Produce"
    COMMIT = "EndTxn(commit)"
    ABORT = "EndTxn(abort)"


class Action(Enum):
    DONE = "the step is done"
    RETRY = "send the same bytes again after a short pause"
    FIND = "find the coordinator or the leader again, then send the same bytes"
    RESTAMP = "the member epoch is stale: send a heartbeat, drop the lost partitions, send the offsets again"
    REJOIN = "the membership is over: drop everything uncommitted, join again"
    DROP = "drop everything uncommitted; our own EndTxn(abort) then tells how the transaction ended"
    WON = "our own EndTxn(commit) took effect: send it again to get the next producer id and epoch"
    REFUSED = "the broker will never take these records: stop their partition, the others go on"
    SUPERSEDED = "another process has the identity: exit"
    FATAL = "no retry can help: exit with the broker's answer"


class TransactionState(Enum):
    READY = "ready"
    RESERVED = "open, with its offsets accepted"
    WRITTEN = "open, with all its records accepted"
    BROKEN = "broken, and must be aborted"
    DEAD = "superseded"


#: the state after each legal step that is answered without an error; a step without a row is a bug in the engine
TRANSITIONS: Mapping[tuple[TransactionState, TransactionStep], TransactionState] = {
    (TransactionState.READY, TransactionStep.OFFSETS): TransactionState.RESERVED,
    (TransactionState.RESERVED, TransactionStep.PRODUCE): TransactionState.WRITTEN,
    (TransactionState.WRITTEN, TransactionStep.COMMIT): TransactionState.READY,
    (TransactionState.READY, TransactionStep.ABORT): TransactionState.READY,
    (TransactionState.RESERVED, TransactionStep.ABORT): TransactionState.READY,
    (TransactionState.WRITTEN, TransactionStep.ABORT): TransactionState.READY,
    (TransactionState.BROKEN, TransactionStep.ABORT): TransactionState.READY,
}

#: the step that a transaction without offsets has besides: of the control topic, or of a new changelog
AFTER_RECORDS_ALONE: Mapping[tuple[TransactionState, TransactionStep], TransactionState] = {
    (TransactionState.READY, TransactionStep.PRODUCE): TransactionState.WRITTEN,
}

_WAIT = (
    E.concurrent_transactions, E.coordinator_load_in_progress, E.network_exception, E.request_timed_out,
)  # fmt: skip
_MOVED = (
    E.not_coordinator, E.coordinator_not_available, E.not_leader_or_follower, E.fenced_leader_epoch,
    E.leader_not_available, E.unknown_leader_epoch,
)  # fmt: skip
_REPLICAS = (
    E.not_enough_replicas,  # a broker also answers so while the previous transaction's markers are pending
    E.not_enough_replicas_after_append, E.kafka_storage_error, E.offset_not_available,
)  # fmt: skip
_UNACCEPTABLE = (
    E.message_too_large,
    E.record_list_too_large,
    E.invalid_record,
    E.invalid_timestamp,
    E.policy_violation,
)
_DOUBT = (E.producer_fenced, E.invalid_producer_epoch, E.invalid_txn_state, E.invalid_producer_id_mapping)
_DENIED = (
    E.transactional_id_authorization_failed, E.cluster_authorization_failed, E.topic_authorization_failed,
    E.group_authorization_failed, E.unsupported_version, E.unsupported_for_message_format,
)  # fmt: skip

_EVERYWHERE: Mapping[E, Action] = {
    E.none: Action.DONE,
    **dict.fromkeys(_WAIT, Action.RETRY),
    **dict.fromkeys(_MOVED, Action.FIND),
    **dict.fromkeys(_DOUBT, Action.DROP),
    **dict.fromkeys(_DENIED, Action.FATAL),
}

ACTIONS: Mapping[TransactionStep, Mapping[E, Action]] = {
    TransactionStep.INIT: _EVERYWHERE,
    TransactionStep.OFFSETS: {
        **_EVERYWHERE,
        E.unknown_topic_or_partition: Action.RETRY,
        E.illegal_generation: Action.RESTAMP,
        E.stale_member_epoch: Action.RESTAMP,
        E.unknown_member_id: Action.REJOIN,
        E.fenced_instance_id: Action.REJOIN,
    },
    TransactionStep.PRODUCE: {
        **_EVERYWHERE,
        **dict.fromkeys(_REPLICAS, Action.RETRY),
        **dict.fromkeys(_UNACCEPTABLE, Action.REFUSED),
        E.unknown_topic_or_partition: Action.FIND,
        E.duplicate_sequence_number: Action.DONE,  # the broker took the first try, and its reply was lost
    },
    TransactionStep.COMMIT: _EVERYWHERE,
    TransactionStep.ABORT: {
        **_EVERYWHERE,
        E.invalid_txn_state: Action.WON,
        E.producer_fenced: Action.SUPERSEDED,
        E.invalid_producer_epoch: Action.SUPERSEDED,
        E.invalid_producer_id_mapping: Action.SUPERSEDED,
    },
}


def action_for(step: TransactionStep, error: E) -> Action:
    """What the engine does when `error` answers `step`.

    An error without a row is FATAL at INIT and ABORT. At the other steps such an error leaves a doubt: the engine drops
    everything uncommitted and asks how the transaction ended.
    """
    unknown = Action.FATAL if step in (TransactionStep.INIT, TransactionStep.ABORT) else Action.DROP
    return ACTIONS[step].get(error, unknown)


#: another process, or another member, has what the request names: Kafka fenced this worker
FENCINGS = frozenset(
    (E.producer_fenced, E.invalid_producer_epoch, E.stale_member_epoch, E.illegal_generation, E.fenced_instance_id)
)


class IllegalTransition(AssertionError):
    """The engine tried a step that its transaction does not allow, or an event that a partition's state does not allow.

    This is a bug in the engine. The process must stop writing.
    """


def after(
    state: TransactionState,
    step: TransactionStep,
    extra: Mapping[tuple[TransactionState, TransactionStep], TransactionState] = MappingProxyType({}),
) -> TransactionState:
    """The state after `step` was answered without an error. `extra` has more legal steps.

    Call this before the request of `step` is sent: it raises IllegalTransition for a step that is not legal.
    """
    following = TRANSITIONS.get((state, step)) or extra.get((state, step))
    if following is None:
        raise IllegalTransition(f"{step.value} while the transaction is {state.value}")
    return following


class Doubt(Exception):
    """The open transaction cannot be committed, or its outcome is unknown. Drop all of it and recover from Kafka."""

    def __init__(self, step: TransactionStep | None, reason: str) -> None:
        super().__init__(reason if step is None else f"{step.value}: {reason}")


class Refused(Doubt):
    """The broker will never accept a record batch of one partition.

    `Commits` sets `failure`: the source records whose fold wrote the batch.
    """

    def __init__(self, topic: str, partition: int, reason: str) -> None:
        super().__init__(TransactionStep.PRODUCE, f"{topic}-{partition} {reason}")
        self.topic = topic
        self.partition = partition
        self.reason = reason
        self.failure: Any = None


class StaleEpoch(Doubt):
    """TxnOffsetCommit was refused for its member epoch. No offset is pending, and the transaction stays usable."""


class MembershipBroken(Doubt):
    """The membership is over: the records that were read under it are void."""
