"""Who is attached, told by the server at every change."""

from collections.abc import AsyncGenerator

from muster.adb.client import AdbClient
from muster.adb.protocol import DeviceList, parse_device_list


async def track(client: AdbClient) -> AsyncGenerator[DeviceList, None]:
    """The whole list now and after every change, for ever; silence means that nothing changes.

    Never ends by itself: AdbServerGone says that the server died, and with it every TCP phone's attachment
    (spec/10: start it again, connect them again). Close it (`contextlib.aclosing`) or cancel it to hang up.
    """
    async with client.listen("host:track-devices") as stream:
        while True:
            yield parse_device_list(await stream.block())
