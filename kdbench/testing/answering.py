"""What holds for a runner at the boundary `host`: what it answers, when, and what it leaves alone."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from kdbench.spec import Allocating
from kdbench.testing.finding import Broken, Skipped, check
from kdbench.testing.opened import BATCH_SIZES, copied, equal

if TYPE_CHECKING:
    from kdbench.testing.subject import Subject

PAUSE_S = 0.01
"""How long after its return an answer is looked at again; more where a call takes long."""


@check(
    "Outputs are a tuple of C-contiguous NumPy arrays of the shapes and dtypes that the student declares.",
    hook="kdbench_run",
    section="the-runner",
)
def outputs_declared(subject: Subject) -> None:
    """Look at the answers at each batch size."""
    opened = subject.opened
    for size in BATCH_SIZES:
        opened.hold_declared(opened.runner(size)(opened.batch(0, size)), size)


@check("A call does not write to its inputs.", hook="kdbench_run", section="the-runner")
def inputs_untouched(subject: Subject) -> None:
    """Compare them after a call with a copy."""
    opened = subject.opened
    for size in BATCH_SIZES:
        inputs = opened.batch(0, size)
        opened.runner(size)(inputs)
        for spec, array, image in zip(opened.student.inputs, inputs, opened.batch(0, size), strict=True):
            if changed := int((array != image).sum()):
                raise Broken(
                    f"A call at batch size {size} changed {changed} of {array.size} values of {spec.name!r}."
                )


@check(
    "Equal inputs give equal outputs, whatever was asked in between.",
    hook="kdbench_run",
    section="the-runner",
)
def outputs_repeatable(subject: Subject) -> None:
    """Ask for the same images before and after others."""
    opened = subject.opened
    runner = opened.runner(8)
    first = copied(runner(opened.batch(0, 8)))
    copied(runner(opened.batch(8, 8)))
    opened.hold_close(first, runner(opened.batch(0, 8)), "Two answers to the same images")


@check(
    "Outputs belong to the inputs of the same call, in memory that had others before, too.",
    hook="kdbench_run",
    section="the-runner",
)
def outputs_fresh(subject: Subject) -> None:
    """Fill the same arrays with other images, and compare with what fresh arrays and another runner give."""
    opened = subject.opened
    runner, other = opened.runner(8), opened.runner(8)
    inputs = opened.batch(0, 8)
    first = copied(runner(inputs))
    for array, images in zip(inputs, opened.batch(8, 8), strict=True):
        array[...] = images
    second = copied(runner(inputs))
    if equal(first, second):
        raise Broken("The same arrays filled with other images gave the very same answer as before.")
    opened.hold_close(
        second, other(opened.batch(8, 8)), "Answers from memory used before and from fresh memory"
    )


@check("Outputs are complete when the call returns.", hook="kdbench_run", section="the-runner")
def complete_on_return(subject: Subject) -> None:
    """Copy outputs at once, and look after a pause whether anything was written to them meanwhile."""
    opened = subject.opened
    for size in BATCH_SIZES:
        runner = opened.runner(size)
        begin = time.perf_counter()
        runner(opened.batch(0, size))
        pause = max(PAUSE_S, 3 * (time.perf_counter() - begin))
        for start in (8, 0, 16):
            outputs = runner(opened.batch(start, size))
            at_once = copied(outputs)
            time.sleep(pause)
            if not equal(at_once, outputs):
                late = sum(int((now != then).sum()) for now, then in zip(outputs, at_once, strict=True))
                raise Broken(
                    f"At batch size {size}, {late} values of the outputs changed within {1000 * pause:.0f} ms"
                    " after the call had returned: it does not wait for its result."
                )


@check("A row of a batch is the answer to the same image alone.", hook="kdbench_run", section="the-runner")
def rows_alone(subject: Subject) -> None:
    """Run eight images together and one by one."""
    opened = subject.opened
    batched, single = opened.runner(8)(opened.batch(0, 8)), opened.runner(1)
    rows = [copied(single(opened.batch(row, 1))) for row in range(8)]
    together = tuple(map(np.concatenate, zip(*rows, strict=True)))
    opened.hold_close(batched, together, "Rows of a batch and the same images alone")


@check("Runners of one session do not disturb each other.", hook="kdbench_run", section="the-five")
def runners_apart(subject: Subject) -> None:
    """Look at the outputs of one after calls of two others, and hold it against one that has no others."""
    opened = subject.opened
    single, eight, other = opened.runner(1), opened.runner(8), opened.runner(8)
    outputs = eight(opened.batch(0, 8))
    before = copied(outputs)
    among = copied(single(opened.batch(20, 1)))
    other(opened.batch(30, 8))
    if not equal(outputs, before):
        raise Broken("The outputs of one runner changed when another one of its session was called.")
    with closing(opened.backend.load(opened.artifact, opened.target)) as fresh:
        alone = copied(opened.backend.run(fresh, 1)(opened.batch(20, 1)))
    opened.hold_close(alone, among, "The answers of a runner that is alone and of one beside others")


@check(
    "Inputs that a runner allocates are distinct, writable, of the declared shapes, and read at each call.",
    hook="kdbench_run",
    section="the-runner",
)
def inputs_allocated(subject: Subject) -> None:
    """Fill three entries, run them in turns, and fill one anew."""
    opened = subject.opened
    runner, starts = opened.runner(8), (0, 8, 16)
    if not isinstance(runner, Allocating):
        raise Skipped("It leaves the memory of its inputs to the harness.")
    ring = runner.allocate_inputs(len(starts))
    if len(ring) != len(starts):
        raise Broken(f"allocate_inputs({len(starts)}) gave {len(ring)} entries.")
    for entry, start in zip(ring, starts, strict=True):
        for array, images in zip(entry, opened.batch(start, 8), strict=True):
            if (array.shape, array.dtype, array.flags.writeable) != (images.shape, images.dtype, True):
                kind = "" if array.flags.writeable else ", read-only"
                raise Broken(
                    f"An input is {array.dtype} {list(array.shape)}{kind}; "
                    f"{images.dtype} {list(images.shape)} is declared."
                )
            array[...] = images
    for entry, start in zip([*ring, ring[0]], [*starts, 0], strict=True):
        answer = copied(runner(entry))
        opened.hold_close(
            answer, runner(opened.batch(start, 8)), "Answers to an allocated entry and to a copy"
        )
    for array, images in zip(ring[0], opened.batch(8, 8), strict=True):
        array[...] = images
    answer = copied(runner(ring[0]))
    opened.hold_close(answer, runner(opened.batch(8, 8)), "Answers to an entry filled anew and to a copy")


CHECKS = (
    outputs_declared,
    inputs_untouched,
    outputs_repeatable,
    outputs_fresh,
    complete_on_return,
    rows_alone,
    runners_apart,
    inputs_allocated,
)
