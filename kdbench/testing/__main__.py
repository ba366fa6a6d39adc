"""The process that `kdbench.testing.run_apart` starts: `python -m kdbench.testing DESCRIPTOR ERRAND`.

It writes one finding a line to the descriptor. What the plugin prints goes where it went before.
"""

from __future__ import annotations

import os
import sys

import msgspec

from kdbench.discovery import Source
from kdbench.testing.running import run
from kdbench.testing.subject import Settings


class Errand(msgspec.Struct):
    """Which plugin to put to which checks."""

    source: tuple[str, str, str, str, str]
    settings: Settings
    only: list[str]
    fallen: list[str]


def main(descriptor: int, text: str) -> None:
    """Run the checks."""
    errand = msgspec.json.decode(text, type=Errand)
    os.set_inheritable(descriptor, False)
    with os.fdopen(descriptor, "wb", buffering=0) as answers:
        for finding in run(Source(*errand.source), errand.settings, only=errand.only, fallen=errand.fallen):
            answers.write(msgspec.json.encode(finding) + b"\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
    # Threads that a vendor left behind would keep this process from ending.
    sys.stderr.flush()
    os._exit(0)
