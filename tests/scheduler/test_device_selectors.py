"""The CEL of device selectors."""

from __future__ import annotations

from typing import Any

import pytest

from kubecosm.api.quantity import Quantity
from kubecosm.cel.libraries.numbers import QuantityValue, parse_semver
from kubecosm.cel.values import CelError
from kubecosm.services.scheduler.dra import selectors
from kubecosm.services.scheduler.dra.selectors import Domains

DEVICE = {
    "driver": "gpu.example.com",
    "attributes": Domains({
        "gpu.example.com": {"model": "A100", "cores": 108, "healthy": True, "firmware": parse_semver("1.10.2")},
        "numa.k8s.io": {"node": 1},
    }),
    "capacity": Domains({"gpu.example.com": {"memory": QuantityValue(Quantity.of("40Gi"))}}),
}  # fmt: skip


def evaluate(text: str) -> Any:
    return selectors.evaluate(text, {"device": DEVICE})


@pytest.mark.parametrize(
    "text",
    [
        "true", "device.driver == 'gpu.example.com'", 'device.attributes["gpu.example.com"].model == "A100"',
        "device.attributes['gpu.example.com'].cores >= 100 && device.attributes['gpu.example.com'].healthy",
        "device.capacity['gpu.example.com'].memory.compareTo(quantity('40Gi')) == 0",
        "device.capacity['gpu.example.com'].memory.isGreaterThan(quantity('30Gi'))",
        "quantity('1Gi').add(quantity('1Gi')).isLessThan(quantity('3Gi'))",
        "device.attributes['gpu.example.com'].firmware.isGreaterThan(semver('1.9.0'))",
        "semver('1.0.0-alpha.2').isLessThan(semver('1.0.0-alpha.10')) && semver('1.0.0-rc').isLessThan(semver('1.0.0'))",
        "device.attributes['gpu.example.com'].model in ['A100', 'H100']", "!(device.driver in [])",
        "has(device.attributes['gpu.example.com'].model) && !has(device.attributes['other.example.com'].model)",
        "'gpu.example.com' in device.attributes", "!('x' in device.attributes)",
        "['A100', 'H100'].exists(m, m == device.attributes['gpu.example.com'].model)", "[1, 2].all(x, x > 0)",
        "cel.bind(gpu, device.attributes['gpu.example.com'], gpu.model.startsWith('A') && gpu.cores % 2 == 0)",
        "device.attributes['gpu.example.com'].model.lowerAscii().matches('^a[0-9]+$')",
        "1 + 2 * 3 == 7 && (1 + 2) * 3 == 9 && -7 / 2 == -3",
        "(device.attributes['gpu.example.com'].cores > 200 ? 'big' : 'small') == 'small'", "'a' + 'b' == 'ab' && size('abc') == 3",
        "device.attributes['x.example.com'].y == 1 || true",
        r"'it\'s' == \"it's\"".replace('\\"', '"'),
    ],
)  # fmt: skip
def test_expressions_that_select(text: str) -> None:
    assert evaluate(text) is True


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("device.attributes['other.example.com'].model == 'x'", "no such key: model"),
        ("device.attributes['x.example.com'].y == 1 || false", "no such key: y"), ("1 && true", "found no matching overload"),
        ("'a' < 1", "found no matching overload"), ("foo", "undeclared reference to 'foo'"),
        ("device.driver.frobnicate()", "undeclared reference to 'frobnicate'"),
        ("1 / 0 == 1", "division by zero"), ("quantity('many')", "quantities must match"), ("semver('1')", "invalid semver: 1"),
        ("device.driver ==", "Syntax error"), ("(1", "Syntax error"), ("a b", "Syntax error"), ("#", "token recognition error"),
        ("(" * 100 + "1" + ")" * 100, "recursion limit exceeded"), ("", "Syntax error"),
    ],
)  # fmt: skip
def test_expressions_that_cannot_be_evaluated_say_why(text: str, why: str) -> None:
    with pytest.raises(CelError, match=why):
        evaluate(text)
