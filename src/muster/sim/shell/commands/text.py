"""Programs that work on text: cat, head, tail, grep, wc, sort, uniq, cut, tr, sed's simplest use, sums, base64."""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Final

from muster.sim.files import FileError
from muster.sim.shell.call import Call, Command, to_bytes, to_text
from muster.sim.shell.commands.options import UsageError, read_options
from muster.sim.shell.patterns import CLASSES, LinePattern, translated
from muster.sim.shell.streams import Source

_CHUNK: Final = 64 * 1024


def inputs(call: Call, paths: list[str]) -> Iterator[tuple[str, Source]]:
    """Each named file, or stdin where there is none or `-`; what cannot be read is told and left out."""
    for path in paths or ["-"]:
        if path == "-":
            yield path, call.streams.stdin
            continue
        try:
            yield path, Source(buffered=call.phone.files.read(call.path(path)))
        except FileError as problem:
            call.fail(f"{path}: {problem}")


def _missing(call: Call, paths: list[str]) -> int:
    """Status 1 when one of the files could not be read."""
    found = (call.phone.files.find(call.path(path)) for path in paths if path != "-")
    return int(any(node is None or node.is_dir for node in found))


async def cat(call: Call) -> int:
    """Files, or the input, as they are."""
    try:
        _options, paths = read_options(call.args, "uetv")
    except UsageError as problem:
        return call.fail(str(problem))
    for _path, source in inputs(call, paths):
        while data := await source.read():
            for start in range(0, len(data), _CHUNK):
                call.streams.stdout.write(data[start : start + _CHUNK])
                await call.streams.stdout.drain()
    return _missing(call, paths)


async def head(call: Call) -> int:
    """The first lines (-n N, -N) or bytes (-c N)."""
    return await _ends(call, first=True)


async def tail(call: Call) -> int:
    """The last lines or bytes; `+N`: from the N-th on."""
    return await _ends(call, first=False)


async def _ends(call: Call, *, first: bool) -> int:
    args = [f"-n{arg[1:]}" if re.fullmatch(r"-\d+", arg) else arg for arg in call.args]
    try:
        options, paths = read_options(args, "qvf", "nc")
    except UsageError as problem:
        return call.fail(str(problem))
    amount = options.get("c", options.get("n", "10"))
    if not re.fullmatch(r"[-+]?\d+", amount):
        return call.fail(f"not a number: {amount}")
    for path, source in inputs(call, paths):
        if len(paths) > 1:
            call.line(f"==> {path} <==")
        if first and "c" not in options and amount.isdigit():
            await _first_lines(call, source, int(amount))
            continue
        data = await source.all()
        units = [data[i : i + 1] for i in range(len(data))] if "c" in options else data.splitlines(keepends=True)
        call.streams.stdout.write(b"".join(_slice(units, amount, first=first)))
    return _missing(call, paths)


async def _first_lines(call: Call, source: Source, count: int) -> None:
    for _ in range(count):
        line = await source.line()
        if not line:
            return
        call.streams.stdout.write(line)


def _slice(units: list[bytes], amount: str, *, first: bool) -> list[bytes]:
    count = int(amount)
    if first:
        return units[:count]
    if amount.startswith("+"):
        return units[max(0, count - 1) :]
    return units[-abs(count) :] if count else []


async def grep(call: Call) -> int:
    """Lines that a pattern fits: -i -v -c -q -o -n -l -E -F -w -x -h -H -e PATTERN -m N -A/-B are left out."""
    try:
        options, operands = read_options(call.args, "ivcqonlEFwxhHsra", "em")
    except UsageError as problem:
        return call.fail(str(problem), 2)
    if "e" not in options and not operands:
        return call.error("grep: no REGEX", 2)
    pattern = options.get("e") if "e" in options else operands.pop(0)
    try:
        fits = _compile(pattern or "", options)
    except re.error:
        return call.fail(f"bad REGEX '{pattern}'", 2)
    limit = int(options["m"]) if options.get("m", "").isdigit() else None
    found = 0
    for path, source in inputs(call, operands):
        prefix = f"{path}:" if (len(operands) > 1 or "H" in options) and "h" not in options else ""
        found += await _grep_one(call, source, fits, options, prefix, limit)
        if found and "q" in options:
            return 0
    if _missing(call, operands) and not found:
        return 2
    return 0 if found else 1


