"""Client of the adb server: a protocol without I/O and one asyncio shell around it."""
