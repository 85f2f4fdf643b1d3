"""`when`: conditions as data, judged on earlier steps and on the phone."""

from collections.abc import Mapping
from dataclasses import dataclass

from muster.recipe.model import StepOutcomeIs, When, WhenAll, WhenAny, WhenDevice, WhenNot, WhenStep
from muster.recipe.patterns import compile_pattern


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What a condition may ask of a phone, as its preflight found it; None where the phone did not tell."""

    device_id: str
    sdk: int | None = None
    model: str | None = None
    manufacturer: str | None = None


def holds(condition: When, outcomes: Mapping[str, StepOutcomeIs], device: DeviceFacts) -> bool:
    """Whether it holds. What is not known (an untold fact) makes no condition true by itself."""
    if isinstance(condition, WhenStep):
        return outcomes.get(condition.step) is condition.is_
    if isinstance(condition, WhenDevice):
        return _device_holds(condition, device)
    if isinstance(condition, WhenAll):
        return all(holds(member, outcomes, device) for member in condition.all)
    if isinstance(condition, WhenAny):
        return any(holds(member, outcomes, device) for member in condition.any)
    assert isinstance(condition, WhenNot)
    return not holds(condition.not_, outcomes, device)


def _device_holds(condition: WhenDevice, device: DeviceFacts) -> bool:
    fact = getattr(device, condition.device)
    if fact is None:
        return False
    if condition.at_least is not None:
        return isinstance(fact, int) and fact >= condition.at_least
    if condition.equals is not None:
        return str(fact) == condition.equals
    return condition.matches is not None and compile_pattern(condition.matches).found_in(str(fact))
