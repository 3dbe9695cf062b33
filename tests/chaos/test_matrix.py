"""A part of the crash matrix: every point once, every kind of failure about equally often, in random order."""

from __future__ import annotations

import os
import random
import secrets
from itertools import cycle, islice
from pathlib import Path

import pytest

from tests.chaos.matrix import POINTS, VICTIMS, run

pytestmark = pytest.mark.slow


@pytest.mark.timeout(240)
async def test_nothing_is_lost_or_duplicated_whatever_fails_at_any_point(tmp_path: Path) -> None:
    """Accepted = delivered, inbox = messages written, webhooks = inbox, order kept, no key used twice.

    `CHAOS_SEED=…` repeats a run, as far as two runs of several processes can be alike.
    """
    seed = os.environ.get("CHAOS_SEED") or secrets.token_hex(4)
    randomness = random.Random(seed)
    victims = [*islice(cycle(randomness.sample([*VICTIMS], len(VICTIMS))), len(POINTS))]
    randomness.shuffle(victims)
    pairs = list(zip(POINTS, victims, strict=True))
    randomness.shuffle(pairs)
    figures = await run(tmp_path, strikes=len(pairs), seed=seed, companies=3, per_s=1, tell=print, pairs=pairs)
    assert figures["strikes"] == len(POINTS)
