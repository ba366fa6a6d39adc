"""What can go wrong, as one tree; each error knows its exit code.

```
KdbenchError            a sentence, a hint, an exit code; shown without a traceback
├─ UsageError           2  the command line asks for something that makes no sense
├─ ProfileError         2  a measurement plan that cannot be read, all its problems at once
├─ RecipeError          2  a distillation recipe that cannot be read
├─ StudentError         2  a bundle that is missing, altered or dangerous to open
├─ ParcelError          2  a folder of artifacts that is missing, altered or dangerous to open
├─ ResultError          2  a result file or journal that cannot be read or written
├─ UnknownBackend       2  no such name, and the nearest one
├─ BackendUnavailable   3  asked for by name, and cannot run here
├─ Interrupted        130  stopped by the user; what was finished is kept
└─ BackendError         1  a plugin failed in one of its phases
   ├─ Unsupported       1  the plugin says that it cannot do this target: a row, not a fault
   ├─ ContractError     1  the plugin answered, but not what the hook promises
   ├─ ObserverError     1  an observer failed, which is no fault of the backend that it watched
   └─ PhaseTimeout      1  the plugin did not answer within the time limit of the phase
```
"""

from __future__ import annotations

from typing import ClassVar


class KdbenchError(Exception):
    """Say in one sentence what was found and expected, and in `hint` how to mend it."""

    exit_code: ClassVar[int] = 2

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()


class UsageError(KdbenchError):
    """The command line asks for something that makes no sense."""


class ProfileError(KdbenchError):
    """A profile that cannot be used; the message lists every problem found in it."""


class RecipeError(KdbenchError):
    """A distillation recipe that cannot be used; the message lists every problem found in it."""


class StudentError(KdbenchError):
    """A student bundle that is missing, altered, or dangerous to open."""


class ParcelError(KdbenchError):
    """A folder of compiled artifacts that is missing, altered, or dangerous to open."""


class ResultError(KdbenchError):
    """A result file or journal that cannot be read or written."""


class UnknownBackend(KdbenchError):
    """No plugin, installed or known, answers to this name."""


class BackendUnavailable(KdbenchError):
    """A backend that was asked for by name cannot run on this machine."""

    exit_code = 3


class Interrupted(KdbenchError):
    """The user stopped the run; the finished blocks are kept."""

    exit_code = 130


class BackendError(KdbenchError):
    """A plugin failed; `phase` says in which of its hooks."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", phase: str = "") -> None:
        super().__init__(message, hint=hint)
        self.phase = phase


class Unsupported(BackendError):
    """Raised by a plugin that cannot do what the target or the student asks; becomes a row."""


class ContractError(BackendError):
    """The plugin answered, but not what the hook promises."""


class ObserverError(BackendError):
    """An observer failed, or broke its contract; the backend that it watched is not to blame."""


class PhaseTimeout(BackendError):
    """The plugin did not answer within the time limit of the phase."""
