"""Programs that work on files and folders."""

import time
from typing import Final

from muster.sim.files import FileError, Node, normalise, walk
from muster.sim.shell.call import Call, Command
from muster.sim.shell.commands.options import UsageError, read_options
from muster.sim.shell.expansion import compile_pattern

_BLOCK: Final = 1024


async def ls(call: Call) -> int:
    """-l, -a, -1, -d, -R, -h, -s are read; the order is by name."""
    try:
        options, paths = read_options(call.args, "la1dRhstrAiFpSn")
    except UsageError as problem:
        return call.fail(str(problem))
    status = 0
    shown: list[tuple[str, Node]] = []
    for path in paths or ["."]:
        node = call.phone.files.find(call.path(path))
        if node is None:
            status = call.fail(f"{path}: No such file or directory")
        else:
            shown.append((path, node))
    single = [(path, node) for path, node in shown if not node.is_dir or "d" in options]
    for path, node in single:
        _entry(call, path, node, options)
    folders = [(path, node) for path, node in shown if node.is_dir and "d" not in options]
    if "R" in options:
        folders = [(sub, item) for path, node in folders for sub, item in walk(node, path) if item.is_dir]
    for index, (path, node) in enumerate(folders):
        if len(folders) + len(single) > 1:
            call.text(("\n" if index or single else "") + f"{path}:\n")
        _folder(call, node, options)
    return status


def _folder(call: Call, node: Node, options: dict[str, str]) -> None:
    children = node.children or {}
    if "l" in options:
        call.line(f"total {sum(_blocks(child) for child in children.values())}")
    names = sorted(children, reverse="r" in options)
    if "t" in options:
        names.sort(key=lambda name: children[name].mtime, reverse="r" not in options)
    if "a" in options:
        _entry(call, ".", node, options)
        _entry(call, "..", node, options)
    for name in names:
        if not name.startswith(".") or "a" in options or "A" in options:
            _entry(call, name, children[name], options)


