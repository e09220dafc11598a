"""The configuration of Prometheus: whom it scrapes, which rules it has, and where its alerts go."""

from collections.abc import Mapping, Sequence
from typing import Any

from portfolio_stream.monitoring.durations import duration
from portfolio_stream.monitoring.rules import INTERVAL_SECONDS

RULE_FILES = ("recording.yml", "alerts.yml", "slo.yml")
#: whom Prometheus scrapes, and where they are while all runs on one host: a file of targets for each
LOCAL_TARGETS: Mapping[str, Sequence[str]] = {
    "workers": ("127.0.0.1:6066",),
    "auditor": ("127.0.0.1:6060",),
    "watcher": ("127.0.0.1:6061",),
    "kafka": (),
}
LOCAL_ALERTMANAGER = "127.0.0.1:9093"
COMPOSE_TARGETS: Mapping[str, tuple[str, int]] = {
    "workers": ("worker", 6066),
    "auditor": ("auditor", 6060),
    "watcher": ("watcher", 6061),
}
COMPOSE_TOKEN = "/run/secrets/web-token"
LONGEST_SCRAPE_SECONDS = 10


def local(targets: str = "targets", rules: str = "rules", alertmanager: str = LOCAL_ALERTMANAGER) -> dict[str, Any]:
    """Returns the configuration for processes whose addresses stand in files. Folders are relative to its own."""
    jobs = [
        {"job_name": name, "file_sd_configs": [{"files": [f"{targets}/{name}.yml"], "refresh_interval": "5s"}]}
        for name in LOCAL_TARGETS
    ]
    return configuration(jobs, [f"{rules}/{name}" for name in RULE_FILES], alertmanager)


def compose() -> dict[str, Any]:
    """Returns the configuration for docker-compose.monitoring.yml, whose services Docker's DNS names."""
    jobs = [
        {
            "job_name": name,
            "authorization": {"credentials_file": COMPOSE_TOKEN},
            "dns_sd_configs": [{"names": [service], "type": "A", "port": port, "refresh_interval": "5s"}],
        }
        for name, (service, port) in COMPOSE_TARGETS.items()
    ]
    return configuration(jobs, [f"rules/{name}" for name in RULE_FILES], "alertmanager:9093")


def targets(job: str, addresses: Mapping[str, Sequence[str]] = LOCAL_TARGETS) -> list[dict[str, Any]]:
    """Returns the content of the job's file of targets."""
    return [{"targets": list(addresses[job])}]


def configuration(
    jobs: Sequence[Mapping[str, Any]], rules: Sequence[str], alertmanager: str, seconds: int = INTERVAL_SECONDS
) -> dict[str, Any]:
    """Returns a configuration of Prometheus. `seconds` lie between two scrapes, and between two evaluations."""
    interval = duration(seconds)
    return {
        "global": {
            "scrape_interval": interval,
            "scrape_timeout": duration(min(seconds, LONGEST_SCRAPE_SECONDS)),
            "evaluation_interval": interval,
        },
        "rule_files": list(rules),
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
        "scrape_configs": list(jobs),
    }
