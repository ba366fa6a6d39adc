"""What goes into a model and comes out of it, as the student declares it and the file names it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kdbench import Student, TensorSpec, Unsupported

SIGNATURE = "serving_default"
"""The name that litert-torch gives the only signature of a file."""


@dataclass(frozen=True, slots=True)
class Form:
    """Inputs and outputs in the declared order; litert-torch names them args_0, … and output_0, …."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @classmethod
    def of(cls, student: Student) -> Form:
        """Take the form of a student."""
        return cls(student.inputs, student.outputs)

    @property
    def input_names(self) -> tuple[str, ...]:
        """Name the inputs as the file does."""
        return tuple(f"args_{number}" for number in range(len(self.inputs)))

    @property
    def output_names(self) -> tuple[str, ...]:
        """Name the outputs as the file does."""
        return tuple(f"output_{number}" for number in range(len(self.outputs)))

    def check(
        self, inputs: Mapping[str, Mapping[str, Any]], outputs: Mapping[str, Mapping[str, Any]], batch: int
    ) -> None:
        """Hold what the runtime tells of a model, by name, to what the student declares; else Unsupported."""
        for names, specs, found in (
            (self.input_names, self.inputs, inputs),
            (self.output_names, self.outputs, outputs),
        ):
            if set(names) != set(found):
                raise Unsupported(
                    f"The .tflite file has {', '.join(sorted(found))}, expected {', '.join(names)}.",
                    hint="Let the network answer a tensor, or a tuple of one tensor per declared output.",
                )
            for name, spec in zip(names, specs, strict=True):
                _check(spec, found[name], batch)

    def to_notes(self) -> dict[str, str]:
        """Write the form as notes of an artifact."""
        return {
            "inputs": json.dumps([asdict(spec) for spec in self.inputs]),
            "outputs": json.dumps([asdict(spec) for spec in self.outputs]),
        }

    @classmethod
    def from_notes(cls, notes: Mapping[str, str]) -> Form:
        """Read what `to_notes` wrote."""
        return cls(_specs(notes["inputs"]), _specs(notes["outputs"]))


def _check(spec: TensorSpec, found: Mapping[str, Any], batch: int) -> None:
    shape, dtype = tuple(int(length) for length in found["shape"]), np.dtype(found["dtype"]).name
    if (shape, dtype) != ((batch, *spec.shape), spec.dtype):
        raise Unsupported(
            f"The .tflite file has {spec.name} as {dtype} {shape}, "
            f"expected {spec.dtype} {(batch, *spec.shape)}.",
            hint="Use another backend for this student, or leave out dynamic shapes.",
        )


def _specs(note: str) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(spec["name"], tuple(spec["shape"]), spec["dtype"]) for spec in json.loads(note))
