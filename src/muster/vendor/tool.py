"""What Muster asks of the vendor tool, each request as one call (spec/05)."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from muster.vendor.errors import VendorMalformed, VendorPictureMissing, VendorRefused
from muster.vendor.pool import VendorPool, left_sec
from muster.vendor.protocol import CODE_DONE, Json, Malformed, VendorList, parse_list
from muster.vendor.screens import shot_folder, wait_for_picture

PICTURE_TIMEOUT_SEC: Final = 10.0
"""From the tool's yes to the whole file."""
SHOT_TIMEOUT_SEC: Final = 60.0
"""From the question to the whole file, unless the caller has less."""
_AGAIN_SEC_MIN: Final = 0.5


class VendorTool:
    """The tool behind a pool of connections. Raises VendorError, which says whether it is to be asked again."""

    def __init__(self, pool: VendorPool, *, picture_timeout_sec: float = PICTURE_TIMEOUT_SEC) -> None:
        self._pool = pool
        self._picture_timeout_sec = picture_timeout_sec

    async def list(self, *, timeout_sec: float | None = None) -> VendorList:
        """Every phone that the tool knows. The same `only_serial` twice is told as it is, for the caller to judge."""
        listed = parse_list(await self._ask("list", timeout_sec=timeout_sec, of_tool=True))
        if isinstance(listed, Malformed):
            raise VendorMalformed(f"the vendor tool's answer is malformed: {listed.detail}")
        return listed

    async def act(self, serial: str, action: str, data: Mapping[str, str], *, timeout_sec: float) -> Json:
        """One action on one phone; the answer's data."""
        return await self._ask(action, serial, dict(data) or None, timeout_sec=timeout_sec)

    async def screen(self, serial: str, root: Path, *, timeout_sec: float = SHOT_TIMEOUT_SEC) -> bytes:
        """A whole PNG or JPEG of the phone's screen, taken through a folder of its own under `root`."""
        until = asyncio.get_running_loop().time() + timeout_sec
        with shot_folder(root) as folder:
            await self._ask_for_shot(serial, folder, until)
            wait_sec = min(self._picture_timeout_sec, left_sec(until))
            try:
                async with asyncio.timeout(wait_sec):
                    return await wait_for_picture(folder)
            except TimeoutError:
                message = f"no whole picture of {serial} appeared within {round(wait_sec, 2):g} s"
                raise VendorPictureMissing(CODE_DONE, message) from None

    async def _ask_for_shot(self, serial: str, folder: Path, until: float) -> None:
        """By the manual `savePath` is a folder; a version that takes it for a file cannot write over one, and is
        given the name of a file instead. Either way all that it writes lies under `folder`."""
        save_path = folder / "shot"
        save_path.mkdir()
        try:
            await self._ask("screen", serial, {"savePath": str(save_path)}, timeout_sec=left_sec(until))
        except VendorRefused:
            timeout_sec = max(left_sec(until), _AGAIN_SEC_MIN)
            await self._ask("screen", serial, {"savePath": str(folder / "shot.png")}, timeout_sec=timeout_sec)

    async def _ask(
        self,
        action: str,
        serial: str | None = None,
        data: dict[str, str] | None = None,
        *,
        timeout_sec: float | None = None,
        of_tool: bool = False,
    ) -> Json:
        serials = [serial] if serial else []
        answer = await self._pool.request(action, serials, data, timeout_sec=timeout_sec, of_tool=of_tool)
        if answer.code != CODE_DONE:
            raise VendorRefused(answer.code, answer.message)
        return answer.data
