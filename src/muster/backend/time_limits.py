"""Whether a run's `timeoutOverrides` make sense for its recipe: what a key names decides its bounds. Pure."""

from collections.abc import Mapping

from muster.contracts.api import FieldError
from muster.domain import limits
from muster.recipe.model import Recipe


def check_overrides(recipe: Recipe, overrides: Mapping[str, int], task_timeout_ms: int) -> list[FieldError]:
    """One error for each key that names nothing in the recipe or whose value (ms) is out of its bounds."""
    errors = []
    for key, value in overrides.items():
        message = _wrong_name(recipe, key) or _out_of_bounds(value, _most_ms(recipe, key, task_timeout_ms))
        if message:
            errors.append(FieldError(field=f"timeoutOverrides.{key}", message=message))
    return errors


def _wrong_name(recipe: Recipe, key: str) -> str | None:
    phases = list(dict.fromkeys(step.phase for step in recipe.steps))
    kinds = list(dict.fromkeys(step.kind for step in recipe.steps))
    if key in _step_ids(recipe) or key in phases or key in kinds:
        return None
    return (
        f"names no step, phase or kind of {recipe.workflow_id}; its phases are {', '.join(phases)}, "
        f"its kinds {', '.join(kinds)}"
    )


def _most_ms(recipe: Recipe, key: str, task_timeout_ms: int) -> int:
    """A name that is a step's id and a phase's too means the step: the most specific wins."""
    is_phase = key not in _step_ids(recipe) and any(step.phase == key for step in recipe.steps)
    return task_timeout_ms if is_phase else limits.STEP_TIMEOUT_MS_MAX


def _out_of_bounds(value: int, most_ms: int) -> str | None:
    if value < limits.STEP_TIMEOUT_MS_MIN:
        return f"{value} is below {limits.STEP_TIMEOUT_MS_MIN}"
    return f"{value} is above {most_ms}" if value > most_ms else None


def _step_ids(recipe: Recipe) -> set[str]:
    return {step.id for step in recipe.steps}
