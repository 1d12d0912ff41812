"""The shell's syntax tree."""

from __future__ import annotations

from dataclasses import dataclass, field


class ShellSyntaxError(ValueError):
    """The script cannot be parsed; the message is what a shell prints."""


class IncompleteScript(ShellSyntaxError):
    """More input may complete the script (an open quote, `if` without `fi`)."""


@dataclass(frozen=True, slots=True)
class Literal:
    text: str
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Parameter:
    """`$name` or `${name<op><word>}`; `op` is empty, `#` (length), or one of `:- - := = :+ + :? ? % %% # ## / //`."""

    name: str
    op: str = ""
    word: Word | None = None
    replacement: Word | None = None
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Substitution:
    """`$(script)` or backquotes."""

    script: Script
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """`$((expression))`."""

    expression: Word
    quoted: bool = False


Part = Literal | Parameter | Substitution | Arithmetic


@dataclass(frozen=True, slots=True)
class Word:
    parts: tuple[Part, ...]

    def plain(self) -> str | None:
        """The text if the word is one unquoted literal (a candidate for a reserved word)."""
        if len(self.parts) == 1 and isinstance(self.parts[0], Literal) and not self.parts[0].quoted:
            return self.parts[0].text
        return None


@dataclass(frozen=True, slots=True)
class Redirect:
    """`fd op target`: op is one of `> >> < >& << &>`; a here-document's text is its target."""

    fd: int
    op: str
    target: Word


@dataclass(frozen=True, slots=True)
class Simple:
    """Assignments, words and redirections."""

    assignments: tuple[tuple[str, Word], ...]
    words: tuple[Word, ...]
    redirects: tuple[Redirect, ...]


@dataclass(frozen=True, slots=True)
class Compound:
    """A compound command with redirections."""

    body: Group | Subshell | If | Loop | For | Case
    redirects: tuple[Redirect, ...]


@dataclass(frozen=True, slots=True)
class Group:
    script: Script


@dataclass(frozen=True, slots=True)
class Subshell:
    script: Script


@dataclass(frozen=True, slots=True)
class If:
    branches: tuple[tuple[Script, Script], ...]
    otherwise: Script | None


@dataclass(frozen=True, slots=True)
class Loop:
    condition: Script
    body: Script
    until: bool


@dataclass(frozen=True, slots=True)
class For:
    """`words` None means "$@"."""

    name: str
    words: tuple[Word, ...] | None
    body: Script


@dataclass(frozen=True, slots=True)
class Case:
    word: Word
    arms: tuple[tuple[tuple[Word, ...], Script], ...]


@dataclass(frozen=True, slots=True)
class Function:
    name: str
    body: Compound


Command = Simple | Compound | Function


@dataclass(frozen=True, slots=True)
class Pipeline:
    commands: tuple[Command, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class AndOr:
    """Pipelines joined by `&&` and `||`; `background` if followed by `&`."""

    first: Pipeline
    rest: tuple[tuple[str, Pipeline], ...] = ()
    background: bool = False


@dataclass(frozen=True, slots=True)
class Script:
    items: tuple[AndOr, ...] = field(default_factory=tuple)
