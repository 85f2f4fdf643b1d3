"""Makes or refreshes `.venv` from the pinned requirements; does nothing when it is up to date.

Standard library only, so that it runs on a machine that has nothing but Python 3.11. Two runs at once wait for
each other (a lock directory), and a run that was killed half way is repeated, because the stamp is written last.

usage: python scripts/environment.py runtime|dev
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOCK = ROOT / ".venv.lock"
LOCK_STALE_SEC = 900
PYTHON_MIN = (3, 11)


def venv_python() -> Path:
    """The interpreter inside the environment, on this kind of machine."""
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def fingerprint(kind: str) -> str:
    """Changes whenever what would be installed changes."""
    digest = hashlib.sha256(f"{sys.version}{ROOT}".encode())
    for name in (f"requirements/{kind}.txt", "pyproject.toml"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def is_current(kind: str) -> bool:
    """`dev` holds all of `runtime`, so a current `dev` serves both."""
    for have in {kind, "dev"}:
        stamp = VENV / f".stamp-{have}"
        if stamp.exists() and stamp.read_text() == fingerprint(have) and venv_python().exists():
            return True
    return False


def install(kind: str) -> None:
    """Pinned packages first, by hash; then Muster itself, editable, with no index look-up."""
    if not venv_python().exists():
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    pip = [str(venv_python()), "-m", "pip", "--disable-pip-version-check", "-qq"]
    subprocess.run([*pip, "install", "--require-hashes", "-r", str(ROOT / f"requirements/{kind}.txt")], check=True)
    subprocess.run([*pip, "install", "--no-deps", "--no-build-isolation", "--editable", str(ROOT)], check=True)
    (VENV / f".stamp-{kind}").write_text(fingerprint(kind))


def take_lock() -> None:
    """Waits while another run installs; a lock left by a killed run is taken over when it is old."""
    while True:
        try:
            LOCK.mkdir()
            return
        except FileExistsError:
            try:
                stale = time.time() - LOCK.stat().st_mtime > LOCK_STALE_SEC
            except FileNotFoundError:
                continue
            if stale:
                print(f"environment: taking over a lock older than {LOCK_STALE_SEC} s: {LOCK}", file=sys.stderr)
                return
            time.sleep(0.2)


def main() -> int:
    """Exit status 0 when the environment is ready, 2 with one line when it cannot be made."""
    kind = sys.argv[1] if len(sys.argv) == 2 else ""
    if kind not in ("runtime", "dev"):
        print("usage: python scripts/environment.py runtime|dev", file=sys.stderr)
        return 2
    if sys.version_info < PYTHON_MIN:
        print(f"Muster needs Python 3.11 or newer; this is {sys.version.split()[0]}.", file=sys.stderr)
        return 2
    if is_current(kind):
        return 0
    take_lock()
    try:
        if not is_current(kind):
            print(f"environment: installing the pinned {kind} packages into .venv …", file=sys.stderr)
            install(kind)
    except subprocess.CalledProcessError as error:
        print(
            f"environment: {' '.join(map(str, error.cmd[:4]))} … failed ({error.returncode}).",
            file=sys.stderr,
        )
        return 2
    finally:
        LOCK.rmdir()
    return 0


if __name__ == "__main__":
    sys.exit(main())
