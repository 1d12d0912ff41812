"""CEL as admission uses it: the environments of expressions, compilation, and values made plain."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import Any

from cel_expr_python import cel
from cel_expr_python.ext import ext_optional, ext_strings

from .expressions import CompilationError, Environment, EvaluationError, Scope

_LITERAL = re.compile(r"\b(?:Object(?:\.[A-Za-z_][A-Za-z0-9_]*)*|JSONPatch)\s*\{")
_FIELD = re.compile(r"([{,]\s*)([A-Za-z_][A-Za-z0-9_]*)(\s*:)")
_STATUS = re.compile(r"^[A-Z_]+: (.*?)(?: \[[A-Z_]+\])?$", re.DOTALL)
_VALUES = ("object", "oldObject", "request", "namespaceObject", "params", "variables")
PROGRAMS_MAX = 1000
_NAMES = {"BOOL": "bool", "STRING": "string", "NULL": "null_type"}


class Compiled:
    """A program. Only what it names is computed for it."""

    def __init__(self, env: Any, expression: Any, environment: Environment, source: str) -> None:
        self._env, self._expression, self._environment = env, expression, environment
        self._names = tuple(name for name in _VALUES if re.search(rf"\b{name}\b", source))

    def run(self, scope: Scope) -> Any:
        if "variables" in self._names:
            self._compute(scope)
        value = self._expression.eval(self._env.Activation({name: scope.value(name) for name in self._names}))
        if value.type() == cel.Type.ERROR:
            raise EvaluationError(_STATUS.sub(r"\1", str(value.plain_value())))
        return value.plain_value()

    def _compute(self, scope: Scope) -> None:
        for name, source in self._environment.variables.items():
            if name not in scope.computed:
                try:
                    scope.computed[name] = _variable(source, self._environment.has_params).run(scope)
                except EvaluationError:
                    continue


@lru_cache(PROGRAMS_MAX)
def _variable(source: str, has_params: bool) -> Compiled:
    return compile_expression(source, Environment(has_params, mutates=True), ())


@cache
def _environment(has_params: bool) -> Any:
    names = ["object", "oldObject", "request", "namespaceObject", "variables"] + (["params"] if has_params else [])
    text = cel.Type.STRING
    escape = cel.Overload("jsonpatch_escapeKey", text, [text], False, lambda key: key.replace("~", "~0").replace("/", "~1"))
    return cel.NewEnv(
        variables=dict.fromkeys(names, cel.Type.DYN), extensions=[ext_optional.ExtOptional(), ext_strings.ExtStrings()],
        functions=[cel.FunctionDecl("jsonpatch.escapeKey", [escape])],
    )  # fmt: skip


def compile_expression(source: str, environment: Environment, results: tuple[str, ...]) -> Compiled:
    env = _environment(environment.has_params)
    text = source
    if environment.mutates and _LITERAL.search(source):
        text = _FIELD.sub(r'\1"\2"\3', _LITERAL.sub("{", source))
    try:
        expression = env.compile(text)
    except RuntimeError as error:
        raise CompilationError(f"compilation failed: {_STATUS.sub(chr(92) + '1', str(error))}") from None
    found = _NAMES.get(expression.return_type().name(), expression.return_type().name())
    if results and results[0][0].islower() and not results[0].startswith("list") and found not in results:
        raise CompilationError(f"must evaluate to {results[0]}" if len(results) == 1 else f"must evaluate to one of [{' '.join(results)}]")
    return Compiled(env, expression, environment, source)
