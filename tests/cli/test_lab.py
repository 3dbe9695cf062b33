"""The lab: its scenarios and the verdict. `tests/acceptance` runs a scenario."""

from __future__ import annotations

import subprocess
import sys

import pytest

from holdfast.lab.runner import COMPANIES
from holdfast.lab.scenarios import SCENARIOS, USUAL_S, Scenario
from holdfast.lab.tally import InjectedFault, RunTally, Sent, Uptime
from tests.cli.command import Command
from wasim.faults import MOMENTARY, parse_fault


async def test_scenarios_are_listed_for_people_and_programs(alone: Command) -> None:
    """With the fault of each; an unknown name is a usage error that lists the known ones."""
    people, programs = await alone("lab", "list"), await alone("lab", "list", "--json")
    assert [line.split()[0] for line in people.out.splitlines()[1:]] == list(SCENARIOS)
    assert [row["name"] for row in programs.json] == list(SCENARIOS)
    assert (await alone("lab", "run", "nonsense")).refused(2) == (
        f'there is no scenario "nonsense": choose {", ".join(SCENARIOS)}'
    )


def test_the_demo_without_wasim_says_what_to_install() -> None:
    """Holdfast does not depend on wasim: `holdfast demo` without it is refused, naming the extra."""
    hidden = "import sys; sys.modules['wasim'] = None; from holdfast.cli import main; main(['demo'])"
    ended = subprocess.run([sys.executable, "-c", hidden], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("holdfast: the simulated WhatsApp (wasim) is not installed: ")
    assert ended.stderr.endswith("run `uv sync --extra lab` or `pip install ./packages/wasim .`\n")


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS.keys())
def test_scenarios_use_only_faults_that_wasim_knows(scenario: Scenario) -> None:
    """In order, within the duration, for companies that exist."""
    moments = [step.at_s for step in scenario.steps]
    assert moments == sorted(moments)
    assert all(0 < moment < USUAL_S for moment in moments)
    for step in scenario.steps:
        parse_fault({"kind": step.kind, **step.details})
        assert set(step.targets) <= set(COMPANIES)
        assert step.kind != "restart" or step.details["downS"] == step.lasts_s
        assert step.severs or step.kind not in MOMENTARY


def played(*faults: InjectedFault, arrived: bool = True, unprovoked: int = 0) -> RunTally:
    tally = RunTally(faults=list(faults), uptime={"a": Uptime(up_s=100)}, unprovoked=unprovoked)
    tally.sent["1"] = Sent(id="1", text="hello", company="a", to="962790000099", state="delivered")
    tally.received["contact", "hello"] = int(arrived)
    return tally


def fault(*, back_at: float | None, reachable_at: float = 10) -> InjectedFault:
    return InjectedFault(kind="restart", company="a", at=8, reachable_at=reachable_at, back_at=back_at)


@pytest.mark.parametrize(
    ("tally", "passed", "lost"),
    [
        (played(), True, 0),
        (played(fault(back_at=19.9)), True, 0),
        (played(fault(back_at=20)), False, 0),
        (played(fault(back_at=None)), False, 0),
        (played(arrived=False), False, 1),
        (played(unprovoked=1), False, 0),
    ],
)
def test_the_verdict_needs_every_message_and_every_link_back_in_time(tally: RunTally, passed: bool, lost: int) -> None:
    """The time counts from the moment when the server can be reached again; no link may be lost without a fault."""
    result = tally.result({"962790000099": "contact"}, seconds=60)
    assert (result.passed, result.lost) == (passed, lost), result.table()


def test_a_message_shown_twice_is_a_duplicate() -> None:
    """Each time after the first counts."""
    tally = played()
    tally.received["contact", "hello"] = 3
    result = tally.result({"962790000099": "contact"}, seconds=60)
    assert (result.passed, result.duplicates) == (False, 2)
