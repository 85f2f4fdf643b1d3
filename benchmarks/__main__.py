"""Runs the named benchmarks, or all: every module here with a `main() -> int` whose name has no leading underscore."""

import argparse
import importlib
import pkgutil
import sys
import time
from types import ModuleType

import benchmarks
from benchmarks._claims import MADE


def run() -> int:
    """0 when every claim is met, 1 when one is not, 2 for a name that is none."""
    names = sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__) if module.name[0] != "_")
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(names)} (default: all)")
    chosen = parser.parse_args().names or names
    if unknown := set(chosen) - set(names):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    began = time.monotonic()
    status = max([_run_one(importlib.import_module(f"benchmarks.{name}")) for name in chosen], default=0)
    print(f"── {len(MADE)} claims, {sum(not claim.is_met for claim in MADE)} not met; {time.monotonic() - began:.0f} s")
    for claim in MADE:
        print(claim)
    return status


def _run_one(module: ModuleType) -> int:
    title = (module.__doc__ or "").strip().splitlines()[0]
    print(f"── {module.__name__.rpartition('.')[2]}: {title}", flush=True)
    status: int = module.main()
    print(flush=True)
    return status


if __name__ == "__main__":
    sys.exit(run())
