"""Screenshots as the tool takes them: the answer comes first, the file some time after it, written piece by piece."""

import asyncio
import io
import random
from pathlib import Path

from PIL import Image

from muster.runtime.clock import Clock
from muster.sim.vendor.messages import BAD_SAVE_PATH, Refusal
from muster.sim.vendor.paths import file_name
from muster.sim.vendor.ports import VendorPhone
from muster.sim.vendor.quirks import VendorPace, VendorQuirks

_JPEG_QUALITY = 80


class PictureTaker:
    """Names and writes pictures. One per server: the number in a picture's name rises from shot to shot."""

    def __init__(self, clock: Clock, pace: VendorPace, rng: random.Random) -> None:
        self._clock, self._pace, self._rng = clock, pace, rng
        self._taken = 0

    def target(self, phone: VendorPhone, save_path: Path, quirks: VendorQuirks) -> Path:
        """The file that the picture will be. Makes the folder. Raises Refusal where nothing can be written."""
        try:
            if quirks.save_path_is_file:
                if save_path.is_dir():
                    raise Refusal(BAD_SAVE_PATH)
                save_path.parent.mkdir(parents=True, exist_ok=True)
                return save_path
            save_path.mkdir(parents=True, exist_ok=True)
        except OSError:
            raise Refusal(BAD_SAVE_PATH) from None
        self._taken += 1
        suffix = ".jpg" if quirks.jpeg else ".png"
        return save_path / (file_name(phone.model, phone.only_serial, f"{self._taken:05d}") + suffix)

    async def take(self, phone: VendorPhone, target: Path, quirks: VendorQuirks) -> None:
        """Takes the picture and writes it slowly. A folder that is gone by then ends it: nobody is there to be told."""
        delay = self._rng.uniform(self._pace.picture_delay_sec_min, self._pace.picture_delay_sec_max)
        part = quirks.draw_picture_part(self._rng)
        await self._clock.sleep(delay)
        data = await phone.png()
        if quirks.jpeg:
            data = await asyncio.to_thread(_as_jpeg, data)
        try:
            await self._write(target, data[: round(len(data) * part)])
        except OSError:
            return

    async def _write(self, target: Path, data: bytes) -> None:
        for start in range(0, len(data), self._pace.chunk_bytes):
            if start:
                await self._clock.sleep(self._pace.chunk_pause_sec)
            await asyncio.to_thread(_append, target, data[start : start + self._pace.chunk_bytes], new=start == 0)


def _append(target: Path, chunk: bytes, *, new: bool) -> None:
    with target.open("wb" if new else "ab") as file:
        file.write(chunk)


def _as_jpeg(png: bytes) -> bytes:
    out = io.BytesIO()
    with Image.open(io.BytesIO(png)) as picture:
        picture.convert("RGB").save(out, "JPEG", quality=_JPEG_QUALITY)
    return out.getvalue()
