"""The calls of a worker that a run may strike. Each call is wrapped from outside: the product has no code for strikes.

A file that appears while the worker runs holds an order. The order names a call and an occurrence, and says whether the
process dies before the call or after the call, or whether the call fails. The process first renames the file, which
tells the run that the point was reached.
"""

import errno
import os
import signal
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any

import msgspec

from agents import portfolio_events
from portfolio_stream.errors import StoreFailed
from portfolio_stream.exactly_once import identity
from portfolio_stream.exactly_once.commits import Commits
from portfolio_stream.exactly_once.database import RocksDatabase
from portfolio_stream.exactly_once.doubts import Doubts
from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.exactly_once.main_loop import MainLoop
from portfolio_stream.exactly_once.ownership import Ownership
from portfolio_stream.exactly_once.recovery import Recovery
from portfolio_stream.exactly_once.recovery_task import RecoveryTask
from portfolio_stream.exactly_once.replay import ChangelogReplay
from portfolio_stream.exactly_once.store import META_KEY, Store
from portfolio_stream.exactly_once.writer import Writer
from tests.sweep.points import Variant

FULL = os.strerror(errno.ENOSPC)
OWN_KEYS = b"\xff\xff"

_replaying: ContextVar[bool] = ContextVar("replaying", default=False)


class Order(msgspec.Struct, frozen=True, kw_only=True):
    step: str
    variant: Variant
    occurrence: int

    def give(self, path: Path) -> None:
        part = path.with_suffix(".given")
        part.write_bytes(msgspec.json.encode(self))
        part.rename(path)


def obeyed(path: Path) -> Path:
    """The name of the order's file once the order was obeyed."""
    return path.with_suffix(".obeyed")


@dataclass
class Obedience:
    """How one process obeys its orders."""

    path: Path
    #: how often the ordered step was called since the order came
    calls: int = 0
    order: Order | None = None

    def reach(self, step: str, variant: Variant) -> bool:
        """True if this call must fail. If this call must kill the process, the method does not return."""
        if not self.path.exists():  # one system call for each step of the worker
            self.order = None
            return False
        if self.order is None:
            self.order = msgspec.json.decode(self.path.read_bytes(), type=Order)
            self.calls = 0
        order = self.order
        if (step, variant) != (order.step, order.variant):
            return False
        self.calls += 1
        if self.calls < order.occurrence:
            return False
        self.path.rename(obeyed(self.path))
        if variant is not Variant.LOST:
            os.kill(os.getpid(), signal.SIGKILL)
        return True


def full_disk(*_: Any) -> Exception:
    return OSError(errno.ENOSPC, FULL)


def full_store(store: Store, *_: Any) -> Exception:
    return StoreFailed(store.path, FULL)


def broken_fold(*_: Any) -> Exception:
    return RuntimeError("the fold was told to fail")


@dataclass(frozen=True)
class Step:
    name: str
    #: the module or class in which the caller looks the call up
    owner: Any
    attribute: str
    #: says whether a call with these arguments is this step
    when: Callable[..., bool] = lambda *_: True
    error: Callable[..., Exception] | None = None


def is_replaying(store: Store, *_: Any) -> bool:
    return _replaying.get()


def is_folding(store: Store, key: bytes) -> bool:
    return not key.startswith(OWN_KEYS) and not key.endswith(META_KEY)


def has_work(commits: Commits) -> bool:
    return bool(commits.to_commit())


def is_part(path: Path, *_: Any) -> bool:
    return path.suffix == ".part"


STEPS: tuple[Step, ...] = (
    Step("identity-write", identity, "write_identity", error=full_disk),
    Step("identity-rename", Path, "rename", when=is_part, error=full_disk),
    Step("store-open", RocksDatabase, "__init__", error=full_disk),
    Step("recover", RecoveryTask, "recover"),
    Step("store-wipe", Store, "wipe", error=full_store),
    Step("replay-write", Store, "write", when=is_replaying, error=full_store),
    Step("decide", Recovery, "decide"),
    Step("fold", portfolio_events, "fold_slice", error=broken_fold),
    Step("store-read", Store, "get", when=is_folding, error=full_store),
    Step("acknowledge", Engine, "acknowledged"),
    Step("close", Commits, "close", when=has_work),
    Step("next-epoch", Writer, "begin"),
    Step("store-commit", Store, "commit", error=full_store),
    Step("rows-write", RocksDatabase, "write", error=full_disk),
    Step("drop", Doubts, "drop_everything"),
    Step("revoke", Ownership, "revoke"),
    Step("let-go", Ownership, "release"),
    Step("finish", MainLoop, "finish"),
    Step("store-close", RocksDatabase, "close", error=full_disk),
)


def install(obedience: Obedience) -> None:
    ChangelogReplay.run = _marked(ChangelogReplay.run)  # type: ignore[method-assign]
    for step in STEPS:
        setattr(step.owner, step.attribute, wrapped(step, getattr(step.owner, step.attribute), obedience))


def wrapped(step: Step, call: Callable[..., Any], obedience: Obedience) -> Callable[..., Any]:
    wrap = _around_coroutine if iscoroutinefunction(call) else _around
    return wrap(step, call, obedience)


def _around(step: Step, call: Callable[..., Any], obedience: Obedience) -> Callable[..., Any]:
    @wraps(call)
    def around(*args: Any, **kwargs: Any) -> Any:
        if not step.when(*args):
            return call(*args, **kwargs)
        _before(step, obedience, args)
        result = call(*args, **kwargs)
        obedience.reach(step.name, Variant.AFTER)
        return result

    return around


def _around_coroutine(step: Step, call: Callable[..., Any], obedience: Obedience) -> Callable[..., Any]:
    @wraps(call)
    async def around(*args: Any, **kwargs: Any) -> Any:
        if not step.when(*args):
            return await call(*args, **kwargs)
        _before(step, obedience, args)
        result = await call(*args, **kwargs)
        obedience.reach(step.name, Variant.AFTER)
        return result

    return around


def _before(step: Step, obedience: Obedience, args: tuple[Any, ...]) -> None:
    obedience.reach(step.name, Variant.BEFORE)
    if step.error is not None and obedience.reach(step.name, Variant.LOST):
        raise step.error(*args)


def _marked(run: Callable[..., Any]) -> Callable[..., Any]:
    """Mark the writes to the store during `run` as replayed ones."""

    @wraps(run)
    async def around(*args: Any, **kwargs: Any) -> Any:
        token = _replaying.set(True)
        try:
            return await run(*args, **kwargs)
        finally:
            _replaying.reset(token)

    return around
