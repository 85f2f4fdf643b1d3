"""System properties: what `getprop` and `setprop` see."""

from typing import Final

from muster.sim.models import Identity

VALUE_BYTES_MAX: Final = 91
"""`PROP_VALUE_MAX` less its NUL; read-only properties may be longer."""
PROPERTIES_MAX: Final = 2_000
_WRITABLE_PREFIXES: Final = ("debug.", "persist.", "log.", "sys.", "tmp.", "service.", "test.", "muster.")


class PropertyError(Exception):
    """setprop refused, in libc's words."""


class Properties:
    """The property table of one phone; those of its model are shared text, its own are few."""

    def __init__(self, values: dict[str, str]) -> None:
        self._values = values

    def get(self, key: str) -> str:
        """The value, or an empty text."""
        return self._values.get(key, "")

    def all(self) -> list[tuple[str, str]]:
        """Everything, by name."""
        return sorted(self._values.items())

    def set_by_user(self, key: str, value: str) -> None:
        """What `setprop` may do from adb's shell. Raises PropertyError."""
        if key.startswith("ro.") and key in self._values:
            raise PropertyError("Read-only property was already set")
        if len(value.encode("utf-8", "surrogateescape")) > VALUE_BYTES_MAX:
            raise PropertyError("Value too long")
        if not key.startswith(_WRITABLE_PREFIXES) or len(self._values) >= PROPERTIES_MAX:
            raise PropertyError("Permission denied")
        self._values[key] = value

    def put(self, key: str, value: str) -> None:
        """Sets a property as the system itself does."""
        self._values[key] = value


def fresh_properties(identity: Identity) -> Properties:
    """The properties of a phone out of its box that has booted."""
    model = identity.model
    build = f"{model.brand}/{model.device}/{model.device}:{model.release}/VR1A.{model.sdk}/1:user/release-keys"
    return Properties(
        {
            "ro.serialno": identity.device_id,
            "ro.boot.serialno": identity.device_id,
            "ro.product.brand": model.brand,
            "ro.product.manufacturer": model.brand,
            "ro.product.model": model.model,
            "ro.product.device": model.device,
            "ro.product.name": model.device,
            "ro.product.cpu.abi": model.abi,
            "ro.product.cpu.abilist": f"{model.abi},armeabi-v7a,armeabi",
            "ro.product.locale": "ko-KR",
            "ro.build.version.release": model.release,
            "ro.build.version.sdk": str(model.sdk),
            "ro.build.fingerprint": build,
            "ro.build.type": "user",
            "ro.build.tags": "release-keys",
            "ro.build.characteristics": "default",
            "ro.sf.lcd_density": str(model.density),
            "ro.hardware": model.device,
            "ro.secure": "1",
            "ro.debuggable": "0",
            "ro.adb.secure": "1",
            "persist.sys.locale": "ko-KR",
            "persist.sys.timezone": "Asia/Seoul",
            "persist.sys.usb.config": "mtp,adb",
            "sys.usb.state": "mtp,adb",
            "init.svc.adbd": "running",
            "init.svc.bootanim": "stopped",
            "service.bootanim.exit": "1",
            "sys.boot_completed": "1",
            "dev.bootcomplete": "1",
            "gsm.sim.state": "READY",
            "wifi.interface": "wlan0",
        }
    )
