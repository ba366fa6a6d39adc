"""Do four workers that are alike come out alike? One backend under four names, alternated as any four are.

`python benchmarks/alike.py [--module kdbench_onnxruntime] [--threads 1] [--blocks 16]`

Prints for each pair the estimate with its interval, and the root mean square of the blocks' estimates: how
far one block is off where the truth is no difference.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from kdbench import ranking, results, stats

NAMES = ("alike-a", "alike-b", "alike-c", "alike-d")
HOOKS = "kdbench_describe, kdbench_probe, kdbench_compile, kdbench_load, kdbench_run"


def install(folder: Path, module: str) -> None:
    """Write a distribution per name that passes the hooks of `module` on."""
    for name in NAMES:
        own = name.replace("-", "_")
        (folder / f"{own}.py").write_text(f"from {module} import {HOOKS}\n")
        facts = folder / f"{own}-1.0.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (facts / "entry_points.txt").write_text(f"[kdbench]\n{name} = {own}\n")


def main() -> None:
    """Run the four and compare each pair."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--module", default="kdbench_onnxruntime")
    parser.add_argument("--threads", default="1")
    parser.add_argument("--blocks", default="16")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        install(folder, asked.module)
        command = [sys.executable, "-m", "kdbench", "run", "-b", ",".join(NAMES), "--scenario", "latency"]
        command += ["--batch", "1", "--threads", asked.threads, "--blocks", asked.blocks]
        command += ["--quiet", "--output", str(folder / "result.json")]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": place})
        result = results.read(folder / "result.json")
    costs = ranking.latency_costs(result.slices, range(len(NAMES)))
    for a, b in itertools.combinations(range(len(NAMES)), 2):
        blocks = list(costs.estimates(a, b).values())
        interval = stats.t_interval(blocks)
        rms = math.sqrt(statistics.fmean(one * one for one in blocks))
        print(
            f"{NAMES[a]} / {NAMES[b]}: {100 * interval.estimate:+.2f} % ± {100 * interval.half:.2f} "
            f"over {len(blocks)} blocks; one block is off by {100 * rms:.2f} %"
        )


if __name__ == "__main__":
    main()
