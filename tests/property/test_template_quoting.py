"""Hostile values through a real shell: whatever they hold, they stay one word of one command."""

import os
import random
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.support.examples import examples

from muster.domain.failure import FailureReason
from muster.recipe.render import RenderError, Values, render_command
from muster.recipe.template import TemplateError

# mksh is Android's own; `sh` only where it is none of the others.
FOUND = [found for name in ("mksh", "dash", "bash", "sh") if (found := shutil.which(name))]
SHELLS = list({Path(found).resolve(): found for found in reversed(FOUND)}.values())[::-1]
pytestmark = pytest.mark.skipif(sys.platform == "win32" or not SHELLS, reason="needs a POSIX shell on this PC")

# Command, and how the value is surrounded in the one argument that `show` gets.
CONTEXTS = [
    ("show {{V}}", "", ""),
    ("show 'it is '{{V}}", "it is ", ""),
    ("show '{{V}}'", "", ""),
    ("show 'a b {{V}} $c'", "a b ", " $c"),
    ('show "{{V}}"', "", ""),
    ('show "a \\"b\\" {{V}} \'c\'"', 'a "b" ', " 'c'"),
    ('show "$EMPTY{{V}}${EMPTY}"', "", ""),
    ('show "$(printf x){{V}}`printf y`"', "x", "y"),
    ("show pre{{V}}post", "pre", "post"),
    ("show \\\\{{V}}", "\\", ""),
    ("show '$'{{V}}", "$", ""),
    ('X={{V}}; show "$X"', "", ""),
    ("true && show {{V}} # and a comment", "", ""),
    ("if true; then show {{V}}; else show no; fi", "", ""),
    ("case {{V}} in '') show '';; *) show {{V}};; esac", "", ""),
    ("(show {{V}})", "", ""),
    ('for x in {{V}}; do show "$x"; done', "", ""),
    ("adb shell show {{V}}", "", ""),
]
HOSTILE = st.one_of(
    st.text(alphabet=st.sampled_from("'\"\\$`(){}[]<>|&;#!*?~=%@^,. \t\n\rab-s\x01\x7fé한")),
    st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40),
    st.sampled_from(
        [
            "",
            "'",
            "''",
            "'; touch canary; '",
            "$(touch canary)",
            "`touch canary`",
            '"; touch canary; "',
            "\\'; touch canary #",
            "\n touch canary\n",
            "& touch canary &",
            "| touch canary",
            "> canary",
            "${IFS}touch${IFS}canary",
            "a'\"'\"'b",
            "'\\''",
            "-rf",
            "*",
            "~",
            "!!",
            "{a,b}",
            "%s%n",
            "$'\\x27; touch canary'",
        ]
    ),
)


# mksh has no printf of its own, and would start a program each time.
SAY = """printf '%s\\n%s' "$#" "$1\""""
SAY_IN_MKSH = """print -rn -- "$#
$1\""""


@dataclass
class Sandbox:
    """A folder with a `show` that writes its one argument to a file, and no canary in it."""

    shell: str
    folder: Path

    def arguments(self, commands: list[str]) -> list[bytes]:
        """Runs the commands one after another, each in its own file scope, and returns what each `show` was given."""
        say = SAY_IN_MKSH if Path(self.shell).name == "mksh" else SAY
        script = [f'show() {{ {say} >>"$OUT"; }}', "EMPTY="]
        for index, command in enumerate(commands):
            script += [f"OUT={index}.out", command]
        (self.folder / "script").write_bytes("\n".join(script).encode())
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            [self.shell, "script"], cwd=self.folder, env=environment, capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        assert not (self.folder / "canary").exists(), "a value ran a command of its own"
        return [(self.folder / f"{index}.out").read_bytes() for index in range(len(commands))]


