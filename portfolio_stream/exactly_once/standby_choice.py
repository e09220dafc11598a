"""Which worker stands by for which partition: a pure function of the group's members, so that all workers agree.

1. Each partition has `copies` standbys, but at most as many as there are other workers. Its owner is none of them.
2. The choice is rendezvous hashing: a hash of partition and worker ranks the workers for each partition, and the first
   `copies` of them, without the owner, stand by. A worker that joins takes only the places in which it ranks before
   another worker; if a worker leaves, only its own places go to others. So few changelogs are read anew.
3. Kafka decides which worker gets a partition. If every other worker is a standby, the next owner surely has a copy.
"""

from collections.abc import Collection, Mapping
from hashlib import blake2b


def standbys_of(worker: str, held: Mapping[str, Collection[int]], *, copies: int, partitions: int) -> frozenset[int]:
    """The partitions for which `worker` stands by. `held` has the partitions of each worker, by a name that stays.

    A worker that is not in `held` is about to join.
    """
    workers = held.keys() | {worker}
    owners = {partition: name for name, owned in held.items() for partition in owned}
    return frozenset(
        partition
        for partition in range(partitions)
        if worker in _ranked(workers - {owners.get(partition, "")}, partition)[:copies]
    )


def _ranked(workers: Collection[str], partition: int) -> list[str]:
    return sorted(workers, key=lambda name: blake2b(f"{partition} {name}".encode(), digest_size=8).digest())
