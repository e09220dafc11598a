"""One run: workers on a simulated Kafka, while the faults of a plan happen.

Topics and workers come up. Events come in bursts while the faults happen. Then everything is mended, and within
SETTLE_SECONDS everything must be committed. The judge watches the whole run. `faults` has a function for each kind.
"""

import asyncio
import math
import shutil
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Set
from contextlib import nullcontext
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from portfolio_stream.errors import (
    BrokerUnreachable,
    ControlUnavailable,
    MembershipLost,
    PortfolioStreamError,
    StoreFailed,
    Superseded,
)
from portfolio_stream.exactly_once import configuration
from portfolio_stream.exactly_once.failures import AGENT_TRIES
from portfolio_stream.exactly_once.membership import FRESH_SECONDS
from portfolio_stream.exactly_once.operations import CopiedPartition, Operation, Resume, Retry, SetAside
from portfolio_stream.exactly_once.recovery import Halted
from portfolio_stream.kafka.record_batches import UnreadableBatch
from tests.judge.jobs import AWAY, REST, JobJudge
from tests.judge.ledger import CHANGELOG, CONTROL, DEAD, FATAL, OUTPUT, SOURCE
from tests.judge.savepoints import SavepointJudge
from tests.judge.transactions import OWN_PREFIX, Anomaly, Judge
from tests.simulation.disk import Disk
from tests.simulation.faults import ACTS
from tests.simulation.job_cluster import SimulatedCluster
from tests.simulation.job_commands import Deed, Places, SimulatedCommand, hurt
from tests.simulation.kafka.cluster import DELETE_RETENTION_SECONDS, SimulatedKafka
from tests.simulation.kafka.groups import Committed
from tests.simulation.kafka.transactions import LAST_EPOCH, Place
from tests.simulation.ledger import GROUP
from tests.simulation.loop import Deadlock, Process, SimulatedLoop, simulate
from tests.simulation.objects import Bucket
from tests.simulation.orders import Operator, ask, check_held_back, held_back
from tests.simulation.plan import Fault, Plan
from tests.simulation.timeline import Timeline
from tests.simulation.worker import CONFIGURATION, SimulatedWorker, Surroundings

SETTLE_SECONDS = 240.0  # sessions, transactions and revocations time out, and beliefs last 15 s
LOGS = (OUTPUT, DEAD)
RESTART_SECONDS = (0.3, 3.0)  # of a supervisor and of Python's start
CHECK_SECONDS = 0.5
ACCOUNTS = 12
_NO_ANSWER = frozenset((
    "lose_replies", "lose_requests", "lose_next_reply", "lose_assignment", "hold_next_request", "cut_off", "slow_link",
    "move_leaders", "kill_broker", "kill_broker_at_reply", "pause_broker", "twin", "slow_fold",
))  # fmt: skip
#: the documented ends of a worker, and for each end the faults of which one must have happened; a supervisor starts
#: the worker again
PERMITTED: Mapping[type[PortfolioStreamError], frozenset[str]] = {
    StoreFailed: frozenset(("disk_full", "disk_write_fails")),
    BrokerUnreachable: _NO_ANSWER,
    MembershipLost: _NO_ANSWER,
    ControlUnavailable: _NO_ANSWER | {"damage_fetches"},
    Superseded: frozenset(("twin",)),
}
#: the faults that count as a try at a record, besides a failing fold
OTHER_TRIES = ("damage_fetches", "fail_encoding", "refuse_records")
#: words of a halt's reason, and the fault that must have happened
HALTING = {
    "refused a record": "refuse_records",
    "cannot be read": "damage_fetches",
    "the group's offset is": "move_offset",
    "the encoding of its table values failed": "fail_encoding",
}
LATE_ENDINGS_SECONDS = (
    30.0  # after everything is mended: by then, workers have given up the requests that nobody will answer
)
#: until every worker has heard of an order, and has ended what it does: a worker may be cut off for so long
BUILDER = f"{GROUP}-build"
OBEDIENCE_SECONDS = 10.0
NEWCOMER_SHARE = 0.3  # the share of the worlds in which a worker joins at the end
SETTLED_IN_SECONDS = 3.5  # a newcomer sends its first heartbeats within 3 s
LATE_FOLD_SECONDS = 7.0
OPERATOR_SHARE = 0.05  # the share of the checks at which an operator acts on halted partitions
STANDBYS = (0, 1, 2)  # of a partition, one of these in each world
SHORT_RETENTION = 100.0  # of tombstones, in half of the worlds: half of this time is longer than any pause of a worker


