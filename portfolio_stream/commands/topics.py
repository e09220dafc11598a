"""portfolio-stream topics: create, list and describe the topics of the contract."""

import time
from typing import TYPE_CHECKING

import click

from portfolio_stream.commands.common import (
    LONGEST_WAIT,
    FiniteRange,
    OutputFormat,
    SettingType,
    WholeRange,
    bootstrap_option,
    output_option,
    read_settings,
    run,
)
from portfolio_stream.commands.output import print_json, print_line
from portfolio_stream.errors import BrokerUnreachable
from portfolio_stream.setting_values import ANY_TOPIC
from portfolio_stream.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from portfolio_stream.kafka.topic_rules import TopicFault
    from portfolio_stream.kafka.topics import TopicDescription

RETRY_SECONDS = 0.5  # between two attempts while Kafka does not answer yet


@click.group()
def topics() -> None:
    """Create, list and describe topics."""


@topics.command()
@click.pass_context
@bootstrap_option
@output_option
@click.option("--partitions", type=WholeRange(1, 10_000), help="Default: PORTFOLIO_PARTITIONS, or 8.")
@click.option("--replication-factor", type=WholeRange(1, 100), help="Default: PORTFOLIO_REPLICATION_FACTOR, or 1.")
@click.option(
    "--wait",
    type=FiniteRange(0.0, LONGEST_WAIT),
    default=0.0,
    metavar="SECONDS",
    help="Wait this long if Kafka does not answer yet.",
)
def create(
    context: click.Context,
    bootstrap_servers: str | None,
    output: OutputFormat,
    partitions: int | None,
    replication_factor: int | None,
    wait: float,
) -> None:
    """Create the missing topics of the contract and check the others.

    Exit code 1: an existing topic is weaker than the contract. The command never changes an existing topic: it prints
    each fault and how to mend it.
    """
    settings = read_settings(
        bootstrap_servers=bootstrap_servers, partitions=partitions, replication_factor=replication_factor
    )
    made, faults = run(_create(settings, wait))
    if output == "json":
        shown = {name: _differences(f for f in faults if f.topic == name) for name in made}
        print_json([{"topic": name, "created": made[name], "differences": shown[name]} for name in made])
    else:
        for name, is_made in made.items():
            print_line(f"{name}: {'created' if is_made else 'exists'}")
        for fault in faults:
            print_line(f"! {fault}. To mend it, {fault.remedy(settings.bootstrap_servers)}.")
    context.exit(1 if faults else 0)


@topics.command("list")
@bootstrap_option
@output_option
def list_topics(bootstrap_servers: str | None, output: OutputFormat) -> None:
    """List the cluster's topics, without Kafka's internal ones."""
    found = run(_describe(read_settings(bootstrap_servers=bootstrap_servers), None))
    shown = [topic for topic in found.values() if not topic.is_internal]
    if output == "json":
        print_json([_summary(topic) for topic in shown])
    else:
        for topic in shown:
            print_line(f"{topic.name}  {_sizes(topic)}")


@topics.command()
@click.argument("names", nargs=-1, metavar="[TOPIC]...", type=SettingType(ANY_TOPIC))
@bootstrap_option
@output_option
def describe(names: tuple[str, ...], bootstrap_servers: str | None, output: OutputFormat) -> None:
    """Show topics with the settings that the contract fixes, and every difference. Default: the contract's topics."""
    from portfolio_stream.errors import TopicMissing
    from portfolio_stream.kafka.contract_topics import all_topics, probe_topic
    from portfolio_stream.kafka.topic_rules import faults_of

    settings = read_settings(bootstrap_servers=bootstrap_servers)
    contract = {topic.name: topic for topic in all_topics(settings)}
    probe = probe_topic(settings, partitions=1)
    wanted = names or tuple(contract)
    found = run(_describe(settings, wanted))
    for name in names:
        if name not in found:
            raise TopicMissing(name)
    described = []
    for name in wanted:
        if name not in found:
            described.append({"topic": name, "exists": False})
            continue
        expected = probe if name == probe.name else contract.get(name)
        faults = () if expected is None else tuple(faults_of(expected, found[name]))
        shown = sorted({"cleanup.policy", *({} if expected is None else expected.configuration)})
        settings_of_topic = {key: found[name].configuration.get(key) for key in shown}
        described.append(
            {
                "exists": True,
                **_summary(found[name]),
                "configuration": settings_of_topic,
                "differences": _differences(faults),
            }
        )
    if output == "json":
        print_json(described)
    else:
        for topic in described:
            _print(topic)


def _print(topic: dict[str, object]) -> None:
    if not topic["exists"]:
        print_line(f"{topic['topic']}: does not exist")
        return
    print_line(f"{topic['topic']}: partitions {topic['partitions']}, replication factor {topic['replication_factor']}")
    configuration, differing = topic["configuration"], topic["differences"]
    assert isinstance(configuration, dict) and isinstance(differing, dict)  # noqa: S101  # for mypy: made above
    for name, value in configuration.items():
        print_line(f"  {name} = {value}")
    for name, pair in differing.items():
        print_line(f"  ! {name} is {pair['found']}, the contract says {pair['expected']}: {pair['otherwise']}")


def _differences(faults: "Iterable[TopicFault]") -> dict[str, dict[str, str]]:
    """Returns the faults by setting. A worker starts in spite of the verdict `warn`, but not of `refuse`."""
    return {
        fault.setting: {
            "found": fault.found,
            "expected": fault.expected,
            "verdict": fault.verdict,
            "otherwise": fault.consequence,
        }
        for fault in faults
    }


def _summary(topic: "TopicDescription") -> dict[str, object]:
    return {
        "topic": topic.name,
        "partitions": topic.partitions,
        "replication_factor": topic.replication_factor,
        "cleanup_policy": topic.configuration["cleanup.policy"],
    }


def _sizes(topic: "TopicDescription") -> str:
    policy = topic.configuration["cleanup.policy"]
    return f"partitions {topic.partitions}, replication factor {topic.replication_factor}, {policy}"


async def _create(settings: Settings, wait: float) -> "tuple[dict[str, bool], tuple[TopicFault, ...]]":
    """Create the missing topics. Returns, for each topic, whether it was created, and the faults of all topics."""
    import asyncio

    from portfolio_stream.kafka.admin import admin_client, create_all
    from portfolio_stream.kafka.contract_topics import all_topics
    from portfolio_stream.kafka.topic_check import find_faults

    deadline = time.monotonic() + wait
    while True:
        try:
            async with admin_client(settings) as admin:
                made = await create_all(admin, settings)
                return made, await find_faults(admin, all_topics(settings))
        except BrokerUnreachable:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(RETRY_SECONDS)


async def _describe(settings: Settings, names: tuple[str, ...] | None) -> "dict[str, TopicDescription]":
    from portfolio_stream.kafka.admin import admin_client
    from portfolio_stream.kafka.topics import describe_topics

    async with admin_client(settings) as admin:
        return await describe_topics(admin, names)
