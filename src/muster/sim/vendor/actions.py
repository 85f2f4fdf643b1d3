"""Every action of the table in spec/05. Names of `data` fields are those of the vendor's manual (help 70, help 71)."""

import asyncio
import shlex
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from muster.sim.vendor import messages, touch
from muster.sim.vendor.book import Book, task_of
from muster.sim.vendor.messages import Refusal, Request
from muster.sim.vendor.paths import DOWNLOADS_DEFAULT, PICTURES_DEFAULT, file_name, on_this_machine
from muster.sim.vendor.pictures import PictureTaker
from muster.sim.vendor.ports import VendorPhone, VendorRack
from muster.sim.vendor.quirks import VendorQuirks
from muster.sim.vendor.touch import Fingers

PHONES_AT_ONCE_MAX: Final = 20
FILE_BYTES_MAX: Final = 512 * 1024 * 1024
CLIPBOARD_CHARS_MAX: Final = 100_000
OWN_KEYBOARD: Final = "com.android.xwkeyboard/.XwIME"
_IME_SETTING: Final = "secure default_input_method"
_STOCK_KEYBOARD: Final = "com.google.android.inputmethod.latin/com.android.inputmethod.latin.LatinIME"

StartLater = Callable[[Coroutine[Any, Any, None]], bool]
"""Runs something after the answer; False (and the work closed) when too much is under way."""
Action = Callable[[Request], Awaitable[Any]]


