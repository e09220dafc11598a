"""The transaction coordinator: transactions v2 (KIP-890), as Kafka 4.3 answers.

    EMPTY --first write--> ONGOING --EndTxn--> PREPARED --markers--> EMPTY (next epoch)

1. EndTxn decides the transaction before its answer. The epoch has grown by then, and the markers follow.
2. A repeated EndTxn with the epoch before gets the same answer; the other verdict is refused. After an InitProducerId
   both are refused. A repeated InitProducerId gets the same answer too.
3. A transaction that takes longer than its time-out is aborted, which also fences its epoch.
4. The end after LAST_EPOCH brings a new producer id.
5. The coordinator forgets an id that had no transaction, not even an empty one, for `expiration_seconds`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from kio.schema.errors import ErrorCode as E

LAST_EPOCH = 32_766
EXPIRATION_SECONDS = 7 * 24 * 3600.0  # transactional.id.expiration.ms
Place = tuple[str, int]
GROUP_PLACE = "\x00group"  # a group's offsets are a place of a transaction like any partition


class State(Enum):
    EMPTY = "empty"
    ONGOING = "ongoing"
    PREPARED = "prepared"


class Pair(NamedTuple):
    producer_id: int
    epoch: int


@dataclass(slots=True)
class Transactional:
    """One transactional id."""

    name: str
    pair: Pair
    timeout: float
    state: State = State.EMPTY
    #: the pair before the last one, which a retry names; and how its transaction ended, None after InitProducerId
    last_pair: Pair | None = None
    was_committed: bool | None = None
    places: set[Place] = field(default_factory=set)
    began: float = 0.0
    #: when the coordinator last wrote to its log about the id
    changed: float = 0.0
    #: grows with each end: work that is scheduled for an older number is void
    number: int = 0


#: told that a transaction has ended: its id, the pair that wrote it, the epoch of its markers, places, committed
Ended = Callable[[Transactional, Pair, frozenset[Place], bool], None]


class TransactionCoordinator:
    def __init__(self, clock: Callable[[], float], ended: Ended) -> None:
        self._clock = clock
        self._ended = ended
        self._ids: dict[str, Transactional] = {}
        self._next_producer_id = 1000
        #: the first epoch of a new transactional id; near LAST_EPOCH the first producer id ends soon
        self.first_epoch = 0
        self.expiration_seconds = EXPIRATION_SECONDS

    def get(self, name: str) -> Transactional | None:
        return self._ids.get(name)

    # -- requests

    def init(self, name: str, timeout: float, own: Pair | None = None) -> tuple[E, Pair]:
        """InitProducerId. Without a pair it fences the id's owner; with the own pair it ends the transaction."""
        known = self._ids.get(name)
        if known is None:
            known = self._ids[name] = Transactional(name, Pair(self._new_id(), self.first_epoch), timeout)
            known.changed = self._clock()
            return E.none, known.pair
        if own is not None and own not in (known.pair, known.last_pair):
            return E.producer_fenced, Pair(-1, -1)
        if known.state is State.PREPARED:
            return E.concurrent_transactions, Pair(-1, -1)
        if known.state is State.ONGOING:
            self._end(known, is_committed=False)
            return E.concurrent_transactions, Pair(-1, -1)
        known.was_committed = None
        if own is not None and own == known.last_pair:
            return E.none, known.pair
        known.timeout, known.changed = timeout, self._clock()
        known.last_pair = own
        known.pair = self._next(known.pair)
        return E.none, known.pair

    def add(self, name: str, pair: Pair, place: Place) -> E:
        """The first write to a place adds the place to the transaction."""
        known = self._ids.get(name)
        if known is None or known.pair.producer_id != pair.producer_id:
            return E.invalid_producer_id_mapping
        if known.pair.epoch != pair.epoch:
            return E.invalid_producer_epoch
        if known.state is State.PREPARED:
            return E.concurrent_transactions
        if known.state is State.EMPTY:
            known.state, known.began = State.ONGOING, self._clock()
        known.places.add(place)
        return E.none

    def end(self, name: str, pair: Pair, *, is_committed: bool) -> tuple[E, Pair]:
        known = self._ids.get(name)
        none = Pair(-1, -1)
        if known is None:
            return E.invalid_producer_id_mapping, none
        is_retry = known.was_committed is not None and pair == known.last_pair
        if pair != known.pair and (not is_retry or known.state is State.ONGOING):
            is_mapped = pair.producer_id == known.pair.producer_id
            return (E.producer_fenced if is_mapped else E.invalid_producer_id_mapping), none
        if known.state is State.ONGOING:
            return E.none, self._end(known, is_committed=is_committed)
        if is_retry:
            if known.was_committed is not is_committed:
                return E.invalid_txn_state, none
            if known.state is State.PREPARED:
                return E.concurrent_transactions, none
            return E.none, known.pair
        if known.state is State.PREPARED:
            return E.concurrent_transactions, none
        if is_committed:
            return E.invalid_txn_state, none
        return E.none, self._end(known, is_committed=False)

    # -- by itself

    def expire(self, has_coordinator: Callable[[str], bool]) -> None:
        """Abort old open transactions and forget idle ids, if the id has a coordinator that works."""
        now = self._clock()
        for known in list(self._ids.values()):
            is_late = known.state is State.ONGOING and now - known.began > known.timeout
            is_idle = known.state is State.EMPTY and now - known.changed > self.expiration_seconds
            if (is_late or is_idle) and has_coordinator(known.name):
                if is_idle:
                    del self._ids[known.name]
                else:
                    self._end(known, is_committed=False)

    def finished(self, name: str, number: int) -> None:
        """Every marker of the id's transaction `number` is written."""
        known = self._ids[name]
        if known.number == number:
            known.state, known.changed = State.EMPTY, self._clock()

    def _end(self, known: Transactional, *, is_committed: bool) -> Pair:
        written_by, places = known.pair, frozenset(known.places)
        known.last_pair, known.was_committed = known.pair, is_committed
        known.pair = self._next(known.pair)
        known.places.clear()
        known.state = State.PREPARED
        known.number += 1
        self._ended(known, written_by, places, is_committed)
        return known.pair

    def _next(self, pair: Pair) -> Pair:
        if pair.epoch >= LAST_EPOCH:
            return Pair(self._new_id(), 0)
        return Pair(pair.producer_id, pair.epoch + 1)

    def _new_id(self) -> int:
        self._next_producer_id += 1
        return self._next_producer_id
