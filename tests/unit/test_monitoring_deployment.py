"""docker-compose.monitoring.yml and monitoring/kubernetes: no Docker and no cluster is needed to see that they fit."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
from check_jsonschema.builtin_schemas import get_builtin_schema
from ruamel.yaml import YAML

from portfolio_stream import cli
from portfolio_stream.monitoring.scraping import COMPOSE_TARGETS, COMPOSE_TOKEN
from portfolio_stream.settings import Settings
from tests.unit.test_deployment import COMPOSE, Recording, image_environment

ROOT = Path(__file__).parents[2]
MONITORING: dict[str, Any] = YAML(typ="safe").load(ROOT / "docker-compose.monitoring.yml")
SERVICES: dict[str, dict[str, Any]] = MONITORING["services"]
OURS = {name: service for name, service in SERVICES.items() if service.get("image") == "portfolio-stream"}
THEIRS = {name: service for name, service in SERVICES.items() if name not in {*OURS, "worker"}}
KUBERNETES = "1.36"
RESOURCES: list[dict[str, Any]] = [
    resource
    for file in sorted((ROOT / "monitoring" / "kubernetes").glob("*.yaml"))
    for resource in YAML(typ="safe").load_all(file)
]
BUILT_IN = [resource for resource in RESOURCES if "coreos" not in resource["apiVersion"]]
WORKLOADS = [resource for resource in RESOURCES if resource["kind"] in ("StatefulSet", "Deployment")]
SERVICE_PORTS = {
    resource["metadata"]["name"]: resource["spec"]["ports"][0]["port"]
    for resource in RESOURCES
    if resource["kind"] == "Service"
}
TOKEN = {"secretKeyRef": {"name": "portfolio-stream", "key": "web-token"}}


def strict(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": dict(properties), "additionalProperties": False}


TEXT = {"type": "string"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
DURATION = {"type": "string", "pattern": r"^(\d+h)?(\d+m)?(\d+s)?$"}
RULE = {"alert": TEXT, "record": TEXT, "expr": TEXT, "labels": TEXTS, "annotations": TEXTS}
GROUP = strict(
    {
        "name": {"type": "string", "minLength": 1},
        "rules": {"type": "array", "items": strict(RULE | {"for": DURATION, "keep_firing_for": DURATION})},
    }
)
ENDPOINT = strict(
    {
        "port": TEXT,
        "path": TEXT,
        "interval": DURATION,
        "scrapeTimeout": DURATION,
        "authorization": strict({"type": TEXT, "credentials": strict({"name": TEXT, "key": TEXT})}),
    }
)
#: of the Prometheus operator's resources, the fields that ours have
OPERATOR = {
    "PrometheusRule": strict({"groups": {"type": "array", "items": GROUP}}),
    "ServiceMonitor": strict(
        {
            "jobLabel": TEXT,
            "selector": strict({"matchLabels": TEXTS}),
            "endpoints": {"type": "array", "items": ENDPOINT, "minItems": 1},
        }
    ),
}


def titled(resource: Mapping[str, Any]) -> str:
    return f"{resource['kind']}-{resource['metadata']['name']}"


def of(kind: str, name: str = "portfolio-stream") -> dict[str, Any]:
    (found,) = (one for one in RESOURCES if (one["kind"], one["metadata"]["name"]) == (kind, name))
    return found


def containers(workload: Mapping[str, Any]) -> list[dict[str, Any]]:
    pod = workload["spec"]["template"]["spec"]
    return [*pod.get("initContainers", []), *pod["containers"]]


def given(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: re.sub(r"\$\{\w+:[-?][^}]*\}", "given", value) for name, value in environment.items()}


def assert_known(environment: Mapping[str, str]) -> Settings:
    """A typing error in a variable's name would be ignored in silence; a bad value is refused here."""
    recording = Recording({name: value for name, value in environment.items() if name.startswith("PORTFOLIO_")})
    settings = Settings.from_environment(recording)
    assert set() == set(recording) - recording.asked
    return settings


