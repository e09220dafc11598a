"""What a job may give its workers while it runs: how many there are, and some of their settings. Pure.

Allowed are the settings that change neither the state nor what is written, nor where: workers with different values may
work side by side while they are restarted one after another. None of them is a secret, because the control topic holds
them as text.
"""

from collections.abc import Mapping

from portfolio_stream.errors import InvalidSetting, SettingNotForJob
from portfolio_stream.setting_values import whole_number_setting
from portfolio_stream.settings import Settings, read_value, variable

MOST_WORKERS = 64  # on one host
PARALLELISM = whole_number_setting(1, MOST_WORKERS)
#: the variables that a job may give its workers
ALLOWED = tuple(
    map(
        variable,
        (
            "checkpoint_interval",
            "checkpoint_timeout",
            "commit_interval_ms",
            "savepoint_interval",
            "standbys",
            "state_memory",
        ),
    )
)


def given_parallelism(text: str) -> int:
    """Raises InvalidSetting."""
    found: int = read_value("the number of workers", text, PARALLELISM)
    return found


def changed_settings(before: Mapping[str, str], changes: Mapping[str, str]) -> dict[str, str]:
    """The job's settings after the changes. An empty value takes a variable away.

    Raises SettingNotForJob, and InvalidSetting for a value that a worker would refuse.
    """
    for name in changes:
        if name not in ALLOWED:
            raise SettingNotForJob(name, ALLOWED)
    settings = {name: value for name, value in {**before, **changes}.items() if value}
    Settings.from_environment(settings)
    return settings


def given_setting(text: str) -> tuple[str, str]:
    """The variable and the value of NAME=VALUE. Raises InvalidSetting."""
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidSetting("a setting of the job", text, "NAME=VALUE")
    return name, value