@dataclass
class Outcome:
    plan: Plan
    #: None: exactly-once held
    anomaly: str | None
    virtual_seconds: float
    worker_seconds: float
    events: int
    transactions: int
    #: the faults that had an effect, by kind
    faults: Counter[str]
    #: processes that ended by themselves, by error
    endings: Counter[str]
    #: operations on the job that are over, by kind and end
    operations: Counter[str]
    #: the steps of the first worker's first process
    first_steps: int
    timeline: Timeline = field(repr=False)


def run(plan: Plan, *, with_logs: bool = False) -> Outcome:
    """Run a plan, which is always the same run. `with_logs` adds the engines' log to the timeline."""
    world: list[World] = []

    async def main(loop: SimulatedLoop) -> None:
        made = World(loop, plan)
        world.append(made)
        with made.timeline.with_logs() if with_logs else nullcontext():
            await made.run()

    anomaly = None
    try:
        simulate(main, Random(f"loop {plan.seed}"))
    except (Anomaly, Deadlock) as found:
        anomaly = str(found)
    made = world[0]
    return Outcome(
        plan, anomaly, made.loop.time(), made.worker_seconds, made.judge.events, made.judge.transactions, made.faults,
        made.endings, made.jobs.ends, made.first_steps, made.timeline,
    )  # fmt: skip


