"""Simulates the reconnection policy on networks that drop links again and again; takes a second.

uv run python -m bench.flapping_policy [--hours 2] [--seed 1]

`bench.flapping` measures the same with real Baileys.
"""

from __future__ import annotations

import argparse

from holdfast.session.state import Policy
from tests.flapping_line import simulate

LINK_LIVES_S = (0, 2, 4, 6, 10, 20, 30, 45, 61, 300)
QUARTER_HOURS = ((0, 15), (15, 30), (30, 45), (45, 60))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    print(f"budget {Policy().budget_an_hour} links an hour, seed {args.seed}")
    print("link dies after | uptime of hour 1 (by quarter) | uptime of all hours | links in the busiest hour")
    for life_s in LINK_LIVES_S:
        found = simulate(link_lives_s=life_s, minutes=60 * args.hours, seed=args.seed)
        quarters = " ".join(f"{found.uptime_between(*quarter):4.0%}" for quarter in QUARTER_HOURS)
        first = found.uptime_between(0, 60)
        print(f"{life_s:13} s | {first:6.1%} ({quarters}) | {found.uptime:19.1%} | {found.busiest_hour:4}")


if __name__ == "__main__":
    main()