@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=examples(25), deadline=None)
@given(values=st.lists(HOSTILE, min_size=1, max_size=12))
@example(values=["'; touch canary; '", "$(touch canary)", "\n touch canary\n", "\\", "'", '"', "$", "`", "\r\n", " "])
def test_a_value_arrives_as_one_argument_in_every_quote_context(shell: str, values: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        sandbox = Sandbox(shell, Path(folder))
        cases = [(value, *context) for value in values for context in CONTEXTS]
        commands = [render_command(command, Values({"V": value}), allow_raw=False) for value, command, _, _ in cases]
        shown = sandbox.arguments(commands)
    for (value, command, before, after), output in zip(cases, shown, strict=True):
        assert output == b"1\n" + f"{before}{value}{after}".encode(), (command, value)


# Many strings, through each of the contexts: `make chaos` sets 100,000. The same seed gives the same strings.
STRINGS = int(os.environ.get("HOSTILE_STRINGS", "150"))
STRINGS_SEED = int(os.environ.get("HOSTILE_SEED", "1"))
BATCH = 250
PIECES = [
    *"'\"\\$`(){}[]<>|&;#!*?~=%@^,. \t\n\r\x01\x7f\x1bab-0é한\U0001f600", "';", "$(", "${", "&&", "||",
    ">>", "<<E\n", "\nE\n",
    "touch canary", "reboot", "\\'", "'\\''", '"\'"', "$IFS", "%s", "esac", "done", "fi", "#", "-rf", "../", "\r\n",
]  # fmt: skip


def hostile_strings(count: int) -> list[str]:
    """Values made of what shells trip over, 0 to 24 pieces each; never a command's name and nothing else."""
    rng = random.Random(STRINGS_SEED)
    return ["".join(rng.choices(PIECES, k=rng.randint(0, 24))) for _ in range(count)]


@pytest.mark.timeout(60 + STRINGS // 10)
@pytest.mark.parametrize("shell", SHELLS)
def test_hostile_values_in_batches_stay_one_argument_of_one_command(shell: str, tmp_path: Path) -> None:
    values = hostile_strings(STRINGS)
    for first in range(0, len(values), BATCH):
        cases = [(value, *context) for value in values[first : first + BATCH] for context in CONTEXTS]
        commands = [render_command(command, Values({"V": value}), allow_raw=False) for value, command, _, _ in cases]
        say = SAY_IN_MKSH if Path(shell).name == "mksh" else SAY
        script = tmp_path / "script"
        script.write_bytes("\n".join([f"show() {{ {say}; echo; }}", "EMPTY=", *commands]).encode())
        done = subprocess.run(
            [shell, script.name],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"},
            capture_output=True,
            timeout=120,
            check=False,
        )
        wanted = b"".join(f"1\n{before}{value}{after}\n".encode() for value, _, before, after in cases)
        assert (done.returncode, done.stderr) == (0, b""), f"HOSTILE_SEED={STRINGS_SEED}, from string {first} on"
        assert done.stdout == wanted, f"HOSTILE_SEED={STRINGS_SEED}, from string {first} on"
        assert [path.name for path in tmp_path.iterdir()] == ["script"], "a value ran a command of its own"


@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=examples(15), deadline=None)
@given(text=st.text(alphabet=st.sampled_from("abs %'\"$`\\;&|한"), max_size=30))
def test_what_input_text_would_type_is_the_value(shell: str, text: str) -> None:
    try:
        command = render_command("show {{V|input}}", Values({"V": text}), allow_raw=False)
    except RenderError as error:
        assert "%s" in text and error.reason is FailureReason.STEP_FAILED
        return
    with tempfile.TemporaryDirectory() as folder:
        shown = Sandbox(shell, Path(folder)).arguments([command])
    assert _as_android_types(shown[0].removeprefix(b"1\n").decode()) == text


def _as_android_types(argument: str) -> str:
    """`Input.sendText` of AOSP, line by line."""
    buffer, escaped, at = list(argument), False, 0
    while at < len(buffer):
        if escaped:
            escaped = False
            if buffer[at] == "s":
                buffer[at] = " "
                at -= 1
                del buffer[at]
        if buffer[at] == "%":
            escaped = True
        at += 1
    return "".join(buffer)


FRAGMENTS = st.sampled_from(
    ["{{V}}", "'", '"', "\\", "$", "`", "$(", ")", "${X}", "${X:-", "}", "#", " ", "\n", ";", "|", "&", "&&", "<<E",
     "((", "$'", '$"', "echo", "show ", "case x in x) ", "esac", "x", "=", "[", "]", "<", ">", "{", "(", "$((", "!"]
)  # fmt: skip


@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=examples(150), deadline=None)
@given(parts=st.lists(FRAGMENTS, min_size=1, max_size=12), value=HOSTILE)
@example(parts=['show "', "$(", "case x in x) ", "show ", "{{V}}", ";; ", "esac", ")", '"'], value="$(touch canary)")
@example(parts=["show ", "#", "{{V}}"], value="x\ntouch canary")
@example(parts=["show ", "<<E", "\n", "{{V}}", "\nE"], value="E\ntouch canary\n")
@example(parts=["show ", "\\", "{{V}}"], value="; touch canary #")
@example(parts=["show ", "$", "{{V}}"], value="\\'; touch canary #")
@example(parts=["show ", "${X:-", "{{V}}", "}"], value="$(touch canary)")
@example(parts=["show ", ">", "#", "{{V}}"], value="\ntouch canary\n#")
def test_in_any_command_that_is_let_through_no_value_runs_a_command(shell: str, parts: list[str], value: str) -> None:
    """The author's text may be nonsense and fail; it must not run what the value says."""
    hostile = f"{value}\n';touch canary;'\";touch canary;\"$(touch canary)`touch canary`;touch canary;\n)touch canary\n"
    try:
        command = render_command("".join(parts), Values({"V": hostile}), allow_raw=False)
    except (TemplateError, RenderError):
        return
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [shell, "-c", f"show() {{ :; }}\n{command}"],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "HOME": folder},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert not (Path(folder) / "canary").exists(), command
