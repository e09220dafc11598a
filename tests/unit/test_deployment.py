"""The files that deploy it: no Docker is needed to see that they fit each other and the code."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from check_jsonschema.builtin_schemas import get_builtin_schema
from honcho.environ import parse_procfile
from ruamel.yaml import YAML

from portfolio_stream import cli
from portfolio_stream.kafka.contract_topics import all_topics
from portfolio_stream.settings import Settings

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = YAML(typ="safe").load(ROOT / "docker-compose.yml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
BROKERS = {name: service for name, service in SERVICES.items() if service["image"].startswith("apache/kafka:")}
OURS = {name: service for name, service in SERVICES.items() if name not in BROKERS}
PROCFILE: dict[str, str] = parse_procfile((ROOT / "Procfile").read_text()).processes


class Recording(Mapping[str, str]):
    """An environment that remembers what it was asked for."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values_by_name = dict(values)
        self.asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return self.values_by_name.get(name, default)

    def __getitem__(self, name: str) -> str:
        return self.values_by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_by_name)

    def __len__(self) -> int:
        return len(self.values_by_name)


def image_environment() -> dict[str, str]:
    """The ENV of the Dockerfile's last stage."""
    (block,) = re.findall(r"^ENV ((?:.*\\\n)*.*)$", DOCKERFILE, re.MULTILINE)
    return dict(pair.split("=", 1) for pair in shlex.split(block.replace("\\\n", " ")))


def environment(service: Mapping[str, Any]) -> dict[str, str]:
    """What a container of ours gets, its ${VARIABLE:?...} filled in."""
    own = {name: re.sub(r"\$\{\w+:[-?][^}]*\}", "given", value) for name, value in service["environment"].items()}
    return image_environment() | own


def instruction(name: str) -> str:
    """Of the Dockerfile; the last of its kind."""
    return re.findall(rf"^{name} (.*)$", DOCKERFILE, re.MULTILINE)[-1]


def test_the_compose_file_is_one_by_its_specification() -> None:
    """The schema is compose-spec's own, as the package check-jsonschema carries it."""
    validator = jsonschema.Draft7Validator(get_builtin_schema("vendor.compose-spec"))
    validator.validate(COMPOSE)
    with pytest.raises(jsonschema.ValidationError, match="restarts"):
        validator.validate(COMPOSE | {"services": {"worker": SERVICES["worker"] | {"restarts": "always"}}})


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_one_that_the_settings_know(name: str) -> None:
    """A typing error in a variable's name would be ignored in silence; a bad value is refused here."""
    recording = Recording(
        {key: value for key, value in environment(OURS[name]).items() if key.startswith("PORTFOLIO_")}
    )
    settings = Settings.from_environment(recording)
    assert set() == set(recording) - recording.asked
    assert {f"{broker}:9092" for broker in BROKERS} == set(settings.bootstrap_servers.split(","))


def test_topics_are_durable_on_the_brokers_of_the_compose_file() -> None:
    """Three copies, two of which a transaction needs; Kafka's own topics too."""
    settings = Settings.from_environment(environment(SERVICES["topics"]))
    assert [("3", "2")] * 7 == [
        (str(topic.replication_factor), topic.configuration["min.insync.replicas"]) for topic in all_topics(settings)
    ]
    assert 3 == len(BROKERS)
    for service in BROKERS.values():
        configured = service["environment"]
        assert {"3"} == {value for key, value in configured.items() if key.endswith("REPLICATION_FACTOR")}
        assert {"2"} == {value for key, value in configured.items() if key.endswith(("MIN_ISR", "INSYNC_REPLICAS"))}


def test_brokers_differ_in_name_alone() -> None:
    """Each has a node id of its own, advertises its own service's name, is a voter, and keeps its own volume."""
    voters = {service["environment"]["KAFKA_CONTROLLER_QUORUM_VOTERS"] for service in BROKERS.values()}
    own = {}
    for name, service in BROKERS.items():
        configured = service["environment"]
        assert f"PLAINTEXT://{name}:9092" == configured["KAFKA_ADVERTISED_LISTENERS"]
        assert [f"{name}:{configured['KAFKA_LOG_DIRS']}"] == service["volumes"]
        own[f"{configured['KAFKA_NODE_ID']}@{name}:9093"] = service
    assert {",".join(own)} == voters


def test_a_worker_can_be_scaled() -> None:
    """Nothing fixed that a second one would also want: no name, no single port of the host."""
    worker = SERVICES["worker"]
    assert "container_name" not in worker and "hostname" not in worker
    (published,) = worker["ports"]
    first, last, inside = re.fullmatch(r"127\.0\.0\.1:(\d+)-(\d+):(\d+)", published).groups()  # type: ignore[union-attr]
    assert int(last) - int(first) >= 9
    assert {inside} == {image_environment()["PORTFOLIO_WEB_PORT"], instruction("EXPOSE")}
    assert f"127.0.0.1:{inside}/health/ready" in DOCKERFILE


def test_every_service_is_watched_and_comes_back() -> None:
    """Health checks, restarts, and time to stop; what depends on another waits until that is healthy or done."""
    for name, service in SERVICES.items():
        assert service["restart"] in ("unless-stopped", "on-failure"), name
        assert "stop_grace_period" in service, name
        assert name == "worker" or "healthcheck" in service  # the worker's is the image's
        for dependency in service.get("depends_on", {}).values():
            assert dependency["condition"] != "service_started", name
    assert "HEALTHCHECK" in DOCKERFILE


def test_the_worker_is_started_in_one_way() -> None:
    """By the image, the Procfile and the README."""
    command = shlex.join(json.loads(instruction("CMD")))
    assert PROCFILE["worker"].endswith(f"&& exec {command}")
    assert command in (ROOT / "README.md").read_text()
    assert "command" not in SERVICES["worker"] and "entrypoint" not in SERVICES["worker"]


@pytest.mark.parametrize(
    "command",
    [
        *(shlex.join(service["command"]) for service in OURS.values() if "command" in service),
        *(part.removeprefix("exec ") for line in PROCFILE.values() for part in line.split(" && ")),
    ],
)
def test_commands_are_ours(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every word of them is parsed by the command line itself; --help comes before anything is done."""
    program, *arguments = shlex.split(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", command))
    if program == "faust":
        assert ["-A", "portfolio_stream", "worker", "-l", "info"] == arguments
        return
    assert "portfolio-stream" == program
    assert 0 == cli.run([*arguments, "--help"])
    assert "Usage:" in capsys.readouterr().out
