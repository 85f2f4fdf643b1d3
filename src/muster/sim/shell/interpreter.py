"""Runs a script on a phone, as `sh -c` does: every command is a coroutine, cancelling one is its SIGHUP."""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from muster.runtime.supervision import raise_first
from muster.sim.files import FileError, FileTree, normalise
from muster.sim.shell import syntax
from muster.sim.shell.arithmetic import ArithmeticProblem
from muster.sim.shell.call import Call, Command, to_bytes, to_text
from muster.sim.shell.expansion import ExpansionProblem, compile_pattern, expand_fields, expand_pattern, expand_single
from muster.sim.shell.parser import parse
from muster.sim.shell.streams import Capture, FileSink, InputTooLong, Null, Pipe, PipeClosed, Sink, Source, Streams
from muster.sim.shell.syntax import AndOr, Case, For, Group, If, Loop, Pipeline, Redirect, ShellSyntaxError, Simple

if TYPE_CHECKING:
    from muster.sim.phone import Phone

SHELL: Final = "/system/bin/sh"
NESTING_MAX: Final = 40
LOOP_PAUSE_SEC: Final = 0.001
"""A loop that never waits must not take the rack's event loop from the other phones."""
LOOP_FREE_TURNS: Final = 100
_SIGPIPE_STATUS: Final = 141
_NO_SERVICE_STATUS: Final = 20


