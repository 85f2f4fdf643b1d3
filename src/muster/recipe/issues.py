"""One thing that is wrong, or worth a look, in a recipe's document."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

PathPart = int | str
# The document's own order of its head; everything else follows it by name.
_HEAD: Final = (
    "",
    "workflow_id",
    "version",
    "name",
    "description",
    "defaultStepTimeoutMs",
    "defaultOnFailure",
    "globalTimeoutMs",
    "params",
    "steps",
)


@dataclass(frozen=True, slots=True)
class RecipeIssue:
    """Where (`steps[3].timeoutMs`; empty for the document as a whole) and what: a sentence for a person."""

    path: str
    message: str

    @classmethod
    def at(cls, location: Sequence[PathPart], message: str) -> "RecipeIssue":
        """An issue at a location given in parts: `("steps", 3, "timeoutMs")`."""
        return cls(path_text(location), message)

    @property
    def order(self) -> tuple[int, int, str]:
        """Sorts issues as a reader meets them: head, then steps by index."""
        head = self.path.split("[")[0].split(".")[0]
        rank = _HEAD.index(head) if head in _HEAD else len(_HEAD)
        index = self.path.removeprefix("steps[").split("]")[0] if self.path.startswith("steps[") else ""
        return rank, int(index) if index.isdigit() else -1, self.path

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


def path_text(location: Sequence[PathPart]) -> str:
    """`("steps", 3, "timeoutMs")` → `steps[3].timeoutMs`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
