"""`python -m tests.world SEED [COUNT]`: one world with its story, or COUNT of them with a hash of all."""

import hashlib
import sys

from tests.world.world import run_seed


def main(first: int, count: int) -> int:
    """1 when a promise is broken."""
    broken, together = 0, hashlib.sha256()
    for seed in range(first, first + count):
        told = run_seed(seed, keep=200 if count == 1 else 60)
        if told.violation is not None or count == 1:
            sys.stdout.write(f"{told.story}\n")
            sys.stdout.write(
                f"seed {seed}: {told.violation or 'every promise held'}; trace {told.digest}, {told.virtual_sec:.0f} s,"
                f" {told.lives} lives, {told.tasks} tasks, {told.events} events\n"
            )
        broken += told.violation is not None
        together.update(told.digest.encode())
    if count > 1:
        sys.stdout.write(f"{count} worlds from seed {first}: {broken} broken; traces {together.hexdigest()[:16]}\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1))
