"""The toolbox shell runs scripts as a POSIX shell does."""

from __future__ import annotations

import asyncio
import random

import pytest

from kubecosm.services.kubelet.cri.streams import Pipe, TerminalSize
from kubecosm.services.kubelet.shell.process import Machine, Process
from kubecosm.services.kubelet.shell.programs import PROGRAMS
from kubecosm.services.kubelet.shell.redirection import Buffer, input_of
from kubecosm.services.kubelet.shell.running import run_program
from kubecosm.services.kubelet.shell.syntax import ShellSyntaxError
from kubecosm.services.kubelet.shell.terminal import Terminal, TerminalOutput
from kubecosm.services.kubelet.volumes.filesystem import Dir, File, FileSystem
from kubecosm.testing.virtualtime import VirtualClock, run_virtual
from tests.kubelet.served import Served


class NoNetwork:
    dns_server = "127.0.0.1"

    async def resolve(self, name: str) -> list[str]:
        raise LookupError("NXDOMAIN")

    async def lookup(self, name: str, record: str) -> tuple[str, list[str]]:
        raise LookupError("NXDOMAIN")

    async def connect(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        raise ConnectionRefusedError(111, "Connection refused")

    async def exchange(self, host: str, port: int, data: bytes, timeout: float) -> bytes:
        raise ConnectionRefusedError(111, "Connection refused")


async def unknown(process: Process, words: list[str]) -> int:
    await process.complain(f"sh: {words[0]}: not found")
    return 127


def machine(fs: FileSystem | None = None) -> Machine:
    etc = Dir({"hostname": File(b"web-0\n")})
    programs = Dir({name: File(mode=0o755) for name in PROGRAMS})
    return Machine(
        fs=fs or FileSystem(Dir({"tmp": Dir(), "etc": etc, "bin": programs})),
        hostname="web-0", clock=VirtualClock(), rng=random.Random(1), network=NoNetwork(), signal_main=lambda name: None, unknown=unknown,
    )  # fmt: skip


def run(script: str, stdin: bytes = b"", fs: FileSystem | None = None, args: tuple[str, ...] = ()) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of `sh -c script`, in virtual time."""

    async def main() -> tuple[int, str, str]:
        out, err = Buffer(), Buffer()
        process = Process(machine(fs), {"PATH": "/bin", "HOME": "/root", "GREETING": "hello"}, "/", input_of(stdin), out, err)
        code = await run_program(PROGRAMS, ["sh", "-c", script, "sh", *args], process)
        return code, out.data.decode(), err.data.decode()

    return run_virtual(main())


SCRIPTS = {
    "words and quotes": ("echo a  'b  c' \"d  e\" f\\ g", "a b  c d  e f g\n"),
    "variables": ("X=1; echo $X ${X}2 \"$GREETING\" '$X'", "1 12 hello $X\n"),
    "unset variable": ("echo [$NOPE]", "[]\n"),
    "field splitting": ("X='a  b c'; for w in $X; do echo -$w-; done", "-a-\n-b-\n-c-\n"),
    "quoted keeps spaces": ("X='a  b'; echo \"$X\"", "a  b\n"),
    "defaults": ("echo ${A:-x} ${A:=y} $A ${A:+z} ${#A}", "x y y z 1\n"),
    "suffix and prefix": ("P=/a/b.tar.gz; echo ${P##*/} ${P%.*} ${P%%.*} ${P#/}", "b.tar.gz /a/b.tar /a/b a/b.tar.gz\n"),
    "replacement": ("P=a-b-c; echo ${P/-/_} ${P//-/_}", "a_b-c a_b_c\n"),
    "command substitution": ("echo $(echo in; echo side) `echo back`", "in side back\n"),
    "nested substitution": ('echo "$(echo "$(echo deep)")"', "deep\n"),
    "arithmetic": ("X=5; echo $((X * 2 + 1)) $((7 / 2)) $((-7 % 3)) $((X > 3 && X < 9)) $((1 << 4))", "11 3 -1 1 16\n"),
    "and or": ("true && echo yes || echo no; false && echo yes || echo no", "yes\nno\n"),
    "not": ("! false && echo fine", "fine\n"),
    "if": ("if [ 1 -gt 2 ]; then echo a; elif test -n x; then echo b; else echo c; fi", "b\n"),
    "while": ("i=0; while [ $i -lt 3 ]; do echo $i; i=$((i+1)); done", "0\n1\n2\n"),
    "until": ("i=0; until [ $i = 2 ]; do i=$((i+1)); done; echo $i", "2\n"),
    "break and continue": ("for i in 1 2 3 4; do [ $i = 2 ] && continue; [ $i = 4 ] && break; echo $i; done", "1\n3\n"),
    "case": ("case foo.txt in *.md) echo md;; *.txt|*.log) echo text;; *) echo other;; esac", "text\n"),
    "function": ('greet() { echo "hi $1"; return 3; }; greet you; echo $?', "hi you\n3\n"),
    "subshell": ("X=1; (X=2; cd /tmp; echo $X); echo $X; pwd", "2\n1\n/\n"),
    "group with redirection": ("{ echo a; echo b; } > /tmp/f; cat /tmp/f", "a\nb\n"),
    "append": ("echo a > /tmp/f; echo b >> /tmp/f; cat < /tmp/f", "a\nb\n"),
    "stderr to stdout": ("ls /nope 2>&1", "ls: /nope: No such file or directory\n"),
    "discard": ("echo x > /dev/null; ls /nope 2>/dev/null; echo $?", "1\n"),
    "here document": ("cat <<EOF\nX is $GREETING\nEOF", "X is hello\n"),
    "quoted here document": ("cat <<'EOF'\nX is $GREETING\nEOF", "X is $GREETING\n"),
    "pipe": ("printf 'c\\na\\nb\\n' | sort | head -n 2 | tr a-z A-Z", "A\nB\n"),
    "pipe into while": ("seq 3 | while read n; do echo n$n; done", "n1\nn2\nn3\n"),
    "endless producer ends": ("yes | head -n 2", "y\ny\n"),
    "positional": ('echo $# $1 "$2"; shift; echo $1', "2 one two words\ntwo words\n"),
    "all arguments": ('for a in "$@"; do echo "<$a>"; done', "<one>\n<two words>\n"),
    "glob": ("cd /tmp; touch a.txt b.txt c.md; echo *.txt *.none", "a.txt b.txt *.none\n"),
    "seq": ("seq 2 2 6; seq 3 -1 1", "2\n4\n6\n3\n2\n1\n"),
    "grep and wc": ("printf 'one\\ntwo\\nthree\\n' | grep -c t; printf 'one\\ntwo\\n' | wc -l", "2\n2\n"),
    "sed": ("echo 'hello world' | sed 's/world/there/; s/h/H/'", "Hello there\n"),
    "cut and awk": ("echo a:b:c | cut -d: -f2; echo 'x y z' | awk '{print $3, $1}'", "b\nz x\n"),
    "env for one command": ("A=1 printenv A; echo [$A]", "1\n[]\n"),
    "export": ("A=1; export A; sh -c 'echo $A'", "1\n"),
    "trap exit": ("trap 'echo bye' EXIT; echo hi; exit 0", "hi\nbye\n"),
    "background and wait": ("sleep 2 & echo first; wait; echo last", "first\nlast\n"),
    "timeout": ("timeout 2 sleep 10; echo $?", "124\n"),
    "xargs": ("echo 1 2 3 | xargs -n 1 echo n", "n 1\nn 2\nn 3\n"),
    "find": ("mkdir -p /tmp/a/b; touch /tmp/a/x.py /tmp/a/b/y.py; find /tmp/a -name '*.py'", "/tmp/a/b/y.py\n/tmp/a/x.py\n"),
    "file tests": ("touch /tmp/f; [ -f /tmp/f ] && [ ! -s /tmp/f ] && [ -d /tmp ] && echo ok", "ok\n"),
    "double brackets": ("[[ abc == abc && -n x ]] && echo ok", "ok\n"),
    "trace": ("{ set -x; A=1; echo $A; } 2>&1", "+ A=1\n+ echo 1\n1\n"),
    "patterns in double brackets": ("[[ abc == a* && abc != a? && abc != 'a*' ]] && echo ok", "ok\n"),
    "empty words in double brackets": ("unset X; [[ $X = '' && -z $X ]] && echo ok; X='a b'; [[ $X == 'a b' ]] && echo ok", "ok\nok\n"),
    "groups of a regular expression": (
        "H=db-12; [[ $H =~ -([0-9]+)$ ]] || exit 1; n=${BASH_REMATCH[1]}; echo $((100 + $n)) $BASH_REMATCH; [[ $H =~ (x|y) ]] || echo none",
        "112 -12\nnone\n",
    ),
    "classes of a regular expression": ("[[ 'a  b' =~ ^(.*)[[:space:]]+(.*)$ ]]; echo \"<${BASH_REMATCH[2]}>\"", "<b>\n"),
    "bad regular expression": ("[[ a =~ ( ]] 2>/dev/null; echo $?", "2\n"),
    "arithmetic in double brackets": ("n=0; if [[ $n -eq 0 ]]; then echo primary; else echo replica; fi", "primary\n"),
    "date of a description": ("date -u -d '2024-02-29 12:00+02:00' +%FT%T", "2024-02-29T10:00:00\n"),
    "date of seconds": ("date -d @86400 -Iseconds", "1970-01-02T00:00:00+00:00\n"),
    "date that is none": ("date no 2>&1; echo $?; date -d junk 2>&1", "date: invalid date 'no'\n1\ndate: invalid date 'junk'\n"),
    "base64": ("echo -n hi | base64; echo aGk= | base64 -d", "aGk=\nhi"),
    "hostname": ("hostname; cat /etc/hostname", "web-0\nweb-0\n"),
    "script file": ("printf 'echo run $1\\n' > /tmp/s.sh; sh /tmp/s.sh now; chmod +x /tmp/s.sh; /tmp/s.sh again", "run now\nrun again\n"),
    "tar round trip": ("mkdir /tmp/d; echo data > /tmp/d/f; cd /tmp; tar cf - d | tar xf - -C /etc; cat /etc/d/f", "data\n"),
    "set -e with tested command": ("set -e; if false; then :; fi; false || true; echo alive", "alive\n"),
    "date": ("date -u +%Y", "2026\n"),
    "printf": ("printf '%s=%03d\\n' a 7 b 8", "a=007\nb=008\n"),
    "comment": ("echo a # not this\n# nor this\necho b", "a\nb\n"),
    "line continuation": ("echo a \\\n  b", "a b\n"),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_print_what_a_shell_prints(name: str) -> None:
    script, expected = SCRIPTS[name]
    assert run(script, args=("one", "two words"))[1] == expected


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("exit 3", 3), ("false", 1), ("true; false; true", 0), ("nosuch", 127), ("set -e; false; echo unreached", 1), ("echo 'open", 2),
        ("if true", 2),
        ("sh -c 'exit 7'", 7), ("exec false", 1), ("set -u; echo $NOPE", 2), ("(exit 4)", 4), ("true | false", 1),
        ("set -o pipefail; false | true", 1),
        ("echo ${X:?needed}", 2),
    ],
)  # fmt: skip
def test_exit_codes_are_those_of_a_shell(script: str, code: int) -> None:
    assert run(script)[0] == code


def test_sleep_takes_cluster_time() -> None:
    async def main() -> float:
        process = Process(machine(), {}, "/", None, Buffer(), Buffer())
        await run_program(PROGRAMS, ["sh", "-c", "sleep 90; sleep 1m"], process)
        return process.machine.clock.monotonic()

    assert run_virtual(main()) == pytest.approx(150)


def test_an_endless_loop_lets_others_run() -> None:
    async def main() -> str:
        process = Process(machine(), {}, "/", None, Buffer(), Buffer())
        async with asyncio.TaskGroup() as tasks:
            job = tasks.create_task(run_program(PROGRAMS, ["sh", "-c", "while true; do :; done"], process))
            await asyncio.sleep(1)
            job.cancel()
        return "others ran"

    assert run_virtual(main()) == "others ran"


def test_read_only_file_systems_refuse_writes() -> None:
    fs = FileSystem(Dir({"etc": Dir({"f": File(b"x")}, read_only=True), "tmp": Dir()}))
    code, _, err = run("echo y > /etc/f", fs=fs)
    assert code == 1
    assert "Read-only file system" in err
    assert fs.read("/etc/f") == b"x"


@pytest.mark.parametrize(("is_tty", "said"), [(True, "/dev/pts/0\n43 132\n132\n"), (False, "not a tty\n80\n")])
def test_programs_know_their_terminal(is_tty: bool, said: str) -> None:
    async def main() -> str:
        out = Buffer()
        process = Process(machine(), {"PATH": "/bin"}, "/", None, out, Buffer(), is_tty=is_tty)
        if is_tty:
            process.window = lambda: TerminalSize(width=132, height=43)
        await run_program(PROGRAMS, ["sh", "-c", "tty; stty -echo; stty size; tput cols"], process)
        return out.data.decode()

    assert run_virtual(main()) == said


def test_a_terminal_echoes_edits_and_interrupts() -> None:
    async def main() -> bytes:
        raw, out = Pipe(), Buffer()
        terminal = Terminal(raw, out)
        process = Process(
            machine(), {"PATH": "/bin"}, "/", terminal.lines, TerminalOutput(out), TerminalOutput(out), is_tty=True, terminal=terminal
        )
        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(terminal.run())
            job = tasks.create_task(run_program(PROGRAMS, ["sh"], process))
            await asyncio.sleep(0.1)
            raw.feed(b"echo hx\x7fi\r")
            await asyncio.sleep(0.1)
            raw.feed(b"sleep 1000\r")
            await asyncio.sleep(1)
            raw.feed(b"\x03")
            await asyncio.sleep(0.1)
            raw.feed(b"echo code $?\r")
            await asyncio.sleep(0.1)
            raw.feed(b"\x04")
            await job
            reader.cancel()
        return bytes(out.data)

    screen = run_virtual(main()).decode()
    assert "echo hx\b \bi\r\nhi\r\n" in screen
    assert "^C\r\n" in screen
    assert "code 130\r\n" in screen


@pytest.mark.parametrize(
    "script", ["fi", "echo )", "case x in", "for 1 in a; do :; done", "echo $((1 + ))", "a ( b", "${", "|", "&& x", "\x00"]
)
def test_broken_scripts_end_with_an_error_and_nothing_else(script: str) -> None:
    code, out, _ = run(script)
    assert code != 0
    assert out == ""


def test_deep_nesting_is_refused_not_crashed() -> None:
    code, _, err = run("(" * 500 + "true" + ")" * 500)
    assert code == 2
    assert "nested too deeply" in err


def test_syntax_errors_are_of_one_type() -> None:
    assert issubclass(ShellSyntaxError, ValueError)


class OneServer(NoNetwork):
    """A network with one HTTP server called `web`."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def connect(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if host != "web":
            raise LookupError("NXDOMAIN")
        return await asyncio.open_connection("127.0.0.1", self._port)

    async def exchange(self, host: str, port: int, data: bytes, timeout: float) -> bytes:
        return b"answer to " + data


def browse(script: str) -> tuple[int, str, str]:
    """Run a script where http://web/ answers `hello`, http://web/missing 404."""

    async def main() -> tuple[int, str, str]:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            status = b"404 Not Found" if b"/missing" in head else b"200 OK"
            writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 6\r\nContent-Type: text/plain\r\n\r\nhello\n")
            await writer.drain()

        server = Served()
        await server.start(answer)
        host = machine()
        host.network = OneServer(server.port)
        out, err = Buffer(), Buffer()
        code = await run_program(PROGRAMS, ["sh", "-c", script], Process(host, {"PATH": "/bin"}, "/tmp", None, out, err))
        await server.end()
        return code, out.data.decode(), err.data.decode()

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("script", "code", "out"),
    [
        ("wget -qO- http://web/", 0, "hello\n"),
        ("wget -q http://web/page && cat page", 0, "hello\n"),
        ("wget --server-response http://web 2>&1 | awk '/^  HTTP/{print $2}'", 0, "200\n"),
        ("wget -qO- http://web/missing", 1, ""),
        ("echo hello | nc -u -w 1 web 53", 0, "answer to hello\n"),
        ("wget -q --spider http://web/ && echo there", 0, "there\n"),
        ("curl -s http://web/", 0, "hello\n"),
        ("curl -sf http://web/missing", 22, ""),
        ("curl -s -o /dev/null -w '%{http_code}' http://web/missing", 0, "404"),
        ("curl -s http://nowhere/", 6, ""),
        ("nc -z web 80 && echo open", 0, "open\n"),
        ("ncat --listen --keep-open 3307 -c 'cat file'", 127, ""),  # as of any server that the toolbox is not
        ("nc -lk -p 80", 127, ""),
        ("nc nowhere 80 2>&1", 1, "nc: bad address 'nowhere'\n"),
    ],
)
def test_web_programs_fetch_and_judge(script: str, code: int, out: str) -> None:
    assert browse(script)[:2] == (code, out)
