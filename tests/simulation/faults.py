"""What each kind of fault does to the world. Each fault says whether it had an effect: a dead worker cannot be killed.

The damage is mended by itself after `fault.seconds`, unless the fault's name says otherwise.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tests.judge.ledger import CHANGELOG, CONTROL, INDIGESTIBLE, OUTPUT, POISON, SOURCE
from tests.simulation.job_commands import Deed
from tests.simulation.kafka.network import LATENCY
from tests.simulation.plan import Fault

if TYPE_CHECKING:
    from tests.simulation.worker import SimulatedWorker
    from tests.simulation.world import World

Act = Callable[["World", Fault], bool]
MOST_WORKERS = 5
REMAINING_SHARE = 0.5  # the share of the stops after which the worker remains a member
STEPS = 400  # about 50 commits of a loaded worker, or a whole start
KILLED_TARGETS = 4  # of 12: the share of the commands that are killed before one of their steps
COMMAND_STEPS = 30  # most commands take 10 to 25 steps
SWITCH_STEPS = 400  # of a switch, while it waits for workers and reads changelogs
SWITCH_SECONDS = 10.0  # most switches are over by then
REQUESTS = ("TxnOffsetCommit", "Produce", "EndTxn", "ConsumerGroupHeartbeat", "OffsetFetch", "ListOffsets")
START_REQUESTS = (*REQUESTS, "InitProducerId", "Metadata", "FindCoordinator")


def _running(world: "World", fault: Fault) -> "SimulatedWorker | None":
    running = [worker for worker in world.workers if worker.is_running]
    return running[fault.target % len(running)] if running else None


# -- processes


def kill(world: "World", fault: Fault) -> bool:
    """kill -9. A supervisor starts the worker again."""
    worker = _running(world, fault)
    if worker is None:
        return False
    worker.kill()
    world.restart(worker, fault.seconds)
    return True


def crash_at_step(world: "World", fault: Fault) -> bool:
    """kill -9 between two random awaits."""
    worker = _running(world, fault)
    if worker is None or worker.process is None:
        return False
    worker.process.dies_at = worker.process.steps + 1 + int(fault.amount * STEPS)
    world.restart_when_dead(worker, fault.seconds)
    return True


def stop(world: "World", fault: Fault) -> bool:
    """SIGTERM or, in half of the cases, SIGUSR2: the worker remains a member. It is started again."""
    worker = _running(world, fault)
    if worker is None:
        return False
    worker.stop(remains=fault.amount >= REMAINING_SHARE)
    world.restart_when_dead(worker, fault.seconds)
    return True


def remove(world: "World", fault: Fault) -> bool:
    """SIGTERM. The worker is started again only much later."""
    return _removed(world, fault, 30.0 + fault.seconds)


def long_absence(world: "World", fault: Fault) -> bool:
    """As `remove`, and so long that tombstones which the worker's store never saw may be gone from the changelog."""
    seconds = world.delete_retention_seconds * (0.3 + 1.2 * fault.amount)
    return world.forgets_tombstones and _removed(world, fault, seconds)


def _removed(world: "World", fault: Fault, seconds: float) -> bool:
    worker = _running(world, fault)
    if worker is None or sum(one.is_running for one in world.workers) < 2:
        return False
    worker.stop()
    world.restart_when_dead(worker, seconds)
    return True


def twin(world: "World", fault: Fault) -> bool:
    """Somebody starts a copy of a worker with its identity, and ends the copy later. A supervisor starts both again."""
    worker = _running(world, fault)
    if worker is None or worker in world.twins or len(world.workers) >= MOST_WORKERS:
        return False
    other = world.new_worker()
    other.disk.take_from(worker.disk)
    other.take_identity(worker)
    world.twins.append(other)
    other.start()
    world.after(5.0 + fault.seconds, lambda: world.part(other))
    return True


def add(world: "World", fault: Fault) -> bool:
    if len(world.workers) >= MOST_WORKERS:
        return False
    world.new_worker().start()
    return True


