"""OpenVINO's own `benchmark_app`, once per line on standard input: its median (ns) or its throughput (per s).

Started with MODEL BATCH THREADS sync|throughput; each line holds a number of seconds.
"""

from __future__ import annotations

import re
import subprocess
import sys


def main() -> None:
    """Serve runs until standard input ends."""
    model, batch, threads, kind = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4]
    for line in sys.stdin:
        command = [
            *("benchmark_app", "-m", model, "-shape", f"[{batch},3,16,16]", "-d", "CPU"),
            *("-t", str(max(1, round(float(line)))), "-infer_precision", "f32"),
            *("-ip", "f32"),
        ]
        if kind == "sync":
            command += [
                "-hint",
                "none",
                "-nthreads",
                threads,
                "-nstreams",
                "1",
                "-nireq",
                "1",
                "-api",
                "sync",
            ]
            figure, scale = r"Median:\s+([\d.]+) (us|ms)", {"us": 1e3, "ms": 1e6}
        else:
            # With a hint, benchmark_app refuses a number of threads; the CPUs that it may use decide.
            command += ["-hint", "throughput", "-api", "async"]
            figure, scale = r"Throughput:\s+([\d.]+) (FPS)", {"FPS": 1.0}
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found = re.search(figure, done.stdout)
        assert found is not None, done.stdout
        print(float(found[1]) * scale[found[2]], flush=True)


if __name__ == "__main__":
    main()
