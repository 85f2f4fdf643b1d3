"""What is installed on a phone. The apps with a screen are the Screen's; this table says what `pm` knows of them."""

import hashlib
from dataclasses import dataclass, field
from typing import Final

PACKAGES_MAX: Final = 1_000
SYSTEM_PACKAGES: Final = (
    "android",
    "com.android.bluetooth",
    "com.android.inputmethod.latin",
    "com.android.launcher3",
    "com.android.phone",
    "com.android.providers.media",
    "com.android.settings",
    "com.android.shell",
    "com.android.systemui",
    "com.google.android.gms",
    "com.google.android.inputmethod.latin",
    "com.google.android.webview",
)


@dataclass(slots=True)
class Package:
    """One package. `granted` are the run-time permissions given by `pm grant`."""

    name: str
    third_party: bool
    version_name: str = "1.0"
    version_code: int = 1
    enabled: bool = True
    installer: str = "null"
    first_install_sec: int = 0
    granted: set[str] = field(default_factory=set)

    @property
    def path(self) -> str:
        """Where its APK lies."""
        if not self.third_party:
            return f"/system/priv-app/{self.name}/{self.name}.apk"
        tail = hashlib.sha256(self.name.encode()).hexdigest()
        return f"/data/app/~~{tail[:22]}==/{self.name}-{tail[22:44]}==/base.apk"


class PackageTable:
    """The packages by name."""

    def __init__(self, third_party: list[str], installed_sec: int) -> None:
        self._packages = {
            name: Package(name, name in third_party, first_install_sec=installed_sec)
            for name in sorted({*SYSTEM_PACKAGES, *third_party})
        }

    def get(self, name: str) -> Package | None:
        """The package, None when it is not installed."""
        return self._packages.get(name)

    def all(self) -> list[Package]:
        """Every package, by name."""
        return [self._packages[name] for name in sorted(self._packages)]

    def add(self, package: Package) -> bool:
        """Installs or replaces; False when the phone has too many already."""
        if package.name not in self._packages and len(self._packages) >= PACKAGES_MAX:
            return False
        self._packages[package.name] = package
        return True

    def remove(self, name: str) -> None:
        """Uninstalls."""
        self._packages.pop(name, None)
