"""Which worker stands by for which partition: a pure function of the group's members, so that all workers agree.

1. Each partition has `copies` standbys, or as many as there are other workers. Its owner is none of them.
2. Rendezvous hashing: each worker has a rank for each partition, and the first of the others stand by. A worker that
   comes or goes changes only the places that it takes or had.
3. Kafka decides which worker gets a partition. With a standby on each of the other workers, whoever gets it has a copy.
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