def pause(world: "World", fault: Fault) -> bool:
    """SIGSTOP for longer than the session, then SIGCONT: a zombie wakes."""
    return _paused(world, fault, 3.0 + fault.seconds)


def pause_at_reply(world: "World", fault: Fault) -> bool:
    """SIGSTOP amid a commit, a heartbeat or a recovery. The session may be over at the end, the transaction alive."""
    worker = _running(world, fault)
    if worker is None:
        return False

    def act(node: int) -> None:
        process = worker.process
        if process is not None and process.is_alive and not process.is_paused:
            process.pause()
            world.after(3.0 + fault.seconds, lambda: process.wake(world.loop) if process.is_paused else None)

    world.kafka.link(worker.name).at_replies[REQUESTS[int(fault.amount * len(REQUESTS))]] = act
    return True


def crash_exactly(world: "World", fault: Fault) -> bool:
    """kill -9 before the step of this number, counted from the worker's start."""
    worker = world.workers[fault.target]
    if worker.process is None:
        return False
    worker.process.dies_at = int(fault.amount)
    world.restart_when_dead(worker, fault.seconds)
    return True


def kill_at_reply(world: "World", fault: Fault) -> bool:
    """kill -9 when the broker has answered and the worker has not heard the answer."""
    worker = _running(world, fault)
    if worker is None:
        return False

    def act(node: int) -> None:
        if worker.is_running:
            worker.kill()
            world.restart(worker, fault.seconds)

    world.kafka.link(worker.name).at_replies[START_REQUESTS[int(fault.amount * len(START_REQUESTS))]] = act
    return True


def nap(world: "World", fault: Fault) -> bool:
    """SIGSTOP for less than the session."""
    return _paused(world, fault, min(fault.seconds, 2.5))


def _paused(world: "World", fault: Fault, seconds: float) -> bool:
    worker = _running(world, fault)
    if worker is None or worker.process is None or worker.process.is_paused:
        return False
    process = worker.process
    process.pause()
    world.after(seconds, lambda: process.wake(world.loop) if process.is_paused else None)
    return True


# -- the network


def lose_replies(world: "World", fault: Fault) -> bool:
    """For a while, some requests take effect, but their connection breaks before the answer."""
    worker = _running(world, fault)
    if worker is None:
        return False
    link = world.kafka.link(worker.name)
    link.reply_loss = 0.02 + 0.3 * fault.amount
    world.after(fault.seconds, lambda: setattr(link, "reply_loss", 0.0))
    return True


def lose_requests(world: "World", fault: Fault) -> bool:
    worker = _running(world, fault)
    if worker is None:
        return False
    link = world.kafka.link(worker.name)
    link.request_loss = 0.02 + 0.3 * fault.amount
    world.after(fault.seconds, lambda: setattr(link, "request_loss", 0.0))
    return True


def lose_next_reply(world: "World", fault: Fault) -> bool:
    worker = _running(world, fault)
    if worker is None:
        return False
    world.kafka.link(worker.name).lose_reply_of(START_REQUESTS[int(fault.amount * len(START_REQUESTS))])
    return True


def lose_assignment(world: "World", fault: Fault) -> bool:
    worker = _running(world, fault)
    if worker is None:
        return False
    world.kafka.link(worker.name).lost_assignments = 1 + int(fault.amount * 2)
    return True


def hold_next_request(world: "World", fault: Fault) -> bool:
    """The request arrives after the client gave up."""
    worker = _running(world, fault)
    if worker is None:
        return False
    world.kafka.link(worker.name).hold(REQUESTS[int(fault.amount * len(REQUESTS))], fault.seconds)
    return True


def cut_off(world: "World", fault: Fault) -> bool:
    worker = _running(world, fault)
    if worker is None:
        return False
    link = world.kafka.link(worker.name)
    link.cut()
    world.after(fault.seconds, lambda: setattr(link, "is_cut", False))
    return True


