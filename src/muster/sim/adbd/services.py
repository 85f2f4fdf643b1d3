"""Which service a name stands for. The banner's features and this table are one promise: nothing else is announced."""

from typing import TYPE_CHECKING, Final

from muster.sim.adbd.connection import Service, Stream
from muster.sim.adbd.shellservice import shell_service
from muster.sim.adbd.sync import sync_service

if TYPE_CHECKING:
    from muster.sim.phone import Phone

FEATURES: Final = ("shell_v2", "cmd", "stat_v2", "ls_v2", "fixed_push_mkdir", "sendrecv_v2")
"""Of a current phone's list, without apex, abb, abb_exec, compression, delayed_ack, track_app: not implemented here."""


def banner(phone: "Phone") -> bytes:
    """CNXN's payload: what `adb devices -l` shows, and the features."""
    get = phone.properties.get
    names = ("ro.product.name", "ro.product.model", "ro.product.device")
    return ("device::" + "".join(f"{name}={get(name)};" for name in names) + "features=" + ",".join(FEATURES)).encode()


def find_service(phone: "Phone", name: str) -> Service | None:  # noqa: PLR0911 - one answer per case
    """The service behind the name that the host opens, or None."""
    head, _, rest = name.partition(":")
    match head.split(",")[0]:
        case "shell" | "exec":
            return shell_service(phone, name)
        case "sync":
            return lambda stream: sync_service(phone, stream)
        case "reboot":
            return lambda _stream: phone.reboot_by_host(rest)
        case "tcpip":
            return lambda stream: _tcpip(phone, stream, rest)
        case "usb":
            return lambda stream: _restart(phone, stream, "restarting in USB mode\n")
        case "root":
            return lambda stream: stream.write(b"adbd cannot run as root in production builds\n")
        case "unroot":
            return lambda stream: stream.write(b"adbd not running as root\n")
        case "remount":
            return lambda stream: stream.write(b'Not running as root. Try "adb root" first.\n')
    return None


async def _tcpip(phone: "Phone", stream: Stream, port: str) -> None:
    if not port.isdigit() or not 0 < int(port) < 65536:
        await stream.write(f"invalid port {port}\n".encode())
        return
    phone.properties.put("service.adb.tcp.port", port)
    await _restart(phone, stream, f"restarting in TCP mode port: {port}\n")


async def _restart(phone: "Phone", stream: Stream, message: str) -> None:
    """adbd tells it, ends, and is started again by init: the transport drops for a moment."""
    await stream.write(message.encode())
    phone.kick_soon()
