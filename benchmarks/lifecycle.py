"""The numbers of the lifecycle: time to a prediction, quality at a budget, rounds of the grid, memory at scale.

    python -m benchmarks.lifecycle [time] [quality] [grid] [scale]

Ratios are measured side by side in one run. CPU seconds are those of the whole process tree.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks import process_tree, quality

SOTTOVOCE = [sys.executable, "-m", "sottovoce"]
MARK = "answered   v"


def measure_time(folder: Path) -> None:
    """From an installed environment to the printed prediction, and the same again with nothing changed."""
    print("## Time of the default job (wall, to the printed prediction)")
    command = [*SOTTOVOCE, "simulate", "--workspace", str(folder / "time"), "--ask"]
    for title, bound in (("first", 90), ("again", 15)):
        used = process_tree.run(command, [MARK])
        print(
            f"  {title:6} {used.marks.get(MARK, float('nan')):6.1f} s (bound {bound})   whole {used.seconds:.1f} s"
            f"   CPU {used.cpu_seconds:.1f} s   peak {used.peak_bytes / 1e9:.2f} GB   exit {used.code}"
        )


def measure_grid() -> None:
    """Rounds of the Ray grid against Flower's own engine: a no-op client, 10 nodes, 10,000 parameters."""
    print("## Rounds of the grid: no-op client, 10 nodes x 10 rounds, 10,000 parameters")
    results = {}
    for engine in ("ray-grid", "flower"):
        used = process_tree.run([sys.executable, "-m", "benchmarks.noop", engine, "10", "10", "10000"])
        if used.code:
            print(used.output)
            continue
        rounds = json.loads(used.output.strip().splitlines()[-1])["rounds"]
        results[engine] = (statistics.median(rounds[1:]), used.peak_bytes)
        print(
            f"  {engine:9} {results[engine][0] * 1e3:7.1f} ms a round   whole {used.seconds:.1f} s"
            f"   CPU {used.cpu_seconds:.1f} s   peak {used.peak_bytes / 1e9:.2f} GB"
        )
    ours, theirs = results["ray-grid"], results["flower"]
    print(f"  ratio     {theirs[0] / ours[0]:.1f}x faster (bound 3x)   memory {ours[1] / theirs[1]:.2f}x (bound 1x)")


def measure_scale(folder: Path) -> None:
    """100 simulated clients x 3 rounds with a 1,000,000-parameter model: the whole lifecycle, encrypted and private."""
    print("## 100 clients x 3 rounds, 1M parameters, DP and encryption on")
    config = quality.wide_config(folder / "scale")
    used = process_tree.run([*SOTTOVOCE, "simulate", str(config), "--workspace", str(folder / "scale" / "w"), "--json"])
    events = [json.loads(line) for line in used.output.splitlines() if line.startswith("{")]
    rounds = [event for event in events if event["event"] == "RoundFinished"]
    print(
        f"  {len(rounds)} rounds of {[event['clients'] for event in rounds]} clients"
        f"   {statistics.median(event['seconds'] for event in rounds):.1f} s a round   whole {used.seconds:.0f} s"
        f"   CPU {used.cpu_seconds:.0f} s   peak {used.peak_bytes / 1e9:.2f} GB (bound 2)   exit {used.code}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=["time", "quality", "grid", "scale"])
    wanted = parser.parse_args().what
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "time" in wanted:
            measure_time(folder)
        if "quality" in wanted:
            quality.measure(folder)
        if "grid" in wanted:
            measure_grid()
        if "scale" in wanted:
            measure_scale(folder)


if __name__ == "__main__":
    main()
