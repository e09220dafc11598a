"""The evidence of an examination: which pieces there are, and what each needs."""

import os
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from aiokafka.client import AIOKafkaClient

from portfolio_stream.control.state import ControlState
from portfolio_stream.doctor import kafka_evidence, machine_evidence, savepoint_evidence, worker_evidence
from portfolio_stream.doctor.checks import judged
from portfolio_stream.doctor.control_evidence import contract_of, look_at_control
from portfolio_stream.doctor.evidence import GroupEvidence, Listening, NotThere, Unseen, WorkerAnswers
from portfolio_stream.doctor.findings import Report, say
from portfolio_stream.doctor.gathering import (
    COMPUTED_SECONDS,
    CONNECT_SECONDS,
    EvidencePiece,
    KeptOpen,
    gather_all,
    held,
    in_thread,
)
from portfolio_stream.doctor.transactions_evidence import open_transactions
from portfolio_stream.kafka.admin import admin_client
from portfolio_stream.kafka.group import GroupClient, until_known
from portfolio_stream.kafka.health import examine
from portfolio_stream.kafka.topics import Topic
from portfolio_stream.kafka.wire import Coordinators
from portfolio_stream.settings import Settings

GROUP_OFFSETS = "__consumer_offsets"  # a transaction that hangs here hides the group's offsets


class Kafka:
    """The connection that all pieces about Kafka share."""

    def __init__(self, admin: Any, settings: Settings) -> None:
        self.admin = admin
        self.client: AIOKafkaClient = admin._client
        self.coordinators = Coordinators(self.client, settings.group, settings.group)
        #: topics that the client knows the leaders of
        self.known: frozenset[str] = frozenset()

    def group(self, settings: Settings) -> GroupClient:
        return GroupClient(self.client, self.coordinators, group=settings.group, topic=settings.input_topic)


async def examine_all(
    settings: Settings, web_address: str | None, paths: Sequence[str] = worker_evidence.PATHS
) -> dict[str, Any]:
    """Gather all evidence. Ends within gathering.LONGEST_SECONDS."""
    async with held() as kept:
        return await gather_all(pieces(settings, web_address, paths, kept))


async def examination(settings: Settings, web_address: str | None) -> Report:
    return judged(await examine_all(settings, web_address))


def pieces(
    settings: Settings, web_address: str | None, paths: Sequence[str], kept: KeptOpen
) -> dict[str, EvidencePiece]:

    async def value(given: Any) -> Any:
        return given

    async def connect() -> Kafka:
        kafka = Kafka(await kept.open(admin_client(settings)), settings)
        # only topics that exist: a broker may make a topic that a client asks for
        kafka.known = frozenset(
            await kafka_evidence.leaders_of(
                kafka.client, [settings.input_topic, settings.control_topic, settings.output_topic, settings.dlq_topic]
            )
        )
        await kafka.client.set_topics(sorted(kafka.known))
        return kafka

    async def coordinated(kafka: Kafka) -> Kafka:
        await until_known(kafka.group(settings))
        return kafka

    async def group_of(kafka: Kafka) -> GroupEvidence:
        return await kafka_evidence.look_at_group(kafka.client, kafka.coordinators, settings)

    async def advertised() -> Listening:
        if settings.web_advertised is None:
            raise NotThere(say("PORTFOLIO_WEB_ADVERTISED is not set"))
        return await worker_evidence.listening_at(settings.web_advertised)

    async def contract(control: ControlState | Unseen) -> Sequence[Topic]:
        return contract_of(settings, control)

    async def workers(found: GroupEvidence | Unseen) -> Sequence[WorkerAnswers]:
        if web_address is not None:
            return await worker_evidence.ask_address(web_address, settings.web_token, paths)
        if isinstance(found, NotThere):
            raise found
        if isinstance(found, Unseen):
            return await worker_evidence.ask_port(settings, found, paths)
        told = await worker_evidence.ask_members(settings, found, paths)
        if not told:
            raise NotThere(say("the group has no worker"))
        return told

    return {
        "settings": EvidencePiece((), partial(value, settings)),
        "environment": EvidencePiece((), partial(value, dict(os.environ))),
        "machine": EvidencePiece((), partial(in_thread, machine_evidence.machine)),
        "data_folder": EvidencePiece((), partial(in_thread, partial(machine_evidence.data_folder, settings))),
        "ports": EvidencePiece((), partial(worker_evidence.look_at_ports, settings)),
        "advertised": EvidencePiece((), advertised),
        "reached": EvidencePiece((), connect, CONNECT_SECONDS),
        "cluster": EvidencePiece(("reached",), lambda kafka: kafka_evidence.look_at_cluster(kafka.client)),
        "health": EvidencePiece(("reached",), lambda kafka: examine(kafka.client)),
        "clock": EvidencePiece(("reached",), lambda kafka: kafka_evidence.look_at_clock(kafka.client)),
        "now": EvidencePiece((), partial(value, time.time())),
        "control": EvidencePiece(
            ("reached",),
            lambda kafka: look_at_control(kafka.client, settings, exists=settings.control_topic in kafka.known),
        ),
        "contract": EvidencePiece(("control",), contract, COMPUTED_SECONDS, takes_unseen=True),
        "topics": EvidencePiece(
            ("reached", "contract"),
            lambda kafka, contract: kafka_evidence.look_at_topics(kafka.admin, settings, contract),
        ),
        "disks": EvidencePiece(
            ("reached", "contract"),
            lambda kafka, contract: kafka_evidence.look_at_disks(kafka.client, names_of(contract)),
        ),
        "transactions": EvidencePiece(
            ("reached", "contract"),
            lambda kafka, contract: open_transactions(kafka.client, (*names_of(contract), GROUP_OFFSETS)),
        ),
        "coordinated": EvidencePiece(("reached",), coordinated),
        "group": EvidencePiece(("coordinated",), group_of),
        "offsets": EvidencePiece(
            ("coordinated",),
            lambda kafka: kafka_evidence.look_at_offsets(kafka.client, kafka.coordinators, settings),
        ),
        "rights": EvidencePiece(
            ("coordinated", "contract"),
            lambda kafka, contract: kafka_evidence.look_at_rights(
                kafka.client, kafka.coordinators, settings, names_of(contract)
            ),
        ),
        "store": EvidencePiece((), partial(savepoint_evidence.probe, settings.savepoint_dir)),
        "savepoints": EvidencePiece((), partial(savepoint_evidence.listed, settings.savepoint_dir)),
        "source": EvidencePiece(
            ("reached", "topics", "offsets"),
            lambda kafka, topics, offsets: kafka_evidence.look_at_source(kafka.client, topics, offsets, settings),
        ),
        "workers": EvidencePiece(("group",), workers, takes_unseen=True),
    }


def names_of(contract: Sequence[Topic]) -> list[str]:
    return [topic.name for topic in contract]