def _compile(pattern: str, options: dict[str, str]) -> LinePattern:
    if "F" in options:
        source = "|".join(re.escape(line) for line in pattern.split("\n"))
    else:
        source = translated(pattern, extended="E" in options)
    if "w" in options:
        source = rf"\b(?:{source})\b"
    if "x" in options:
        source = rf"^(?:{source})$"
    return LinePattern(source, ignore_case="i" in options, needs_places="o" in options)


async def _grep_one(
    call: Call, source: Source, fits: LinePattern, options: dict[str, str], prefix: str, limit: int | None
) -> int:
    found = number = 0
    while (raw := await source.line()) and (limit is None or found < limit):
        number += 1
        line = to_text(raw.rstrip(b"\n"))
        if fits.found_in(line) == ("v" in options):
            continue
        found += 1
        if "q" in options or "l" in options:
            break
        if "c" not in options:
            shown = fits.parts_of(line) if "o" in options else [line]
            for text in shown:
                call.line(prefix + (f"{number}:" if "n" in options else "") + text)
    if "c" in options:
        call.line(f"{prefix}{found}")
    if "l" in options and found:
        call.line(prefix.rstrip(":") or "(standard input)")
    return found


async def wc(call: Call) -> int:
    """Lines, words and bytes."""
    try:
        options, paths = read_options(call.args, "lwcm")
    except UsageError as problem:
        return call.fail(str(problem))
    for path, source in inputs(call, paths):
        data = await source.all()
        counts = {"l": data.count(b"\n"), "w": len(data.split()), "c": len(data), "m": len(to_text(data))}
        wanted = [letter for letter in "lwmc" if letter in options] or list("lwc")
        shown = " ".join(f"{counts[letter]:d}" for letter in wanted)
        call.line(shown + (f" {path}" if path != "-" else ""))
    return _missing(call, paths)


async def sort(call: Call) -> int:
    """Lines in order: -r, -n, -u."""
    try:
        options, paths = read_options(call.args, "rnufs", "kt")
    except UsageError as problem:
        return call.fail(str(problem))
    lines: list[str] = []
    for _path, source in inputs(call, paths):
        lines += to_text(await source.all()).splitlines()
    lines.sort(key=_numeric if "n" in options else None, reverse="r" in options)
    for line in dict.fromkeys(lines) if "u" in options else lines:
        call.line(line)
    return _missing(call, paths)


def _numeric(line: str) -> float:
    found = re.match(r"\s*-?\d+(\.\d+)?", line)
    return float(found[0]) if found else 0.0


async def uniq(call: Call) -> int:
    """Lines without their repetitions; -c counts them."""
    try:
        options, paths = read_options(call.args, "cdu")
    except UsageError as problem:
        return call.fail(str(problem))
    counts: list[tuple[str, int]] = []
    for _path, source in inputs(call, paths[:1]):
        for line in to_text(await source.all()).splitlines():
            if counts and counts[-1][0] == line:
                counts[-1] = (line, counts[-1][1] + 1)
            else:
                counts.append((line, 1))
    for line, count in counts:
        if ("d" in options and count < 2) or ("u" in options and count > 1):
            continue
        call.line(f"{count:7d} {line}" if "c" in options else line)
    return 0


async def cut(call: Call) -> int:
    """Fields (-d, -f) or characters (-c) of each line."""
    try:
        options, paths = read_options(call.args, "s", "dfcb")
    except UsageError as problem:
        return call.fail(str(problem))
    ranges = _ranges(options.get("f") or options.get("c") or options.get("b") or "")
    if ranges is None:
        return call.fail("needs -bcfF")
    delimiter = options.get("d", "\t")
    for _path, source in inputs(call, paths):
        for line in to_text(await source.all()).splitlines():
            if "f" not in options:
                call.line("".join(char for at, char in enumerate(line, 1) if _within(at, ranges)))
            elif delimiter in line:
                fields = line.split(delimiter)
                call.line(delimiter.join(field for at, field in enumerate(fields, 1) if _within(at, ranges)))
            elif "s" not in options:
                call.line(line)
    return _missing(call, paths)


