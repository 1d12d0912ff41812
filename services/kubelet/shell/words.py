"""The lexical half of the shell's parser: words with their quotes and expansions, blanks, comments, single characters."""

from __future__ import annotations

import re

from .syntax import Arithmetic, IncompleteScript, Literal, Parameter, Part, Script, ShellSyntaxError, Substitution, Word

PARAMETER_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]+|[?$!#@*-]")
PARAMETER_OPS = (":-", ":=", ":+", ":?", "%%", "##", "//", "-", "=", "+", "?", "%", "#", "/")
ARRAY_INDEX = re.compile(r"\[[0-9]+\]")
METACHARACTERS = " \t\n;&|<>()"
NESTING_MAX = 100


class WordParser:
    """Reads words of `text` from `at` on. The grammar of scripts is added by `Parser`, which substitutions need: hence `script`."""

    def __init__(self, text: str, depth: int = 0) -> None:
        self.text = text
        self.at = 0
        self._depth = depth
        if depth > NESTING_MAX:
            raise ShellSyntaxError("script nested too deeply")

    def script(self, closers: frozenset[str] = frozenset(), end: str = "") -> Script:
        raise NotImplementedError

    def _nested_script(self, closers: frozenset[str] = frozenset(), end: str = "") -> Script:
        self._depth += 1
        if self._depth > NESTING_MAX:
            raise ShellSyntaxError("script nested too deeply")
        script = self.script(closers, end)
        self._depth -= 1
        return script

    def _inner(self, text: str) -> WordParser:
        """A parser of the same kind for a part of the script."""
        return type(self)(text, self._depth + 1)

    # -- words -------------------------------------------------------------------------------------------------------

    def word(self, stop: str = METACHARACTERS) -> Word:
        """One word up to an unquoted character of `stop`."""
        parts: list[Part] = []
        start = self.at
        while self.at < len(self.text) and self.text[self.at] not in stop:
            parts.extend(self._parts(stop))
        if self.at == start:
            raise ShellSyntaxError(f'syntax error: unexpected "{self._peek() or "newline"}"')
        return Word(tuple(parts))

    def _parts(self, stop: str) -> list[Part]:
        char = self.text[self.at]
        if char == "'":
            return [Literal(self._until("'"), quoted=True)]
        if char == '"':
            self.at += 1
            inner = self._inner(self.text)
            inner.at = self.at
            parts = inner.quoted_parts('"')
            self.at = inner.at
            self._expect('"')
            return parts
        if char == "\\":
            self.at += 2
            escaped = self.text[self.at - 1 : self.at]
            return [Literal("" if escaped == "\n" else escaped, quoted=True)]
        if char in "$`":
            part = self._expansion(quoted=False)
            if part is not None:
                return [part]
        start = self.at
        self.at += 1
        while self.at < len(self.text) and self.text[self.at] not in stop and self.text[self.at] not in "'\"\\$`":
            self.at += 1
        return [Literal(self.text[start : self.at])]

    def quoted_parts(self, end: str) -> list[Part]:
        """What stands inside double quotes (or a here-document when `end` is empty), up to the closing character."""
        parts: list[Part] = []
        text = ""
        while True:
            if self.at >= len(self.text):
                if end:
                    raise IncompleteScript("syntax error: unterminated quoted string")
                break
            char = self.text[self.at]
            if end and char == end:
                break
            if char == "\\" and self.at + 1 < len(self.text) and self.text[self.at + 1] in '$`"\\\n':
                escaped = self.text[self.at + 1]
                text += "" if escaped == "\n" else escaped
                self.at += 2
                continue
            if char in "$`":
                part = self._expansion(quoted=True)
                if part is not None:
                    if text:
                        parts.append(Literal(text, quoted=True))
                    parts.append(part)
                    text = ""
                    continue
            text += char
            self.at += 1
        if text or not parts:
            parts.append(Literal(text, quoted=True))
        return parts

    def _until(self, quote: str) -> str:
        end = self.text.find(quote, self.at + 1)
        if end < 0:
            raise IncompleteScript("syntax error: unterminated quoted string")
        text = self.text[self.at + 1 : end]
        self.at = end + 1
        return text

    def _expansion(self, *, quoted: bool) -> Part | None:
        """An expansion at `$` or a backquote; None if the `$` stands for itself."""
        if self.text[self.at] == "`":
            source = self._until_backquote()
            return Substitution(self._inner(source).script(), quoted)
        if self.text.startswith("$((", self.at):
            return self._arithmetic(quoted)
        if self.text.startswith("$(", self.at):
            self.at += 2
            script = self._nested_script(end=")")
            self._expect(")")
            return Substitution(script, quoted)
        if self.text.startswith("${", self.at):
            self.at += 2
            return self._braced(quoted)
        match = PARAMETER_NAME.match(self.text, self.at + 1)
        if match is None:
            return None
        name = match[0] if not match[0].isdigit() else match[0][0]
        self.at += 1 + len(name)
        return Parameter(name, quoted=quoted)

    def _until_backquote(self) -> str:
        end = self.at + 1
        while end < len(self.text) and self.text[end] != "`":
            end += 2 if self.text[end] == "\\" else 1
        if end >= len(self.text):
            raise IncompleteScript("syntax error: unterminated backquote")
        source = re.sub(r"\\([`$\\])", r"\1", self.text[self.at + 1 : end])
        self.at = end + 1
        return source

    def _arithmetic(self, quoted: bool) -> Arithmetic:
        depth, end = 2, self.at + 3
        while end < len(self.text) and depth:
            depth += {"(": 1, ")": -1}.get(self.text[end], 0)
            end += 1
        if depth:
            raise IncompleteScript("syntax error: unterminated arithmetic")
        source = self.text[self.at + 3 : end - 2]
        self.at = end
        return Arithmetic(Word(tuple(self._inner(source).quoted_parts(""))), quoted)

    def _braced(self, quoted: bool) -> Parameter:
        is_length = self._peek() == "#" and self.text[self.at + 1 : self.at + 2] != "}"
        if is_length:
            self.at += 1
        match = PARAMETER_NAME.match(self.text, self.at)
        if match is None:
            raise ShellSyntaxError("bad substitution")
        self.at = match.end()
        if is_length:
            self._expect("}")
            return Parameter(match[0], "length", quoted=quoted)
        name = match[0]
        if index := ARRAY_INDEX.match(self.text, self.at):
            name += index[0]
            self.at = index.end()
        op = next((op for op in PARAMETER_OPS if self.text.startswith(op, self.at)), "")
        self.at += len(op)
        word = replacement = None
        if op:
            word = self._operand("/}" if op in ("/", "//") else "}")
            if op in ("/", "//") and self._peek() == "/":
                self.at += 1
                replacement = self._operand("}")
        self._expect("}")
        return Parameter(name, op, word, replacement, quoted)

    def _operand(self, stop: str) -> Word:
        if self._peek() != "" and self._peek() in stop:
            return Word(())
        return self.word(stop)

    # -- characters --------------------------------------------------------------------------------------------------

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _peek_word(self) -> str:
        end = self.at
        while end < len(self.text) and self.text[end] not in METACHARACTERS:
            end += 1
        return self.text[self.at : end]

    def _at_word_start(self) -> bool:
        return self.at == 0 or self.text[self.at - 1] in METACHARACTERS

    def _keyword(self, word: str) -> None:
        self._skip_separators()
        if self._peek_word() != word:
            if self.at >= len(self.text):
                raise IncompleteScript(f'syntax error: unexpected end of file (expecting "{word}")')
            raise ShellSyntaxError(f'syntax error: unexpected "{self._peek_word()}" (expecting "{word}")')
        self.at += len(word)

    def _expect(self, char: str) -> None:
        if self._peek() != char:
            if self.at >= len(self.text):
                raise IncompleteScript(f'syntax error: unexpected end of file (expecting "{char}")')
            raise ShellSyntaxError(f'syntax error: unexpected "{self._peek()}" (expecting "{char}")')
        self.at += 1

    def _skip_blank(self) -> bool:
        """Skip spaces, line continuations and comments; returns False, for use in conditions."""
        while self.at < len(self.text):
            if self.text[self.at] in " \t":
                self.at += 1
            elif self.text.startswith("\\\n", self.at):
                self.at += 2
            elif self.text[self.at] == "#" and self._at_word_start():
                end = self.text.find("\n", self.at)
                self.at = end if end >= 0 else len(self.text)
            else:
                break
        return False

    def _skip_newlines(self) -> None:
        self._skip_blank()
        while self._peek() == "\n":
            self.at += 1
            self._skip_blank()

    def _skip_separators(self, *, stop_at_double: bool = False) -> None:
        self._skip_blank()
        while self._peek() == "\n" or (self._peek() == ";" and not (stop_at_double and self.text.startswith(";;", self.at))):
            self.at += 1
            self._skip_blank()
