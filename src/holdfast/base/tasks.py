"""What a task knows of itself."""

from __future__ import annotations

import asyncio


def is_cancelled() -> bool:
    """Was the current task told to end? An error that comes up meanwhile hides it: a group of tasks that fails while it
    is cancelled tells of the failure alone (up to Python 3.12), and what is cleaned up may fail as well. Whoever goes on
    after an error must ask, or the end never comes."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
