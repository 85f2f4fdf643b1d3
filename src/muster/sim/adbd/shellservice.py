"""`shell:`, `shell,v2…:` and `exec:`: a script from the host, its output and, in version 2, its exit status."""

from collections import deque
from typing import TYPE_CHECKING, Final

from muster.sim.adbd.connection import Service, Stream
from muster.sim.adbd.shellproto import Id, PacketReader, pack
from muster.sim.shell.streams import Channel, ChannelSink, Source, Streams
from muster.sim.shell.terminal import interact

if TYPE_CHECKING:
    from muster.sim.phone import Phone

V2: Final = "v2"
RAW: Final = "raw"


def shell_service(phone: "Phone", name: str) -> Service | None:
    """The service behind `shell…:command` or `exec:command`; without a command, an interactive shell."""
    head, _, command = name.partition(":")
    kind, *options = head.split(",")
    if kind == "exec":
        return lambda stream: _plain(phone, command, stream)
    if V2 in options:
        with_terminal = "pty" in options or (RAW not in options and not command)
        return lambda stream: _version2(phone, command, stream, with_terminal=with_terminal)
    return lambda stream: _plain(phone, command, stream, with_terminal=not command)


async def _plain(phone: "Phone", command: str, stream: Stream, *, with_terminal: bool = False) -> None:
    """No framing: both outputs on one stream, no exit status. A raw terminal is behind it, so /dev/tty works."""
    channel = Channel(stream.write)
    sink = ChannelSink(channel, bytes)
    streams = Streams(Source(stream.read), sink, sink, sink)
    await _run(phone, command, streams, with_terminal=with_terminal)
    await channel.flush()


async def _version2(phone: "Phone", command: str, stream: Stream, *, with_terminal: bool) -> None:
    channel = Channel(stream.write)
    out = ChannelSink(channel, lambda data: pack(Id.STDOUT, data))
    err = out if with_terminal else ChannelSink(channel, lambda data: pack(Id.STDERR, data))
    source = Source(_StdinPackets(stream).read)
    streams = Streams(source, out, err, out if with_terminal else None)
    status = await _run(phone, command, streams, with_terminal=with_terminal)
    channel.add(pack(Id.EXIT, bytes([status & 0xFF])))
    await channel.flush()


async def _run(phone: "Phone", command: str, streams: Streams, *, with_terminal: bool) -> int:
    if command:
        return await phone.run_command(command, streams)
    return await interact(phone, streams, echo=with_terminal)


class _StdinPackets:
    """The stdin part of what the host sends; window sizes are taken note of by nobody."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._reader = PacketReader()
        self._ready: deque[bytes] = deque()
        self._ended = False

    async def read(self) -> bytes:
        """The next chunk; b"" after CLOSE_STDIN or when the stream has ended."""
        while not self._ready:
            if self._ended:
                return b""
            data = await self._stream.read()
            if not data:
                self._ended = True
            for packet_id, payload in self._reader.feed(data):
                if packet_id == Id.STDIN and payload:
                    self._ready.append(payload)
                elif packet_id == Id.CLOSE_STDIN:
                    self._ended = True
        return self._ready.popleft()
