"""What the system tells about an incident: each piece within a time limit, whatever is down.

A piece that cannot be had is a sentence for the report. It never stops the other pieces.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec

from portfolio_stream.doctor.evidence import Unseen, WorkerAnswers
from portfolio_stream.doctor.examination import pieces
from portfolio_stream.doctor.gathering import gather_all, held
from portfolio_stream.errors import WatchFolderUnusable
from portfolio_stream.http import signatures
from portfolio_stream.incidents.report import read_moment
from portfolio_stream.incidents.timeline import WorkerMoment
from portfolio_stream.observe.history import MINUTE_SECONDS
from portfolio_stream.settings import Settings
from portfolio_stream.watch.shown import Watched
from portfolio_stream.watch.time_slices import TimeSlice
from portfolio_stream.watcher.folder import WatchFolder
from portfolio_stream.web.minutes import PATH as HISTORY
from portfolio_stream.web.minutes import WorkerHistory
from portfolio_stream.web.verdict import Audit, ask_auditor
from portfolio_stream.web.watcher import watcher_answer

SENDER = "incident"  # our name in the workers' logs
EVENTS = "/events?limit=1000"
NEEDED = ("reached", "coordinated", "group", "workers")


class _ReadEvent(msgspec.Struct, frozen=True):
    """An event of GET /events, as a reader has it: a range of offsets is an array."""

    time: str
    level: str
    action: str
    fields: dict[str, Any]


class _ReadEvents(msgspec.Struct, frozen=True):
    events: tuple[_ReadEvent, ...]
    worker: str


@dataclass(frozen=True, kw_only=True, slots=True)
class IncidentEvidence:
    watched: Watched | None
    audit: Audit
    events: Sequence[WorkerMoment] = ()
    histories: Sequence[WorkerHistory] = ()
    #: the watcher's minutes: it knows the lag while no worker runs
    slices: Sequence[TimeSlice] = ()
    #: a sentence for each piece that could not be had
    missing: tuple[str, ...] = field(default=())

    def peaks(self, since: float, until: float) -> tuple[int | None, float | None]:
        """The most records and the most seconds that the workers were behind in this time; None: unknown.

        The workers' minutes are added up, so the sum is at least the largest lag of a moment.
        """
        lags: dict[int, int] = {}
        seconds: list[float] = []
        for history in self.histories:
            for minute in history.minutes:
                if minute.at + minute.seconds < since or minute.at > until:
                    continue
                if minute.lag is not None:
                    lags[minute.at] = lags.get(minute.at, 0) + minute.lag
                if minute.lag_seconds is not None:
                    seconds.append(minute.lag_seconds)
        known = [*lags.values(), *(one.lag for one in self._seen(since, until) if one.lag_seconds)]
        if self.watched is not None and self.watched.figures.lag is not None:
            known.append(self.watched.figures.lag)
        return max(known, default=None), max(seconds, default=None)

    def unknown_seconds(self, since: float, until: float) -> float:
        """Returns for how long the watcher looked in this time and did not know the lag."""
        return sum(one.seconds - one.lag_seconds for one in self._seen(since, until))

    def _seen(self, since: float, until: float) -> Iterator[TimeSlice]:
        return (one for one in self.slices if since - MINUTE_SECONDS <= one.at <= until)


async def gathered(settings: Settings) -> IncidentEvidence:
    """Ends within half a minute."""
    (watched, audit), answers = await asyncio.gather(_beside(settings), _workers(settings))
    missing = [] if isinstance(watched, Watched) else [f"Alerts of the watcher: {watched}"]
    if isinstance(answers, Unseen):
        missing.append(f"Events of the workers: {answers}")
        answers = ()
    silent = [f"{one.name}: {one.missing[EVENTS]}" for one in answers if EVENTS in one.missing]
    silent += [f"{one.name}: {one.peer.detail}" for one in answers if one.peer is not None and not one.answers]
    return IncidentEvidence(
        watched=watched if isinstance(watched, Watched) else None,
        audit=audit,
        events=[row for one in answers for row in event_moments(one.answers.get(EVENTS))],
        histories=[found for one in answers if (found := _as(one.answers.get(HISTORY), WorkerHistory)) is not None],
        slices=_slices(settings),
        missing=(*missing, *(f"Events of worker {reason}" for reason in dict.fromkeys(silent))),
    )


async def looked(settings: Settings) -> IncidentEvidence:
    """Ask watcher and auditor alone."""
    watched, audit = await _beside(settings)
    if isinstance(watched, Watched):
        return IncidentEvidence(watched=watched, audit=audit)
    return IncidentEvidence(watched=None, audit=audit, missing=(f"Alerts of the watcher: {watched}",))


def _slices(settings: Settings) -> Sequence[TimeSlice]:
    """Of a watcher with this data folder; none if it runs elsewhere."""
    try:
        return WatchFolder(settings).read(time.time())
    except WatchFolderUnusable:
        return ()


async def _beside(settings: Settings) -> tuple[Watched | str, Audit]:
    token = settings.web_token
    key = None if token is None else signatures.derive_key(token, settings.group)
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False) as session:
        watched, audit = await asyncio.gather(
            watcher_answer(session, settings.watcher, key, SENDER),
            ask_auditor(session, settings.auditor, key, SENDER),
        )
    return watched, audit


async def _workers(settings: Settings) -> Sequence[WorkerAnswers] | Unseen:
    async with held() as kept:
        all_pieces = pieces(settings, None, (EVENTS, HISTORY), kept)
        found: Mapping[str, Any] = await gather_all({name: all_pieces[name] for name in NEEDED})
    workers: Sequence[WorkerAnswers] | Unseen = found["workers"]
    return workers


def event_moments(answer: object) -> Iterator[WorkerMoment]:
    """What a worker answered at EVENTS, as moments. Another program may have answered: then there is none."""
    page = _as(answer, _ReadEvents)
    for event in () if page is None else page.events:
        fields = " ".join(f"{name}={_text(value)}" for name, value in event.fields.items())
        at = read_moment(event.time)
        if at is None:
            continue
        yield WorkerMoment(at=at, worker=page.worker, level=event.level, action=event.action, text=fields)


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def _as(answer: object, kind: Any) -> Any:
    """The answer as that kind of value; None if it is none, because another program may have answered."""
    try:
        return msgspec.convert(answer, kind)
    except (msgspec.MsgspecError, RecursionError):
        return None