def slow_link(world: "World", fault: Fault) -> bool:
    worker = _running(world, fault)
    if worker is None:
        return False
    link = world.kafka.link(worker.name)
    link.latency = (0.01, 0.05 + 1.5 * fault.amount)
    world.after(fault.seconds, lambda: setattr(link, "latency", LATENCY))
    return True


# -- brokers


def kill_broker(world: "World", fault: Fault) -> bool:
    node = fault.target % world.plan.profile.brokers
    if not world.kafka.are_all_up:
        return False
    world.kafka.kill_broker(node)
    world.after(fault.seconds, lambda: world.kafka.start_broker(node))
    return True


def kill_broker_at_reply(world: "World", fault: Fault) -> bool:
    """A broker dies after a request took effect and before the answer."""
    worker = _running(world, fault)
    if worker is None:
        return False

    def act(node: int) -> None:
        if world.kafka.are_all_up:
            world.kafka.kill_broker(node)
            world.after(fault.seconds, lambda: world.kafka.start_broker(node))

    world.kafka.link(worker.name).at_replies[START_REQUESTS[int(fault.amount * len(START_REQUESTS))]] = act
    return True


def pause_broker(world: "World", fault: Fault) -> bool:
    node = fault.target % world.plan.profile.brokers
    if not world.kafka.are_all_up:
        return False
    world.kafka.pause_broker(node)
    world.after(fault.seconds, lambda: world.kafka.wake_broker(node))
    return True


def move_leaders(world: "World", fault: Fault) -> bool:
    if world.plan.profile.brokers == 1 or not world.kafka.are_all_up:
        return False
    world.kafka.move_leaders()
    return True


def compact(world: "World", fault: Fault) -> bool:
    """Compact twice: the second pass takes the tombstones whose time is over."""

    def clean() -> None:
        for topic, partition in list(world.kafka.logs):
            if topic.startswith(CHANGELOG):
                world.kafka.compact(topic, partition)
        world.kafka.compact(CONTROL, 0)

    clean()
    world.after(world.delete_retention_seconds + fault.seconds, clean)
    return True


# -- the disk


def disk_full(world: "World", fault: Fault) -> bool:
    worker = _running(world, fault)
    if worker is None:
        return False
    worker.disk.is_full = True

    def make_room() -> None:
        worker.disk.is_full = False

    world.after(fault.seconds, make_room)
    return True


def disk_write_fails(world: "World", fault: Fault) -> bool:
    worker = _running(world, fault)
    if worker is None:
        return False
    worker.disk.fails_in = int(fault.amount * 20)
    return True


def slow_disk(world: "World", fault: Fault) -> bool:
    worker = _running(world, fault)
    if worker is None or worker.process is None:
        return False
    name = worker.process.name
    world.loop.thread_seconds[name] = (0.01, 0.1 + 3.0 * fault.amount)
    world.after(fault.seconds, lambda: world.loop.thread_seconds.pop(name, None))
    return True


def crash_machine(world: "World", fault: Fault) -> bool:
    """The machine crashes: the process is gone, and the newest writes of its store too."""
    worker = _running(world, fault)
    if worker is None:
        return False
    worker.kill()
    worker.disk.tear(int(fault.amount * 10))
    world.restart(worker, fault.seconds)
    return True


def wipe_folder(world: "World", fault: Fault) -> bool:
    worker = _running(world, fault)
    if worker is None:
        return False
    worker.kill()
    worker.disk.wipe()
    worker.renew_identity()
    world.restart(worker, fault.seconds)
    return True


def new_identity(world: "World", fault: Fault) -> bool:
    """The identity's file is torn: the store is only a cache, and the old member's transaction may be open."""
    worker = _running(world, fault)
    if worker is None:
        return False
    worker.kill()
    worker.renew_identity()
    world.restart(worker, fault.seconds)
    return True


def copy_folder(world: "World", fault: Fault) -> bool:
    """Another worker starts with a copy of a running worker's store, which is older by then."""
    worker = _running(world, fault)
    if worker is None or len(world.workers) >= MOST_WORKERS:
        return False
    other = world.new_worker()
    other.disk.take_from(worker.disk)
    world.restart(other, fault.seconds)
    return True


