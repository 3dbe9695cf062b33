"""The address at which other nodes reach this one."""

from __future__ import annotations

import pytest

from holdfast.app.node_url import node_url
from holdfast.settings import Settings

ANYWHERE = "0.0.0.0"


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({}, "http://127.0.0.1:3000"),
        ({"host": "10.0.0.5"}, "http://10.0.0.5:3000"),
        ({"host": "fd00::5"}, "http://[fd00::5]:3000"),
        ({"host": ANYWHERE}, "http://127.0.0.1:3000"),
        ({"host": ANYWHERE, "database_url": "postgresql://u:p@127.0.0.2:6432/d"}, "http://127.0.0.1:3000"),
        ({"host": "::", "database_url": "postgresql:///d?host=/run/postgresql"}, "http://127.0.0.1:3000"),
        ({"host": "127.0.0.1", "node_url": "https://a.internal/"}, "https://a.internal"),
    ],
)
def test_the_setting_counts_then_the_address_that_is_listened_on_then_the_way_to_the_database(
    settings: dict[str, str], url: str
) -> None:
    assert node_url(Settings.model_validate(settings), 3000) == url
