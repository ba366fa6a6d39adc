"""The evidence behind kdbench's verdicts, in parts; `benchmarks/verdicts.py` is the program."""