# -- clocks, folds, records


def jump_clock(world: "World", fault: Fault) -> bool:
    """A worker's wall clock is wrong, by at most an eighth of the time for which tombstones stay."""
    worker = _running(world, fault)
    if worker is None or worker.process is None:
        return False
    worker.process.skew = (fault.amount - 0.5) / 4 * world.delete_retention_seconds
    return True


def fail_fold(world: "World", fault: Fault) -> bool:
    worker = _running(world, fault)
    if worker is None:
        return False
    worker.failures += 1 + int(fault.amount * 2)
    return True


def fail_encoding(world: "World", fault: Fault) -> bool:
    """A value that a fold wrote cannot be encoded at the commit."""
    worker = _running(world, fault)
    if worker is None:
        return False
    worker.encoding_failures += 1 + int(fault.amount * 5)
    return True


def slow_fold(world: "World", fault: Fault) -> bool:
    """The next fold waits, at times for longer than a revocation may take. The main loop stands still meanwhile."""
    worker = _running(world, fault)
    if worker is None:
        return False
    worker.fold_seconds = 2 * fault.seconds
    return True


def refuse_records(world: "World", fault: Fault) -> bool:
    """An operator lowers a topic's max.message.bytes, and corrects the mistake later."""
    place = (OUTPUT, fault.target % world.plan.profile.partitions)
    world.kafka.refusing.add(place)
    world.after(fault.seconds, lambda: world.kafka.refusing.discard(place))
    return True


def damage_fetches(world: "World", fault: Fault) -> bool:
    """Fetched bytes are damaged on their way, once, or so often that the partition stops."""
    partition = fault.target % world.plan.profile.partitions
    places = ((SOURCE, partition), (SOURCE, partition), (world.judge.changelog, partition), (CONTROL, 0))
    world.kafka.damaged[places[int(fault.amount * len(places))]] += 1 + int(fault.seconds) % 4
    return True


def poison(world: "World", fault: Fault) -> bool:
    """A record comes that no fold or no encoder takes. An operator moves the record in the end."""
    value = POISON if fault.amount < 0.5 else INDIGESTIBLE
    world.kafka.append(SOURCE, fault.target % world.plan.profile.partitions, [(b"poison", value)])
    return True


def move_offset(world: "World", fault: Fault) -> bool:
    """A stranger commits an offset for our group. An operator lets the partition go on from the state."""
    partition = fault.target % world.plan.profile.partitions
    return world.kafka.move_group_offset(partition, int(fault.amount * 40) - 20 or 1)


def open_source_transaction(world: "World", fault: Fault) -> bool:
    """A producer upstream keeps its transaction open. Until its end, nobody reads behind its first record."""
    records = [world.event(fault.target % world.plan.profile.partitions) for _ in range(3)]
    opened = world.kafka.begin_upstream(SOURCE, fault.target % world.plan.profile.partitions, records)
    world.after(fault.seconds, lambda: world.kafka.end_upstream(opened, is_committed=fault.amount < 0.7))
    return True


def source_transactions(world: "World", fault: Fault) -> bool:
    """A transactional producer upstream writes markers and aborted records, at times nothing else."""
    partition = fault.target % world.plan.profile.partitions
    for number in range(1 + int(fault.amount * 3)):
        records = [world.event(partition) for _ in range(3)]
        world.kafka.append_transaction(SOURCE, partition, records, is_committed=number % 2 == 0 and fault.amount < 0.7)
    return True


# -- deeds of the job's operator


def pause_job(world: "World", fault: Fault) -> bool:
    return _asks_and_takes_back(world, fault, Deed.PAUSE, Deed.RESUME)


def stop_job(world: "World", fault: Fault) -> bool:
    return _asks_and_takes_back(world, fault, Deed.STOP, Deed.START)


def cancel_job(world: "World", fault: Fault) -> bool:
    return _asks_and_takes_back(world, fault, Deed.CANCEL, Deed.START)


