"""Kubernetes quantities (`500m`, `1Gi`, `1e3`): exact parsing, canonical text, arithmetic and comparison.

Imitates k8s.io/apimachinery/pkg/api/resource. A value is kept as an integer number of nanos, the finest a quantity can hold.
Left out: the silent int64 overflow of Go's accessors (Python integers do not overflow) and exponents beyond ±EXPONENT_MAX.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache, total_ordering

DECIMAL_EXPONENT = "DecimalExponent"
DECIMAL_SI = "DecimalSI"
BINARY_SI = "BinarySI"

NANO, MILLI = -9, -3

FORMAT_ERROR = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
SUFFIX_ERROR = "unable to parse quantity's suffix"

EXPONENT_MAX = 1000
"""Larger decimal exponents are refused: one would make this process compute an integer of that many digits."""
CACHE_SIZE = 4096
_BINARY_MAX = (2**63 - 1) * 10**9
_INT64_DIGITS = 18

_SPLIT = re.compile(r"[+-]?0*([0-9]*)(?:\.([0-9]*))?([eEinumkKMGTP]*[-+]?[0-9]*)\Z", re.ASCII)
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL_SUFFIX = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_BINARY_SUFFIX = {0: "", **{exponent: suffix for suffix, exponent in _BINARY.items()}}
_EXPONENT = re.compile(r"[eE]([-+]?[0-9]+)\Z", re.ASCII)


class QuantityError(ValueError):
    """The text is not a quantity; the message is the one Kubernetes gives."""


@total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class Quantity:
    """An exact amount. Two are equal when their amounts are, whatever their format."""

    nanos: int
    format: str = DECIMAL_SI
    text: str = field(default="", repr=False)
    """The text it was parsed from if that is to be kept, else empty: the canonical text is computed."""

    @staticmethod
    def of(value: str | int | float) -> Quantity:
        """Parse text, or a JSON number; QuantityError if it is not a quantity. Remembers what it parsed."""
        return parse(value if isinstance(value, str) else _number_text(value))

    @staticmethod
    def from_value(value: int, format: str = DECIMAL_SI) -> Quantity:
        return Quantity(value * 10**9, format)

    @staticmethod
    def from_milli(value: int, format: str = DECIMAL_SI) -> Quantity:
        return Quantity(value * 10**6, format)

    def scaled_value(self, scale: int) -> int:
        """The amount in units of 10**scale, rounded away from zero."""
        return _divide_away(self.nanos, 10 ** (scale - NANO)) if scale >= NANO else self.nanos * 10 ** (NANO - scale)

    def value(self) -> int:
        """Whole units, rounded away from zero."""
        return self.scaled_value(0)

    def milli_value(self) -> int:
        """Thousandths, rounded away from zero."""
        return self.scaled_value(MILLI)

    def round_up(self, scale: int) -> Quantity:
        """This amount without anything finer than 10**scale (Quantity.RoundUp, which defaulting applies at milli)."""
        unit = 10 ** (scale - NANO)
        return self if self.nanos % unit == 0 else Quantity(_divide_away(self.nanos, unit) * unit, self.format)

    def __str__(self) -> str:
        return self.text or _canonical(self.nanos, self.format)

    def __bool__(self) -> bool:
        return self.nanos != 0

    def __add__(self, other: Quantity) -> Quantity:
        return Quantity(self.nanos + other.nanos, self.format if self.nanos else other.format)

    def __sub__(self, other: Quantity) -> Quantity:
        return Quantity(self.nanos - other.nanos, self.format if self.nanos else other.format)

    def __neg__(self) -> Quantity:
        return Quantity(-self.nanos, self.format)

    def __mul__(self, factor: int) -> Quantity:
        return Quantity(self.nanos * factor, self.format)

    def __eq__(self, other: object) -> bool:
        return self.nanos == other.nanos if isinstance(other, Quantity) else NotImplemented

    def __lt__(self, other: Quantity) -> bool:
        return self.nanos < other.nanos

    def __hash__(self) -> int:
        return hash(self.nanos)


@lru_cache(maxsize=CACHE_SIZE)
def parse(text: str) -> Quantity:
    """The quantity that `text` stands for; QuantityError with Kubernetes' message if it stands for none."""
    if text == "0":
        return Quantity(0, DECIMAL_SI, text)
    match = _SPLIT.match(text) if text else None
    if match is None:
        raise QuantityError(FORMAT_ERROR)
    whole, fraction, suffix = match[1] or "0", match[2] or "", match[3]
    exponent, format = _interpret(suffix)
    digits = int(whole + fraction)
    scale = -len(fraction) if format == BINARY_SI else exponent - len(fraction)
    unscaled = digits << exponent if format == BINARY_SI else digits
    nanos = unscaled * 10 ** (scale - NANO) if scale >= NANO else -(-unscaled // 10 ** (NANO - scale))
    if format == BINARY_SI:
        if nanos > _BINARY_MAX:
            nanos = _BINARY_MAX
        if 0 < nanos < 10**9:
            format = DECIMAL_SI
    kept = text if _is_kept(whole, fraction, digits, scale, exponent, format) else ""
    return Quantity(-nanos if text[0] == "-" else nanos, format, kept)


@lru_cache(maxsize=CACHE_SIZE)
def canonical(text: str) -> str:
    """How a server gives this quantity back: `1000m` → `1`, `1.5Gi` → `1536Mi`."""
    return str(parse(text))


@lru_cache(maxsize=CACHE_SIZE)
def milli_value(value: str | int | float) -> int:
    """Thousandths of a quantity as it stands in an object."""
    return Quantity.of(value).milli_value()


@lru_cache(maxsize=CACHE_SIZE)
def whole_value(value: str | int | float) -> int:
    """Whole units of a quantity as it stands in an object, rounded away from zero."""
    return Quantity.of(value).value()


def _number_text(value: int | float) -> str:
    return repr(value).replace("e+", "e")


def _interpret(suffix: str) -> tuple[int, str]:
    if suffix in _DECIMAL:
        return _DECIMAL[suffix], DECIMAL_SI
    if suffix in _BINARY:
        return _BINARY[suffix], BINARY_SI
    match = _EXPONENT.match(suffix)
    if match is None or len(match[1]) > 6 or abs(int(match[1])) > EXPONENT_MAX:
        raise QuantityError(SUFFIX_ERROR)
    return int(match[1]), DECIMAL_EXPONENT


def _is_kept(whole: str, fraction: str, digits: int, scale: int, exponent: int, format: str) -> bool:
    """Whether Go's fast path would keep the text it parsed: a cheap, not quite exact test for canonical text."""
    if format == BINARY_SI:
        small = 15 - len(whole) - int(exponent * 3 / 10) - 1 >= 0
        return small and not fraction and digits & 7 != 0
    shifted = whole + fraction
    return len(shifted) <= _INT64_DIGITS and scale >= NANO and scale % 3 == 0 and not shifted.endswith("000") and shifted[0] != "0"


def _canonical(nanos: int, format: str) -> str:
    """The text with the largest suffix that leaves no fraction (Quantity.CanonicalizeBytes)."""
    if nanos == 0:
        return "0"
    if format == BINARY_SI and abs(nanos) >= 1024 * 10**9 and nanos % 10**9 == 0:
        mantissa, power = nanos // 10**9, 0
        while mantissa % 1024 == 0 and power < 60:
            mantissa //= 1024
            power += 10
        return f"{mantissa}{_BINARY_SUFFIX[power]}"
    mantissa, exponent = nanos, NANO
    while mantissa % 1000 == 0:
        mantissa //= 1000
        exponent += 3
    if exponent == 0:
        return str(mantissa)
    if format != DECIMAL_EXPONENT and exponent in _DECIMAL_SUFFIX:
        return f"{mantissa}{_DECIMAL_SUFFIX[exponent]}"
    return f"{mantissa}e{exponent}"


def _divide_away(amount: int, unit: int) -> int:
    return -(-amount // unit) if amount >= 0 else amount // unit
