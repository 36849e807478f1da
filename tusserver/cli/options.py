"""How flags are spelled: sizes, times, and the variable of the environment behind each flag.

The law: what a flag says wins over its variable, and the variable over the default. A bad value of either is one clear line, and exit status 2.
"""

from __future__ import annotations

import argparse
import os
import re
from typing import Any, NoReturn

SIZES = {"": 1, "B": 1, **{f"{unit}{tail}": base**power for base, tail in ((1000, "B"), (1024, "iB")) for power, unit in enumerate("KMGT", 1)}}
TIMES = {"": 1.0, "MS": 0.001, "S": 1.0, "M": 60.0, "H": 3600.0, "D": 86400.0, "W": 604800.0}
DIGITS = 30  # more say nothing that the disk, or the clock, could hold
_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)")


class Parser(argparse.ArgumentParser):
    """Every option may also come from the environment, as `TUSSERVER_` and its name."""

    def option(self, flag: str, **settings: Any) -> None:
        """Add an option; its default may be overridden by the environment.

        Args:
            flag: With its dashes.
            settings: As for `add_argument`, with `default` as the text that the help shows.
        """
        variable = "TUSSERVER_" + flag.lstrip("-").replace("-", "_").upper()
        value = os.environ.get(variable) or None  # an empty one says nothing, as in a file of variables with gaps
        if settings.get("action") == "store_true":
            settings["default"] = self._switch(variable, value)
        elif value is not None:
            settings["default"] = self._checked(variable, value, settings)
        shown = "" if settings.get("default") in {None, False, ""} else " (default: %(default)s)"
        settings["help"] = f"{settings['help']}{shown} [{variable}]"
        self.add_argument(flag, **settings)

    def _switch(self, variable: str, value: str | None) -> bool:
        words = {None: False, "": False, "0": False, "false": False, "no": False, "1": True, "true": True, "yes": True}
        key = None if value is None else value.strip().lower()
        if key not in words:
            self.error(f"{variable}: {value!r} is neither true nor false")
        return words[key]

    def _checked(self, variable: str, value: str, settings: dict[str, Any]) -> str:
        choices = settings.get("choices")
        if choices is not None and value not in choices:
            self.error(f"{variable}: {value!r} is none of {', '.join(choices)}")
        try:
            settings.get("type", str)(value)
        except (argparse.ArgumentTypeError, ValueError) as error:
            self.error(f"{variable}: {error}")
        return value

    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line, and exit with 2."""
        self.exit(2, f"{self.prog}: {message}\n")


def size(text: str) -> int:
    """A number of bytes: `1000`, `64KB` (thousands), `512MiB` (powers of 1024)."""
    return int(_scaled(text, SIZES, "a size such as 500000, 64KB or 512MiB"))


def seconds(text: str) -> float:
    """A time: `90`, `1.5s`, `30m`, `24h`, `7d`."""
    return _scaled(text, TIMES, "a time such as 90, 30s, 15m, 24h or 7d")


def positive_seconds(text: str) -> float:
    """A time that is not 0."""
    value = seconds(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not more than 0 seconds")
    return value


def _scaled(text: str, units: dict[str, Any], wanted: str) -> float:
    match = _NUMBER.fullmatch(text.strip())
    by_name = {name.upper(): factor for name, factor in units.items()}
    if match is None or match[2].upper() not in by_name:
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
    if len(match[1]) > DIGITS:
        raise argparse.ArgumentTypeError(f"{text!r} is too large")
    number = float(match[1]) if "." in match[1] else int(match[1])
    return number * by_name[match[2].upper()]  # type: ignore[no-any-return]  # a number of the table


def port(text: str) -> int:
    """0 … 65535; 0 takes a free one."""
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: 0 to 65535")
    return int(text)


def pattern(text: str) -> re.Pattern[str]:
    """A regular expression."""
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from None


def words(text: str) -> tuple[str, ...]:
    """Names, separated by commas."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def url(text: str) -> str:
    """Scheme, host and an optional prefix."""
    if not re.fullmatch(r"https?://[^/?#\s@]+(?:/[^?#\s]*)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no URL such as https://example.com or https://example.com/prefix")
    return text


def base_path(text: str) -> str:
    """A path with a slash at both ends."""
    path = "/" + text.strip("/") + "/" if text.strip("/") else "/"
    if not re.fullmatch(r"/(?:[A-Za-z0-9._~-]+/)*", path):
        raise argparse.ArgumentTypeError(f"{text!r} is no path such as /files/")
    return path
