"""A rack for the imitated vendor tool: phones with real screens, and a shell that knows what the tool sends."""

import asyncio
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from muster.sim.screen import Screen, ScreenSpec


class RackPhone:
    """Implements `VendorPhone`. `commands` is what its shell was given; `hangs` keeps the shell from answering."""

    def __init__(self, number: int, *, mode: int = 1) -> None:
        self.only_serial = f"R3CW{number:07d}"
        self.serial: str | None = None if mode == 3 else f"127.0.0.1:{41000 + number}"
        self.name, self.model, self.mode, self.status = f"phone-{number:02d}", "SM-S911N", mode, "online"
        self.screen = Screen(ScreenSpec(self.only_serial, self.model, 360, 780, 160, 7))
        self.settings = {"secure default_input_method": "com.example/.Latin"}
        self.files: dict[str, bytes] = {"/sdcard/a.txt": b"hello"}
        self.commands: list[str] = []
        self.hangs = False
        self.asked = asyncio.Event()

    @property
    def width(self) -> int:
        return self.screen.size[0]

    @property
    def height(self) -> int:
        return self.screen.size[1]

    async def png(self) -> bytes:
        return self.screen.png()

    async def shell(self, command: str) -> tuple[int, bytes, bytes]:
        self.commands.append(command)
        self.asked.set()
        if self.hangs:
            await asyncio.Event().wait()
        status, stdout = self._run(shlex.split(command))
        return status, stdout.encode(), b"" if status != 127 else b"/system/bin/sh: inaccessible or not found\n"

    def _run(self, words: list[str]) -> tuple[int, str]:
        """Exit status and stdout of one simple command."""
        status, stdout = 0, ""
        match words:
            case ["getprop", "ro.product.model"]:
                stdout = self.model + "\n"
            case ["monkey", "-p", package, *_]:
                status = 0 if self.screen.start(None, package, None, None) else 251
            case ["am", "force-stop", package]:
                self.screen.force_stop(package)
            case ["pm", "list", "packages", "-3"]:
                stdout = "package:com.example.app\npackage:com.google.android.youtube\n"
            case ["pm", "install", "-r", path]:
                status = 0 if path in self.files and self.screen.install("com.example.installed") else 1
            case ["pm", "uninstall", package]:
                status = 0 if self.screen.uninstall(package) else 1
            case ["settings", "get", *key]:
                stdout = self.settings.get(" ".join(key), "null") + "\n"
            case ["settings", "put", space, key, value]:
                self.settings[f"{space} {key}"] = value
            case _:
                status = 127
        return status, stdout

    async def tap(self, x: float, y: float) -> None:
        self.screen.tap(x, y)

    async def swipe(self, x1: float, y1: float, x2: float, y2: float) -> None:
        self.screen.swipe(x1, y1, x2, y2)

    async def key(self, code: int) -> None:
        self.screen.key(code)

    async def text(self, value: str) -> None:
        self.screen.text(value)

    async def push(self, path: str, data: bytes) -> bool:
        self.files[path] = data
        return path.startswith(("/sdcard/", "/data/local/tmp/"))

    async def pull(self, path: str) -> bytes | None:
        return self.files.get(path)


@dataclass
class Rack:
    """Implements `VendorRack`."""

    data_dir: Path
    members: list[RackPhone] = field(default_factory=list)

    def phones(self) -> Sequence[RackPhone]:
        return self.members


def rack_of(count: int, data_dir: Path) -> Rack:
    """So many healthy phones."""
    return Rack(data_dir, [RackPhone(number) for number in range(1, count + 1)])
