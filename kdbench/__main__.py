"""Run the command line as `python -m kdbench`."""

from __future__ import annotations

from kdbench.cli import main

if __name__ == "__main__":
    main()
