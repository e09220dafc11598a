"""portfolio-stream slo, alerts and advise: what they print of the watcher's answer, and their exit codes."""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from portfolio_stream import cli
from portfolio_stream.errors import BrokerUnreachable
from portfolio_stream.http.beside import served_beside
from portfolio_stream.http.signed_access import AUDITOR, WATCHER
from portfolio_stream.kafka import newest_keys
from portfolio_stream.settings import Settings
from portfolio_stream.watch.advice import advice
from portfolio_stream.watch.shown import AlertChange, BurnsTooFast, ShownAlert, ShownObjective, Watched
from portfolio_stream.watch.slo_report import slo_report
from portfolio_stream.web.watcher import PATH
from tests.ports import free_port
from tests.unit.watched_system import AT, HEALTHY, behind, with_partitions

LATENCY = ShownObjective(
    name="latency", text="Events are fast.", objective=99.0, figure=99.9999, unit="events", total=1_000_000.0, bad=1.0,
    budget_left=0.9999, burn_rate=0.04,
)  # fmt: skip
UPTIME = ShownObjective(
    name="job-uptime", text="Every partition is processed.", objective=99.9, figure=99.5, unit="seconds", total=7_200.0,
    bad=36.0, budget_left=-4.0, burn_rate=15.2, too_fast=BurnsTooFast(severity="page", burn_rate=15.2, seconds=3_600),
)  # fmt: skip
NOT_COUNTED = msgspec.structs.replace(
    LATENCY, name="checkpoints", figure=None, budget_left=None, burn_rate=None, total=0.0, bad=0.0
)
FIRING = ShownAlert(
    name="KafkaDown", priority="P0", severity="critical", state="firing", since=AT - 90, summary="No broker answers",
    section="p0-kafka-cluster-down",
)  # fmt: skip
INHIBITED = msgspec.structs.replace(FIRING, name="JobFailed", state="pending", since=AT - 5, inhibited_by="KafkaDown")
CHANGES = (
    AlertChange(at=AT - 90, name="KafkaDown", priority="P0", state="firing"),
    AlertChange(at=AT - 500, name="LagMinor", priority="P3", state="cleared", inhibited_by="ConsumerLagHigh"),
)


def watched(**changes: Any) -> Watched:
    return Watched(
        **{"at": AT, "since": AT - 7_200, "seconds": 7_000.0, "figures": HEALTHY, "objectives": (LATENCY,)} | changes
    )


