"""PyTorch backends of kdbench, one module per device kind over shared parts.

`cpu` holds the hooks. `network` builds and prepares the student, `eager`, `inductor` and `aot` are the
modes in which it runs, `session` is what the harness drives. No module imports torch until a hook is
called.
"""
