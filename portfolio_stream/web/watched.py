"""What the page shows of the watcher, the job and its checkpoints: the value of the live event `watch`.

Any process on this machine may answer where the watcher should. So every list and every text of its answer has a bound.
"""

import re
from collections.abc import Callable

import aiohttp
import msgspec

from portfolio_stream.checkpoints.history import History
from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.foreign import printable
from portfolio_stream.http import signatures
from portfolio_stream.settings import Settings
from portfolio_stream.watch import thresholds
from portfolio_stream.watch.shown import AlertChange, ShownAlert, ShownObjective, Watched
from portfolio_stream.web.checkpoints import ShownCheckpoint, shown
from portfolio_stream.web.job import ShownJob
from portfolio_stream.web.watcher import watcher_answer

MOST_ALERTS = 20
MOST_CHANGES = 50
MOST_OBJECTIVES = 10
MOST_ADVICE = 10
MOST_CHARACTERS = 300  # of a text: a sentence of advice has 200
MOST_CHECKPOINTS = 5
_SECTION = re.compile(r"[a-z0-9-]{1,100}")


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of `watch.thresholds` that the charts show as lines."""

    latency_seconds: float = thresholds.LATENCY_SECONDS
    lag_records: int = thresholds.LAG_RECORDS


class PageWatch(msgspec.Struct, frozen=True, kw_only=True):
    #: why nobody watches, a sentence; empty if the watcher answers
    detail: str
    #: UNIX seconds of the watcher's last look; None without a watcher
    at: float | None = None
    #: UNIX seconds since which the objectives are counted
    since: float | None = None
    alerts: tuple[ShownAlert, ...] = ()
    #: newest first
    changes: tuple[AlertChange, ...] = ()
    objectives: tuple[ShownObjective, ...] = ()
    advice: tuple[str, ...] = ()
    #: None: this worker does not know the job yet
    job: ShownJob | None = None
    #: newest first; None until this worker has read them
    checkpoints: tuple[ShownCheckpoint, ...] | None = None
    limits: Limits = Limits()


class PageWatcher:
    """Takes looks for the pages of this worker."""

    def __init__(
        self, engine: Engine, settings: Settings, checkpoints: History, job: Callable[[], ShownJob | None]
    ) -> None:
        self._sender = engine.identity.instance_id
        self._address = settings.watcher
        token = settings.web_token
        self._key = None if token is None else signatures.derive_key(token, settings.group)
        self._checkpoints = checkpoints
        self._job = job

    async def look(self, session: aiohttp.ClientSession) -> PageWatch:
        answer = await watcher_answer(session, self._address, self._key, self._sender)
        page = PageWatch(detail=answer) if isinstance(answer, str) else page_of(answer)
        return msgspec.structs.replace(page, job=self._job(), checkpoints=self._latest_checkpoints())

    def _latest_checkpoints(self) -> tuple[ShownCheckpoint, ...] | None:
        if not self._checkpoints.is_ready:
            return None
        return tuple(map(shown, self._checkpoints.checkpoints()[:MOST_CHECKPOINTS]))


def page_of(watched: Watched) -> PageWatch:
    """Returns the part of the watcher's answer that the page shows, within its bounds."""
    return PageWatch(
        detail="",
        at=watched.at,
        since=watched.since,
        alerts=tuple(map(_alert, watched.alerts[:MOST_ALERTS])),
        changes=tuple(map(_change, watched.changes[:MOST_CHANGES])),
        objectives=tuple(map(_objective, watched.objectives[:MOST_OBJECTIVES])),
        advice=tuple(map(_short, watched.advice[:MOST_ADVICE])),
    )


def _alert(one: ShownAlert) -> ShownAlert:
    return msgspec.structs.replace(
        one,
        name=_short(one.name),
        priority=_short(one.priority),
        severity=_short(one.severity),
        summary=_short(one.summary),
        section=one.section if _SECTION.fullmatch(one.section) else "",
        inhibited_by=None if one.inhibited_by is None else _short(one.inhibited_by),
    )


def _change(one: AlertChange) -> AlertChange:
    inhibited_by = None if one.inhibited_by is None else _short(one.inhibited_by)
    return msgspec.structs.replace(one, name=_short(one.name), priority=_short(one.priority), inhibited_by=inhibited_by)


def _objective(one: ShownObjective) -> ShownObjective:
    return msgspec.structs.replace(one, name=_short(one.name), text=_short(one.text), unit=_short(one.unit))


def _short(text: str) -> str:
    return printable(text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}…")
