"""A small bug put into the product's source in memory, and the hunt for it in worlds."""

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import CodeType, ModuleType


@dataclass(frozen=True, slots=True)
class Mutant:
    """`patches`: (module under `muster`, what stands there exactly once, what stands there instead).

    `faults`: the kinds of fault that bring it to light; it is hunted in worlds of just these. None: of any.
    """

    name: str
    patches: tuple[tuple[str, str, str], ...]
    faults: tuple[str, ...] | None = None


def one(name: str, module: str, old: str, new: str, *, faults: str | None = None) -> Mutant:
    return Mutant(name, ((module, old, new),), None if faults is None else tuple(faults.split()))


class _Patched(importlib.machinery.SourceFileLoader):
    """Loads a module from its source with the patches in it."""

    patches: Sequence[tuple[str, str]] = ()

    def get_code(self, fullname: str) -> CodeType:
        source = self.get_source(fullname)
        assert source is not None
        for old, new in self.patches:
            if source.count(old) != 1:
                raise LookupError(f"{fullname} has {source.count(old)} times what the mutant replaces: {old!r}")
            source = source.replace(old, new)
        return compile(source, self.path, "exec")


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the mutated modules before anybody else does."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        patches = [(old, new) for name, old, new in self._mutant.patches if f"muster.{name}" == fullname]
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target) if patches else None
        if spec is None or spec.origin is None:
            return None
        loader = _Patched(fullname, spec.origin)
        loader.patches = patches
        spec.loader = loader
        return spec


def hunt(mutant: Mutant, seeds: Iterable[int]) -> str | None:
    """What the first world that finds the bug says; None when none does. Imports the product: once a process."""
    assert not any(name.startswith("muster") for name in sys.modules), "the product is here already, without the bug"
    sys.meta_path.insert(0, _Finder(mutant))
    world = importlib.import_module("tests.world.world")
    for seed in seeds:
        told = world.run_seed(seed, mutant.faults)
        if told.violation is not None:
            return f"seed {seed}: {told.violation}"
    return None
