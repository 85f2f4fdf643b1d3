"""A phone's file tree, in memory; large files share their bytes between phones when they are the same.

Paths are absolute, `/`-separated and normalised (`normalise`). Errors are `FileError` with the errno's words, as the
phone's tools print them.
"""

import hashlib
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

CAPACITY_BYTES_DEFAULT: Final = 4 * 1024**3
FILES_PER_PHONE_MAX: Final = 20_000
PATH_CHARS_MAX: Final = 4_096
SHARED_FROM_BYTES: Final = 64 * 1024
"""Smaller contents are not worth a look-up."""
S_IFDIR, S_IFREG, S_IFCHR = 0o040000, 0o100000, 0o020000
ALIASES: Final = (
    ("/sdcard", "/storage/emulated/0"),
    ("/mnt/sdcard", "/storage/emulated/0"),
    ("/storage/self/primary", "/storage/emulated/0"),
)
DEVICES: Final = frozenset({"/dev/null", "/dev/zero", "/dev/tty", "/dev/stdout", "/dev/stderr", "/dev/stdin"})


class FileError(Exception):
    """What went wrong, in errno's words: `No such file or directory`."""


class Blob:
    """Bytes that any number of files may share."""

    __slots__ = ("__weakref__", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data


_shared: "weakref.WeakValueDictionary[bytes, Blob]" = weakref.WeakValueDictionary()
_EMPTY: Final = Blob(b"")


def intern_blob(data: bytes) -> Blob:
    """A Blob of `data`; a large one that some phone already holds is not kept twice (an APK pushed to 100 phones)."""
    if not data:
        return _EMPTY
    if len(data) < SHARED_FROM_BYTES:
        return Blob(data)
    digest = hashlib.sha256(data).digest()
    blob = _shared.get(digest)
    if blob is None:
        blob = _shared[digest] = Blob(data)
    return blob


@dataclass(slots=True)
class Node:
    """A file or a folder. `mode` carries the type bits; `mtime` is epoch seconds of the phone's clock."""

    mode: int
    mtime: int
    blob: Blob = _EMPTY
    children: "dict[str, Node] | None" = None

    @property
    def is_dir(self) -> bool:
        """Whether it is a folder."""
        return self.children is not None

    @property
    def size(self) -> int:
        """Bytes; a folder counts one block, as ext4 says it."""
        return 4096 if self.is_dir else len(self.blob.data)


def folder(mtime: int, mode: int = 0o775) -> Node:
    """An empty folder."""
    return Node(S_IFDIR | mode, mtime, children={})


def normalise(path: str, cwd: str = "/") -> str:
    """An absolute path without `.`, `..`, doubled or trailing slashes, and with the aliases of /sdcard resolved."""
    parts: list[str] = []
    for part in (path if path.startswith("/") else f"{cwd}/{path}").split("/"):
        if part == "..":
            parts[-1:] = []
        elif part not in ("", "."):
            parts.append(part)
    plain = "/" + "/".join(parts)
    for alias, target in ALIASES:
        if plain == alias or plain.startswith(alias + "/"):
            return target + plain[len(alias) :]
    return plain


@dataclass(slots=True)
class FileTree:
    """The tree, its capacity, and what is used of it."""

    capacity_bytes: int = CAPACITY_BYTES_DEFAULT
    reserved_bytes: int = 0
    root: Node = field(default_factory=lambda: folder(0, 0o755))
    _used_bytes: int = 0
    _count: int = 0

    @property
    def used_bytes(self) -> int:
        """Bytes of all files, and what the profile says is full already."""
        return self._used_bytes + self.reserved_bytes

    @property
    def free_bytes(self) -> int:
        """What can still be written."""
        return max(0, self.capacity_bytes - self.used_bytes)

    def leave_free(self, free_bytes: int) -> None:
        """From now on there is room for so many bytes more; files and all are as they were."""
        self.reserved_bytes = max(0, self.capacity_bytes - self._used_bytes - free_bytes)

    def find(self, path: str) -> Node | None:
        """The node at a normalised path, or None."""
        node = self.root
        for part in path.split("/")[1:] if path != "/" else ():
            child = None if node.children is None else node.children.get(part)
            if child is None:
                return None
            node = child
        return node

    def get(self, path: str) -> Node:
        """The node at a normalised path. Raises FileError."""
        node = self.find(path)
        if node is None:
            raise FileError("No such file or directory")
        return node

    def read(self, path: str) -> bytes:
        """A file's bytes. Raises FileError."""
        node = self.get(path)
        if node.is_dir:
            raise FileError("Is a directory")
        return node.blob.data

    def write(self, path: str, data: bytes, *, mtime: int, mode: int = 0o660, append: bool = False) -> Node:
        """Makes or replaces a file; its folder has to be there. Raises FileError."""
        parent, name = self._parent(path)
        existing = parent.get(name)
        if existing is not None and existing.is_dir:
            raise FileError("Is a directory")
        if path == "/" or path.startswith(("/system", "/vendor", "/proc", "/sys/")):
            raise FileError("Read-only file system")
        old = existing.blob.data if existing is not None else b""
        data = old + data if append else data
        if len(data) - len(old) > self.free_bytes:
            raise FileError("No space left on device")
        if existing is None:
            self._count_one()
            existing = parent[name] = Node(S_IFREG | mode, mtime)
        existing.blob, existing.mtime = intern_blob(data), mtime
        self._used_bytes += len(data) - len(old)
        return existing

    def make_dir(self, path: str, *, mtime: int, parents: bool = False) -> None:
        """Makes a folder. Raises FileError; with `parents` an existing one is fine."""
        if path == "/" or (node := self.find(path)) is not None:
            if parents and (path == "/" or (node is not None and node.is_dir)):
                return
            raise FileError("File exists")
        upper = path.rsplit("/", 1)[0] or "/"
        if parents and self.find(upper) is None:
            self.make_dir(upper, mtime=mtime, parents=True)
        parent, name = self._parent(path)
        self._count_one()
        parent[name] = folder(mtime)

    def remove(self, path: str, *, recursive: bool = False) -> None:
        """Removes a file, or with `recursive` a folder and all in it. Raises FileError."""
        parent, name = self._parent(path)
        node = parent.get(name)
        if node is None:
            raise FileError("No such file or directory")
        if node.is_dir and not recursive:
            raise FileError("Is a directory")
        del parent[name]
        for _path, gone in walk(node, path):
            self._count -= 1
            self._used_bytes -= 0 if gone.is_dir else gone.size

    def rename(self, source: str, target: str) -> None:
        """Moves a file or folder to a path whose folder is there. Raises FileError."""
        from_parent, from_name = self._parent(source)
        node = from_parent.get(from_name)
        if node is None:
            raise FileError("No such file or directory")
        if target == source:
            return
        if target.startswith(source + "/"):
            raise FileError("Invalid argument")
        to_parent, to_name = self._parent(target)
        if to_name in to_parent:
            self.remove(target)
        del from_parent[from_name]
        to_parent[to_name] = node

    def _parent(self, path: str) -> tuple[dict[str, Node], str]:
        if len(path) > PATH_CHARS_MAX:
            raise FileError("File name too long")
        upper, _, name = path.rpartition("/")
        node = self.get(upper or "/")
        if node.children is None:
            raise FileError("Not a directory")
        if not name:
            raise FileError("Is a directory")
        return node.children, name

    def _count_one(self) -> None:
        if self._count >= FILES_PER_PHONE_MAX:
            raise FileError("No space left on device")
        self._count += 1


def walk(node: Node, path: str) -> Iterator[tuple[str, Node]]:
    """The node and everything below it, each with its path, folders first."""
    yield path, node
    for name, child in sorted((node.children or {}).items()):
        yield from walk(child, f"{path.rstrip('/')}/{name}")


_FOLDERS: Final = (
    "/data/local/tmp",
    "/system/bin",
    "/dev",
    "/proc",
    "/storage/emulated/0/Alarms",
    "/storage/emulated/0/Android/data",
    "/storage/emulated/0/DCIM/Camera",
    "/storage/emulated/0/Documents",
    "/storage/emulated/0/Download",
    "/storage/emulated/0/Movies",
    "/storage/emulated/0/Music",
    "/storage/emulated/0/Pictures/Screenshots",
)


def fresh_tree(mtime: int, capacity_bytes: int = CAPACITY_BYTES_DEFAULT) -> FileTree:
    """The folders of a phone out of its box."""
    tree = FileTree(capacity_bytes=capacity_bytes)
    for path in _FOLDERS:
        tree.make_dir(path, mtime=mtime, parents=True)
    return tree