def assert_ours(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Every word is parsed by the command line itself; --help comes before anything is done."""
    assert "portfolio-stream" == command[0]
    assert 0 == cli.run([*command[1:], "--help"]), shlex.join(command)
    assert "Usage:" in capsys.readouterr().out


# -- Compose


def test_the_compose_file_is_one_by_its_specification() -> None:
    """The schema is compose-spec's own, as the package check-jsonschema carries it."""
    jsonschema.Draft7Validator(get_builtin_schema("vendor.compose-spec")).validate(MONITORING)


def test_the_compose_file_adds_to_the_first_one() -> None:
    """It replaces no service: workers only learn where auditor and watcher are. Its volumes are there."""
    both = COMPOSE["services"].keys() & SERVICES.keys()
    assert {"worker"} == both
    assert {"environment"} == SERVICES["worker"].keys()
    volumes = {*COMPOSE["volumes"], *MONITORING["volumes"]}
    for service in SERVICES.values():
        for source, _, _ in (mount.partition(":") for mount in service.get("volumes", ())):
            assert (ROOT / source).is_dir() if source.startswith("./") else source in volumes
    for service in OURS.values():
        assert set(service.get("depends_on", ())) <= COMPOSE["services"].keys()


@pytest.mark.parametrize("name", OURS)
def test_our_services_have_settings_and_commands_that_there_are(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """And the brokers of the first file."""
    settings = assert_known(image_environment() | given(OURS[name]["environment"]))
    assert COMPOSE["x-our-settings"]["PORTFOLIO_BOOTSTRAP_SERVERS"] == settings.bootstrap_servers
    assert_ours(OURS[name]["command"], capsys)


def test_prometheus_finds_every_process_where_it_serves() -> None:
    """Services and ports are those of the compose files, and the token is the secret's file."""
    told = assert_known(image_environment() | given(SERVICES["worker"]["environment"]))
    serving = {"worker": int(image_environment()["PORTFOLIO_WEB_PORT"])} | {
        name: int(service["command"][service["command"].index("--web-port") + 1]) for name, service in OURS.items()
    }
    assert serving == dict(COMPOSE_TARGETS.values())
    assert {f"{name}:{port}" for name, port in serving.items()} >= {told.auditor, told.watcher}
    assert COMPOSE_TOKEN == f"/run/secrets/{SERVICES['prometheus']['secrets'][0]}"
    for name, service in OURS.items():
        assert f":{serving[name]}/health/live" in service["healthcheck"]["test"][-1]


@pytest.mark.parametrize("name", [*OURS, *THEIRS])
def test_every_service_is_confined_and_watched(name: str) -> None:
    """A read-only file system, no capabilities, a pinned version, pages on loopback alone, a health check."""
    service = SERVICES[name]
    assert service["read_only"] and ["ALL"] == service["cap_drop"] and service["healthcheck"]
    assert ["no-new-privileges:true"] == service["security_opt"]
    assert name in OURS or re.fullmatch(r"[\w/-]+:v?\d+\.\d+\.\d+", service["image"])
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_no_password_stands_in_the_file() -> None:
    """Secrets come from the operator's environment, and Grafana has no default one."""
    assert all(secret.keys() == {"environment"} for secret in MONITORING["secrets"].values())
    grafana = SERVICES["grafana"]["environment"]
    assert f"/run/secrets/{SERVICES['grafana']['secrets'][0]}" == grafana["GF_SECURITY_ADMIN_PASSWORD__FILE"]
    assert not [name for name in grafana if name.endswith(("PASSWORD", "SECRET", "TOKEN"))]


# -- Kubernetes


@pytest.mark.parametrize("resource", BUILT_IN, ids=titled)
def test_a_resource_is_one_by_kubernetes_schema(resource: dict[str, Any]) -> None:
    """The schemas are those of Kubernetes' API, as kubernetes-validate carries them. An unknown field is refused."""
    kubernetes_validate.validate(resource, KUBERNETES, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**resource, "spek": {}}, KUBERNETES, strict=True)


@pytest.mark.parametrize("kind", OPERATOR)
def test_a_resource_has_the_fields_that_the_operator_knows(kind: str) -> None:
    """No package has the operator's schemas. OPERATOR has the part of them that we use, and refuses the rest."""
    resource = of(kind)
    metadata = {"metadata": {"type": "object", "required": ["name"]}}
    head = {"apiVersion": {"const": "monitoring.coreos.com/v1"}, "kind": {"const": kind}, **metadata}
    schema = {**strict(head | {"spec": OPERATOR[kind]}), "required": ["apiVersion", "kind", "metadata", "spec"]}
    jsonschema.Draft7Validator(schema).validate(resource)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(schema).validate({**resource, "spec": {**resource["spec"], "grups": []}})


def test_the_operator_gets_the_rules_that_prometheus_gets() -> None:
    """Groups of the three files, in their order."""
    files = [ROOT / "monitoring" / "prometheus" / "rules" / f"{name}.yml" for name in ("recording", "alerts", "slo")]
    groups = [group for file in files for group in YAML(typ="safe").load(file)["groups"]]
    assert groups == of("PrometheusRule")["spec"]["groups"]


@pytest.mark.parametrize("workload", WORKLOADS, ids=titled)
def test_a_workload_has_settings_and_commands_that_there_are(
    workload: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """The token is a secret's; the rest is the config map's."""
    settings = of("ConfigMap")["data"]
    for container in containers(workload):
        assert [{"configMapRef": {"name": "portfolio-stream"}}] == container["envFrom"]
        own = {}
        for variable in container.get("env", ()):
            own[variable["name"]] = variable.get("value", "given")
            assert "TOKEN" not in variable["name"] or TOKEN == variable["valueFrom"]
        own = {name: value.replace("$(PORTFOLIO_INSTANCE_ID)", "worker-0") for name, value in own.items()}
        told = assert_known(image_environment() | settings | own)
        assert told.auditor == f"portfolio-stream-auditor:{SERVICE_PORTS['portfolio-stream-auditor']}"
        assert told.watcher == f"portfolio-stream-watcher:{SERVICE_PORTS['portfolio-stream-watcher']}"
        if "command" in container:
            assert_ours(container["command"], capsys)


@pytest.mark.parametrize("workload", WORKLOADS, ids=titled)
def test_a_workload_is_confined_and_probed(workload: dict[str, Any]) -> None:
    """As the user of the image, without capabilities, on a read-only file system; each probe asks the named port."""
    pod = workload["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] and 10001 == pod["securityContext"]["runAsUser"]
    for container in containers(workload):
        confined = container["securityContext"]
        assert confined["readOnlyRootFilesystem"] and ["ALL"] == confined["capabilities"]["drop"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted <= {volume["name"] for volume in pod["volumes"]} | {
            claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", ())
        }
    (main,) = pod["containers"]
    assert {"web"} == {probe["httpGet"]["port"] for name, probe in main.items() if name.endswith("Probe")}
    assert ["web"] == [port["name"] for port in main["ports"]]


@pytest.mark.parametrize("workload", WORKLOADS, ids=titled)
def test_labels_select_the_pods(workload: dict[str, Any]) -> None:
    """Of the workload and of its service, which has the container's port; and Prometheus selects the service."""
    labels = workload["spec"]["template"]["metadata"]["labels"]
    assert labels == workload["spec"]["selector"]["matchLabels"]
    (service,) = (one for one in RESOURCES if one["kind"] == "Service" and one["spec"]["selector"] == labels)
    assert of("ServiceMonitor")["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (main,) = workload["spec"]["template"]["spec"]["containers"]
    assert main["ports"][0]["containerPort"] == service["spec"]["ports"][0]["port"]
    assert "web" == service["spec"]["ports"][0]["name"] == of("ServiceMonitor")["spec"]["endpoints"][0]["port"]


def test_a_worker_has_a_name_that_lasts() -> None:
    """Of its pod: the service makes it an address, and one at a time may be away."""
    workers = of("StatefulSet", "portfolio-stream-worker")
    service = of("Service", workers["spec"]["serviceName"])
    assert "None" == service["spec"]["clusterIP"] and service["spec"]["publishNotReadyAddresses"]
    environment = {one["name"]: one for one in workers["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert "metadata.name" == environment["PORTFOLIO_INSTANCE_ID"]["valueFrom"]["fieldRef"]["fieldPath"]
    advertised = f"$(PORTFOLIO_INSTANCE_ID).{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    assert advertised == environment["PORTFOLIO_WEB_ADVERTISED"]["value"]
    budget = of("PodDisruptionBudget", "portfolio-stream-worker")["spec"]
    assert 1 == budget["maxUnavailable"]
    assert workers["spec"]["selector"] == budget["selector"]
    assert workers["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= 15


def test_no_secret_stands_in_a_manifest() -> None:
    """The operator makes it: settings.yaml says by which command."""
    assert not [resource for resource in RESOURCES if resource["kind"] == "Secret"]
