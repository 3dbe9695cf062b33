"""What is shipped for Prometheus and Grafana asks for metrics that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from holdfast.api.metrics import exposition
from holdfast.base.clock import SystemClock

DEPLOY = Path(__file__).parents[2] / "deploy"
MADE_UP_OF_PARTS = re.compile(r"holdfast_[a-z_]+")


@pytest.mark.parametrize("name", ["prometheus/holdfast.rules.yml", "grafana/holdfast.json"])
def test_every_metric_asked_for_exists(name: str) -> None:
    """A renamed metric would leave an alert that never fires and a panel that stays empty."""
    exposed = set(re.findall(r"^# TYPE (\S+)", exposition([], None, now=SystemClock().now()).decode(), re.MULTILINE))
    asked = set(MADE_UP_OF_PARTS.findall((DEPLOY / name).read_text()))
    assert asked
    assert asked <= exposed
