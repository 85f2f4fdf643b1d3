"""What a virtual rack is made of: everything `muster sim` can be told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

DEVICES_MAX: Final = 1_000
Latency = Literal["none", "measured"]


@dataclass(frozen=True, slots=True)
class RackSettings:
    """Port 0 is any free one; port None is not opened at all. `speed` 2.0 makes every latency half as long.

    `adb_server`: phones are attached to the server that answers there; where none does, and with port 0 always, a
    private one is started, which ends with the rack.
    """

    devices: int = 20
    seed: int = 1
    adb_server: tuple[str, int] = ("127.0.0.1", 0)
    vendor_port: int | None = 0
    control_port: int | None = 0
    latency: Latency = "measured"
    speed: float = 1.0
    profile: Path | None = None
    data_dir: Path | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.devices <= DEVICES_MAX:
            raise ValueError(f"devices: {self.devices} is not between 1 and {DEVICES_MAX}")
        if not 0.01 <= self.speed <= 1_000:
            raise ValueError(f"speed: {self.speed} is not between 0.01 and 1000")