class Actions:
    """Does what a request asks. Returns the answer's data, raises Refusal."""

    def __init__(self, rack: VendorRack, pictures: PictureTaker, later: StartLater) -> None:
        self._rack, self._pictures, self._later = rack, pictures, later
        self._book = Book()
        self._fingers = Fingers()
        self._clipboards: dict[str, str] = {}
        self.quirks = VendorQuirks()
        self._table: dict[str, Action] = {
            "list": self._list,
            "screen": self._screen,
            "adb": self._adb,
            "adb_shell": self._adb_shell,
            "pointerevent": lambda request: self._each(request, lambda phone: self._fingers.point(phone, request)),
            "pushevent": lambda request: self._each(request, lambda phone: touch.push(phone, request)),
            "startapk": lambda request: self._app(request, "monkey -p {} -c android.intent.category.LAUNCHER 1"),
            "stopapk": lambda request: self._app(request, "am force-stop {}"),
            "uninstallapk": lambda request: self._app(request, "pm uninstall {}", needs_adb=True),
            "installapk": self._install_apk,
            "apklist": self._apk_list,
            "writeclipboard": self._write_clipboard,
            "getclipboard": self._get_clipboard,
            "inputtext": self._input_text,
            "imelist": self._ime_list,
            "selectime": self._select_ime,
            "installinputime": self._install_input_ime,
            "uploadfile": self._upload_file,
            "pullfile": self._pull_file,
            "updatedevices": self._update_devices,
            "gettags": self._get_tags,
            "addtag": self._add_tag,
            "updatetag": self._update_tag,
            "removetag": self._remove_tag,
            "addtagdevice": self._add_tag_device,
            "removetagdevice": self._remove_tag_device,
            "autojstasks": lambda request: self._tasks(request, self._book.scripts),
            "autojscreate": lambda request: self._create_tasks(request, self._book.scripts, "path"),
            "autojsremove": lambda request: self._remove_task(request, self._book.scripts),
            "actiontasks": lambda request: self._tasks(request, self._book.actions),
            "actioncreate": lambda request: self._create_tasks(request, self._book.actions, "actionName"),
            "actionremove": lambda request: self._remove_task(request, self._book.actions),
        }

    async def do(self, request: Request) -> Any:
        """The data of the answer. Raises Refusal."""
        if self.quirks.refuses(request.action):
            raise Refusal(messages.NOT_ACTIVATED)
        action = self._table.get(request.action)
        if action is None:
            raise Refusal(messages.UNKNOWN_ACTION)
        return await action(request)

    # Which phones

    def _chosen(self, request: Request, *, needs_adb: bool = False) -> list[VendorPhone]:
        """The online phones that a request names. One that is unknown, offline or without adb fails it all."""
        phones = self._rack.phones()
        if request.devices.lower() == "all":
            return [p for p in phones if p.status == "online" and not (needs_adb and p.serial is None)]
        known = {handle_of(phone): phone for phone in phones}
        names = [name.strip() for name in request.devices.split(",") if name.strip()]
        if not names:
            raise Refusal(messages.PARAMETER_REQUIRED)
        if any(name not in known for name in names):
            raise Refusal(messages.NO_SUCH_DEVICE)
        chosen = [known[name] for name in dict.fromkeys(names)]
        if any(phone.status != "online" for phone in chosen):
            raise Refusal(messages.DEVICE_OFFLINE)
        if needs_adb and any(phone.serial is None for phone in chosen):
            raise Refusal(messages.NO_ADB)
        return chosen

    async def _each(
        self, request: Request, work: Callable[[VendorPhone], Awaitable[None]], *, needs_adb: bool = False
    ) -> None:
        await self._by_handle(request, work, needs_adb=needs_adb)

    async def _by_handle(
        self, request: Request, work: Callable[[VendorPhone], Awaitable[Any]], *, needs_adb: bool = False
    ) -> dict[str, Any]:
        """Does something on each chosen phone, a few at a time; what came out, by the phone's handle."""
        slots = asyncio.Semaphore(PHONES_AT_ONCE_MAX)

        async def one(phone: VendorPhone) -> tuple[str, Any]:
            async with slots:
                return handle_of(phone), await work(phone)

        results = await asyncio.gather(
            *(one(phone) for phone in self._chosen(request, needs_adb=needs_adb)), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return dict(result for result in results if not isinstance(result, BaseException))

    # Looking

    async def _list(self, _request: Request) -> list[dict[str, Any]]:
        return [self._told(number, phone) for number, phone in enumerate(self._rack.phones(), start=1)]

    def _told(self, number: int, phone: VendorPhone) -> dict[str, Any]:
        entry = self._book.phones.get(phone.only_serial)
        return {
            "serial": handle_of(phone),
            "onlySerial": phone.only_serial,
            "name": (entry and entry.name) or phone.name,
            "model": phone.model,
            "sort": entry.sort if entry and entry.sort is not None else number,
            "mode": phone.mode,
            "status": phone.status,
            "connectTime": "2024-01-01 00:00:00",
            "intranetIp": f"192.168.{number // 250 + 1}.{number % 250 + 2}",
            "width": phone.width // 2,  # of the cast picture
            "height": phone.height // 2,
            "sourceWidth": phone.width,
            "sourceHeight": phone.height,
            "hide": False,
        }

    async def _screen(self, request: Request) -> None:
        folder = on_this_machine(request.optional_text("savePath") or PICTURES_DEFAULT, self._rack.data_dir)
        for phone in self._chosen(request):
            target = await asyncio.to_thread(self._pictures.target, phone, folder, self.quirks)
            if not self._later(self._pictures.take(phone, target, self.quirks)):
                raise Refusal(messages.TOO_BUSY)

    # Commands and apps

    async def _adb(self, request: Request) -> dict[str, Any]:
        command = _device_command(request.text("command"))

        async def run(phone: VendorPhone) -> str:
            _, stdout, stderr = await phone.shell(command)
            return (stdout + stderr).decode(errors="replace")

        return await self._by_handle(request, run, needs_adb=True)

    async def _adb_shell(self, request: Request) -> None:
        command = request.text("command")
        await self._each(request, lambda phone: _run(phone, command), needs_adb=True)

    async def _app(self, request: Request, command: str, *, needs_adb: bool = False) -> None:
        if request.data is None:
            return  # as seen with version 9.10: without data it says SUCCESS and does nothing
        line = command.format(shlex.quote(request.text("apk")))
        await self._each(request, lambda phone: _run(phone, line, must_succeed=True), needs_adb=needs_adb)

    async def _install_apk(self, request: Request) -> None:
        if request.data is None:
            return
        name, data = await self._local_file(request)
        target = f"/data/local/tmp/{name}"

        async def install(phone: VendorPhone) -> None:
            if not await phone.push(target, data):
                raise Refusal(messages.COMMAND_FAILED)
            await _run(phone, f"pm install -r {shlex.quote(target)}", must_succeed=True)

        await self._each(request, install, needs_adb=True)

    async def _apk_list(self, request: Request) -> dict[str, Any]:
        async def names(phone: VendorPhone) -> list[str]:
            _, stdout, _ = await phone.shell("pm list packages -3")
            return [line.removeprefix("package:") for line in stdout.decode(errors="replace").split()]

        return await self._by_handle(request, names)

    # Text

    async def _write_clipboard(self, request: Request) -> None:
        text = request.text("content")
        if len(text) > CLIPBOARD_CHARS_MAX:
            raise Refusal(messages.BAD_PARAMETER)
        for phone in self._chosen(request):
            self._clipboards[phone.only_serial] = text

    async def _get_clipboard(self, request: Request) -> dict[str, str]:
        return {handle_of(phone): self._clipboards.get(phone.only_serial, "") for phone in self._chosen(request)}

    async def _input_text(self, request: Request) -> None:
        text = request.text("content")

        async def type_in(phone: VendorPhone) -> None:
            _, stdout, _ = await phone.shell(f"settings get {_IME_SETTING}")
            if stdout.decode(errors="replace").strip() != OWN_KEYBOARD:
                raise Refusal(messages.WRONG_KEYBOARD)
            await phone.text(text)

        await self._each(request, type_in)

    async def _ime_list(self, request: Request) -> dict[str, list[str]]:
        return {handle_of(phone): [OWN_KEYBOARD, _STOCK_KEYBOARD] for phone in self._chosen(request)}

    async def _select_ime(self, request: Request) -> None:
        ime = request.text("ime")
        if ime not in {OWN_KEYBOARD, _STOCK_KEYBOARD}:
            raise Refusal(messages.BAD_PARAMETER)
        await self._each(request, lambda phone: _run(phone, f"settings put {_IME_SETTING} {ime}", must_succeed=True))

    async def _install_input_ime(self, request: Request) -> None:
        self._chosen(request)  # it is on every phone already, as the tool puts it there when it connects

    # Files

    async def _upload_file(self, request: Request) -> None:
        if request.data is None:
            return
        name, data = await self._local_file(request)
        folder = "/sdcard/DCIM" if request.optional_text("isMedia") == "1" else "/sdcard/Download"

        async def upload(phone: VendorPhone) -> None:
            if not await phone.push(f"{folder}/{name}", data):
                raise Refusal(messages.COMMAND_FAILED)

        await self._each(request, upload)

    async def _pull_file(self, request: Request) -> None:
        source = request.text("filePath")
        folder = on_this_machine(request.optional_text("savePath") or DOWNLOADS_DEFAULT, self._rack.data_dir)

        async def pull(phone: VendorPhone) -> None:
            data = await phone.pull(source)
            if data is None:
                raise Refusal(messages.NO_SUCH_FILE)
            name = file_name(phone.only_serial, source.rpartition("/")[2])
            try:
                await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
                await asyncio.to_thread((folder / name).write_bytes, data)
            except OSError:
                raise Refusal(messages.BAD_SAVE_PATH) from None

        await self._each(request, pull)

    async def _local_file(self, request: Request) -> tuple[str, bytes]:
        """Name and content of a file on this PC."""
        path = on_this_machine(request.text("filePath"), self._rack.data_dir)
        try:
            if (await asyncio.to_thread(path.stat)).st_size > FILE_BYTES_MAX:
                raise Refusal(messages.BAD_PARAMETER)
            return file_name(path.name), await asyncio.to_thread(path.read_bytes)
        except OSError:
            raise Refusal(messages.NO_SUCH_FILE) from None

    # The tool's own book

    async def _update_devices(self, request: Request) -> None:
        name, sort = request.optional_text("name"), request.optional_text("sort")
        if sort is not None and not (sort.isdigit() and len(sort) < 7):
            raise Refusal(messages.BAD_PARAMETER)
        for phone in self._chosen(request):
            entry = self._book.entry(phone.only_serial)
            entry.name = name[:200] if name else entry.name
            entry.sort = int(sort) if sort is not None else entry.sort

    async def _get_tags(self, _request: Request) -> list[dict[str, Any]]:
        handles = {phone.only_serial: handle_of(phone) for phone in self._rack.phones()}
        return [
            {"name": name, "devices": [handles[member] for member in members if member in handles]}
            for name, members in self._book.tags.items()
        ]

    async def _add_tag(self, request: Request) -> None:
        self._book.add_tag(request.text("name"))

    async def _update_tag(self, request: Request) -> None:
        self._book.rename_tag(request.text("oldName"), request.text("name"))

    async def _remove_tag(self, request: Request) -> None:
        name = request.text("name")
        self._book.tag(name)
        del self._book.tags[name]

    async def _add_tag_device(self, request: Request) -> None:
        members = self._book.tag(request.text("name"))
        members.extend(p.only_serial for p in self._chosen(request) if p.only_serial not in members)

    async def _remove_tag_device(self, request: Request) -> None:
        members = self._book.tag(request.text("name"))
        gone = {phone.only_serial for phone in self._chosen(request)}
        members[:] = [member for member in members if member not in gone]

    # Scripts and recorded actions

    async def _tasks(self, request: Request, kept: list[Any]) -> list[dict[str, Any]]:
        handles = {phone.only_serial: handle_of(phone) for phone in self._chosen(request)}
        return [task.told(handles[task.only_serial]) for task in kept if task.only_serial in handles]

    async def _create_tasks(self, request: Request, kept: list[Any], name_key: str) -> None:
        if not isinstance(request.data, list) or not request.data:
            raise Refusal(messages.PARAMETER_REQUIRED)
        phones = self._chosen(request)
        new = [task_of(phone.only_serial, entry, name_key) for phone in phones for entry in request.data]
        if name_key == "path":
            for task in new[: len(request.data)]:
                path = on_this_machine(task.name, self._rack.data_dir)
                if not await asyncio.to_thread(path.is_file):
                    raise Refusal(messages.NO_SUCH_FILE)
        self._book.add_tasks(kept, new)

    async def _remove_task(self, request: Request, kept: list[Any]) -> None:
        name = request.text("name")
        chosen = {phone.only_serial for phone in self._chosen(request)}
        kept[:] = [task for task in kept if task.only_serial not in chosen or task.name != name]


def handle_of(phone: VendorPhone) -> str:
    """What requests call a phone by: adb's serial, or the phone's own where there is no adb."""
    return phone.serial or phone.only_serial


def _device_command(line: str) -> str:
    """The phone's part of a whole adb line: `adb [-s X] shell …`, or `adb reboot`. Raises Refusal."""
    words = line.split(None, 1)
    rest = words[1].strip() if len(words) == 2 and words[0] == "adb" else ""
    if rest.startswith("-s ") and len(parts := rest.split(None, 2)) == 3:
        rest = parts[2]
    if rest == "reboot":
        return rest
    if rest.startswith("shell ") and rest[6:].strip():
        return rest[6:].strip()
    raise Refusal(messages.BAD_PARAMETER)


async def _run(phone: VendorPhone, command: str, *, must_succeed: bool = False) -> None:
    status, _, _ = await phone.shell(command)
    if must_succeed and status != 0:
        raise Refusal(messages.COMMAND_FAILED)
