"""Bugs that somebody could write into the engine: each must be caught, or the simulation proves nothing.

A mutation is a piece of the engine's source and what stands there instead, put in while the module is imported. The
piece must occur exactly once: a table that no longer fits the engine fails.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

PACKAGE = "portfolio_stream.exactly_once"


@dataclass(frozen=True, slots=True)
class Mutation:
    name: str
    #: below PACKAGE
    module: str
    old: str
    new: str
    #: the check behind it, in another module, that would undo the harm and is taken away as well
    behind: "Mutation | None" = None
    #: the profile of the runs that are to find it
    profile: str = "storm"


#: META and the group's offset need not agree: what a recovery reads too early is believed
_BELIEVES = Mutation(
    "a recovery believes what it read", "recovery",
    "        if meta.offset != group:\n", "        if False:\n",
)  # fmt: skip
#: stock aiokafka sends this generation: the coordinator takes it from anybody
_NOBODY = Mutation(
    "offsets that name no member", "writer",
    "            generation_id=member_epoch,\n            member_id=member_id,\n",
    "            generation_id=-1,\n            member_id='',\n",
)  # fmt: skip
MUTATIONS = (
    _NOBODY,
    Mutation(
        "offsets outside of the transaction", "commits",
        "        parts = await self._reserve(transaction, parts)\n",
        "        parts = await self._reserve(transaction, parts)\n"
        "        self._writer.state = after(self._writer.state, Step.PRODUCE)\n"
        "        await self._writer.commit()\n"
        "        self._writer.state = State.RESERVED\n",
    ),
    Mutation(
        "no offsets at all", "writer",
        "        await self._ask(Step.OFFSETS, request, self._coordinators.group, _worst_code, lane=Lane.OFFSETS)\n",
        "",
    ),
    Mutation(
        "store written before the commit", "commits",
        "        await self._writer.commit()\n        self._count(",
        "        await self._store.write(chain.from_iterable(items.values()), {})\n"
        "        await self._writer.commit()\n        self._count(",
    ),
    Mutation(
        "newest member epoch stamped, whatever was lost", "commits",
        "        epoch = transaction.member_epoch\n        while True:\n"
        "            if transaction.session != member.session:",
        "        epoch = member.epoch\n        while True:\n            if False:",
    ),
    Mutation(
        "overlay kept after an abort", "engine",
        "        _raise_fatal(await self._commits.ended())\n        self._handout.take_failures()\n"
        "        suspects = dict(self.partitions.suspects)\n        self._let_go(every)\n",
        "        _raise_fatal(await self._commits.ended())\n        self._handout.take_failures()\n"
        "        suspects = dict(self.partitions.suspects)\n"
        "        self.partitions.bump(every)\n        self._commits.drop_parts(every)\n"
        "        self.partitions.forget_views = lambda partitions: None\n",
    ),
    Mutation(
        "recovery to the last stable offset instead of the end", "replay",
        "            ends = await log_offsets(self._client, self._topic, firsts, LATEST)\n",
        "            ends = await log_offsets(self._client, self._topic, firsts, LATEST, 1)\n",
        _BELIEVES,
    ),
    Mutation(
        "records before the offsets were accepted", "commits",
        "        parts = await self._reserve(transaction, parts)\n"
        "        if not parts:\n"
        '            raise Doubt(None, "every partition of the transaction was lost")\n'
        "        endings = await self._send_records(parts)\n",
        "        self._writer.state = State.RESERVED\n"
        "        endings = await self._send_records(parts)\n"
        "        self._writer.state = State.READY\n"
        "        try:\n"
        "            parts = await self._reserve(transaction, parts)\n"
        "        except StaleEpoch:\n"
        "            pass\n"
        "        self._writer.state = State.WRITTEN\n",
    ),
    Mutation(
        "commit although a record batch was refused", "writer",
        "                if action not in (Action.RETRY, Action.FIND):\n",
        "                if error is E.invalid_producer_epoch or attempt > 1:\n"
        "                    written[target] = -1\n"
        "                elif action not in (Action.RETRY, Action.FIND):\n",
    ),
    Mutation(
        "records handed out that were read before a drop", "engine",
        " or partition not in known.running or known.incarnation(partition) != incarnation:\n                return\n",
        ":\n                return\n",
    ),
    Mutation(
        "a failed fold acknowledges", "engine",
        "            self.partitions.bump((piece.partition,))\n            self._handout.failures.append("
        "piece.failure(error))\n",
        "            piece.acknowledge()\n",
    ),
    Mutation(
        "a failed encoding acknowledges", "commits",
        "        items = list(self._partitions.dirty_items(part.partition))\n",
        "        items = []\n        try:\n            items.extend(self._partitions.dirty_items(part.partition))\n"
        "        except Exception:\n            pass\n",
    ),
    Mutation(
        "a failed encoding leaves what its slices had been read", "commits",
        "                self._partitions.bump((part.partition,))\n", "",
    ),
    Mutation(
        "an unanswered commit taken for committed", "writer",
        "        reply = await self._ask(\n            Step.COMMIT, self._end_request(committed=True), "
        "self._coordinators.transaction, _own_code\n        )\n        self._begin(reply)\n",
        "        reply = await call(self._client, await self._coordinators.transaction(), Lane.TRANSACTION, "
        "self._end_request(committed=True))\n"
        "        if reply.error_code is E.none:\n            self._begin(reply)\n",
    ),
    Mutation(
        "recovery from offsets that a transaction still holds", "recovery",
        "            is_stable=True,\n", "            is_stable=False,\n",
    ),
    Mutation(
        "changelog position a record too far", "commits",
        "Position(topic_id=self._changelog_id, offset=endings[target], written_at=now)",
        "Position(topic_id=self._changelog_id, offset=endings[target] + 3, written_at=now)",
    ),
    Mutation(
        "tombstones left out of the changelog", "store",
        "        dirty.clear()\n        return items\n",
        "        dirty.clear()\n        return [item for item in items if item[1] is not None]\n",
    ),
    Mutation(
        "a failed fold's share kept in the open transaction", "engine",
        "        self._commits.drop_parts((partition,))\n        self.partitions.forget_views((partition,))\n"
        "        suspect =",
        "        self.partitions.forget_views((partition,))\n        suspect =",
    ),
    Mutation(  # it was there once: chaos found it
        "a heartbeat that sends the epoch of before it waited", "membership",
        "                await self._send(beat, self._epoch_of(beat))\n",
        "                await self._send(beat, self._epoch_of(beat) if beat is Beat.GOODBYE else before)\n",
        Mutation(
            "which it read then", "membership",
            "        async with self._lock:",
            "        before = self.epoch\n        async with self._lock:",
        ),
    ),
    Mutation(
        "views kept of a partition that was given back", "partitions",
        "        self.bump(partitions)\n        self.forget_views(partitions)\n        for partition in partitions:\n",
        "        self.bump(partitions)\n        for partition in partitions:\n",
        Mutation(
            "views kept before a recovery", "engine",
            "drop_parts(undecided)\n        self.partitions.forget_views(undecided)\n        recovered =",
            "drop_parts(undecided)\n        recovered =",
            Mutation(
                "views kept after it", "engine", "            known.forget_views((decided.partition,))\n", "",
            ),
        ),
    ),
    Mutation(
        "values forgotten before the store has them", "store",
        "            self._older = dict(self)\n", "            self._older = {}\n",
    ),
    Mutation(
        "an operator's decision without a record of it", "commits",
        "        items += [(prefix + skip_key(record.offset), skip_value(record)) for record in part.skipped]\n", "",
    ),
    Mutation(
        "META that names the offset before", "commits", "            offset=part.position,\n",
        "            offset=part.position - 1,\n",
    ),
    Mutation(  # it was there once: the simulation found it
        "a target whose answer was lost is not asked for again", "beat_content",
        "    Event.FAILED: Owes.EVERYTHING,\n    Event.UNANSWERED: Owes.EVERYTHING,\n",
        "    Event.FAILED: Owes.SAME,\n    Event.UNANSWERED: Owes.SAME,\n",
        Mutation("nor now and then", "beat_content", "ANNOUNCE_SECONDS = 5.0", 'ANNOUNCE_SECONDS = float("inf")'),
    ),
    Mutation(
        "a difference believed at once", "recovery",
        "                is_last_try = time.monotonic() > self._deadlines.get(partition, math.inf)\n",
        "                is_last_try = True\n",
    ),
    Mutation(
        "a store that was away for too long is read on", "replay",
        " and absent < max_absence:\n", ":\n", profile="days",
    ),
    Mutation(
        "the other verdict while the first may be in flight", "writer",
        '        after(self.state, Step.COMMIT)\n        self._commit_sent = True\n',
        '        after(self.state, Step.COMMIT)\n        self._commit_sent = True\n'
        "        if self.retries.total() % 40 == 39:\n            return self._begin(self)\n",
    ),
)  # fmt: skip


def named(name: str) -> Mutation:
    return next(mutation for mutation in MUTATIONS if mutation.name == name)


def install(mutation: Mutation) -> None:
    """From the next import on. The modules must not have been imported."""
    edits = [mutation]
    while edits[-1].behind is not None:
        edits.append(edits[-1].behind)
    modules = {f"{PACKAGE}.{edit.module}" for edit in edits}
    assert not modules & sys.modules.keys(), f"{modules} are imported already"
    sys.meta_path.insert(0, _Finder(edits))


class _Finder(MetaPathFinder):
    def __init__(self, edits: Sequence[Mutation]) -> None:
        self._edits = edits

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: Any = None) -> ModuleSpec | None:
        edits = [edit for edit in self._edits if fullname == f"{PACKAGE}.{edit.module}"]
        if not edits:
            return None
        spec = PathFinder.find_spec(fullname, path)
        assert spec is not None and spec.origin is not None
        spec.loader = _Loader(fullname, spec.origin, edits)
        return spec


class _Loader(SourceFileLoader):
    def __init__(self, fullname: str, path: str, edits: Sequence[Mutation]) -> None:
        super().__init__(fullname, path)
        self._edits = edits

    def get_code(self, fullname: str) -> CodeType:
        source = Path(self.path).read_text()
        for edit in self._edits:
            source = edited(edit, source)
        return compile(source, self.path, "exec")


def edited(edit: Mutation, source: str) -> str:
    times = source.count(edit.old)
    assert times == 1, f"{edit.name}: its place occurs {times} times in {edit.module}"
    source = source.replace(edit.old, edit.new)
    if edit.module == "commits":  # what the mutated lines name
        known = "import Doubt, MembershipBroken, Refused, StaleEpoch"
        source = source.replace(known, f"{known}, State, Step, after")
    return source
