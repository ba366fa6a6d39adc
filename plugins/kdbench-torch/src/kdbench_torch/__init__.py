"""PyTorch backends of kdbench, one module per device kind over shared parts.

`cpu` and the package `cuda` hold the hooks. `network` builds and prepares the student; `eager`, `inductor`
and `aot` are the modes in which it runs on a processor, and `session` is what the harness drives there. What
only a GPU needs is in `cuda`. No module imports torch until a hook is called.
"""
