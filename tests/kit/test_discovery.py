import pytest

from services.kit.config import ConfigError
from services.kit.discovery import Directory


def test_a_service_is_known_when_it_is_here_or_somebody_says_where() -> None:
    directory = Directory(("gateway",), "static:registry=127.0.0.1:1")

    assert [directory.knows(name) for name in ("gateway", "registry", "logs")] == [True, True, False]


def test_a_channel_to_nowhere_is_not_made() -> None:
    with pytest.raises(ConfigError, match="says nothing of logs"):
        Directory(("gateway",), "").channel("logs")
