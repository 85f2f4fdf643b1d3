"""The phone's side of ADB: packets, authorisation, one transport, and the services that `adb` opens on a phone."""
