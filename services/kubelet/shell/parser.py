"""From text to syntax tree: a recursive-descent parser for the POSIX shell grammar.

Leaves out: aliases, `select`, arrays, process substitution.
"""

from __future__ import annotations

import re

from .syntax import (
    AndOr,
    Case,
    Command,
    Compound,
    For,
    Function,
    Group,
    If,
    IncompleteScript,
    Literal,
    Loop,
    Pipeline,
    Redirect,
    Script,
    ShellSyntaxError,
    Simple,
    Subshell,
    Word,
)  # fmt: skip
from .words import METACHARACTERS, WordParser

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
FUNCTION = re.compile(r"(?:function\s+)?([A-Za-z_][\w-]*)\s*\(\s*\)\s*")
ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=")
REDIRECT = re.compile(r"([0-9]*)(&>|>>|>&|<<-|<<<|<<|<&|>\||>|<)")
DOUBLE_BRACKET_OPERATOR = re.compile(r"&&|\|\||[<>()]")
CLOSERS = frozenset(("then", "else", "elif", "fi", "do", "done", "esac", "}"))


class Parser(WordParser):
    """One script. Use `parse`."""

    # -- lists -------------------------------------------------------------------------------------------------------

    def script(self, closers: frozenset[str] = frozenset(), end: str = "") -> Script:
        """Commands until a reserved word of `closers`, the character `end`, or the end of the text."""
        items: list[AndOr] = []
        while True:
            self._skip_separators()
            if self.at >= len(self.text):
                if closers or end:
                    raise IncompleteScript("syntax error: unexpected end of file")
                return Script(tuple(items))
            if (end and self.text[self.at] == end) or self._peek_word() in closers:
                return Script(tuple(items))
            if self.text[self.at] == ")" or self._peek_word() in CLOSERS or self.text.startswith(";;", self.at):
                raise ShellSyntaxError(f'syntax error: unexpected "{self._peek_word() or self.text[self.at]}"')
            items.append(self._and_or())

    def _and_or(self) -> AndOr:
        first = self._pipeline()
        rest = []
        while True:
            self._skip_blank()
            operator = self.text[self.at : self.at + 2]
            if operator not in ("&&", "||"):
                break
            self.at += 2
            self._skip_newlines()
            rest.append((operator, self._pipeline()))
        background = self._peek() == "&"
        if background or (self._peek() == ";" and not self.text.startswith(";;", self.at)):
            self.at += 1
        return AndOr(first, tuple(rest), background)

    def _pipeline(self) -> Pipeline:
        self._skip_blank()
        negated = False
        while self._peek_word() == "!":
            self.at += 1
            self._skip_blank()
            negated = not negated
        commands = [self._command()]
        while True:
            self._skip_blank()
            if self._peek() != "|" or self.text.startswith("||", self.at):
                return Pipeline(tuple(commands), negated)
            self.at += 1
            self._skip_newlines()
            commands.append(self._command())

    # -- commands ----------------------------------------------------------------------------------------------------

    def _command(self) -> Command:
        self._skip_blank()
        if self.at >= len(self.text):
            raise IncompleteScript("syntax error: unexpected end of file")
        if self._peek() == "(":
            self.at += 1
            script = self._nested_script(end=")")
            self._expect(")")
            return Compound(Subshell(script), self._redirects())
        word = self._peek_word()
        body = self._compound(word)
        if body is not None:
            return Compound(body, self._redirects())
        if function := FUNCTION.match(self.text, self.at):
            self.at = function.end()
            self._skip_newlines()
            command = self._command()
            if not isinstance(command, Compound):
                raise ShellSyntaxError("syntax error: function body must be a compound command")
            return Function(function[1], command)
        return self._simple()

    def _compound(self, word: str) -> Group | If | Loop | For | Case | None:
        """The compound command that a reserved word begins; None if the word is none."""
        match word:
            case "{":
                return self._group()
            case "if":
                return self._if()
            case "while" | "until":
                return self._loop()
            case "for":
                return self._for()
            case "case":
                return self._case()
        return None

    def _group(self) -> Group:
        self._keyword("{")
        script = self._nested_script(frozenset("}"))
        self._keyword("}")
        return Group(script)

    def _if(self) -> If:
        self._keyword("if")
        branches = []
        while True:
            condition = self._nested_script(frozenset(("then",)))
            self._keyword("then")
            body = self._nested_script(frozenset(("elif", "else", "fi")))
            branches.append((condition, body))
            if self._peek_word() != "elif":
                break
            self._keyword("elif")
        otherwise = None
        if self._peek_word() == "else":
            self._keyword("else")
            otherwise = self._nested_script(frozenset(("fi",)))
        self._keyword("fi")
        return If(tuple(branches), otherwise)

    def _loop(self) -> Loop:
        until = self._peek_word() == "until"
        self._keyword("until" if until else "while")
        condition = self._nested_script(frozenset(("do",)))
        return Loop(condition, self._do(), until)

    def _do(self) -> Script:
        self._keyword("do")
        body = self._nested_script(frozenset(("done",)))
        self._keyword("done")
        return body

    def _for(self) -> For:
        self._keyword("for")
        self._skip_blank()
        name = NAME.match(self.text, self.at)
        if name is None:
            raise ShellSyntaxError("syntax error: bad for loop variable")
        self.at = name.end()
        self._skip_newlines()
        words: list[Word] | None = None
        if self._peek_word() == "in":
            self._keyword("in")
            words = []
            while self._skip_blank() or self._peek() not in ("", ";", "\n"):
                words.append(self.word())
        self._skip_separators()
        return For(name[0], None if words is None else tuple(words), self._do())

    def _case(self) -> Case:
        self._keyword("case")
        self._skip_blank()
        word = self.word()
        self._skip_newlines()
        self._keyword("in")
        arms = []
        while True:
            self._skip_separators()
            if self._peek_word() == "esac":
                break
            if self._peek() == "(":
                self.at += 1
            patterns = [self._pattern()]
            while self._peek() == "|":
                self.at += 1
                patterns.append(self._pattern())
            self._expect(")")
            body = self._case_body()
            arms.append((tuple(patterns), body))
        self._keyword("esac")
        return Case(word, tuple(arms))

    def _pattern(self) -> Word:
        self._skip_blank()
        word = self.word()
        self._skip_blank()
        return word

    def _case_body(self) -> Script:
        items: list[AndOr] = []
        while True:
            self._skip_separators(stop_at_double=True)
            if self.text.startswith(";;", self.at):
                self.at += 2
                return Script(tuple(items))
            if self._peek_word() == "esac":
                return Script(tuple(items))
            if self.at >= len(self.text):
                raise IncompleteScript("syntax error: unexpected end of file")
            items.append(self._and_or())

    def _double_bracket(self) -> Simple:
        """`[[ … ]]`: everything up to the closing word are arguments, operators too."""
        words = [Word((Literal("[["),))]
        self.at += 2
        while True:
            self._skip_newlines()
            operator = DOUBLE_BRACKET_OPERATOR.match(self.text, self.at)
            if operator is not None:
                words.append(Word((Literal(operator[0], quoted=True),)))
                self.at = operator.end()
            else:
                words.append(self.word())
            if words[-1].plain() == "=~":
                self._skip_blank()
                words.append(self.word(" \t\n"))  # parentheses and bars are its own
            if words[-1].plain() == "]]":
                return Simple((), tuple(words), self._redirects())

    def _simple(self) -> Simple:
        if self._peek_word() == "[[":
            return self._double_bracket()
        assignments: list[tuple[str, Word]] = []
        words: list[Word] = []
        redirects: list[Redirect] = []
        start = self.at
        while True:
            self._skip_blank()
            char = self._peek()
            redirect = REDIRECT.match(self.text, self.at)
            if redirect is not None:
                redirects.append(self._redirect(redirect))
            elif char == "" or char in METACHARACTERS or (char == "#" and self._at_word_start()):
                break
            elif not words and (assignment := ASSIGNMENT.match(self.text, self.at)):
                self.at = assignment.end()
                empty = self._peek() == "" or self._peek() in METACHARACTERS
                assignments.append((assignment[1], Word(()) if empty else self.word()))
            else:
                words.append(self.word())
        if self.at == start:
            raise ShellSyntaxError(f'syntax error: unexpected "{self._peek() or "end of file"}"')
        return Simple(tuple(assignments), tuple(words), tuple(redirects))

    def _redirects(self) -> tuple[Redirect, ...]:
        found: list[Redirect] = []
        while True:
            self._skip_blank()
            match = REDIRECT.match(self.text, self.at)
            if match is None:
                return tuple(found)
            found.append(self._redirect(match))

    def _redirect(self, match: re.Match[str]) -> Redirect:
        self.at = match.end()
        op = match[2]
        fd = int(match[1]) if match[1] else (0 if op.startswith("<") else 1)
        self._skip_blank()
        if op in ("<<", "<<-"):
            return Redirect(fd, "<<", self._here_document(strip_tabs=op == "<<-"))
        target = self.word()
        if op == "<<<":
            return Redirect(fd, "<<", Word((*target.parts, Literal("\n", quoted=True))))
        return Redirect(fd, {">|": ">", "<&": "<&"}.get(op, op), target)

    def _here_document(self, *, strip_tabs: bool) -> Word:
        """Take the document's lines out of the text below the current line."""
        raw_start = self.at
        delimiter_word = self.word()
        quoted = any(char in "'\"\\" for char in self.text[raw_start : self.at])
        delimiter = "".join(part.text for part in delimiter_word.parts if isinstance(part, Literal))
        line_end = self.text.find("\n", self.at)
        if line_end < 0:
            raise IncompleteScript("here-document without end")
        lines, position = [], line_end + 1
        while True:
            if position > len(self.text) or position == len(self.text):
                raise IncompleteScript("here-document without end")
            next_end = self.text.find("\n", position)
            line = self.text[position : next_end if next_end >= 0 else len(self.text)]
            position = next_end + 1 if next_end >= 0 else len(self.text)
            if strip_tabs:
                line = line.lstrip("\t")
            if line == delimiter:
                break
            lines.append(line + "\n")
        self.text = self.text[: line_end + 1] + self.text[position:]
        body = "".join(lines)
        if quoted:
            return Word((Literal(body, quoted=True),))
        return Word(tuple(self._inner(body).quoted_parts("")))


def parse(text: str) -> Script:
    """The tree of a whole script; ShellSyntaxError (IncompleteScript if more input could help)."""
    return Parser(text).script()
