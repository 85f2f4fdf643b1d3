"""`settings`: the three namespaces of a phone. Values are text; an unknown key reads as `null`."""

from typing import Final

NAMESPACES: Final = ("global", "secure", "system")
KEYS_PER_NAMESPACE_MAX: Final = 2_000
VALUE_CHARS_MAX: Final = 32_768
_DEFAULTS: Final = {
    "global": {
        "adb_enabled": "1",
        "airplane_mode_on": "0",
        "animator_duration_scale": "1.0",
        "bluetooth_on": "1",
        "development_settings_enabled": "1",
        "device_provisioned": "1",
        "mobile_data": "1",
        "stay_on_while_plugged_in": "0",
        "transition_animation_scale": "1.0",
        "wifi_on": "1",
        "window_animation_scale": "1.0",
    },
    "secure": {
        "accessibility_enabled": "0",
        "android_id": "",
        "default_input_method": "com.google.android.inputmethod.latin/com.android.inputmethod.latin.LatinIME",
        "enabled_accessibility_services": "",
        "enabled_input_methods": "com.google.android.inputmethod.latin/com.android.inputmethod.latin.LatinIME",
        "lockscreen.disabled": "1",
        "user_setup_complete": "1",
    },
    "system": {
        "accelerometer_rotation": "0",
        "font_scale": "1.0",
        "screen_brightness": "102",
        "screen_brightness_mode": "1",
        "screen_off_timeout": "30000",
        "system_locales": "ko-KR",
        "user_rotation": "0",
        "volume_music": "5",
    },
}


class SettingsStore:
    """Only what differs from the defaults is kept, so that a hundred idle phones share one table."""

    def __init__(self, android_id: str) -> None:
        self._own: dict[str, dict[str, str | None]] = {name: {} for name in NAMESPACES}
        self._own["secure"]["android_id"] = android_id

    def get(self, namespace: str, key: str) -> str | None:
        """The value, None when there is none."""
        own = self._own[namespace]
        return own[key] if key in own else _DEFAULTS[namespace].get(key)

    def put(self, namespace: str, key: str, value: str) -> bool:
        """Sets a value; False when the namespace is full or the value too long."""
        own = self._own[namespace]
        if len(value) > VALUE_CHARS_MAX or (key not in own and len(own) >= KEYS_PER_NAMESPACE_MAX):
            return False
        own[key] = value
        return True

    def delete(self, namespace: str, key: str) -> bool:
        """Removes a value; False when there was none."""
        present = self.get(namespace, key) is not None
        if present:
            self._own[namespace][key] = None
        return present

    def items(self, namespace: str) -> list[tuple[str, str]]:
        """All keys with a value, by name."""
        merged = {**_DEFAULTS[namespace], **self._own[namespace]}
        return sorted((key, value) for key, value in merged.items() if value is not None)
