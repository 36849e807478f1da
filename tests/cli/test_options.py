"""Flags and the environment."""

from __future__ import annotations

import argparse
import re

import pytest

from tusserver.cli import options
from tusserver.cli.options import Parser
from tusserver.cli.serve import add_options, config_of
from tusserver.config import Config, Cors
from tusserver.model import Limits


def parse(*arguments: str) -> argparse.Namespace:
    parser = Parser(prog="serve")
    add_options(parser)
    return parser.parse_args(arguments)


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("1000", 1000), ("64KB", 64_000), ("512MiB", 512 * 2**20), ("1.5gib", 3 * 2**29), ("2 TiB", 2**41), ("7b", 7)],
)
def test_a_size_takes_units(text: str, value: int) -> None:
    assert options.size(text) == value


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("90", 90), ("1.5s", 1.5), ("15m", 900), ("24h", 86400), ("7d", 604800), ("250ms", 0.25), ("1w", 604800)]
)
def test_a_time_takes_units(text: str, value: float) -> None:
    assert options.seconds(text) == value


@pytest.mark.parametrize(
    ("convert", "text"),
    [
        (options.size, "abc"),
        (options.size, "-1"),
        (options.size, "5 parsecs"),
        (options.size, ""),
        (options.size, "9" * 5000),
        (options.seconds, "soon"),
        (options.seconds, "9" * 400 + "d"),
        (options.positive_seconds, "0"),
        (options.port, "65536"),
        (options.port, "٣"),
        (options.pattern, "("),
        (options.url, "example.com"),
        (options.url, "ftp://example.com"),
        (options.url, "https://user@example.com"),
        (options.base_path, "/a b/"),
    ],
)
def test_a_bad_value_is_named(convert: type, text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=re.escape(repr(text))):
        convert(text)


def test_the_defaults_are_those_of_the_configuration() -> None:
    assert config_of(parse()) == Config()


def test_every_flag_reaches_the_configuration() -> None:
    said = parse(
        *("--max-size", "1KiB", "--expire-after", "24h", "--network-timeout", "5", "--public-url", "https://up.example.com/x"),
        *("--behind-proxy", "--shutdown-timeout", "3", "--sweep-interval", "2", "--cors-allow-origin", "https://a[.]example"),
        *("--cors-allow-credentials", "--cors-allow-methods", "PUT", "--cors-allow-headers", "X-A,X-B", "--cors-expose-headers", "X-C"),
        *("--cors-max-age", "10", "--disable-download", "--disable-termination=finished"),
    )
    cors = Cors(
        allow_origin=re.compile("https://a[.]example"),
        allow_credentials=True,
        allow_methods=("PUT",),
        allow_headers=("X-A", "X-B"),
        expose_headers=("X-C",),
        max_age=10,
    )
    assert config_of(said) == Config(
        limits=Limits(max_size=1024, expire_after=86400, terminate="unfinished", download=False),
        cors=cors,
        public_url="https://up.example.com/x",
        behind_proxy=True,
        network_timeout=5,
        shutdown_timeout=3,
        sweep_interval=2,
    )


def test_what_is_switched_off_is_off() -> None:
    config = config_of(parse("--disable-cors", "--expire-after", "0", "--max-size", "0", "--disable-termination"))
    limits = config.limits
    assert (config.cors, limits.expire_after, limits.max_size, limits.terminate) == (None, None, None, "none")


def test_the_environment_stands_in_for_a_flag_and_the_flag_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUSSERVER_MAX_SIZE", "1KiB")
    monkeypatch.setenv("TUSSERVER_BEHIND_PROXY", "true")
    monkeypatch.setenv("TUSSERVER_DURABILITY", "patch")
    monkeypatch.setenv("TUSSERVER_DISABLE_TERMINATION", "finished")
    said = parse("--max-size", "2KiB")
    assert (said.max_size, said.behind_proxy, said.durability, said.disable_termination) == (2048, True, "patch", "finished")
    assert parse().max_size == 1024


def test_an_empty_variable_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PORT", "PUBLIC_URL", "MAX_SIZE", "BEHIND_PROXY", "DURABILITY", "DISABLE_TERMINATION"):
        monkeypatch.setenv(f"TUSSERVER_{name}", "")
    assert (config_of(parse()), parse().port) == (Config(), 8080)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("MAX_SIZE", "abc"), ("BEHIND_PROXY", "maybe"), ("DURABILITY", "sometimes"), ("PORT", "x"), ("EXPIRE_AFTER", "later")],
)
def test_a_bad_variable_is_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, value: str
) -> None:
    monkeypatch.setenv(f"TUSSERVER_{variable}", value)
    with pytest.raises(SystemExit) as ended:
        parse()
    assert ended.value.code == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert f"TUSSERVER_{variable}" in line
    assert value in line


def test_the_help_names_the_variable_and_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "time without a byte when a body counts as broken off (default: 60s) [TUSSERVER_NETWORK_TIMEOUT]" in text