def _blocks(node: Node) -> int:
    return 4 * -(-node.size // 4096)


def _entry(call: Call, name: str, node: Node, options: dict[str, str]) -> None:
    if "l" not in options:
        call.line(name)
        return
    when = time.strftime("%Y-%m-%d %H:%M", _local(call, node.mtime))
    call.line(f"{mode_text(node)} {2 if node.is_dir else 1} shell shell {node.size:>8} {when} {name}")


def mode_text(node: Node) -> str:
    """`drwxrwxr-x`."""
    bits = "".join(letter if node.mode >> (8 - at) & 1 else "-" for at, letter in enumerate("rwxrwxrwx"))
    return ("d" if node.is_dir else "-") + bits


def _local(call: Call, epoch_sec: int) -> time.struct_time:
    return time.gmtime(epoch_sec + zone_offset_sec(call))


def zone_offset_sec(call: Call) -> int:
    """Seconds east of Greenwich by `persist.sys.timezone`; zones that are not known here count as UTC."""
    zone = call.phone.properties.get("persist.sys.timezone")
    return {"Asia/Seoul": 9, "Asia/Tokyo": 9, "Asia/Shanghai": 8, "Europe/Berlin": 1}.get(zone, 0) * 3600


async def rm(call: Call) -> int:
    """-r, -f."""
    try:
        options, paths = read_options(call.args, "rRfv")
    except UsageError as problem:
        return call.fail(str(problem))
    if not paths and "f" not in options:
        return call.fail("Needs 1 argument")
    status = 0
    for path in paths:
        try:
            if call.path(path) == "/":
                raise FileError("Read-only file system")
            call.phone.files.remove(call.path(path), recursive="r" in options or "R" in options)
        except FileError as problem:
            if "f" not in options or str(problem) != "No such file or directory":
                status = call.fail(f"{path}: {problem}")
    return status


async def rmdir(call: Call) -> int:
    """Removes empty folders."""
    status = 0
    for path in call.args:
        node = call.phone.files.find(call.path(path))
        if node is None or not node.is_dir or node.children:
            reason = (
                "No such file or directory"
                if node is None
                else "Directory not empty"
                if node.is_dir
                else "Not a directory"
            )
            status = call.fail(f"{path}: {reason}")
        else:
            call.phone.files.remove(call.path(path), recursive=True)
    return status


async def mkdir(call: Call) -> int:
    """-p makes what is missing above."""
    try:
        options, paths = read_options(call.args, "pv", "m")
    except UsageError as problem:
        return call.fail(str(problem))
    status = 0 if paths else call.fail("Needs 1 argument")
    for path in paths:
        try:
            call.phone.files.make_dir(call.path(path), mtime=call.phone.now_sec(), parents="p" in options)
        except FileError as problem:
            status = call.fail(f"'{path}': {problem}")
    return status


async def touch(call: Call) -> int:
    """Makes an empty file, or sets the time of one that is there."""
    status = 0
    for path in call.args:
        if path.startswith("-"):
            continue
        try:
            node = call.phone.files.find(call.path(path))
            if node is None:
                call.phone.files.write(call.path(path), b"", mtime=call.phone.now_sec())
            else:
                node.mtime = call.phone.now_sec()
        except FileError as problem:
            status = call.fail(f"'{path}': {problem}")
    return status


async def mv(call: Call) -> int:
    """Moves files and folders."""
    return await _transfer(call, keep=False)


async def cp(call: Call) -> int:
    """Copies files; with -r folders too."""
    return await _transfer(call, keep=True)


async def _transfer(call: Call, *, keep: bool) -> int:
    try:
        options, paths = read_options(call.args, "rRfapvn")
    except UsageError as problem:
        return call.fail(str(problem))
    if len(paths) < 2:
        return call.fail("Needs 2 arguments")
    *sources, last = paths
    into = call.phone.files.find(call.path(last))
    if len(sources) > 1 and (into is None or not into.is_dir):
        return call.fail(f"'{last}' not directory")
    status = 0
    for source in sources:
        target = call.path(last)
        if into is not None and into.is_dir:
            target = normalise(f"{target}/{call.path(source).rsplit('/', 1)[-1]}")
        try:
            if keep:
                _copy(call, call.path(source), target, recursive=bool({"r", "R", "a"} & options.keys()))
            else:
                call.phone.files.rename(call.path(source), target)
        except FileError as problem:
            status = call.fail(f"{source}: {problem}" if not keep else f"bad '{source}': {problem}")
    return status


def _copy(call: Call, source: str, target: str, *, recursive: bool) -> None:
    files = call.phone.files
    node = files.get(source)
    if node.is_dir and not recursive:
        raise FileError("Is a directory")
    if target == source or target.startswith(source + "/"):
        raise FileError("Invalid argument")
    for path, item in list(walk(node, source)):
        copy = target + path[len(source) :]
        if item.is_dir:
            files.make_dir(copy, mtime=call.phone.now_sec(), parents=True)
        else:
            files.write(copy, item.blob.data, mtime=call.phone.now_sec(), mode=item.mode & 0o777)


async def chmod(call: Call) -> int:
    """Octal modes; symbolic ones only `+x`."""
    operands = [arg for arg in call.args if arg != "-R"]
    if len(operands) < 2:
        return call.fail("Needs 2 arguments")
    mode, *paths = operands
    for path in paths:
        node = call.phone.files.find(call.path(path))
        if node is None:
            return call.fail(f"'{path}': No such file or directory")
        if mode.isdigit() and len(mode) <= 4 and not set(mode) - set("01234567"):
            node.mode = node.mode & ~0o7777 | int(mode, 8)
        elif mode in ("+x", "a+x", "u+x"):
            node.mode |= 0o111
        else:
            return call.fail(f"bad mode '{mode}'")
    return 0


async def stat(call: Call) -> int:
    """The fields of a file; -c FORMAT with %s %n %F %a %Y %U %G."""
    try:
        options, paths = read_options(call.args, "Lft", "c")
    except UsageError as problem:
        return call.fail(str(problem))
    status = 0 if paths else call.fail("Needs 1 argument")
    for path in paths:
        node = call.phone.files.find(call.path(path))
        if node is None:
            status = call.fail(f"'{path}': No such file or directory")
            continue
        kind = "directory" if node.is_dir else "regular file"
        if "c" in options:
            call.line(_stat_format(options["c"], path, node, kind))
        else:
            call.line(f"  File: {path}\n  Size: {node.size}\t Blocks: {_blocks(node)}\t IO Blocks: 512\t{kind}")
            call.line(
                f"Access: ({node.mode & 0o7777:04o}/{mode_text(node)})\tUid: ( 2000/   shell)\tGid: ( 2000/   shell)"
            )
            call.line(f"Modify: {time.strftime('%Y-%m-%d %H:%M:%S', _local(call, node.mtime))}.000000000")
    return status


def _stat_format(form: str, path: str, node: Node, kind: str) -> str:
    values = {"%s": str(node.size), "%n": path, "%F": kind, "%a": f"{node.mode & 0o7777:o}", "%Y": str(node.mtime)}
    values |= {
        "%U": "shell",
        "%G": "shell",
        "%A": mode_text(node),
        "%u": "2000",
        "%g": "2000",
        "%b": str(_blocks(node)),
    }
    for name, value in values.items():
        form = form.replace(name, value)
    return form


async def df(call: Call) -> int:
    """Sizes of the data partition in 1K blocks; -h shorter."""
    paths = [arg for arg in call.args if not arg.startswith("-")]
    human = any("h" in arg for arg in call.args if arg.startswith("-"))
    files = call.phone.files
    total, used, free = files.capacity_bytes, files.used_bytes, files.free_bytes
    for path in paths:
        if files.find(call.path(path)) is None:
            return call.fail(f"{path}: No such file or directory")
    show = _human if human else lambda size: str(size // _BLOCK)
    call.line(
        f"{'Filesystem':<20}{'Size' if human else '1K-blocks':>10} {'Used':>10} "
        f"{'Avail' if human else 'Available':>10} Use% Mounted on"
    )
    where = "/storage/emulated" if any("emulated" in call.path(path) for path in paths) else "/data"
    percent = f"{-(-100 * used // total) if total else 100}%"
    call.line(f"{'/dev/block/dm-5':<20}{show(total):>10} {show(used):>10} {show(free):>10} {percent:>4} {where}")
    return 0


def _human(size: int) -> str:
    value = float(size)
    for unit in ("B", "K", "M", "G"):
        if value < 1000 or unit == "G":
            return f"{value:.0f}{unit}" if value >= 10 or unit == "B" else f"{value:.1f}{unit}"
        value /= 1024
    return f"{value:.0f}G"


async def du(call: Call) -> int:
    """Sizes of folders in 1K blocks; -s the sum only, -h shorter."""
    try:
        options, paths = read_options(call.args, "shkam", "d")
    except UsageError as problem:
        return call.fail(str(problem))
    status = 0
    for path in paths or ["."]:
        node = call.phone.files.find(call.path(path))
        if node is None:
            status = call.fail(f"{path}: No such file or directory")
            continue
        wanted = (
            [(path, node)]
            if "s" in options
            else [item for item in walk(node, path) if item[1].is_dir or "a" in options]
        )
        for shown, item in wanted:
            total = sum(_blocks(below) for _path, below in walk(item, ""))
            call.line(f"{_human(total * _BLOCK) if 'h' in options else total}\t{shown}")
    return status


async def find(call: Call) -> int:
    """`find PATH -name PATTERN -type f|d -maxdepth N`."""
    paths: list[str] = []
    rest = list(call.args)
    while rest and not rest[0].startswith("-"):
        paths.append(rest.pop(0))
    wanted: dict[str, str] = {}
    while rest:
        option = rest.pop(0)
        if option not in ("-name", "-type", "-maxdepth", "-print") or (option != "-print" and not rest):
            return call.fail(f"bad arg '{option}'")
        if option != "-print":
            wanted[option] = rest.pop(0)
    status = 0
    for path in paths or ["."]:
        node = call.phone.files.find(call.path(path))
        if node is None:
            status = call.fail(f"'{path}': No such file or directory")
            continue
        for shown, item in walk(node, path):
            deep = shown.count("/") - path.rstrip("/").count("/")
            name = shown.rsplit("/", 1)[-1]
            if (
                ("-name" not in wanted or compile_pattern(wanted["-name"]).fullmatch(name))
                and ("-type" not in wanted or (wanted["-type"] == "d") == item.is_dir)
                and ("-maxdepth" not in wanted or not wanted["-maxdepth"].isdigit() or deep <= int(wanted["-maxdepth"]))
            ):
                call.line(shown)
    return status


async def basename(call: Call) -> int:
    """The last part of a path, or with `dirname` what is before it."""
    if not call.args:
        return call.fail("Needs 1 argument")
    head, _, tail = call.args[0].rstrip("/").rpartition("/")
    if call.name == "dirname":
        call.line(head or ("/" if call.args[0].startswith("/") else "."))
    else:
        call.line(tail.removesuffix(call.args[1]) if len(call.args) > 1 and tail != call.args[1] else tail)
    return 0


async def readlink(call: Call) -> int:
    """`readlink -f` and `realpath`: the path without aliases."""
    for path in [arg for arg in call.args if not arg.startswith("-")]:
        call.line(call.path(path))
    return 0


async def sync(_call: Call) -> int:
    """Everything is written already."""
    return 0


COMMANDS: Final[dict[str, Command]] = {
    "basename": basename,
    "chmod": chmod,
    "cp": cp,
    "df": df,
    "dirname": basename,
    "du": du,
    "find": find,
    "ls": ls,
    "mkdir": mkdir,
    "mv": mv,
    "readlink": readlink,
    "realpath": readlink,
    "rm": rm,
    "rmdir": rmdir,
    "stat": stat,
    "sync": sync,
    "touch": touch,
}
