"""The Prometheus families of the whole job: each worker has them all, so nobody sums them over workers."""

from collections.abc import Iterable, Iterator

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from portfolio_stream.checkpoints.history import History
from portfolio_stream.control.job_figures import OUTCOMES, JobFigures
from portfolio_stream.control.job_life import JobState
from portfolio_stream.observe.families import counters, gauge, gauges


class JobCollector(Collector):
    """The job as its control topic tells it; nothing before that topic is read."""

    def __init__(self, figures: JobFigures) -> None:
        self._figures = figures

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        figures = self._figures
        if figures.state is None:
            return
        states = [((state.value,), figures.state is state) for state in JobState]
        yield gauges("job_state", "1 for what the operator wants of the job.", ("state",), states)
        if figures.generation is not None:
            yield gauge("job_generation", "The number of the job's generation.", figures.generation)
        if figures.partitions is not None:
            yield gauge("job_partitions", "Source partitions of the job's generation.", figures.partitions)
        ended = [((outcome,), figures.savepoints[outcome]) for outcome in OUTCOMES]
        yield counters("savepoints", "Savepoints of the job that have ended.", ("outcome",), ended)
        latest = figures.completed
        if latest is None:
            return
        text = "UNIX time at which the newest savepoint was complete."
        yield gauge("savepoint_completed_timestamp_seconds", text, latest.at)
        text = "Of the newest complete savepoint: from the request to its end."
        yield gauge("savepoint_duration_seconds", text, latest.seconds)
        if latest.bytes is not None:
            yield gauge("savepoint_bytes", "Of the newest complete savepoint: its size.", latest.bytes)


class CheckpointCollector(Collector):
    """The figures of the whole job, as each worker knows them; none until the history is read."""

    def __init__(self, history: History) -> None:
        self._history = history

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        history = self._history
        if not history.is_ready:
            return
        known = history.checkpoints()
        totals = history.totals()
        decided = [(("completed",), totals["COMPLETED"]), (("failed",), totals["FAILED"])]
        yield counters("checkpoints", "Checkpoints of the job that are decided.", ("outcome",), decided)
        in_progress = sum(one.status == "IN_PROGRESS" for one in known)
        yield gauge("checkpoints_in_progress", "Checkpoints of the job that are not decided.", in_progress)
        latest = next((one for one in known if one.status == "COMPLETED"), None)
        if latest is None:
            return
        age = history.seconds_since(latest)
        yield gauge("checkpoint_completed_age_seconds", "Since the trigger of the last completed checkpoint.", age)
        figures = (
            ("checkpoint_duration_seconds", "From the trigger to the last part.", latest.seconds),
            ("checkpoint_changelog_bytes", "Changelog bytes that it made safe.", latest.changelog_bytes),
            ("checkpoint_state_bytes", "The state, as the stores estimate it.", latest.state_bytes),
        )
        for name, text, value in figures:
            if value is not None:
                yield gauge(name, f"Of the last completed checkpoint: {text[0].lower()}{text[1:]}", value)