def _ranges(text: str) -> list[tuple[int, int]] | None:
    found: list[tuple[int, int]] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{0,9})(-?)(\d{0,9})", part)
        if match is None or not part.strip("-"):
            return None
        low, dash, high = match.groups()
        found.append((int(low or 1), int(high or 10**9) if dash else int(low)))
    return found


def _within(at: int, ranges: list[tuple[int, int]]) -> bool:
    return any(low <= at <= high for low, high in ranges)


async def tr(call: Call) -> int:
    """Characters for others; -d leaves them out, -s squeezes repetitions."""
    try:
        options, sets = read_options(call.args, "dsc")
    except UsageError as problem:
        return call.fail(str(problem))
    if not sets or (len(sets) < 2 and not options):
        return call.fail("Needs 2 arguments")
    source = _characters(sets[0])
    target = _characters(sets[1]) if len(sets) > 1 else ""
    text = to_text(await call.streams.stdin.all())
    if "d" in options:
        text = "".join(char for char in text if (char in source) == ("c" in options))
    elif target:
        padded = target + target[-1] * (len(source) - len(target))
        text = text.translate({ord(old): new for old, new in zip(source, padded, strict=False)})
    if "s" in options:
        text = re.sub(rf"([{re.escape(target or source)}])\1+", r"\1", text)
    call.text(text)
    return 0


def _characters(text: str) -> str:
    for name, inside in CLASSES.items():
        text = text.replace(f"[:{name}:]", " \t\n\r" if name == "space" else inside)
    text = text.replace("\\n", "\n").replace("\\t", "\t").replace("\\r", "\r")
    return re.sub(r"(\w)-(\w)", _range, text)


def _range(found: re.Match[str]) -> str:
    return "".join(map(chr, range(ord(found[1]), ord(found[2]) + 1)))


async def sed(call: Call) -> int:
    """`s/pattern/replacement/flags`, `Np`, `/pattern/p` and `/pattern/d` with -n, -E, -e: what one-liners use."""
    try:
        options, operands = read_options(call.args, "nErz", "e")
    except UsageError as problem:
        return call.fail(str(problem))
    script = options.get("e") if "e" in options else operands.pop(0) if operands else None
    edit = _sed_command(script or "", extended="E" in options or "r" in options)
    if edit is None:
        return call.fail(f"bad pattern '{script}'")
    for _path, source in inputs(call, operands):
        number = 0
        while raw := await source.line():
            number += 1
            line, printed, deleted = edit(to_text(raw.rstrip(b"\n")), number)
            if printed:
                call.line(line)
            if "n" not in options and not deleted:
                call.line(line)
    return _missing(call, operands)


Edit = Callable[[str, int], tuple[str, bool, bool]]
"""(line, number) → (line, printed, deleted)."""


def _sed_command(script: str, *, extended: bool) -> Edit | None:
    try:
        if found := re.fullmatch(r"s(.)(.*)", script, re.DOTALL):
            return _substitute(found[1], found[2], extended=extended)
        if found := re.fullmatch(r"(\d+)([pd])", script):
            wanted, action = int(found[1]), found[2]
            return lambda line, number: (line, number == wanted and action == "p", number == wanted and action == "d")
        if found := re.fullmatch(r"/((?:[^/\\]|\\.)*)/([pd])", script):
            pattern, action = LinePattern(translated(found[1], extended=extended)), found[2]
            return lambda line, _n: (
                line,
                action == "p" and pattern.found_in(line),
                action == "d" and pattern.found_in(line),
            )
    except re.error:
        return None
    return None


def _substitute(mark: str, rest: str, *, extended: bool) -> Edit | None:
    parts = re.split(rf"(?<!\\){re.escape(mark)}", rest)
    if len(parts) != 3 or re.fullmatch(r"[gpIi]*", parts[2]) is None:
        return None
    source, ignore_case = translated(parts[0], extended=extended), "i" in parts[2].lower()
    pattern = LinePattern(source, ignore_case=ignore_case, needs_places=True)
    replacement = re.sub(r"(?<!\\)&", r"\\g<0>", parts[1].replace(f"\\{mark}", mark)).replace("\\&", "&")
    count = 0 if "g" in parts[2] else 1

    def edit(line: str, _number: int) -> tuple[str, bool, bool]:
        changed, hits = pattern.replaced_in(line, replacement, count=count)
        return changed, "p" in parts[2] and hits > 0, False

    return edit