class World:
    def __init__(self, loop: SimulatedLoop, plan: Plan) -> None:
        self.loop = loop
        self.plan = plan
        self.random = Random(f"world {plan.profile.name} {plan.seed}")
        self.timeline = Timeline(loop.time)
        self.faults: Counter[str] = Counter()
        self.endings: Counter[str] = Counter()
        self.worker_seconds = 0.0
        profile = plan.profile
        self.kafka = SimulatedKafka(Random(f"kafka {plan.seed}"), brokers=profile.brokers)
        if self.random.random() < 0.25:
            self.kafka.is_4_0 = True
        if self.random.random() < 0.25:
            self.kafka.transactions.first_epoch = LAST_EPOCH - self.random.randrange(1, 200)
        #: how many workers besides its owner follow a partition
        self.standbys = Random(f"standbys {plan.seed}").choice(STANDBYS)
        self.judge = Judge(self._source_records, self.timeline.add)
        self.jobs = JobJudge()
        self._outside = copy_context()
        self.bucket = Bucket(loop, Random(f"bucket {plan.seed}"), self._outside)
        self.savepoints = SavepointJudge(self.judge, self.bucket.content, self._count_before)
        self.bucket.witness = self._put
        self._surroundings = Surroundings(
            connect=self.kafka.connections,
            objects=self.bucket,
            partitions=profile.partitions,
            standbys=self.standbys,
            savepoint_interval=Random(f"schedule {plan.seed}").choice((None, None, 4 * profile.deed_pause)),
        )
        self.commands: list[SimulatedCommand] = []
        self.workers: list[SimulatedWorker] = []
        self._operator = Operator(plan.seed)
        #: the copied partitions whose tables were compared: worker, partition, and what the worker said
        self.copied: list[tuple[str, int, CopiedPartition]] = []
        #: workers with another worker's identity
        #: how many generations have begun besides the first
        self.generations = 0
        self.twins: list[SimulatedWorker] = []
        self.forgets_tombstones = self.random.random() < 0.5
        self.delete_retention_seconds = SHORT_RETENTION if self.forgets_tombstones else DELETE_RETENTION_SECONDS
        self.kafka.delete_retention_seconds = self.delete_retention_seconds
        #: the anomaly that makes the run fail, whoever found the anomaly
        self._anomaly: Anomaly | None = None
        self._numbers: Counter[bytes] = Counter()
        self._mended_at = math.inf
        #: since when the job is in a state in which no partition is taken further
        self._rests_since = math.inf
        self._first: Process | None = None
        self._undo: set[asyncio.Task[None]] = set()

    # -- a run

    async def run(self) -> None:
        with (
            patch.object(configuration, "ASSUMED_TOMBSTONE_SECONDS", self.delete_retention_seconds),
            patch.object(shutil, "rmtree", self._remove_folder),
        ):
            await self._run()

    def _remove_folder(self, folder: Path, *, ignore_errors: bool) -> None:
        """What a worker removes are copies of its store."""
        owner = next(worker for worker in self.workers if worker.name == folder.parts[0])
        owner.disk.copies.pop(folder, None)

    async def _run(self) -> None:
        for topic in (SOURCE, OUTPUT, DEAD, CHANGELOG):
            self.kafka.create_topic(topic, self.plan.profile.partitions)
        self.kafka.create_topic(CONTROL, 1)
        self.kafka.on_committed = self._committed
        for _ in range(self.plan.profile.workers):
            self.new_worker().start()
        self._first = self.workers[0].process
        load = asyncio.create_task(self._load())
        for fault in self.plan.faults:
            await self._until(fault.at)
            self._do(fault)
        await self._until(self.plan.profile.seconds)
        load.cancel()
        self._mend()
        await self._settle()
        if Random(f"newcomer {self.plan.seed}").random() < NEWCOMER_SHARE:
            await self._welcome()
            await self._settle()
        self._check_end()

    async def _welcome(self) -> None:
        """A worker joins. The owners give partitions up late, and the answer that tells the newcomer of them is lost.

        By then the newcomer's heartbeats are as rare as those of the others.
        """
        for worker in self.workers:
            worker.fold_seconds = LATE_FOLD_SECONDS
        for partition in range(self.plan.profile.partitions):
            self._burst(partition, 1)
        newcomer = self.new_worker()
        newcomer.start()
        await self._until(self.loop.time() + SETTLED_IN_SECONDS)
        self.kafka.link(newcomer.name).lost_assignments = 1
        self.timeline.add(f"{newcomer.name} will not hear of its partitions")
        await self._until(self.loop.time() + 2 * LATE_FOLD_SECONDS)

    @property
    def first_steps(self) -> int:
        return 0 if self._first is None else self._first.steps

    async def _until(self, moment: float) -> None:
        while self.loop.time() < moment:
            await asyncio.sleep(min(CHECK_SECONDS, moment - self.loop.time()))
            self._check()

    def _check(self) -> None:
        if self._anomaly is not None:
            raise self._anomaly
        if self.random.random() < OPERATOR_SHARE:
            self._operate()
        self._order()
        for worker in self.workers:
            engine = worker.engine
            if not worker.is_running or engine is None or engine.started is None:
                continue
            for halted in engine.halted.values():
                self._check_halted(worker, halted)
            for task in worker.beside:
                if task.done() and not task.cancelled():
                    raise Anomaly(f"the task {task.get_name()} of {worker.name} ended: {task.exception()!r}")
            if worker.process is None or worker.process.is_paused or self._is_misled(worker):
                continue
            if not self.faults["twin"]:  # a twin commits under the same transactional id
                check_held_back(worker.name, engine.started, self.judge)
            if engine.started.membership.is_fresh and engine.configuration.generation == self.jobs.generation:
                for partition in _owned(worker) - self._lost_to_twin(worker):
                    meta = engine.store.meta(partition)
                    offset = 0 if meta is None else meta.offset
                    self.judge.served(worker.name, engine.started.writer.transactional_id, partition, offset)

    def _is_misled(self, worker: SimulatedWorker) -> bool:
        """A broker that woke with old data has confirmed a membership that is over: the worker cannot see that."""
        return self.loop.time() - self.kafka.misled.get(worker.member_id, -math.inf) < FRESH_SECONDS

    def _lost_to_twin(self, worker: SimulatedWorker) -> Set[int]:
        """The partitions that the worker's twin has given up by a join, a heartbeat or a goodbye.

        The worker learns of that from the answer to its next heartbeat, and serves no longer than it is fresh.
        """
        return self.kafka.given_up_by_twin(worker.name, worker.member_id, FRESH_SECONDS)

    def _check_halted(self, worker: SimulatedWorker, halted: Halted) -> None:
        """A partition may halt only for a reason that happened."""
        record = halted.record
        is_due = any(words in halted.reason and self.faults[fault] for words, fault in HALTING.items())
        if record is not None and not is_due and not isinstance(record, UnreadableBatch):
            tries = worker.failed_alone[halted.partition, record.offset]
            needed = 1 if any(self.faults[fault] for fault in OTHER_TRIES) else AGENT_TRIES
            is_due = record.value in FATAL or tries >= needed
        if not is_due:
            raise Anomaly(f"{worker.name} halted partition {halted.partition} for no cause: {halted.reason}")

    def _do(self, fault: Fault) -> None:
        if ACTS[fault.kind](self, fault):
            self.faults[fault.kind] += 1
            self.timeline.add(f"FAULT {fault.kind} {fault.target} {fault.seconds:.3f} {fault.amount:.3f}")

    def _mend(self) -> None:
        self._mended_at = self.loop.time()
        self.timeline.add("everything is mended")
        self.kafka.heal()
        self.bucket.heal()
        for task in list(self._undo):
            task.cancel()
        for worker in list(self.twins):
            self.part(worker)
        for worker in self.workers:
            worker.disk.is_full, worker.disk.fails_in = False, None
            worker.failures, worker.encoding_failures, worker.fold_seconds = 0, 0, 0.0
            if worker.process is not None:
                worker.process.dies_at = None
                if worker.process.is_paused:
                    worker.process.wake(self.loop)
            if not worker.is_running:
                worker.start()
        for partition in range(self.plan.profile.partitions):
            self._burst(partition, 1)  # shows a partition that nobody runs

    async def _settle(self) -> None:
        deadline = self.loop.time() + SETTLE_SECONDS
        while not self._is_settled():
            if self.loop.time() > deadline:
                raise Anomaly(
                    f"not everything is committed {SETTLE_SECONDS:.0f} s after the last fault: {self._state()}"
                )
            self._operate()
            self._start_job()
            await asyncio.sleep(CHECK_SECONDS)
            self._check()
        await asyncio.sleep(5.0)  # a late write would be an anomaly too
        self._check()

    def _order(self) -> None:
        """Give the orders of the operator of partitions that run; in the end all of them run again."""
        for worker in self.workers:
            engine, process = worker.engine, worker.process
            if not worker.is_running or engine is None or engine.started is None or process is None:
                continue
            if self.jobs.state != "running":
                continue
            orders: list[Operation[object] | None] = [self._operator.next_order(engine)]
            if self.loop.time() >= self._mended_at:
                orders = [Resume(partition) for partition in held_back(engine.started)]
            for order in orders:
                if order is not None:
                    self.timeline.add(f"{worker.name} is asked for {order}")
                    process.run(self.loop.create_task, ask(worker, engine, order, self._judge_copied))

    def _start_job(self) -> None:
        """Let the job run on at the end, whatever its operator has left."""
        if not any(command.is_running for command in self.commands):
            if self.jobs.state == "paused":
                self.command(Deed.RESUME)
            elif self.jobs.state in AWAY:
                self.command(Deed.START)

    def _judge_copied(
        self, worker: str, partition: int, copied: CopiedPartition, rows: list[tuple[bytes, bytes]]
    ) -> None:
        if not self.faults["twin"]:  # a twin's membership is confirmed by what the other process of its id does
            self.copied.append((worker, partition, copied))
        self._judged(lambda: self.judge.check_copy(worker, partition, copied.offset, rows))

    def _operate(self) -> None:
        """Do what an operator does with halted partitions."""
        for worker in self.workers:
            engine = worker.engine
            if not worker.is_running or engine is None or worker.process is None:
                continue
            for partition, halted in list(engine.halted.items()):
                if halted.record is not None and halted.record.value in FATAL:
                    work: Coroutine[Any, Any, object] = engine.ask(SetAside(partition, halted.offset or 0))
                elif halted.group_offset is not None:
                    work = engine.ask(Retry(partition, from_state=True))
                else:
                    work = engine.ask(Retry(partition))
                worker.process.run(self.loop.create_task, _ignoring(work))

    def _is_settled(self) -> bool:
        """Everything is committed, every partition runs on exactly one worker, and every standby has followed."""
        if self.jobs.state != "running" or self.jobs.running:
            return False
        if any(self._behind(worker, partition) for worker in self.workers for partition in _standbys(worker)):
            return False
        running = Counter(partition for worker in self.workers for partition in _owned(worker))
        return all(
            self.judge.partitions[partition].committed >= self.kafka.end_of(SOURCE, partition)
            and running[partition] == 1
            for partition in range(self.plan.profile.partitions)
        )

    def _behind(self, worker: SimulatedWorker, partition: int) -> int:
        """How many source records the state in the worker's store lacks."""
        meta = None if worker.engine is None else worker.engine.store.meta(partition)
        return self.judge.partitions[partition].committed - (0 if meta is None else meta.offset)

    def _state(self) -> str:
        known = self.judge.partitions
        lag = {
            p: (known[p].committed, self.kafka.end_of(SOURCE, p))
            for p in range(self.plan.profile.partitions)
            if known[p].committed < self.kafka.end_of(SOURCE, p)
        }
        job = f"the job is {self.jobs.state}, not over are {self.jobs.running}"
        workers = [
            f"{w.name} owned={sorted(w.engine.owned)} running={sorted(w.engine.served)} halted={w.engine.halted}"
            for w in self.workers
            if w.is_running and w.engine is not None
        ]
        return f"(committed, end)={lag} {job} {workers}"

    def _check_end(self) -> None:
        for name, partition, copied in self.copied:
            before = [len(self.kafka.read_committed(topic, partition, 0, copied.outputs[topic])) for topic in LOGS]
            self.judge.check_ends(name, partition, copied.offset, *before)
        for partition in range(self.plan.profile.partitions):
            for topic in LOGS:
                self.judge.check_log(partition, topic, self.kafka.read_committed(topic, partition))
            self.judge.check_changelog(partition, self.kafka.read_committed(self.judge.changelog, partition))
            group = self.kafka.committed_offset(SOURCE, partition)
            self.judge.check_end(partition, group, self.kafka.end_of(SOURCE, partition))
        for worker in self.workers:
            if worker.is_running:
                for partition in _owned(worker):
                    rows = _rows(worker, partition)
                    if rows or self.judge.partitions[partition].committed:
                        self.judge.check_store(worker.name, partition, rows)
                for partition in _standbys(worker):
                    if not self._behind(worker, partition):  # it may have begun to follow just now
                        self.judge.check_store(worker.name, partition, _rows(worker, partition))

    # -- what happens by itself

    def _committed(self, owner: str, batches: Mapping[Place, Any], offsets: Mapping[int, Committed]) -> None:
        if owner == CONTROL:
            self._judged(lambda: self._job_changed(batches, offsets))
        elif owner == BUILDER:
            self._judged(lambda: self.judge.built(owner, batches, offsets.keys()))
        else:
            self._judged(lambda: self._decided(owner, batches, offsets))
            if any(topic in (OUTPUT, DEAD) for topic, _ in batches):  # an offset that is put back folds nothing
                self._judged(lambda: self._check_rest(owner))

    def _decided(self, owner: str, batches: Mapping[Place, Any], offsets: Mapping[int, Committed]) -> None:
        named = {generation_in(one.metadata) for one in offsets.values()}
        if len(named) > 1:
            raise Anomaly(f"{owner} commits for the generations {named}")
        generation = next(iter(named), self.judge.generation)
        self.judge.decided(owner, batches, {partition: one.offset for partition, one in offsets.items()}, generation)

    def _job_changed(self, batches: Mapping[Place, Any], offsets: Mapping[int, Committed]) -> None:
        before, generation = self.jobs.state, self.jobs.generation
        for operation in self.jobs.decided(batches.get((CONTROL, 0), ())):
            self._check_ended(operation)
        if self.jobs.generation != generation:
            self._switched(offsets)
        elif offsets:
            raise Anomaly(f"offsets {offsets} are committed, and generation {generation} stays")
        if (before in REST) != (self.jobs.state in REST):
            self._rests_since = self.loop.time() if self.jobs.state in REST else math.inf
        if before != self.jobs.state:
            self.timeline.add(f"the job is {self.jobs.state}")

    def _switched(self, offsets: Mapping[int, Committed]) -> None:
        number = self.jobs.generation
        if any(generation_in(one.metadata) != number for one in offsets.values()):
            raise Anomaly(f"generation {number} begins with the offsets {offsets}")
        if offsets.keys() != set(range(self.plan.profile.partitions)):
            raise Anomaly(f"generation {number} begins with the offsets {offsets}: some are missing")
        self.generations += 1
        changelog = self.jobs.generations[number]["changelog_topic"]
        self.judge.switched(number, changelog, {partition: one.offset for partition, one in offsets.items()})

    def _check_ended(self, operation: Mapping[str, Any]) -> None:
        """An operation that is done has its effect: its savepoint is complete, and the job stops at the savepoint."""
        savepoint = operation["arguments"].get("savepoint")
        self.timeline.add(f"operation {operation['id']} ({operation['kind']}) is {operation['state']}")
        if operation["state"] != "done" or operation["kind"] not in ("savepoint", "stop") or savepoint is None:
            return
        offsets = self.savepoints.complete.get(savepoint)
        if offsets is None:
            raise Anomaly(f"operation {operation['id']} is done, and its savepoint {savepoint} is not complete")
        committed = {partition: self.judge.partitions[partition].committed for partition in offsets}
        if operation["kind"] == "stop" and committed != offsets:
            raise Anomaly(f"the job stops at {committed}, its savepoint {savepoint} is at {offsets}")
        ends = operation["arguments"].get("drain", {})
        if any(offsets[int(partition)] < end for partition, end in ends.items()):
            raise Anomaly(f"the job was to be drained up to {ends}, its savepoint {savepoint} is at {offsets}")

    def _put(self, path: str, data: bytes) -> None:
        self._judged(lambda: self.savepoints.put(path, data))

    def _count_before(self, topic: str, partition: int, end: int) -> int:
        return len(self.kafka.read_committed(topic, partition, 0, end))

    def _check_rest(self, owner: str) -> None:
        """Once every worker must have heard that the job rests, no worker commits."""
        seconds = self.loop.time() - self._rests_since
        if seconds > OBEDIENCE_SECONDS:
            raise Anomaly(f"{owner} commits {seconds:.0f} s after the job was {self.jobs.state}")

    def _judged(self, judge: Callable[[], None]) -> None:
        """Keep an anomaly, which ends the run."""
        try:
            judge()
        except Anomaly as found:
            self._anomaly = self._anomaly or found

    def _source_records(self, partition: int, start: int, end: int) -> Any:
        return self.kafka.read_committed(SOURCE, partition, start, end)

    async def _load(self) -> None:
        profile, random = self.plan.profile, self.random
        while True:
            partition = random.randrange(profile.partitions)
            for _ in range(random.randint(1, 4)):  # batches that are fetched together become several slices
                self._burst(partition, random.randint(1, profile.burst_events))
            await asyncio.sleep(random.expovariate(1 / profile.burst_pause))

    def _burst(self, partition: int, events: int) -> None:
        self.kafka.append(SOURCE, partition, [self.event(partition) for _ in range(events)])

    def event(self, partition: int) -> tuple[bytes, bytes]:
        random = self.random
        key = b"a%d.%d" % (partition, random.randrange(ACCOUNTS))
        self._numbers[key] += random.random() > 0.15  # else the last number comes again
        amount = b"none" if random.random() < 0.05 else b"%d" % random.choice((-2, -1, 1, 2))
        return key, b"%d %s" % (self._numbers[key], amount)

    def new_worker(self) -> SimulatedWorker:
        name = f"w{len(self.workers)}"

        def stored(items: Any) -> None:
            self._judged(lambda: self.judge.stored(name, items))

        random = Random(f"{name} {self.plan.seed}")
        starts = partial(self.judge.opened, name)
        worker = SimulatedWorker(name, self.loop, random, Disk(stored), self._surroundings, starts, self._ended)
        self.workers.append(worker)
        self._later(0.0, self._count_seconds(worker))
        return worker

    async def _count_seconds(self, worker: SimulatedWorker) -> None:
        while self.loop.time() < self._mended_at:
            await asyncio.sleep(1.0)
            self.worker_seconds += worker.is_running

    def _ended(self, worker: SimulatedWorker) -> None:
        """A process ended by itself, or after SIGTERM."""
        ending = worker.ending
        self.timeline.add(f"{worker.name} ended: {ending!r}")
        if ending is None:
            return
        self.endings[type(ending).__name__] += 1
        causes = next((causes for kind, causes in PERMITTED.items() if isinstance(ending, kind)), ())
        is_caused = any(self.faults[fault] for fault in causes)
        if not is_caused or self.loop.time() > self._mended_at + LATE_ENDINGS_SECONDS:
            self._anomaly = self._anomaly or Anomaly(f"{worker.name} ended with {type(ending).__name__}: {ending}")
        self.restart(worker)

    def restart(self, worker: SimulatedWorker, seconds: float | None = None) -> None:
        wait = self.random.uniform(*RESTART_SECONDS) if seconds is None else seconds

        async def restart() -> None:
            await asyncio.sleep(wait)
            if not worker.is_running:
                worker.start()
                self.timeline.add(f"{worker.name} starts")

        self._later(0.0, restart())

    def command(self, deed: Deed, *, dies_at: int | None = None) -> None:
        """The job's operator runs a command. With `dies_at` it is killed before this step."""
        name = f"c{len(self.commands)}"
        link = self.kafka.link(name)
        partitions = self.plan.profile.partitions
        places = Places(
            connections=self.kafka.connections(name),
            cluster=SimulatedCluster(self.kafka, link, partitions, self._outside, self.judge.forget),
            objects=self.bucket,
            configuration=CONFIGURATION,
        )
        command = SimulatedCommand(name, deed, self.loop, Random(f"{name} deed {self.plan.seed}"), places)
        self.commands.append(command)
        if self.loop.time() < self._mended_at:
            hurt(link, Random(f"{name} {self.plan.seed}"))
        self.timeline.add(f"{name} asks: {deed.value}")
        self._outside.run(command.start, dies_at)

        async def watch() -> None:
            await command.process.died.wait()
            self.timeline.add(f"{name} ended after {command.process.steps} steps: {command.said!r}")
            self._judged(lambda: command.check(self.jobs))

        self._later(0.0, watch())

    def part(self, twin: SimulatedWorker) -> None:
        """Kill the twin and give it an identity of its own: from now on it is a worker like the others."""
        self.twins.remove(twin)
        twin.kill()
        twin.renew_identity()
        self.restart(twin)

    def restart_when_dead(self, worker: SimulatedWorker, seconds: float) -> None:
        """Restart the worker when its process has died, as a supervisor does."""
        process = worker.process

        async def watch() -> None:
            assert process is not None
            await process.died.wait()
            self.restart(worker, seconds)

        self._later(0.0, watch())

    def after(self, seconds: float, mend: Callable[[], Any]) -> None:
        """Mend a fault's damage after some seconds."""

        async def end() -> None:
            await asyncio.sleep(seconds)
            mend()

        self._later(0.0, end())

    def _later(self, seconds: float, work: Coroutine[Any, Any, None]) -> None:
        """Do some work later, outside of every process."""

        def begin() -> None:
            task = self.loop.create_task(work)
            self._undo.add(task)
            task.add_done_callback(self._undo.discard)

        self.loop.call_later(seconds, begin, context=self._outside)


def generation_in(metadata: str) -> int | None:
    """The generation that the metadata of an offset names."""
    name, _, number = metadata.partition("=")
    return int(number) if name == "generation" and number.isdigit() else None


def _owned(worker: SimulatedWorker) -> Set[int]:
    """The partitions that the worker runs as a member, as web.owners sees them."""
    engine = worker.engine
    if not worker.is_running or engine is None or engine.started is None:
        return frozenset()
    return engine.served & engine.started.membership.owned


def _standbys(worker: SimulatedWorker) -> Set[int]:
    """The partitions that the worker follows without owning them."""
    return worker.engine.standbys().keys() if worker.is_running and worker.engine is not None else frozenset()


def _rows(worker: SimulatedWorker, partition: int) -> list[tuple[bytes, bytes]]:
    """The entries of a partition on the worker's disk, by the changelog's keys."""
    prefix = partition.to_bytes(2, "big")
    return [(k[2:], v) for k, v in worker.disk.scan(prefix) if k[:2] == prefix != OWN_PREFIX]


async def _ignoring(work: Coroutine[Any, Any, object]) -> None:
    try:
        await work
    except PortfolioStreamError:
        return
