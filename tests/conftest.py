"""For all tests: which examples properties are tried with (docs/adr/0003), however long a busy machine takes."""

import pkgutil
from importlib import import_module
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from tests.support.examples import TIMES, examples

import muster

_ANY_TIME: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "print_blob": True}
settings.register_profile("the same each time", derandomize=True, **_ANY_TIME)
settings.register_profile("new ones", max_examples=examples(100), **_ANY_TIME)
settings.load_profile("new ones" if TIMES else "the same each time")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Loads the whole product: Hypothesis also tries constants of the code that is loaded, be it what it may."""
    if any(item.get_closest_marker("hypothesis") for item in session.items):
        for module in pkgutil.walk_packages(muster.__path__, "muster."):
            if not module.name.startswith(("muster.store.migrations.", "muster.__main__")):  # these run when imported
                import_module(module.name)
