"""Strangers can cause some log lines, and no more than the bound."""

from __future__ import annotations

import logging

import pytest

from holdfast.base.limited_log import LINES_IN_ALL, LINES_PER_ADDRESS, WINDOW_S, LimitedLog


def test_a_flood_writes_few_lines_and_counts_the_omitted_ones(caplog: pytest.LogCaptureFixture) -> None:
    """Each address has a share of its own; the count comes with the first line of the next minute."""
    times = [0.0]
    limited = LimitedLog(logging.getLogger("holdfast.test"), monotonic=lambda: times[0])
    for _ in range(1000):
        limited.warning("Refused from %s", "192.0.2.1")
    limited.warning("Refused from %s", "192.0.2.2")
    assert caplog.messages == ["Refused from 192.0.2.1"] * LINES_PER_ADDRESS + ["Refused from 192.0.2.2"]
    caplog.clear()
    times[0] = WINDOW_S
    limited.warning("Refused from %s", "192.0.2.1")
    left_out = 1000 - LINES_PER_ADDRESS
    assert caplog.messages == [f"{left_out} more lines about refused requests were left out", "Refused from 192.0.2.1"]


def test_many_addresses_share_one_bound(caplog: pytest.LogCaptureFixture) -> None:
    """Neither the log nor the memory grows with the number of addresses."""
    limited = LimitedLog(logging.getLogger("holdfast.test"), monotonic=lambda: 0.0)
    for n in range(5000):
        limited.warning("Refused from %s", f"2001:db8::{n:x}")
    assert len(caplog.messages) == LINES_IN_ALL
