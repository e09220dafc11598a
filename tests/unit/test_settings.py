"""The settings: what is read of the environment, and what no value may be."""

import pytest

from portfolio_stream.errors import InvalidSetting
from portfolio_stream.kafka_client import client_options
from portfolio_stream.settings import Settings
from portfolio_stream.topics import all_topics
from portfolio_stream.worker import make_app


def test_the_group_names_all_that_is_the_systems_own() -> None:
    """Consumer group (the Faust app's id), changelog, and what Kafka's logs show of us."""
    settings = Settings.from_environment({"PORTFOLIO_GROUP": "second.system"})
    names = (make_app(settings).conf.id, settings.changelog_topic, client_options(settings)["client_id"])
    assert ("second.system", "second.system-changelog", "second.system") == names
    assert "second.system-changelog" in {topic.name for topic in all_topics(settings)}
    assert "portfolio-stream" == Settings.from_environment({"PORTFOLIO_GROUP": ""}).group


@pytest.mark.parametrize("group", [".", "..", "../up", "two words", "gr\u00fcn", "-x", "a\n", "a" * 201, "\u0663"])
def test_a_group_that_could_name_no_topic_is_refused(group: str) -> None:
    """GROUP-changelog is a topic, and the group's name stands in logs and client ids."""
    with pytest.raises(InvalidSetting, match="PORTFOLIO_GROUP is "):
        Settings.from_environment({"PORTFOLIO_GROUP": group})
