"""What the watcher tells: /watch as its clients read it, /metrics as its table has it, and who may ask."""

import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import ClientSession
from prometheus_client.parser import text_string_to_metric_families

from portfolio_stream.errors import WebTokenMissing
from portfolio_stream.http.signatures import derive_key
from portfolio_stream.settings import Settings
from portfolio_stream.watch.alerts import ALERTS
from portfolio_stream.watch.shown import Watched
from portfolio_stream.watcher.folder import WatchFolder
from portfolio_stream.watcher.metrics import WatcherCollector
from portfolio_stream.watcher.server import serving
from portfolio_stream.watcher.system import JobLook
from portfolio_stream.watcher.watching import Watcher
from portfolio_stream.web.verdict import Audit
from portfolio_stream.web.watcher import watcher_answer
from tests.ports import free_port
from tests.unit.scrapes import full_watcher, watcher_scrape

DOCUMENT = Path(__file__).parents[2] / "docs" / "watching.md"
ROW = re.compile(r"^\| `(portfolio_stream_\w+)` \| (\w+) \|([^|]*)\| [^|]+ \|$", re.MULTILINE)
TOKEN = "a long random secret"


@asynccontextmanager
async def served(folder: Path, **given: str) -> AsyncIterator[tuple[Watcher, str]]:
    """A watcher that has looked once, and its host:port."""
    settings = Settings(data_dir=folder, group="g", **given)  # type: ignore[arg-type]
    watcher = full_watcher(settings)
    async with serving(settings, port := free_port(), watcher):
        yield watcher, f"127.0.0.1:{port}"


async def test_a_client_reads_what_the_watcher_sees(tmp_path: Path) -> None:
    """The whole value, with alerts and advice."""
    async with served(tmp_path) as (watcher, address), ClientSession(auto_decompress=False) as session:
        told = await watcher_answer(session, address, None, "w1")
    assert isinstance(told, Watched)
    assert watcher.watched() == told
    assert "KafkaBrokerDown" in [alert.name for alert in told.alerts]
    assert told.advice


async def test_without_a_watcher_there_is_a_reason() -> None:
    """It says what to start."""
    async with ClientSession(auto_decompress=False) as session:
        told = await watcher_answer(session, f"127.0.0.1:{free_port()}", None, "w1")
        assert "not watched: start `portfolio-stream watch`" == told
        assert told == await watcher_answer(session, "no address", None, "w1")


async def test_another_program_at_the_address_is_no_watcher(tmp_path: Path) -> None:
    """Its answer is not shown."""
    from portfolio_stream.audit.board import Board
    from portfolio_stream.audit.server import serving as auditing

    port = free_port()
    async with auditing(Settings(), port, Board()), ClientSession(auto_decompress=False) as session:
        assert f"the watcher at 127.0.0.1:{port} answered 404" == await watcher_answer(
            session, f"127.0.0.1:{port}", None, "w1"
        )


async def test_on_another_address_it_needs_the_token_or_a_signature(tmp_path: Path) -> None:
    """A signed answer has a proof, and a client with another token gets none."""
    with pytest.raises(WebTokenMissing):
        async with served(tmp_path, web_host="0.0.0.0"):
            pass
    async with served(tmp_path, web_host="0.0.0.0", web_token=TOKEN) as (_, address):
        async with ClientSession(auto_decompress=False) as session:
            async with session.get(f"http://{address}/watch") as reply:
                assert 401 == reply.status
            async with session.get(f"http://{address}/watch", headers={"Authorization": f"Bearer {TOKEN}"}) as reply:
                assert 200 == reply.status
            async with session.get(f"http://{address}/health/live") as reply:
                assert 200 == reply.status
        resolver = aiohttp.ThreadedResolver()
        resolver.resolve = _to_loopback  # type: ignore[method-assign]
        connector = aiohttp.TCPConnector(resolver=resolver)
        far = address.replace("127.0.0.1", "watcher.example")
        async with ClientSession(connector=connector, auto_decompress=False) as session:
            assert isinstance(await watcher_answer(session, far, derive_key(TOKEN, "g"), "w1"), Watched)
            other = await watcher_answer(session, far, derive_key("another long secret", "g"), "w1")
            assert f"the watcher at {far} answered 401" == other


async def _to_loopback(host: str, port: int = 0, family: int = 0) -> list[dict[str, object]]:
    return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": 2, "proto": 0, "flags": 0}]


async def test_every_metric_is_documented(tmp_path: Path) -> None:
    """Name, type and labels; and nothing that is not there."""
    rows = ROW.findall(DOCUMENT.read_text())
    told = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    found = {
        f"{metric.name}_total" if metric.type == "counter" else metric.name: (
            metric.type,
            {label for sample in metric.samples for label in sample.labels} - {"le"},
        )
        for metric in text_string_to_metric_families(await watcher_scrape(tmp_path))
        if metric.name.startswith("portfolio_stream")
    }
    assert found == told


async def test_a_watcher_tells_no_state_of_an_alert_that_only_prometheus_can_judge(tmp_path: Path) -> None:
    """A 0 would say that all is well, of a watcher that is away."""
    (metric,) = (
        one
        for one in text_string_to_metric_families(await watcher_scrape(tmp_path))
        if one.name == "portfolio_stream_alerts_firing"
    )
    assert {alert.name for alert in ALERTS} - {"WatcherDown"} == {sample.labels["alert"] for sample in metric.samples}


@pytest.mark.parametrize(("state", "values"), [("running", [0.0]), ("paused", []), ("stopped", []), (None, [])])
def test_nobody_counts_the_time_in_which_the_job_is_not_to_run(
    tmp_path: Path, state: str | None, values: list[float]
) -> None:
    """As in the time slices: otherwise a long pause would fill the budget of Prometheus again."""
    watcher = full_watcher(Settings(data_dir=tmp_path, group="g"))
    watcher.job = JobLook(state=state, generation=1, partitions=0)
    watcher.take({}, Audit(verdict="holds"), 2.0, time.time())
    found = {metric.name: metric for metric in WatcherCollector(watcher).collect()}
    told = found.get("portfolio_stream_job_down")
    assert values == ([] if told is None else [sample.value for sample in told.samples])
    watcher.close()
    assert sum(one.wanted_seconds for one in watcher._slices) == (2.0 if values else 1.0)


async def test_a_restart_keeps_what_was_counted(tmp_path: Path) -> None:
    """Since the first slice that is kept."""
    settings = Settings(data_dir=tmp_path, group="g")
    folder = WatchFolder(settings)
    with folder.locked():
        watcher = full_watcher(settings)
        before = watcher.watched()
        watcher.close()
        assert (before.since, before.seconds) == (
            (after := Watcher(settings, WatchFolder(settings)).watched()).since,
            after.seconds,
        )
