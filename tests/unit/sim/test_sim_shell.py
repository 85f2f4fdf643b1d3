"""The phone's shell language: quoting, expansion, operators, redirections, errors in mksh's words."""

import asyncio

import pytest
from tests.support.manual_clock import ManualClock, settle
from tests.support.sim_phone import make_phone, say

from muster.sim.latency import MEASURED, SpreadPace


@pytest.mark.parametrize(
    ("script", "out"),
    [
        ("echo a  b", "a b\n"),
        ("echo 'a  b' \"c  d\"", "a  b c  d\n"),
        ("echo a\\ b\\;c", "a b;c\n"),
        ('echo "it\'s" \'say "x"\'', 'it\'s say "x"\n'),
        ('echo "a\\$b \\"q\\" \\x"', 'a$b "q" \\x\n'),
        ("echo '' | wc -c", "1\n"),
        ("X=5; echo $X ${X}y '$X' \"$X\"", "5 5y $X 5\n"),
        ("echo [$NOPE] [${NOPE:-none}] [${X=set}] [$X] [${X:+there}]", "[] [none] [set] [set] [there]\n"),
        ("X='a  b'; echo $X; echo \"$X\"", "a b\na  b\n"),
        ("X=file.tar.gz; echo ${X%.*} ${X%%.*} ${X#*.} ${X##*.} ${#X}", "file.tar file tar.gz gz 11\n"),
        ("echo $(echo a; echo b) \"$(printf 'c\\nd\\n')\"", "a b c\nd\n"),
        ("echo `echo x \\`echo y\\``", "x y\n"),
        ("echo $((2 + 3 * 4)) $(( (2+3)*4 )) $((7/-2)) $((-7%3)) $((1<2 && 3>4)) $((5?6:7))", "14 20 -3 -1 0 6\n"),
        ("N=3; echo $((N+1)) $(($N*2))", "4 6\n"),
        ("false; echo $?; true; echo $?", "1\n0\n"),
        ("true && echo yes || echo no; false && echo yes || echo no", "yes\nno\n"),
        ("! false; echo $?", "0\n"),
        ("(X=1; cd /sdcard; echo in $X); echo out $X; pwd", "in 1\nout\n/\n"),
        ("{ echo a; echo b; } | tail -1", "b\n"),
        ("if [ 1 -eq 1 ]; then echo one; elif true; then echo two; else echo three; fi", "one\n"),
        ("for i in 1 2 3; do [ $i = 2 ] && continue; echo $i; done", "1\n3\n"),
        ("i=0; while [ $i -lt 10 ]; do i=$((i+1)); [ $i -ge 3 ] && break; done; echo $i", "3\n"),
        ("until true; do echo never; done; echo end", "end\n"),
        ("case abc in x) echo x;; a*|b) echo a;; *) echo other;; esac", "a\n"),
        ("case 'a*' in 'a*') echo literal;; esac; case ab in 'a*') echo bad;; *) echo good;; esac", "literal\ngood\n"),
        (
            'set -- one \'two three\'; echo $# $2; for a in "$@"; do echo "<$a>"; done; shift; echo $1',
            "2 two three\n<one>\n<two three>\ntwo three\n",
        ),
        ("sh -c 'echo $0 $1' x y", "/system/bin/sh y\n"),
        ("eval 'A=1; echo $A'; echo $A", "1\n1\n"),
        ("echo a # comment\necho 'b # no comment'", "a\nb # no comment\n"),
        ("echo a;echo b&&echo c", "a\nb\nc\n"),
        ("echo one \\\n two", "one two\n"),
        ("A=1 B=2 sh -c 'echo $A$B'; echo [$A$B]", "12\n[]\n"),
        ("echo {a,b} ~ a=b -n", "{a,b} ~ a=b -n\n"),
        ("printf '%s-%d|' a 1 b 2; printf '%5.2f%%\\n' 3.14159", "a-1|b-2| 3.14%\n"),
        ("echo -n x; echo -e 'a\\tb'; echo 'c\\nd'", "xa\tb\nc\nd\n"),
        ("read A B <<< 'x y z'; echo $B", "y z\n"),
        ("printf '1\\n2\\n3\\n' | while read n; do echo $((n*n)); done", "1\n4\n9\n"),
        ("command -v ls; command -v nothing || echo none", "/system/bin/ls\nnone\n"),
        ("test -d /sdcard && [ -e /sdcard/Download ] && [ ! -f /sdcard ] && echo ok", "ok\n"),
        ("[ a = a -a b != c ] && [ -z '' -o x = y ] && [ -n x ] && echo ok", "ok\n"),
    ],
)
async def test_a_script_says_what_mksh_says(script: str, out: str) -> None:
    said = await say(make_phone(), script)
    assert (said.out, said.err) == (out, "")


async def test_an_unknown_command_is_127_on_stderr_only() -> None:
    said = await say(make_phone(), "foo bar; echo $?")
    assert said.out == "127\n"
    assert said.err == "/system/bin/sh: foo: inaccessible or not found\n"


async def test_the_exit_status_is_the_last_commands() -> None:
    phone = make_phone()
    assert (await say(phone, "exit 7")).status == 7
    assert (await say(phone, "true; false")).status == 1
    assert (await say(phone, "echo x | grep y")).status == 1
    assert (await say(phone, "exit 300")).status == 300 & 0xFF
    assert (await say(phone, "(exit 3); echo $?")).out == "3\n"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 'open", "no closing quote"),
        ('echo "open', "no closing quote"),
        ("echo $(echo", "no closing quote"),
        ("if true; then", "unexpected"),
        ("echo a && && echo b", "unexpected '&&'"),
        ("done", "unexpected 'done'"),
        ("echo )", "unexpected ')'"),
        ("cat <<EOF\nx\nEOF", "here-documents"),
        ("echo ${a!b}", "bad substitution"),
    ],
)
async def test_a_script_that_cannot_be_read_does_nothing_at_all(script: str, words: str) -> None:
    phone = make_phone()
    said = await say(phone, "touch /sdcard/begun; " + script)
    assert said.status == 1
    assert words in said.err
    assert (await say(phone, "ls /sdcard/begun")).status == 1


