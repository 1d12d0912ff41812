"""Flags, environment variables and help all come from one dataclass."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from kubecosm.runtime import flags
from kubecosm.runtime.errors import FlagError
from kubecosm.runtime.flags import Duration

COMMAND = "python -m kubecosm.services.apiserver"


@dataclass(frozen=True)
class Config:
    secure_port: int = field(default=6443, metadata={"help": "port to serve on"})
    profiling: bool = field(default=True, metadata={"help": "serve profiles"})
    grace_period: Duration = field(default=Duration(40.0), metadata={"help": "how long to wait"})
    feature_gates: tuple[str, ...] = field(default=(), metadata={"help": "features"})
    ratio: float = 0.5
    data_dir: Path = Path("data")
    mode: Literal["fast", "safe"] = "safe"
    token_file: str | None = None
    secret: int = field(default=-1, metadata={"hidden": True})

    def __post_init__(self) -> None:
        if self.ratio > 1:
            raise ValueError("--ratio cannot exceed 1")


@dataclass(frozen=True)
class Strict:
    kubeconfig: str = field(metadata={"help": "how to reach the API server"})


def parse(*argv: str, **environ: str) -> Config:
    return flags.parse(Config, argv, environ, program="apiserver")


def test_defaults_need_no_arguments() -> None:
    assert parse() == Config()


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        pytest.param(["--secure-port=1"], Config(secure_port=1), id="equals"),
        pytest.param(["--secure-port", "1"], Config(secure_port=1), id="next-word"),
        pytest.param(["--secure_port=1"], Config(secure_port=1), id="underscore"),
        pytest.param(["--profiling=false"], Config(profiling=False), id="bool-false"),
        pytest.param(["--profiling"], Config(profiling=True), id="bool-alone"),
        pytest.param(["--grace-period=1m30s"], Config(grace_period=Duration(90)), id="go-duration"),
        pytest.param(["--grace-period=250ms"], Config(grace_period=Duration(0.25)), id="milliseconds"),
        pytest.param(["--grace-period=2.5"], Config(grace_period=Duration(2.5)), id="bare-seconds"),
        pytest.param(["--feature-gates=a, b", "--feature-gates", "c"], Config(feature_gates=("a", "b", "c")), id="tuple-adds-up"),
        pytest.param(["--data-dir=/x"], Config(data_dir=Path("/x")), id="path"),
        pytest.param(["--mode=fast"], Config(mode="fast"), id="literal"),
        pytest.param(["--token-file=t"], Config(token_file="t"), id="optional"),
        pytest.param(["--token-file="], Config(token_file=None), id="optional-empty"),
    ],
)
def test_each_type_reads_its_own_form(argv: list[str], expected: Config) -> None:
    assert parse(*argv) == expected


def test_environment_counts_where_no_flag_is_given() -> None:
    environ = {"KUBECOSM_APISERVER_SECURE_PORT": "7", "KUBECOSM_APISERVER_RATIO": "0.25"}
    assert parse("--ratio=0.75", **environ) == Config(secure_port=7, ratio=0.75)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        pytest.param(["--secure-prt=1"], f"unknown flag --secure-prt (did you mean --secure-port?): see {COMMAND} --help", id="typo"),
        pytest.param(["--secure-port=x"], "invalid value 'x' for --secure-port: expected a whole number", id="not-a-number"),
        pytest.param(["--secure-port"], "flag --secure-port needs a value (int)", id="no-value"),
        pytest.param(["serve"], f"unexpected argument 'serve': options start with --, see {COMMAND} --help", id="stray-word"),
        pytest.param(["--mode=slow"], "invalid value 'slow' for --mode: expected one of fast, safe", id="not-a-choice"),
        pytest.param(["--profiling=si"], "invalid value 'si' for --profiling: expected true or false", id="not-a-bool"),
        pytest.param(
            ["--grace-period=5 parsecs"],
            "invalid value '5 parsecs' for --grace-period: expected a duration such as 250ms, 40s or 1m30s",
            id="not-a-duration",
        ),
        pytest.param(["--ratio=2"], "invalid flags: --ratio cannot exceed 1", id="refused-by-the-dataclass"),
    ],
)
def test_wrong_flags_get_one_line_that_says_what_to_do(argv: list[str], message: str) -> None:
    with pytest.raises(FlagError) as raised:
        parse(*argv)
    assert raised.value.message == message


def test_wrong_environment_names_the_variable() -> None:
    with pytest.raises(FlagError, match="for KUBECOSM_APISERVER_SECURE_PORT: expected a whole number"):
        parse(KUBECOSM_APISERVER_SECURE_PORT="x")


def test_required_flag_says_what_it_is_for() -> None:
    with pytest.raises(FlagError, match=r"--kubeconfig is required \(how to reach the API server\).*KUBECOSM_PROXY_KUBECONFIG"):
        flags.parse(Strict, [], {}, program="proxy")


def test_help_lists_every_visible_flag_with_default_and_variable() -> None:
    with pytest.raises(flags.HelpRequested) as raised:
        parse("--help")
    text = str(raised.value)
    assert "--secure-port int" in text
    assert "port to serve on (default '6443'; env KUBECOSM_APISERVER_SECURE_PORT)" in text
    assert "--mode fast|safe" in text
    assert "secret" not in text


def test_arguments_written_are_read_back_the_same() -> None:
    config = Config(1, profiling=False, grace_period=Duration(1.5), feature_gates=("a", "b"), token_file="t", data_dir=Path("/x"))
    assert parse(*flags.to_arguments(config)) == config
    assert flags.to_arguments(Config()) == []


def test_two_dataclasses_share_one_command_line() -> None:
    config, strict = flags.parse_all((Config, Strict), ["--kubeconfig=k", "--secure-port=1"], {}, program="x")
    assert (config, strict) == (Config(secure_port=1), Strict("k"))