class ExitShell(Exception):
    """`exit N`."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class LeaveLoop(Exception):
    """`break` or `continue`."""

    def __init__(self, *, again: bool) -> None:
        super().__init__(again)
        self.again = again


class ShellProblem(Exception):
    """A redirection that failed: the command does not run, the shell goes on with status 1."""


class Shell:
    """One shell process: its variables, its folder, its last status."""

    def __init__(self, phone: "Phone", commands: Mapping[str, Command], builtins: Mapping[str, Command]) -> None:
        self.phone = phone
        self.commands, self.builtins = commands, builtins
        self.variables: dict[str, str] = dict(phone.environment)
        self._cwd = "/"
        self._positional: tuple[str, ...] = ()
        self.status = 0
        self.errexit = False
        self._stderr: Sink = Null()
        self._depth = 0
        self._conditions = 0

    # ---- what the expansion needs (expansion.Scope)

    @property
    def cwd(self) -> str:
        """The current folder."""
        return self._cwd

    @cwd.setter
    def cwd(self, path: str) -> None:
        self._cwd = path
        self.variables["PWD"] = path

    @property
    def positional(self) -> Sequence[str]:
        """`$1`, `$2`, …"""
        return self._positional

    @positional.setter
    def positional(self, values: Sequence[str]) -> None:
        self._positional = tuple(values)

    @property
    def files(self) -> FileTree:
        """The phone's files."""
        return self.phone.files

    def get(self, name: str) -> str | None:  # noqa: PLR0911 - one answer per case
        """A variable or special parameter."""
        match name:
            case "?":
                return str(self.status)
            case "$":
                return str(4000 + self.phone.identity.number)
            case "#":
                return str(len(self._positional))
            case "0":
                return SHELL
            case "!" | "-":
                return ""
        if name.isdigit():
            return self._positional[int(name) - 1] if int(name) <= len(self._positional) else None
        return self.variables.get(name)

    def assign(self, name: str, value: str) -> None:
        """Sets a variable."""
        self.variables[name] = value

    async def capture(self, body: syntax.Sequence) -> str:
        """The output of `$(…)`; its status becomes `$?`."""
        sink = Capture()
        streams = Streams(Source(), sink, self._stderr, None)
        inner = self._child()
        self.status = await inner.run_subshell(body, streams)
        return to_text(sink.value().replace(b"\0", b"")).rstrip("\n")

    # ---- running

    async def run_line(self, script: str, streams: Streams) -> bool:
        """Runs a line of an interactive shell, which keeps its variables; True when it said `exit`."""
        try:
            self.status = await self.sequence(parse(script), streams)
        except ShellSyntaxError as problem:
            streams.stderr.write(to_bytes(f"{SHELL}: {problem}\n"))
            self.status = 1
        except ExitShell as leave:
            self.status = leave.status
            return True
        except (LeaveLoop, PipeClosed):
            return False
        return False

    async def run_nested(self, script: str, streams: Streams) -> int:
        """`eval` and `sh -c` inside this shell's own process."""
        try:
            return await self.sequence(parse(script), streams)
        except ShellSyntaxError as problem:
            streams.stderr.write(to_bytes(f"{SHELL}: {problem}\n"))
            return 1

    async def run(self, script: str, streams: Streams) -> int:
        """Runs a whole script to its end; returns its exit status."""
        try:
            body = parse(script)
        except ShellSyntaxError as problem:
            streams.stderr.write(to_bytes(f"{SHELL}: {problem}\n"))
            return 1
        return await self.run_subshell(body, streams)

    async def run_subshell(self, body: syntax.Sequence, streams: Streams) -> int:
        """Runs `body` in this shell, which ends with it."""
        self._stderr = streams.stderr
        try:
            return await self.sequence(body, streams)
        except ExitShell as leave:
            return leave.status
        except LeaveLoop:
            return self.status
        except PipeClosed:
            return _SIGPIPE_STATUS

    async def sequence(self, body: syntax.Sequence, streams: Streams) -> int:
        """Runs commands one after the other; returns the last one's status."""
        self._depth += 1
        if self._depth > NESTING_MAX:
            streams.stderr.write(to_bytes(f"{SHELL}: nested too deeply\n"))
            raise ExitShell(2)
        try:
            for item in body.items:
                self.status = await self._and_or(item, streams)
        finally:
            self._depth -= 1
        return self.status

    async def _and_or(self, item: AndOr, streams: Streams) -> int:
        if item.background:
            self.phone.start_background(
                self._child().run_subshell(syntax.Sequence((AndOr(item.first, item.rest),)), _DETACHED)
            )
            return 0
        status = self.status = (
            await self._tested(item.first, streams) if item.rest else await self._pipeline(item.first, streams)
        )
        last_ran = not item.rest
        for index, (operator, pipeline) in enumerate(item.rest):
            last_ran = (status == 0) == (operator == "&&")
            if last_ran:
                status = self.status = (
                    await self._tested(pipeline, streams)
                    if index + 1 < len(item.rest)
                    else await self._pipeline(pipeline, streams)
                )
        if status and last_ran and self.errexit and not self._conditions:
            raise ExitShell(status)
        return status

    async def _tested(self, pipeline: Pipeline, streams: Streams) -> int:
        """A pipeline whose failure is expected, so that `set -e` lets it pass."""
        self._conditions += 1
        try:
            return await self._pipeline(pipeline, streams)
        finally:
            self._conditions -= 1

    async def _pipeline(self, pipeline: Pipeline, streams: Streams) -> int:
        if len(pipeline.commands) == 1:
            status = await self.command(pipeline.commands[0], streams)
        else:
            status = await self._piped(pipeline.commands, streams)
        return int(not status) if pipeline.negated else status

    async def _piped(self, commands: Sequence[syntax.Command], streams: Streams) -> int:
        """All commands at once, each in a shell of its own; the last one's status counts."""
        stdin, upstream = streams.stdin, None
        stages: list[Coroutine[Any, Any, int]] = []
        for index, command in enumerate(commands):
            pipe = Pipe() if index + 1 < len(commands) else None
            io = Streams(stdin, pipe or streams.stdout, streams.stderr, streams.terminal)
            stages.append(self._child()._stage(command, io, upstream, pipe))
            if pipe is not None:
                stdin = Source(pipe.read)
            upstream = pipe
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(stage) for stage in stages]
        except ExceptionGroup as failures:
            # One stage found that the host has closed; whoever serves the stream expects that by its own name.
            raise_first(failures)
        return tasks[-1].result()

    async def _stage(self, command: syntax.Command, streams: Streams, upstream: Pipe | None, pipe: Pipe | None) -> int:
        try:
            body = syntax.Sequence((AndOr(Pipeline(False, (command,)), ()),))
            status = await self.run_subshell(body, streams)
            if pipe is not None:
                await pipe.drain()
            return status
        except PipeClosed:
            return _SIGPIPE_STATUS
        finally:
            if pipe is not None:
                pipe.close_writer()
            if upstream is not None:
                upstream.close_reader()

    async def command(self, command: syntax.Command, streams: Streams) -> int:
        """Runs one command with its redirections; what the shell itself cannot do is told on stderr."""
        try:
            if not command.redirects:
                return await self._run(command, streams)
            redirected = await self._redirect(command.redirects, streams)
            status = await self._run(command, redirected)
            await redirected.drain()
            return status
        except (ShellProblem, ExpansionProblem, ArithmeticProblem, FileError) as problem:
            streams.stderr.write(to_bytes(f"{SHELL}: {problem}\n"))
            return 1

    async def _run(self, command: syntax.Command, streams: Streams) -> int:
        match command:
            case Simple():
                return await self._simple(command, streams)
            case Group(body, subshell):
                return await (self._child().run_subshell(body, streams) if subshell else self.sequence(body, streams))
            case If():
                return await self._if(command, streams)
            case Loop():
                return await self._loop(command, streams)
            case For():
                return await self._for(command, streams)
            case Case():
                return await self._case(command, streams)

    async def _simple(self, command: Simple, streams: Streams) -> int:
        self._stderr = streams.stderr
        arguments = await expand_fields(command.words, self)
        values = [(name, await expand_single(word, self)) for name, word in command.assignments]
        if not arguments:
            self.variables.update(values)
            return (
                self.status
                if any(isinstance(part, syntax.Substitution) for _n, word in command.assignments for part in word)
                else 0
            )
        before = dict(self.variables) if values else self.variables
        self.variables.update(values)
        try:
            return await self.call(arguments, streams)
        finally:
            if values:
                self.variables = before

    async def call(self, arguments: list[str], streams: Streams) -> int:
        """Runs the command that `arguments` name. An unknown one: 127, told on stderr."""
        name = arguments[0]
        builtin = self.builtins.get(name)
        tool = builtin or self.commands.get(name.removeprefix("/system/bin/").removeprefix("/system/xbin/"))
        if tool is None:
            return await self._not_found(name, streams)
        call = Call(self.phone, self, name.rsplit("/", 1)[-1], arguments[1:], streams)
        if builtin is None:
            await self.phone.before_program(call)
            if (missing := self.phone.missing_service(call.name)) is not None:
                return call.error(missing, _NO_SERVICE_STATUS)
        try:
            status = await tool(call)
        except InputTooLong:
            status = call.fail("Out of memory")
        except FileError as problem:
            status = call.fail(f"{problem}")
        await streams.relieve()
        return status & 0xFF

    async def _not_found(self, name: str, streams: Streams) -> int:
        node = self.files.find(normalise(name, self.cwd)) if "/" in name else None
        if node is not None:
            streams.stderr.write(
                to_bytes(
                    f"{SHELL}: {name}: can't execute: {'Is a directory' if node.is_dir else 'Permission denied'}\n"
                )
            )
            return 126
        streams.stderr.write(to_bytes(f"{SHELL}: {name}: inaccessible or not found\n"))
        return 127

    # ---- compound commands

    async def _condition(self, body: syntax.Sequence, streams: Streams) -> bool:
        self._conditions += 1
        try:
            return await self.sequence(body, streams) == 0
        finally:
            self._conditions -= 1

    async def _if(self, command: If, streams: Streams) -> int:
        for condition, body in command.branches:
            if await self._condition(condition, streams):
                return await self.sequence(body, streams)
        return await self.sequence(command.otherwise, streams) if command.otherwise is not None else 0

    async def _loop(self, command: Loop, streams: Streams) -> int:
        status = turns = 0
        try:
            while await self._condition(command.condition, streams) != command.until:
                status = await self._turn(command.body, streams)
                turns += 1
                if turns > LOOP_FREE_TURNS:
                    await streams.drain()
                await asyncio.sleep(LOOP_PAUSE_SEC if turns > LOOP_FREE_TURNS else 0)
        except LeaveLoop:
            status = 0
        return status

    async def _for(self, command: For, streams: Streams) -> int:
        values = list(self.positional) if command.words is None else await expand_fields(command.words, self)
        status = 0
        try:
            for value in values:
                self.variables[command.name] = value
                status = await self._turn(command.body, streams)
                await asyncio.sleep(0)
        except LeaveLoop:
            status = 0
        return status

    async def _turn(self, body: syntax.Sequence, streams: Streams) -> int:
        try:
            return await self.sequence(body, streams)
        except LeaveLoop as leave:
            if leave.again:
                return 0
            raise

    async def _case(self, command: Case, streams: Streams) -> int:
        subject = await expand_single(command.subject, self)
        for patterns, body in command.branches:
            for pattern in patterns:
                if compile_pattern(await expand_pattern(pattern, self)).fullmatch(subject):
                    return await self.sequence(body, streams) if body.items else 0
        return 0

    # ---- redirections

    async def _redirect(self, redirects: Sequence[Redirect], streams: Streams) -> Streams:
        slots: dict[int, Sink] = {1: streams.stdout, 2: streams.stderr}
        stdin = streams.stdin
        for redirect in redirects:
            target = await expand_single(redirect.target, self)
            if redirect.operator == "<<<":
                stdin = Source(buffered=to_bytes(target) + b"\n")
            elif redirect.operator == "<":
                stdin = self._input(target)
            elif redirect.fd not in slots:
                raise ShellProblem(f"{redirect.fd}: bad file descriptor")
            elif redirect.operator == ">&":
                slots[redirect.fd] = self._duplicate(target, slots)
            else:
                slots[redirect.fd] = self._output(target, streams, append=redirect.operator == ">>")
        return Streams(stdin, slots[1], slots[2], streams.terminal)

    def _duplicate(self, target: str, slots: Mapping[int, Sink]) -> Sink:
        if target == "-":
            return Null()
        if not target.isdigit() or int(target) not in slots:
            raise ShellProblem(f"{target}: bad file descriptor")
        return slots[int(target)]

    def _input(self, target: str) -> Source:
        path = normalise(target, self.cwd)
        if path == "/dev/null":
            return Source()
        try:
            return Source(buffered=self.files.read(path))
        except FileError as problem:
            raise ShellProblem(f"can't open {target}: {problem}") from problem

    def _output(self, target: str, streams: Streams, *, append: bool) -> Sink:
        path = normalise(target, self.cwd)
        if (device := open_device(path, streams)) is not None:
            return device
        try:
            self.files.write(path, b"", mtime=self.phone.now_sec(), append=append)
        except FileError as problem:
            raise ShellProblem(f"can't create {target}: {problem}") from problem
        return FileSink(lambda data: self._append(path, data))

    def _append(self, path: str, data: bytes) -> None:
        self.files.write(path, data, mtime=self.phone.now_sec(), append=True)

    def _child(self) -> "Shell":
        child = Shell(self.phone, self.commands, self.builtins)
        child.variables = dict(self.variables)
        child._cwd, child._positional = self._cwd, self._positional
        child.status, child.errexit, child._depth = self.status, self.errexit, self._depth
        return child


def open_device(path: str, streams: Streams) -> Sink | None:
    """The sink behind a path under /dev, None for an ordinary path. Raises ShellProblem when there is no terminal."""
    match path:
        case "/dev/null" | "/dev/zero":
            return Null()
        case "/dev/stdout":
            return streams.stdout
        case "/dev/stderr":
            return streams.stderr
        case "/dev/tty":
            # adb's `shell` with a command has no terminal; `exec:` and the old `shell:` run on a raw one.
            if streams.terminal is None:
                raise ShellProblem("can't create /dev/tty: No such device or address")
            return streams.terminal
    return None


_DETACHED: Final = Streams(Source(), Null(), Null())