async def test_output_goes_where_it_is_sent() -> None:
    phone = make_phone()
    await say(
        phone, "cd /sdcard; echo a > f; echo b >> f; nope 2> g; ls /x > h 2>&1; echo lost > /dev/null; nope 2>/dev/null"
    )
    assert (await say(phone, "cat /sdcard/f")).out == "a\nb\n"
    assert "inaccessible" in (await say(phone, "cat /sdcard/g")).out
    assert "No such file" in (await say(phone, "cat < /sdcard/h")).out
    assert (await say(phone, "echo to-err >&2")).err == "to-err\n"
    assert (await say(phone, "{ echo a; nope; } 2>&1 | wc -l")).out == "2\n"


async def test_a_redirection_that_fails_keeps_the_command_from_running() -> None:
    said = await say(make_phone(), "touch /sdcard/x > /nowhere/y; echo $?; ls /sdcard/x; echo z > /system/bin/z")
    assert said.lines == ["1"]
    assert "can't create /nowhere/y: No such file or directory" in said.err
    assert "Read-only file system" in said.err


async def test_patterns_find_files_and_stay_as_they_are_when_nothing_fits() -> None:
    phone = make_phone()
    await say(phone, "cd /sdcard; touch a.png b.png c.txt 'd e.png' .hidden.png")
    assert (await say(phone, "cd /sdcard; echo *.png")).out == "a.png b.png d e.png\n"
    assert (await say(phone, "echo /sdcard/?.png '/sdcard/*.png' /sdcard/[cd]*")).out == (
        "/sdcard/a.png /sdcard/b.png /sdcard/*.png /sdcard/c.txt /sdcard/d e.png\n"
    )
    assert (await say(phone, "echo /sdcard/*.nothing")).out == "/sdcard/*.nothing\n"
    await say(phone, "rm /sdcard/*.png")
    assert (await say(phone, "ls -A /sdcard | grep -c png")).out == "1\n"


async def test_arithmetic_is_32_bits_wide_as_on_the_phone() -> None:
    phone = make_phone()
    assert (await say(phone, "echo $((2147483647 + 1))")).out == "-2147483648\n"
    assert (await say(phone, "[ 4294967297 -eq 1 ] && echo wrapped")).out == "wrapped\n"
    failed = await say(phone, "echo $((1/0)); echo after")
    assert failed.out == "after\n"
    assert "divide by zero" in failed.err


async def test_set_e_ends_the_script_at_the_first_failure_but_not_at_a_tested_one() -> None:
    phone = make_phone()
    assert (
        await say(phone, "set -e; false || echo tested; if false; then :; fi; echo on; false; echo never")
    ).lines == [
        "tested",
        "on",
    ]


async def test_a_reader_that_has_enough_ends_an_endless_writer() -> None:
    said = await say(make_phone(), "while true; do echo y; done | head -3")
    assert said.lines == ["y", "y", "y"]


async def test_a_cancelled_command_has_no_effect_after_the_cancel() -> None:
    clock = ManualClock()
    phone = make_phone(clock=clock)
    task = asyncio.create_task(say(phone, "sleep 5; settings put global late 1"))
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await clock.advance(10)
    assert phone.settings.get("global", "late") is None
    assert phone.log.gauge.running == 0
    assert phone.log.records()[0].exit_status is None


async def test_time_limits_end_a_command_with_124_and_leave_a_quick_one_alone() -> None:
    clock = ManualClock()
    phone = make_phone(clock=clock)
    task = asyncio.create_task(
        say(phone, "timeout 2 sleep 100; echo $?; timeout 5 echo quick; timeout 5 sh -c 'exit 3'; echo $?")
    )
    await clock.advance(2)
    assert (await task).lines == ["124", "quick", "3"]


async def test_a_phone_that_hangs_runs_what_it_was_told_when_it_goes_on() -> None:
    phone = make_phone()
    phone.hang()
    task = asyncio.create_task(say(phone, "settings put global stale 1"))
    await settle()
    assert phone.settings.get("global", "stale") is None
    phone.thaw()
    await task
    assert phone.settings.get("global", "stale") == "1"


async def test_programs_take_their_time_and_builtins_do_not() -> None:
    clock = ManualClock()
    phone = make_phone(clock=clock, pace=SpreadPace({**MEASURED}))
    task = asyncio.create_task(say(phone, "uiautomator dump /sdcard/d.xml"))
    await clock.advance(0.9)
    assert not task.done()
    await clock.advance(3)
    assert task.done()
    quick = asyncio.create_task(say(phone, "echo a; [ 1 = 1 ]; X=1"))
    await clock.advance(0.041)
    assert (await quick).out == "a\n"


async def test_nesting_and_size_have_limits() -> None:
    phone = make_phone()
    assert "nested too deeply" in (await say(phone, "(" * 100 + "echo x" + ")" * 100)).err
    assert (
        await say(phone, "a=x; for i in 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3; do a=$a$a; done; echo ${#a}")
    ).err
    assert (await say(phone, "echo " + "x" * 70_000)).status == 1
