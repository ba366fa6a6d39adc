"""api=interpreter: the Interpreter, the API that TensorFlow Lite had.

Its memory is planned once: `set_tensor` copies an input in, and `get_tensor` copies an output out, which then
outlives the next call. Views by `tensor()` would spare neither: no call may run while one is held.
The API: ai.google.dev/edge/api/tflite/python/tf/lite/Interpreter.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ai_edge_litert.interpreter import Interpreter, OpResolverType  # noqa: TID253  # this module is imported inside hooks only

from kdbench.errors import BackendError
from kdbench_litert._delegation import count
from kdbench_litert._form import SIGNATURE, Form

if TYPE_CHECKING:
    from kdbench.spec import Array


class InterpreterRunner:
    """Runs one Interpreter, with memory and threads of its own, at one batch size."""

    def __init__(
        self, file: Path, form: Form, batch_size: int, *, threads: int | None, xnnpack: bool
    ) -> None:
        resolver = OpResolverType.AUTO if xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        model = Interpreter(str(file), num_threads=threads, experimental_op_resolver_type=resolver)
        inputs = model.get_signature_runner(SIGNATURE).get_input_details()
        for name, spec in zip(form.input_names, form.inputs, strict=True):
            wanted = (batch_size, *spec.shape)
            if name in inputs and tuple(inputs[name]["shape"]) != wanted:
                model.resize_tensor_input(inputs[name]["index"], wanted)
        model.allocate_tensors()
        signature = model.get_signature_runner(SIGNATURE)
        inputs, outputs = signature.get_input_details(), signature.get_output_details()
        form.check(inputs, outputs, batch_size)
        self._model: Any = model
        self._set, self._invoke, self._get = model.set_tensor, model.invoke, model.get_tensor
        self._places = [inputs[name]["index"] for name in form.input_names]
        self._results = [outputs[name]["index"] for name in form.output_names]

    def __call__(self, inputs: tuple[Array, ...], /) -> tuple[Array, ...]:
        """Map one array (batch, *shape) per input to one per output, which are new arrays at every call."""
        for place, array in zip(self._places, inputs):  # noqa: B905  # strict costs a few per cent of a call
            self._set(place, array)
        self._invoke()
        return tuple([self._get(place) for place in self._results])

    def provider(self) -> str:
        """Name who runs operators: XNNPACK, LiteRT's own kernels as `builtin`, or both."""
        return "+".join(sorted(self.nodes())) or "LiteRT"

    def nodes(self) -> Mapping[str, int]:
        """Count the operators that XNNPACK and LiteRT's own kernels run; empty where it does not tell.

        Only a method that LiteRT calls experimental tells, and nothing that is computed depends on it.
        """
        tell = getattr(self._model, "_get_ops_details", None)
        return {} if tell is None else count(tell())

    def close(self) -> None:
        """Give the model back, and make every later call raise."""
        self._set = self._invoke = self._get = refuse
        self._model = None


def refuse(*_: object) -> NoReturn:
    """Stand in for what a closed session has no more."""
    raise BackendError("This LiteRT session is closed.", hint="Load the artifact again.", phase="run")
