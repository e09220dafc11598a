"""Plans: which fault hurts which target at which moment. A plan is data that can be run again, cut down and printed.

A plan is a pure function of its seed and profile. Faults name workers by number and brokers by node. A fault that does
not fit its moment does nothing: a dead worker cannot be killed. So any subset of a plan's faults is a plan again.
"""

from dataclasses import dataclass, replace
from random import Random


@dataclass(frozen=True, slots=True)
class Fault:
    #: virtual seconds since the start
    at: float
    #: a key of `faults.ACTS`
    kind: str
    #: a worker's number or a broker's node
    target: int
    #: how long the fault lasts, if it lasts
    seconds: float
    #: a count or a share, if the kind has one
    amount: float

    def __str__(self) -> str:
        return f"{self.at:9.3f}  {self.kind} {self.target} seconds={self.seconds:.3f} amount={self.amount:.3f}"


@dataclass(frozen=True, slots=True)
class Profile:
    name: str
    seconds: float
    workers: int
    brokers: int
    partitions: int
    #: mean seconds between two faults
    pause: float
    #: bursts of events: mean seconds between two bursts, and most events in a burst
    burst_pause: float
    burst_events: int
    #: mean seconds between two deeds of the job's operator
    deed_pause: float = 7.0


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    profile: Profile
    faults: tuple[Fault, ...]

    def without(self, faults: tuple[Fault, ...]) -> "Plan":
        gone = set(faults)
        return replace(self, faults=tuple(fault for fault in self.faults if fault not in gone))


PROFILES = {
    profile.name: profile
    for profile in (
        #: many faults in a short time
        Profile("storm", 120.0, 3, 3, 4, 2.0, 0.7, 60),
        #: one broker, two workers, crashes at single steps
        Profile("steps", 60.0, 2, 1, 3, 2.5, 0.4, 40),
        #: mostly quiet, as a week is
        Profile("days", 7_200.0, 3, 3, 4, 45.0, 20.0, 60, 400.0),
    )
}

#: so short that one run can be made for each step of a worker
SHORT_LIFE = Profile("short life", 5.0, 1, 1, 2, 1.0, 0.25, 20)
#: the weight of each kind of fault
WEIGHTS = {
    "kill": 10,
    "crash_at_step": 14,
    "stop": 5,
    "pause": 5,
    "pause_at_reply": 6,
    "kill_at_reply": 6,
    "nap": 3,
    "remove": 2,
    "long_absence": 3,
    "twin": 1,
    "add": 3,
    "lose_replies": 8,
    "lose_requests": 4,
    "lose_next_reply": 10,
    "lose_assignment": 4,
    "hold_next_request": 8,
    "cut_off": 4,
    "slow_link": 3,
    "kill_broker": 5,
    "kill_broker_at_reply": 4,
    "pause_broker": 3,
    "move_leaders": 3,
    "disk_full": 2,
    "disk_write_fails": 3,
    "slow_disk": 3,
    "crash_machine": 4,
    "wipe_folder": 1,
    "new_identity": 1,
    "copy_folder": 1,
    "jump_clock": 2,
    "fail_fold": 6,
    "fail_encoding": 3,
    "slow_fold": 3,
    "poison": 2,
    "source_transactions": 3,
    "open_source_transaction": 3,
    "compact": 4,
    "refuse_records": 2,
    "move_offset": 1,
    "damage_fetches": 3,
}
#: the weight of each deed of the job's operator
DEEDS = {
    "pause_job": 3,
    "stop_job": 4,
    "cancel_job": 2,
    "quarrel": 1,
    "savepoint": 6,
    "stop_with_savepoint": 4,
    "fail_store": 3,
    "slow_store": 2,
    "restore": 4,
    "fresh": 1,
    "reset": 5,
    "adopt": 3,
    "rollback": 3,
}
DEED_SHARE = 0.6  # the share of the worlds whose job has an operator
SHORT, LONG = (0.0, 2.0), (2.0, 20.0)


def make(seed: int, profile: Profile) -> Plan:
    random = Random(f"{profile.name} {seed}")
    kinds, weights = list(WEIGHTS), list(WEIGHTS.values())
    faults = []
    at = random.uniform(2.0, 6.0)
    while at < profile.seconds:
        kind = random.choices(kinds, weights)[0]
        least, most = SHORT if random.random() < 0.6 else LONG
        target = random.randrange(12)
        faults.append(Fault(round(at, 3), kind, target, round(random.uniform(least, most), 3), random.random()))
        # some faults come together: a fault amid the recovery from another one finds other bugs
        at += random.expovariate(1 / profile.pause) if random.random() < 0.7 else random.uniform(0.0, 0.3)
    faults += _deeds(Random(f"deeds {profile.name} {seed}"), profile)
    return Plan(seed, profile, tuple(sorted(faults, key=lambda fault: fault.at)))


def _deeds(random: Random, profile: Profile) -> list[Fault]:
    """What the job's operator does. In other worlds the job has none."""
    deeds: list[Fault] = []
    if random.random() >= DEED_SHARE:
        return deeds
    kinds, weights = list(DEEDS), list(DEEDS.values())
    at = random.uniform(3.0, 10.0)
    while at < profile.seconds:
        kind = random.choices(kinds, weights)[0]
        least, most = SHORT if random.random() < 0.4 else LONG
        deeds.append(
            Fault(round(at, 3), kind, random.randrange(12), round(random.uniform(least, most), 3), random.random())
        )
        at += random.expovariate(1 / profile.deed_pause)
    return deeds


def at_step(seed: int, step: int) -> Plan:
    """A worker starts, joins, gives partitions back and leaves, and is killed before its step of that number."""
    happens = (
        Fault(0.0, "crash_exactly", 0, 0.4, step),
        Fault(1.5, "add", 0, 0.0, 0.0),
        Fault(3.5, "stop", 1, 30.0, 0.0),
    )
    return Plan(seed, SHORT_LIFE, happens)
