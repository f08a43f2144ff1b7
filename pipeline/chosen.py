"""A backend that the user named, held to the weights that lay there when the run was planned."""

from __future__ import annotations

from dataclasses import dataclass

from ..schemas.errors import UsageError
from ..schemas.records import Backend


@dataclass(frozen=True)
class Chosen:
    """A backend by name and path, and the models that were opened there.

    Workers open it again, by the same name and path.
    """

    name: str
    path: str = ""
    models: tuple[Backend, ...] = ()

    @property
    def identity(self) -> tuple[str, ...]:
        """What decides its results: other weights at the same path count, the same weights at another do not."""
        return (self.name, *contents(self.models))

    def check(self, *found: Backend) -> None:
        """Raises UsageError where a worker opened other models: its results would be told as those of the planned."""
        if contents(found) != contents(self.models):
            where = f" at {self.path}" if self.path else ""
            raise UsageError(
                f"backend {self.name}{where} holds other weights for this worker than where the run was planned"
            )


def contents(models: tuple[Backend, ...]) -> tuple[str, ...]:
    return tuple(model.content for model in models)
