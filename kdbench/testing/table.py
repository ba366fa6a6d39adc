"""All checks of the contract, in the order in which a backend comes to keep them."""

from __future__ import annotations

from kdbench.testing import answering, boundary, compiling, describing, devicetime, flight, loading
from kdbench.testing.finding import Check

CHECKS: tuple[Check, ...] = (
    *describing.CHECKS,
    *compiling.CHECKS,
    *answering.CHECKS,
    *loading.CHECKS,
    *flight.CHECKS,
    *boundary.CHECKS,
    *devicetime.CHECKS,
)
