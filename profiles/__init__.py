"""Measurement plans that ship with kdbench, as TOML; `kdbench.profile` reads them."""
