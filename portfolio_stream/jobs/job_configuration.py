"""The configuration of a job's engines and switches, by the settings."""

from portfolio_stream.exactly_once.configuration import Configuration
from portfolio_stream.settings import Settings


def job_configuration(settings: Settings) -> Configuration:
    """The configuration of generation 1; an order of the job names another one."""
    interval = settings.commit_interval_ms
    return Configuration(
        group=settings.group,
        source_topic=settings.input_topic,
        changelog_topic=settings.changelog_topic,
        output_topics=(settings.output_topic, settings.dlq_topic),
        fold=settings.fold_signature,
        older_folds=settings.older_fold_signatures,
        commit_interval_seconds=None if interval is None else interval / 1000,
        standbys=settings.standbys,
    )