def quarrel(world: "World", fault: Fault) -> bool:
    """Several operators ask for different things at once."""
    for deed in (Deed.STOP, Deed.CANCEL, Deed.PAUSE, Deed.START):
        world.command(deed)
    world.after(fault.seconds, lambda: world.command(Deed.START))
    return True


def savepoint(world: "World", fault: Fault) -> bool:
    return _asks_and_takes_back(world, fault, Deed.SAVEPOINT)


def stop_with_savepoint(world: "World", fault: Fault) -> bool:
    """Stop with a savepoint. Somebody starts the job some time later, whether it has stopped or not."""
    deed = Deed.DRAIN if fault.target % 2 else Deed.STOP_WITH_SAVEPOINT
    return _asks_and_takes_back(world, fault, deed, Deed.START)


def restore(world: "World", fault: Fault) -> bool:
    return _switches(world, fault, Deed.RESTORE)


def fresh(world: "World", fault: Fault) -> bool:
    return _switches(world, fault, Deed.FRESH)


def reset(world: "World", fault: Fault) -> bool:
    return _switches(world, fault, Deed.RESET)


def rollback(world: "World", fault: Fault) -> bool:
    return _switches(world, fault, Deed.ROLLBACK)


def adopt(world: "World", fault: Fault) -> bool:
    """A stranger commits an offset, and the job adopts it."""
    partition = fault.target % world.plan.profile.partitions
    world.kafka.move_group_offset(partition, -1 - int(fault.amount * 60) if fault.target % 3 else 5)
    world.faults["move_offset"] += 1
    return _switches(world, fault, Deed.ADOPT)


def _switches(world: "World", fault: Fault, deed: Deed) -> bool:
    """Make another generation. Some faults kill the command before one of its steps; others ask for the same twice."""
    is_killed = fault.target < KILLED_TARGETS
    world.command(deed, dies_at=1 + int(fault.amount * SWITCH_STEPS) if is_killed else None)
    if fault.target == KILLED_TARGETS:
        world.after(fault.seconds, lambda: world.command(deed))
    if is_killed or fault.target % 2:
        world.after(SWITCH_SECONDS + fault.seconds, lambda: world.command(Deed.START))
    return True


def fail_store(world: "World", fault: Fault) -> bool:
    """For a while some requests to the savepoints' place fail. Some of the failed requests took effect."""
    world.bucket.failing = 0.05 + 0.6 * fault.amount
    world.after(fault.seconds, world.bucket.heal)
    return True


def slow_store(world: "World", fault: Fault) -> bool:
    world.bucket.latency = (0.05, 0.1 + 2.0 * fault.amount)
    world.after(fault.seconds, world.bucket.heal)
    return True


def _asks_and_takes_back(world: "World", fault: Fault, deed: Deed, back: Deed | None = None) -> bool:
    """Ask for something by a command, which some faults kill before one of its steps. Ask for the opposite later."""
    is_killed = fault.target < KILLED_TARGETS
    world.command(deed, dies_at=1 + int(fault.amount * COMMAND_STEPS) if is_killed else None)
    if back is not None:
        world.after(0.5 + fault.seconds, lambda: world.command(back))
    return True


ACTS: Mapping[str, Act] = {
    act.__name__: act
    for act in (
        kill, crash_at_step, crash_exactly, kill_at_reply, stop, remove, long_absence, add, twin, pause,
        pause_at_reply, nap, lose_replies, lose_requests, lose_next_reply, lose_assignment, hold_next_request, cut_off,
        slow_link, kill_broker, kill_broker_at_reply, pause_broker, move_leaders, compact, disk_full, disk_write_fails,
        slow_disk, crash_machine, wipe_folder, new_identity, copy_folder, jump_clock, fail_fold, fail_encoding,
        slow_fold, poison, source_transactions, open_source_transaction, move_offset, refuse_records, damage_fetches,
        pause_job, stop_job, cancel_job, quarrel, savepoint, stop_with_savepoint, fail_store, slow_store,
        restore, fresh, reset, adopt, rollback,
    )
}  # fmt: skip
