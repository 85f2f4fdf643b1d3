"""A shell without a command: what `adb shell` gives a person, or a script piped into it."""

from typing import TYPE_CHECKING, Final

from muster.sim.shell.call import to_bytes, to_text
from muster.sim.shell.streams import Source, Streams

if TYPE_CHECKING:
    from muster.sim.phone import Phone

LINE_BYTES_MAX: Final = 4_096
_CTRL_C, _CTRL_D, _BACKSPACES = 0x03, 0x04, (0x08, 0x7F)


async def interact(phone: "Phone", streams: Streams, *, echo: bool) -> int:
    """Runs line after line until the input ends or `exit`; with `echo`, as a terminal: prompt, echo, editing."""
    shell = phone.new_shell()
    source = Source(_Typed(streams).read) if echo else streams.stdin
    prompt = to_bytes(f"{phone.identity.model.device}:/ $ ") if echo else b""
    while True:
        streams.stdout.write(prompt)
        await streams.drain()
        line = await source.line()
        if not line:
            return shell.status
        leave = await shell.run_line(to_text(line), Streams(source, streams.stdout, streams.stderr, streams.terminal))
        if leave:
            return shell.status


class _Typed:
    """A terminal's line discipline: echoes what is typed and hands over whole lines."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._line = bytearray()

    async def read(self) -> bytes:
        """The next whole line, or b"" at the end of the input (Ctrl-D on an empty line)."""
        while True:
            data = await self._streams.stdin.read()
            if not data:
                return b""
            done = bytearray()
            for byte in data:
                if byte == _CTRL_D and not self._line and not done:
                    return b""
                done += self._key(byte)
            await self._streams.drain()
            if done:
                return bytes(done)

    def _key(self, byte: int) -> bytes:
        out = self._streams.stdout
        if byte in (0x0D, 0x0A):
            out.write(b"\r\n")
            line, self._line = bytes(self._line) + b"\n", bytearray()
            return line
        if byte == _CTRL_C:
            out.write(b"^C\r\n")
            self._line.clear()
            return b"\n"
        if byte in _BACKSPACES:
            if self._line:
                self._line.pop()
                out.write(b"\b \b")
        elif byte >= 0x20 and len(self._line) < LINE_BYTES_MAX:
            self._line.append(byte)
            out.write(bytes([byte]))
        return b""
