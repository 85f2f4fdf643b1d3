"""`python -m muster`: the same as the `muster` command, for child processes and for Windows services."""

from muster.cli.main import run

if __name__ == "__main__":
    run()
