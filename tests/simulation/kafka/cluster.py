"""A simulated Kafka 4.3: brokers, leaders and coordinators around logs, transactions and groups.

    kafka = SimulatedKafka(random, brokers=3)          # in a running loop; all of it is the cluster's own context
    kafka.create_topic("events", partitions=4)
    engine = Engine(configuration, kafka.connections("w1"), ...)
    kafka.link("w1").lose_reply_of("EndTxn")           # network faults by client; brokers': kill_broker, pause_broker

1. A write that a broker has answered with success is on all replicas and is never lost. Brokers fail one at a time.
2. A request that reached its broker takes effect, whatever becomes of the client, and also if the broker dies before it
   answers.
3. While a leader or coordinator moves, there is none for a moment. A new coordinator loads its state first. At times it
   answers meanwhile that a group has no offsets, as a real one was seen to do. A paused broker wakes with old data
   (`past`). Markers and time-outs wait for a coordinator that has loaded.
4. `on_committed` hears of each committed transaction at the moment of the decision.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextvars import copy_context
from datetime import timedelta
from random import Random
from typing import Any
from uuid import UUID
from zlib import crc32

from aiokafka import errors as kafka_errors
from aiokafka.client import CoordinationType
from aiokafka.structs import TopicPartition
from kio.schema.errors import ErrorCode as E

from portfolio_stream.exactly_once.memory import MemoryRecord
from portfolio_stream.kafka.connections import Connections
from portfolio_stream.kafka.reader import BatchUnreadable
from portfolio_stream.kafka.record_batches import HEADER_BYTES, unreadable
from tests.simulation.kafka import answers
from tests.simulation.kafka.client import SimulatedConnections
from tests.simulation.kafka.groups import JOIN, Committed, Group
from tests.simulation.kafka.log import Batch, Log, read_produced
from tests.simulation.kafka.network import Link
from tests.simulation.kafka.past import Past
from tests.simulation.kafka.transactions import GROUP_PLACE, Pair, Place, Transactional, TransactionCoordinator

SESSION_SECONDS = 3.0
TICK_SECONDS = 0.5  # how often time-outs are checked
MARKER_SECONDS = (0.0005, 0.012)
LATE_MARKERS, LATE_MARKER_SECONDS = 0.03, 0.3  # the share of markers that take longer: 226 ms were seen
MARKER_RETRY_SECONDS = 0.1
ELECTION_SECONDS = (0.3, 2.5)  # until another broker leads the partitions of a silent one
LOADING_SECONDS = (0.05, 0.8)
STALE_SECONDS = 3.0  # at most, until a broker that wakes hears of its successors
STALE_FETCH_SECONDS = 0.02  # how long such a broker holds a fetch that finds nothing, as any broker does
FORGETFUL, FORGETFUL_SECONDS = 0.2, 2.0
MAX_MESSAGE_BYTES = 1_048_588  # Kafka's default
DELETE_RETENTION_SECONDS = 7 * 24 * 3600.0  # of the changelog, by contract
INTERNAL = 5  # partitions of each of Kafka's own topics
#: gets a transaction's owner, its records by topic and partition, and its source offsets
OnCommitted = Callable[[str, dict[Place, list[MemoryRecord]], dict[int, Committed]], None]


class SimulatedKafka:
    def __init__(self, random: Random, brokers: int = 1) -> None:
        self._random = random
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()
        self.nodes = tuple(range(brokers))
        self.on_committed: OnCommitted = lambda owner, batches, offsets: None
        self.logs: dict[Place, Log] = {}
        self._partitions: dict[str, int] = {}
        self._max_message_bytes: dict[str, int] = {}
        self._leaders: dict[Place, int | None] = {}
        self._loading: dict[Place, float] = {}
        self._down: set[int] = set()
        self._paused: set[int] = set()
        #: how often each broker has died
        self.deaths: Counter[int] = Counter()
        #: old data of the brokers that were paused for so long that others took over
        self._pasts: dict[int, Past] = {}
        #: when a broker with old data last confirmed a membership
        self.misled: dict[str, float] = {}
        #: whose request last gave a partition up, and when, by member id and partition
        self._given_up: dict[tuple[str, int], tuple[str, float]] = {}
        #: partitions that take no record now: somebody lowered the topic's max.message.bytes
        self.refusing: set[Place] = set()
        #: how many of a partition's next fetches bring damaged bytes
        self.damaged: Counter[Place] = Counter()
        #: finalized features and their levels: without one of these the cluster is too old
        self.features = {"transaction.version": 2, "group.version": 1}
        #: the moment until which a group's coordinator knows no offsets
        self._forgetful: dict[str, float] = {}
        #: delete.retention.ms of every topic
        self.delete_retention_seconds = DELETE_RETENTION_SECONDS
        #: how often a coordinator that moves knows no offsets for a while
        self.forgetfulness = FORGETFUL
        #: the cluster answers as Kafka 4.0
        self.is_4_0 = False
        #: requests that reached a paused broker
        self._queued: dict[int, list[tuple[Any, Any]]] = {}
        self._links: dict[str, Link] = {}
        self._groups: dict[str, Group] = {}
        self._sources: dict[str, str] = {}
        #: batches of open transactions, by producer id
        self._written: dict[int, list[tuple[Place, Batch]]] = {}
        #: open transactions of producers upstream, by producer id
        self._upstream: dict[int, Place] = {}
        #: each producer's newest epoch, in the group coordinators' logs
        self._epochs: dict[tuple[Place, int], int] = {}
        self.transactions = TransactionCoordinator(self._loop.time, self._ended)
        for place in self._internal():
            self._leaders[place] = random.choice(self.nodes)
        self.at(TICK_SECONDS, self._tick)

    # -- what the outside asks

    def connections(self, client: str) -> Connections:
        return SimulatedConnections(self, self.link(client))

    def link(self, client: str) -> Link:
        found = self._links.get(client)
        if found is None:
            found = self._links[client] = Link(client, Random(f"{client} {self._random.random()}"))
        return found

    def create_topic(self, name: str, partitions: int, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        topic_id = UUID(int=self._random.getrandbits(128))
        self._partitions[name] = partitions
        self._max_message_bytes[name] = max_message_bytes
        alive = self._alive()
        for partition in range(partitions):
            self.logs[name, partition] = Log(topic_id, takes_any_first_sequence=self.is_4_0)
            self._leaders[name, partition] = self._random.choice(alive) if alive else None

        self._tell_groups(name, partitions)

    def delete_topic(self, name: str) -> None:
        """Delete a topic with its records and groups' offsets. A topic of the same name is another topic then."""
        for partition in range(self._partitions.pop(name)):
            place = (name, partition)
            del self._leaders[place]
            for past in self._pasts.values():
                past.ends.pop(place, None)
            self.logs.pop(place).wake()
        self._tell_groups(name, 0)

    def _tell_groups(self, topic: str, partitions: int) -> None:
        for name, group in self._groups.items():
            if self._sources[name] == topic:
                group.resize(partitions)

    def append(self, topic: str, partition: int, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Append records of a producer without faults."""
        stamp = int(self._loop.time() * 1000) + 1
        self.logs[topic, partition].append_plain([(stamp, key, value) for key, value in records])

    def append_transaction(
        self, topic: str, partition: int, records: Sequence[tuple[bytes, bytes]], *, is_committed: bool
    ) -> None:
        """Append records of a transactional producer upstream."""
        self.end_upstream(self.begin_upstream(topic, partition, records), is_committed=is_committed)

    def begin_upstream(self, topic: str, partition: int, records: Sequence[tuple[bytes, bytes]]) -> int:
        """Open a transaction of a producer upstream and return its id. Nobody reads behind its first record."""
        log = self.logs[topic, partition]
        producer_id = self._random.getrandbits(40) + (1 << 40)
        log.open[producer_id] = log.end
        stamp = int(self._loop.time() * 1000) + 1
        log.append_plain([(stamp, key, value) for key, value in records])
        log.batches[-1].producer_id = producer_id
        self._upstream[producer_id] = topic, partition
        return producer_id

    def end_upstream(self, producer_id: int, *, is_committed: bool) -> None:
        """Decide once: a later decision has no effect."""
        place = self._upstream.pop(producer_id, None)
        if place is not None:
            self.logs[place].end_transaction(producer_id, 0, is_committed=is_committed)

    def end_of(self, topic: str, partition: int) -> int:
        """The offset behind the last committed record."""
        records = self.read_committed(topic, partition)
        return records[-1].offset + 1 if records else 0

    def read_committed(self, topic: str, partition: int, start: int = 0, end: int | None = None) -> list[MemoryRecord]:
        """The records of [start, end) that a read_committed reader finds."""
        log = self.logs[topic, partition]
        until = log.last_stable_offset if end is None else end
        found, _ = log.read(start, until, 1 << 40)
        return [record for batch in found for record in batch if record.offset < until]

    def move_group_offset(self, partition: int, by: int) -> bool:
        """A stranger commits an offset and names no member: the coordinator takes such a commit from anybody."""
        for group in self._groups.values():
            if partition in group.offsets:
                group.commit(partition, max(0, group.offsets[partition].offset + by))
                return True
        return False

    def committed_offset(self, topic: str, partition: int) -> int:
        """The group's offset; -1 for none."""
        found = (group.offsets[partition].offset for group in self._groups.values() if partition in group.offsets)
        return max(found, default=-1)

    def group(self, name: str) -> Group:
        """The group as its coordinator, or its next one, knows it."""
        return self._groups[name]

    def given_up_by_twin(self, client: str, member_id: str, seconds: float) -> set[int]:
        """The partitions that a process other than `client` gave up under this member id in the last `seconds`."""
        since = self._loop.time() - seconds
        return {
            partition
            for (member, partition), (other, moment) in self._given_up.items()
            if member == member_id and other != client and moment > since
        }

    def compact(self, topic: str, partition: int) -> None:
        self.logs[topic, partition].compact(self._loop.time(), self.delete_retention_seconds)

    def trim(self, topic: str, partition: int, start: int) -> None:
        """Retention, or an operator, deletes the records before `start`."""
        self.logs[topic, partition].trim(start)

    # -- time

    def time(self) -> float:
        return self._loop.time()

    def at(self, delay: float, callback: Callable[..., Any], *args: Any) -> None:
        self._loop.call_later(delay, callback, *args, context=self._context)

    def at_time(self, when: float, callback: Callable[..., Any], *args: Any) -> None:
        self._loop.call_at(when, callback, *args, context=self._context)

    def _tick(self) -> None:
        self.transactions.expire(lambda name: self._coordinates(name) is E.none)
        for name, group in self._groups.items():
            if self._leads(self._group_place(name)) is not None:
                group.expire()
        self.at(TICK_SECONDS, self._tick)

    # -- brokers

    @property
    def are_all_up(self) -> bool:
        return not self._down and not self._paused

    def is_up(self, node: int) -> bool:
        return node not in self._down

    def is_paused(self, node: int) -> bool:
        return node in self._paused

    def kill_broker(self, node: int) -> None:
        self._down.add(node)
        self.deaths[node] += 1
        self._abandon(node)

    def start_broker(self, node: int) -> None:
        if node in self._down:
            self._down.discard(node)
            self.at(self._random.uniform(*ELECTION_SECONDS), self._elect, None, node)

    def pause_broker(self, node: int) -> None:
        self._paused.add(node)
        self._queued[node] = []
        self.at(self._random.uniform(*ELECTION_SECONDS), self._fence, node)

    def wake_broker(self, node: int) -> None:
        if node in self._paused:
            self._paused.discard(node)
            if node in self._pasts:
                self._pasts[node].until = self._loop.time() + self._random.uniform(0.0, STALE_SECONDS)
            for entity, reply in self._queued.pop(node):
                self.arrive(node, entity, reply)
            self.at(self._random.uniform(*ELECTION_SECONDS), self._elect, None, node)

    def move_leaders(self) -> None:
        for place in list(self._leaders):
            if self._random.random() < 0.5:
                self._move(place, self._random.choice(self.nodes))

    def heal(self) -> None:
        for node in self.nodes:
            self.start_broker(node)
            self.wake_broker(node)
        for link in self._links.values():
            link.heal()
        self.refusing.clear()
        self.damaged.clear()
        for producer_id in list(self._upstream):
            self.end_upstream(producer_id, is_committed=True)

    def _alive(self) -> list[int]:
        return [node for node in self.nodes if node not in self._down and node not in self._paused]

    def _fence(self, node: int) -> None:
        if node in self._paused and len(self.nodes) > 1:
            past = self._pasts[node] = Past()
            for place, log in self.logs.items():
                if self._leaders[place] == node:
                    past.ends[place] = log.end, log.last_stable_offset
            for name, group in self._groups.items():
                if self._leaders[self._group_place(name)] == node:
                    past.groups[name] = group.copied()
            self._abandon(node)

    def _abandon(self, node: int) -> None:
        """The node's partitions have no leader until another node is elected."""
        for place, leader in self._leaders.items():
            if leader == node:
                self._leaders[place] = None
                self._wake(place)
        if len(self.nodes) > 1:
            self.at(self._random.uniform(*ELECTION_SECONDS), self._elect, node, None)

    def _elect(self, gone: int | None, back: int | None) -> None:
        """Elect leaders where there are none."""
        alive = self._alive()
        for place, leader in list(self._leaders.items()):
            if leader is None and alive:
                self._move(place, self._random.choice(alive))

    def _move(self, place: Place, node: int) -> None:
        self._leaders[place] = node
        if place[0].startswith("\x00"):
            self._loading[place] = self._loop.time() + self._random.uniform(*LOADING_SECONDS)
            for name, group in self._groups.items():
                if self._group_place(name) == place:
                    group.loaded()
                    if self._random.random() < self.forgetfulness:
                        self._forgetful[name] = self._loading[place] + self._random.uniform(0.0, FORGETFUL_SECONDS)
        self._wake(place)

    def _wake(self, place: Place) -> None:
        if place in self.logs:
            self.logs[place].wake()

    def leaders(self, node: int) -> dict[Place, int]:
        """The leaders in this node's metadata."""
        found = {place: leader for place, leader in self._leaders.items() if leader is not None}
        if self._is_in_its_past(node):
            found.update(dict.fromkeys(self._pasts[node].ends, node))
        return found

    def _is_in_its_past(self, node: int) -> bool:
        past = self._pasts.get(node)
        return past is not None and self._loop.time() < past.until

    def _leads(self, place: Place) -> int | None:
        """The node that serves the key now."""
        leader = self._leaders.get(place)
        return None if leader is None or leader in self._down or leader in self._paused else leader

    def _internal(self) -> list[Place]:
        return [(topic, p) for topic in ("\x00transactions", "\x00groups") for p in range(INTERNAL)]

    @staticmethod
    def _group_place(group: str) -> Place:
        return "\x00groups", crc32(group.encode()) % INTERNAL

    @staticmethod
    def _transaction_place(name: str) -> Place:
        return "\x00transactions", crc32(name.encode()) % INTERNAL

    def coordinator(self, kind: CoordinationType, key: str) -> int | None:
        place = self._group_place(key) if kind is CoordinationType.GROUP else self._transaction_place(key)
        return self._leaders[place]

    def _serves(self, node: int, place: Place) -> E:
        """Says whether this node may answer as the coordinator at `place`."""
        return E.not_coordinator if self._leaders[place] != node else self._loads(place)

    def _loads(self, place: Place) -> E:
        return E.coordinator_load_in_progress if self._loop.time() < self._loading.get(place, 0.0) else E.none

    def _coordinates(self, name: str) -> E:
        """Says whether a transactional id has a coordinator that works now."""
        place = self._transaction_place(name)
        return E.coordinator_not_available if self._leads(place) is None else self._loads(place)

    # -- requests

    def arrive(self, node: int, entity: Any, reply: Any) -> None:
        if node in self._paused:
            self._queued[node].append((entity, reply))
            reply.keep_waiting()
        elif node in self._down or not reply.is_reachable:
            reply.break_off()
        else:
            reply.send(self._carry_out(node, entity, reply.client))

    def _carry_out(self, node: int, entity: Any, client: str) -> Any:
        """Do what a request says, and note the partitions that a heartbeat gives up. Returns the answer."""
        handler = _HANDLERS[type(entity).__name__]
        group = self._groups.get(entity.group_id) if handler is SimulatedKafka._heartbeat else None
        if group is None:
            return handler(self, node, entity)
        before = group.held_by(entity.member_id)
        answer = handler(self, node, entity)
        for partition in before - group.held_by(entity.member_id):
            self._given_up[entity.member_id, partition] = (client, self._loop.time())
        return answer

    def _init_producer_id(self, node: int, request: Any) -> Any:
        error = self._serves(node, self._transaction_place(request.transactional_id))
        pair = Pair(-1, -1)
        if error is E.none:
            own = None if request.producer_id < 0 else Pair(request.producer_id, request.producer_epoch)
            timeout = request.transaction_timeout.total_seconds()
            error, pair = self.transactions.init(request.transactional_id, timeout, own)
        return answers.init_producer_id(error, pair)

    def _end_txn(self, node: int, request: Any) -> Any:
        error = self._serves(node, self._transaction_place(request.transactional_id))
        pair = Pair(-1, -1)
        if error is E.none:
            own = Pair(request.producer_id, request.producer_epoch)
            error, pair = self.transactions.end(request.transactional_id, own, is_committed=request.committed)
        return answers.end_txn(error, pair)

    def _txn_offset_commit(self, node: int, request: Any) -> Any:
        place = self._group_place(request.group_id)
        error = self._serves(node, place)
        if any(topic.name not in self._partitions for topic in request.topics):
            error = E.unknown_topic_or_partition
        offsets = {
            p.partition_index: (p.committed_offset, p.committed_metadata or "")
            for topic in request.topics
            for p in topic.partitions
        }
        if error is E.none and request.producer_epoch < self._epochs.get((place, request.producer_id), -1):
            error = E.invalid_producer_epoch
        if error is E.none:
            error = self._adds(request.transactional_id, Pair(request.producer_id, request.producer_epoch), place)
        if error is E.none and request.group_id not in self._groups and request.generation_id >= 0:
            error = E.illegal_generation
        if error is E.none:
            group = self._group(request.group_id, request.topics[0].name)
            error = group.check_stamp(request.member_id, request.generation_id, offsets)
            if error is E.none:
                group.hold(request.producer_id, offsets)
        return answers.txn_offset_commit(request, error)

    def _adds(self, name: str, pair: Pair, place: Place) -> E:
        """The broker that gets the write asks the coordinator of the transactional id."""
        is_group = place[0].startswith("\x00")
        error = self._coordinates(name)
        if error is not E.none:
            return error if is_group else E.not_enough_replicas  # as in Kafka's ReplicaManager
        return self.transactions.add(name, pair, (GROUP_PLACE, place[1]) if is_group else place)

    def _produce(self, node: int, request: Any) -> Any:
        found = {}
        for topic in request.topic_data:
            for part in topic.partition_data:
                found[topic.name, part.index] = self._write(node, request, (topic.name, part.index), part.records)
        return answers.produce(request, found)

    def _write(self, node: int, request: Any, place: Place, data: bytes) -> tuple[E, int]:
        if place not in self.logs:
            return E.unknown_topic_or_partition, -1
        if self._leaders[place] != node:
            return E.not_leader_or_follower, -1
        log, produced = self.logs[place], read_produced(data)
        if not produced.is_transactional:
            raise AssertionError("the engine produced outside of its transaction")
        pair = Pair(produced.producer_id, produced.epoch)
        if log.is_fenced(*pair):
            return E.invalid_producer_epoch, -1
        if not log.has_open(
            *pair
        ):  # the coordinator is asked first: a batch that is refused below is in the transaction
            error = self._adds(request.transactional_id, pair, place)
            if error is E.concurrent_transactions:
                error = E.not_enough_replicas if self._random.random() < 0.5 else error
            if error is not E.none:
                return error, -1
        if place in self.refusing or len(data) > self._max_message_bytes[place[0]]:
            return E.message_too_large, -1
        error, base = log.check(produced)
        if error is not E.none or base >= 0:
            return error, base
        batch = log.append(produced)
        self._written.setdefault(produced.producer_id, []).append((place, batch))
        return E.none, batch.base

    def _heartbeat(self, node: int, request: Any) -> Any:
        past = self._pasts[node].groups.get(request.group_id) if self._is_in_its_past(node) else None
        if past is not None and past.check_reader(request.member_id, request.member_epoch) is E.none:
            self.misled[request.member_id] = self._loop.time()
            return answers.heartbeat(E.none, request.member_id, request.member_epoch)  # nothing changed
        error = self._serves(node, self._group_place(request.group_id))
        if error is not E.none:
            return answers.heartbeat(error)
        if request.member_epoch == JOIN and not _joins_in_full(request):
            return answers.heartbeat(E.invalid_request)
        topic = None if request.subscribed_topic_names is None else request.subscribed_topic_names[0]
        group = self._group(request.group_id, topic)
        owned = None
        if request.topic_partitions is not None:
            owned = [p for held in request.topic_partitions for p in held.partitions]
        is_full = request.subscribed_topic_names is not None and request.rebalance_timeout >= timedelta(0)
        timeout = request.rebalance_timeout.total_seconds() if is_full else None
        beat = group.beat(request.member_id, request.member_epoch, owned, timeout)
        source = self.logs.get((self._sources[request.group_id], 0))
        topic_id = None if source is None else source.topic_id
        return answers.heartbeat(beat.error, request.member_id, beat.epoch, topic_id, beat.assignment)

    def _describe_group(self, node: int, request: Any) -> Any:
        """A broker with old data answers with the members of that time."""
        (name,) = request.group_ids
        group = self._pasts[node].groups.get(name) if self._is_in_its_past(node) else None
        if group is None:
            error = self._serves(node, self._group_place(name))
            if error is E.none and name not in self._groups:
                error = E.group_id_not_found
            if error is not E.none:
                return answers.describe_group(name, error)
            group = self._groups[name]
        return answers.describe_group(name, E.none, self._sources[name], group)

    def _offset_fetch(self, node: int, request: Any) -> Any:
        asked = request.groups[0]
        if self._is_in_its_past(node) and asked.group_id in self._pasts[node].groups:
            group = self._pasts[node].groups[asked.group_id]
        else:
            error = self._serves(node, self._group_place(asked.group_id))
            if error is not E.none:
                return answers.offset_fetch_failed(asked, error)
            if asked.group_id not in self._groups:
                return answers.offset_fetch(asked, self._unknown_group(), is_stable=request.require_stable)
            group = self._groups[asked.group_id]
        error = group.check_reader(asked.member_id, asked.member_epoch)
        if error is not E.none:
            return answers.offset_fetch_failed(asked, error)
        if self._loop.time() < self._forgetful.get(asked.group_id, 0.0):
            group = self._unknown_group()
        return answers.offset_fetch(asked, group, is_stable=request.require_stable)

    def _list_offsets(self, node: int, request: Any) -> Any:
        topic = request.topics[0]
        found = {}
        for asked in topic.partitions:
            place = (topic.name, asked.partition_index)
            log = self.logs.get(place)
            if log is None:
                found[asked.partition_index] = (E.unknown_topic_or_partition, -1)
            elif self._is_in_its_past(node) and place in self._pasts[node].ends and asked.timestamp != -2:
                found[asked.partition_index] = (E.none, self._pasts[node].ends[place][request.isolation_level])
            elif self._leaders[place] != node:
                found[asked.partition_index] = (E.not_leader_or_follower, -1)
            elif asked.timestamp == -2:
                found[asked.partition_index] = (E.none, log.start)
            else:
                end = log.last_stable_offset if request.isolation_level == 1 else log.end
                found[asked.partition_index] = (E.none, end)
        return answers.list_offsets(topic.name, found)

    def _metadata(self, node: int, request: Any) -> Any:
        names = [topic.name for topic in request.topics]
        known = {name: self.logs[name, 0].topic_id for name in names if name in self._partitions}
        return answers.metadata(self.nodes, names, known, self._partitions, self._leaders)

    def _api_versions(self, node: int, request: Any) -> Any:
        return answers.api_versions(self.features)

    def _unknown_group(self) -> Group:
        """The answer of a coordinator that knows no offsets."""
        return Group(self._loop.time, 0, 0.0)

    def _group(self, name: str, topic: str | None) -> Group:
        if name not in self._groups:
            assert topic is not None, "a group begins with a join"
            self._groups[name] = Group(self._loop.time, self._partitions.get(topic, 0), SESSION_SECONDS)
            self._groups[name].is_4_0 = self.is_4_0
            self._sources[name] = topic
        return self._groups[name]

    # -- reading

    def fetch(self, topic: str, partition: int, position: int, most_bytes: int) -> Any:
        """Batches, the position behind them and the last stable offset; or an error; None if there is no leader."""
        place = (topic, partition)
        if self._leads(place) is None:
            return None
        if self.damaged[place] > 0:
            self.damaged[place] -= 1
            return BatchUnreadable(unreadable(topic, partition, bytes(HEADER_BYTES), position, "corrupt"))
        log = self.logs[place]
        end, stable = log.end, log.last_stable_offset
        for node, past in self._pasts.items():
            if place in past.ends and self._is_in_its_past(node) and self._random.random() < 0.5:
                end, stable = past.ends[place]
        if not log.start <= position <= end:
            return kafka_errors.OffsetOutOfRangeError({TopicPartition(topic, partition): position})
        batches, position = log.read(position, stable, most_bytes)
        return batches, position, stable

    def when_stable_moves(
        self, topic: str, partition: int, stable: int, callback: Callable[..., Any], *args: Any
    ) -> None:
        """Call back when the last stable offset is not `stable` any more, which a broker with old data may name."""
        log = self.logs[topic, partition]
        if log.last_stable_offset != stable:
            self.at(STALE_FETCH_SECONDS, callback, *args)
        else:
            log.waiting.append(lambda: self.at(0.0, callback, *args))

    # -- the end of transactions

    def _ended(self, known: Transactional, pair: Pair, places: frozenset[Place], is_committed: bool) -> None:
        """A transaction's end is decided: the decision counts from now on, wherever the markers are."""
        written = self._written.pop(pair.producer_id, [])
        if is_committed:
            offsets: dict[int, Committed] = {}
            for group in self._groups.values():
                offsets.update(group.pending.get(pair.producer_id, {}))
            batches: dict[Place, list[MemoryRecord]] = {}
            for place, batch in written:
                batches.setdefault(place, []).extend(batch.records)
            self.on_committed(known.name, batches, offsets)
        left = set(places)
        epoch = pair.epoch + 1
        for place in sorted(places):
            self._mark_later(known, known.number, place, pair.producer_id, epoch, is_committed, left)
        if not left:
            self.at(self._random.uniform(*MARKER_SECONDS), self._finish, known.name, known.number)

    def _mark_later(self, *marker: Any) -> None:
        delay = self._random.uniform(*MARKER_SECONDS)
        if self._random.random() < LATE_MARKERS:
            delay = self._random.uniform(0.0, LATE_MARKER_SECONDS)
        self.at(delay, self._mark, *marker)

    def _mark(
        self, known: Transactional, number: int, place: Place, producer_id: int, epoch: int, is_committed: bool,
        left: set[Place],
    ) -> None:  # fmt: skip
        is_group = place[0] == GROUP_PLACE
        is_gone = not is_group and place not in self.logs
        there = self._leads(("\x00groups", place[1]) if is_group else place)
        if (there is None and not is_gone) or self._coordinates(
            known.name
        ) is not E.none:  # the coordinator that loads finds the transaction, and goes on
            self.at(MARKER_RETRY_SECONDS, self._mark, known, number, place, producer_id, epoch, is_committed, left)
            return
        if is_group:
            self._epochs[("\x00groups", place[1]), producer_id] = epoch
            for group in self._groups.values():
                group.end_transaction(producer_id, is_committed=is_committed)
        elif not is_gone:
            self.logs[place].end_transaction(producer_id, epoch, is_committed=is_committed)
        left.discard(place)
        if not left:
            self._finish(known.name, number)

    def _finish(self, name: str, number: int) -> None:
        """The coordinator notes that all markers are written."""
        if self._coordinates(name) is E.none:
            self.transactions.finished(name, number)
        else:
            self.at(MARKER_RETRY_SECONDS, self._finish, name, number)


def _joins_in_full(request: Any) -> bool:
    """Check a join as GroupMetadataManager.throwIfConsumerGroupHeartbeatRequestIsInvalid does."""
    return bool(
        request.rebalance_timeout.total_seconds() > 0
        and request.subscribed_topic_names
        and request.topic_partitions == ()
    )


_HANDLERS: dict[str, Callable[[SimulatedKafka, int, Any], Any]] = {
    "InitProducerIdRequest": SimulatedKafka._init_producer_id,
    "EndTxnRequest": SimulatedKafka._end_txn,
    "TxnOffsetCommitRequest": SimulatedKafka._txn_offset_commit,
    "ProduceRequest": SimulatedKafka._produce,
    "ConsumerGroupHeartbeatRequest": SimulatedKafka._heartbeat,
    "OffsetFetchRequest": SimulatedKafka._offset_fetch,
    "ConsumerGroupDescribeRequest": SimulatedKafka._describe_group,
    "ListOffsetsRequest": SimulatedKafka._list_offsets,
    "MetadataRequest": SimulatedKafka._metadata,
    "ApiVersionsRequest": SimulatedKafka._api_versions,
}
