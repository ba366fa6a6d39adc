"""OpenVINO's own `benchmark_app`, once per line on standard input: its median (ns) or its throughput (per s).

Started with MODEL BATCH THREADS sync|throughput; each line holds a number of seconds.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path


def main() -> None:
    """Serve runs until standard input ends."""
    model, batch, threads, kind = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4]
    for line in sys.stdin:
        with tempfile.TemporaryDirectory() as folder:
            command = [
                *("benchmark_app", "-m", model, "-shape", f"[{batch},3,16,16]", "-d", "CPU"),
                *("-t", str(max(1, round(float(line)))), "-infer_precision", "f32"),
                *("-nthreads", threads, "-ip", "f32"),
                *("-report_type", "no_counters", "-report_folder", folder, "-json_stats"),
            ]
            command += (
                ["-hint", "none", "-nstreams", "1", "-nireq", "1", "-api", "sync"]
                if kind == "sync"
                else ["-hint", "throughput", "-api", "async"]
            )
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            results = json.loads((Path(folder) / "benchmark_report.json").read_text())["execution_results"]
        if kind == "sync":
            print(1e6 * float(results["latency_median"]), flush=True)
        else:
            print(float(results["throughput"]), flush=True)


if __name__ == "__main__":
    main()