async def run(seen: Watched | None, arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a command against a watcher that sees this; None: no watcher answers."""
    port = free_port()
    monkeypatch.setenv("PORTFOLIO_WATCHER", f"127.0.0.1:{port}")
    if seen is None:
        return await asyncio.to_thread(cli.run, arguments)

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(seen), content_type="application/json")

    async with served_beside(Settings(), port, WATCHER, [web.get(PATH, answer)], logging.getLogger(__name__)):
        return await asyncio.to_thread(cli.run, arguments)


@pytest.mark.parametrize("command", ["slo", "alerts", "advise"])
async def test_without_a_watcher_the_operator_starts_one(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cause and action, a line each; the exit code says that nothing is known."""
    assert 2 == await run(None, [command], monkeypatch)
    told = capsys.readouterr()
    cause, action = told.err.splitlines()
    assert ("", True) == (told.out, cause.startswith("Error: What the watcher sees is unknown: no watcher answers at "))
    assert action.startswith("Operator action: Start one with `portfolio-stream watch`")


async def test_objectives_exactly_once_and_capacity(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A figure below 100 % never looks like 100 %. What burns too fast has a line that says how urgent it is."""
    assert 1 == await run(watched(objectives=(LATENCY, UPTIME, NOT_COUNTED)), ["slo"], monkeypatch)
    header, *lines = capsys.readouterr().out.splitlines()
    assert ["OBJECTIVE", "TARGET", "FIGURE", "BUDGET-LEFT", "BURN-RATE", "BAD", "OF", "UNIT"] == header.split()
    assert [
        "latency 99 % 99.999 % 99.9 % 0.0 1 1,000,000 events",
        "job-uptime 99.9 % 99.500 % -400.0 % 15.2 36 7,200 seconds",
        "checkpoints 99 % - - - 0 0 events",
        "The budget of job-uptime burned at 15.2 times the allowed rate in the last 1 h: act now.",
        "Exactly-once: holds, decided 1 s ago, 0 anomalies. No budget.",
        "Capacity: 20,000 events/s with these workers (target: 10,000 events/s). Processed now: 10,000 events/s.",
        "Known: the last 2 h; the watcher looked for 1 h 56 min of it. A budget is of 30 days at most.",
    ] == [" ".join(line.split()) for line in lines]


async def test_slo_says_no_more_than_is_known(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A watcher of a minute knows no hour, and without an auditor nobody knows the anomalies."""
    seen = watched(
        since=AT - 60,
        objectives=(UPTIME,),
        figures=msgspec.structs.replace(HEALTHY, verdict="not audited", decided_at=None),
    )
    assert 1 == await run(seen, ["slo"], monkeypatch)
    told = capsys.readouterr().out
    assert "burned at 15.2 times the allowed rate in the last 1 min: act now." in told
    assert "Exactly-once: not audited, not decided, anomalies unknown. No budget." in told


async def test_a_port_at_which_a_watcher_answers_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A refused start leaves no folder behind, whatever was the reason."""
    monkeypatch.setenv("PORTFOLIO_DATA_DIR", str(folder := tmp_path / "data"))
    port = free_port()

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(watched()), content_type="application/json")

    command = ["watch", "--web-port", str(port)]
    async with served_beside(Settings(), port, WATCHER, [web.get(PATH, answer)], logging.getLogger(__name__)):
        assert 1 == await asyncio.to_thread(cli.run, command)
    assert f"Error: A watcher answers already at 127.0.0.1:{port}." == capsys.readouterr().err.splitlines()[0]
    async with served_beside(Settings(), port, AUDITOR, [], logging.getLogger(__name__)):
        assert 1 == await asyncio.to_thread(cli.run, command)
    cause, action = capsys.readouterr().err.splitlines()
    assert f"Error: Port {port} is already in use on 127.0.0.1." == cause
    assert action.endswith("or give another --web-port and set PORTFOLIO_WATCHER to it.")
    monkeypatch.setenv("PORTFOLIO_WEB_HOST", "0.0.0.0")
    assert 2 == await asyncio.to_thread(cli.run, command)
    assert capsys.readouterr().err.endswith("listen on 127.0.0.1 (PORTFOLIO_WEB_HOST).\n")
    assert not folder.exists()


def figures(**changes: Any) -> dict[str, Any]:
    return {"figures": msgspec.structs.replace(HEALTHY, **changes)}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 0),
        ({"objectives": (LATENCY, UPTIME)}, 1),
        ({"objectives": (LATENCY, msgspec.structs.replace(UPTIME, budget_left=0.0))}, 0),
        ({"objectives": (LATENCY, NOT_COUNTED)}, 2),
        ({"objectives": (NOT_COUNTED, UPTIME)}, 1),
        ({"objectives": ()}, 2),
        (figures(verdict="violated"), 1),
        ({"anomalies": 1}, 1),
        (figures(verdict="not audited", decided_at=None), 2),
        (figures(verdict="starting", decided_at=None), 2),
        (figures(verdict="unverifiable"), 2),
        (figures(decided_at=AT - 601), 2),
        (figures(decided_at=AT - 599), 0),
    ],
)
async def test_exit_codes_of_slo(
    changes: dict[str, Any], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """0: all is kept. 1: something is broken, whatever is unknown. 2: something is unknown. The JSON says it too."""
    seen = watched(**changes)
    assert code == await run(seen, ["slo", "-o", "json"], monkeypatch)
    told = json.loads(capsys.readouterr().out)
    assert ["kept", "broken", "unknown"][code] == told["state"]
    assert json.loads(msgspec.json.encode(slo_report(seen))) == told


async def test_alerts_and_changes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An alert that fires is exit code 1; one that is pending is not."""
    assert 1 == await run(watched(alerts=(FIRING, INHIBITED), changes=CHANGES), ["alerts"], monkeypatch)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert [
        "ALERT PRIORITY STATE FOR BECAUSE-OF SUMMARY",
        "KafkaDown P0 firing 1 min 30 s - No broker answers",
        "JobFailed P0 pending 5 s KafkaDown No broker answers",
        "TIME ALERT PRIORITY CHANGE BECAUSE-OF",
        "2023-11-14T22:11:50Z KafkaDown P0 firing -",
        "2023-11-14T22:05:00Z LagMinor P3 cleared ConsumerLagHigh",
    ] == lines
    assert 0 == await run(watched(alerts=(INHIBITED,)), ["alerts", "-o", "json"], monkeypatch)
    assert {
        "at": AT,
        "alerts": [json.loads(msgspec.json.encode(INHIBITED))],
        "changes": [],
        "unknown": [],
    } == json.loads(capsys.readouterr().out)


async def test_no_alert(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The remark is no result: a pipe gets nothing. --limit bounds the changes."""
    assert 0 == await run(watched(changes=CHANGES), ["alerts", "--limit", "0"], monkeypatch)
    told = capsys.readouterr()
    assert ("", "No alert is pending or fires.\n") == (told.out, told.err)
    assert 0 == await run(watched(changes=CHANGES), ["alerts", "--limit", "1"], monkeypatch)
    assert 2 == len(capsys.readouterr().out.splitlines())


async def test_an_alert_that_nobody_can_judge_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """That none fires says nothing then. While no broker answers, nobody knows the lag."""
    seen = watched(figures=msgspec.structs.replace(HEALTHY, partitions={}, kafka=None))
    assert 0 == await run(seen, ["alerts"], monkeypatch)
    told = capsys.readouterr().err
    assert "Not judged now, because the figures are unknown: KafkaDown, " in told
    assert "ConsumerLagHigh" in told
    assert 0 == await run(seen, ["alerts", "-o", "json"], monkeypatch)
    assert "LagMinor" in json.loads(capsys.readouterr().out)["unknown"]


async def test_a_time_that_is_none_breaks_no_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Any program may answer where the watcher should."""
    change = msgspec.structs.replace(CHANGES[0], at=1e300, name="a\x1b[2J")
    assert 0 == await run(watched(changes=(change,)), ["alerts"], monkeypatch)
    assert "1e+300  a\\x1b[2J" in capsys.readouterr().out


async def test_advice(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The watcher's sentences, a line each; as JSON with the figures that they are made of."""
    now = behind()
    seen = watched(figures=now, advice=advice(now))
    assert 0 == await run(seen, ["advise"], monkeypatch)
    assert list(advice(now)) == capsys.readouterr().out.splitlines()
    assert 0 == await run(seen, ["advise", "-o", "json"], monkeypatch)
    told = json.loads(capsys.readouterr().out)
    assert list(advice(now)) == told["advice"]
    assert json.loads(msgspec.json.encode(now)) == told["figures"]


async def test_hot_portfolios_are_sampled_only_where_a_partition_is_hot(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The hottest partitions are read, and a Kafka that does not answer takes no sentence away."""
    asked = []

    async def keys(_: Settings, partition: int, count: int) -> Counter[bytes | None]:
        asked.append((partition, count))
        if partition == 5:
            raise BrokerUnreachable("127.0.0.1:9092")
        return Counter({b"P1\x1b": 60, b"P2": 40})

    monkeypatch.setattr(newest_keys, "newest_keys", keys)
    now = with_partitions(HEALTHY, 5, 6, produced_per_second=9_000.0)
    now = with_partitions(now, 6, produced_per_second=9_500.0)
    assert 0 == await run(watched(figures=now, advice=("One.",)), ["advise"], monkeypatch)
    told = capsys.readouterr()
    sampled = "Of the last 100 events of partition 6, 60 % are of P1\\x1b and 40 % are of P2."
    assert ["One.", sampled] == told.out.splitlines()
    assert told.err.startswith("The portfolios of partition 5 are unknown: ")
    assert [(6, 20_000), (5, 20_000)] == asked
    assert 0 == await run(watched(figures=now, advice=("One.",)), ["advise", "--sample", "0"], monkeypatch)
    assert 0 == await run(watched(advice=("One.",)), ["advise"], monkeypatch)
    assert 2 == len(asked)
