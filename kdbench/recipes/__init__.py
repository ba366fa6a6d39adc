"""Distillation recipes that ship with kdbench, as TOML; `kdbench.distill.recipe` reads them."""