async def checksum(call: Call) -> int:
    """md5sum, sha1sum, sha256sum, sha512sum."""
    try:
        options, paths = read_options(call.args, "b")
    except UsageError as problem:
        return call.fail(str(problem))
    for path, source in inputs(call, paths):
        digest = hashlib.new(call.name.removesuffix("sum"), usedforsecurity=False)
        while data := await source.read():
            digest.update(data)
        call.line(digest.hexdigest() if "b" in options else f"{digest.hexdigest()}  {path}")
    return _missing(call, paths)


async def encode64(call: Call) -> int:
    """Base64; -d decodes, -w N wraps (76)."""
    try:
        options, paths = read_options(call.args, "di", "w")
    except UsageError as problem:
        return call.fail(str(problem))
    for _path, source in inputs(call, paths[:1]):
        data = await source.all()
        if "d" in options:
            try:
                call.streams.stdout.write(base64.b64decode(data))
            except binascii.Error:
                return call.fail("bad input")
            continue
        encoded = base64.b64encode(data).decode()
        width = int(options["w"]) if options.get("w", "").isdigit() else 76
        for start in range(0, len(encoded), width or len(encoded) or 1):
            call.line(encoded[start : start + (width or len(encoded))])
    return _missing(call, paths[:1])


async def xargs(call: Call) -> int:
    """Runs a command with the words of the input as further arguments; -n N at a time."""
    args = list(call.args)
    size = None
    while args and args[0].startswith("-"):
        option = args.pop(0)
        if option == "-n" and args and args[0].isdigit():
            size = int(args.pop(0))
        elif option != "-r":
            return call.fail(f"Unknown option '{option[1:2]}'")
    words = to_text(await call.streams.stdin.all()).split()
    step = size or max(1, len(words))
    status = 0
    for start in range(0, max(1, len(words)), step):
        command = [*(args or ["echo"]), *words[start : start + step]]
        status = max(status, await call.shell.call(command, call.streams))
    return 0 if not status else 123


async def tee(call: Call) -> int:
    """The input to stdout and into files."""
    try:
        options, paths = read_options(call.args, "ai")
    except UsageError as problem:
        return call.fail(str(problem))
    data = await call.streams.stdin.all()
    call.streams.stdout.write(data)
    status = 0
    for path in paths:
        try:
            call.phone.files.write(call.path(path), data, mtime=call.phone.now_sec(), append="a" in options)
        except FileError as problem:
            status = call.fail(f"{path}: {problem}")
    return status


async def rev(call: Call) -> int:
    """Each line backwards."""
    for _path, source in inputs(call, call.args):
        for line in to_text(await source.all()).splitlines():
            call.line(line[::-1])
    return _missing(call, call.args)


async def seq(call: Call) -> int:
    """Numbers from the first to the last, one a line."""
    if not call.args or not all(re.fullmatch(r"-?\d{1,9}", arg) for arg in call.args) or len(call.args) > 3:
        return call.fail("bad arguments")
    numbers = [int(arg) for arg in call.args]
    first = numbers[0] if len(numbers) > 1 else 1
    step = numbers[1] if len(numbers) == 3 else 1
    for index, number in enumerate(range(first, numbers[-1] + (1 if step > 0 else -1), step or 1)):
        call.streams.stdout.write(to_bytes(f"{number}\n"))
        if index % 1000 == 999:
            await call.streams.stdout.drain()
    return 0


COMMANDS: Final[dict[str, Command]] = {
    "base64": encode64,
    "cat": cat,
    "cut": cut,
    "grep": grep,
    "head": head,
    "md5sum": checksum,
    "rev": rev,
    "sed": sed,
    "seq": seq,
    "sha1sum": checksum,
    "sha256sum": checksum,
    "sha512sum": checksum,
    "sort": sort,
    "tail": tail,
    "tee": tee,
    "tr": tr,
    "uniq": uniq,
    "wc": wc,
    "xargs": xargs,
}
