"""Every setting of minimx, in one typed place: name, environment variable, default and meaning.

Each is read once from the environment, when minimx is imported, and may be set afterwards: `settings.fusion = False`.
`python -m minimx.config` prints the table with the values in force. Layers to the right (engine, rtc) read `settings`
and hand their C++ part what it needs; nothing else reads the environment. Standard library only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from minimx.errors import ArgumentError, NameNotFound

__all__ = ["Setting", "Settings", "settings"]

T = TypeVar("T")


def _flag(text: str) -> bool:
    return {"1": True, "on": True, "true": True, "0": False, "off": False, "false": False}[text.lower()]


def _replay(text: str) -> bool | None:
    return None if text.lower() in ("none", "auto") else _flag(text)


def _positive(text: str) -> int:
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def _bulk(text: str) -> int:
    if int(text) < -1:
        raise ValueError(text)
    return int(text)


def _engine(text: str) -> str:
    return {"threaded": "threaded", "naive": "naive"}[text]


def _cores() -> int:
    return len(os.sched_getaffinity(0))  # what this process may use, which a container may narrow


def _cache_dir() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minimx"


class Setting(Generic[T]):
    """One setting: ``parse`` turns text into its value or raises; ``rule`` says in words what it accepts."""

    def __init__(self, parse: Callable[[str], T], default: Callable[[], T], rule: str, meaning: str) -> None:
        self.parse, self.default, self.rule, self.meaning = parse, default, rule, meaning

    def __set_name__(self, owner: type, name: str) -> None:
        self.name, self.variable = name, "MINIMX_" + name.upper()

    def __get__(self, values: Settings, owner: type) -> T:
        return values.__dict__[self.name]

    def __set__(self, values: Settings, value: T) -> None:
        values.__dict__[self.name] = self.read(f"settings.{self.name}", value)

    def read(self, where: str, value: T | str) -> T:
        """The value that ``value`` (text, or already of the right type) stands for; ``ArgumentError`` if none."""
        try:
            return self.parse(str(value))
        except (KeyError, ValueError):
            raise ArgumentError(where, self.rule, repr(value), f"It means: {self.meaning}") from None


class Settings:
    """The values in force: attributes, checked when set.

    >>> Settings({"MINIMX_FUSION": "off"}).fusion
    False
    """

    num_threads = Setting(_positive, _cores, "a whole number of at least 1", "cores that one operator may use")
    engine = Setting(_engine, lambda: "threaded", "threaded or naive", "how operators run; naive: at once, in order")
    inflight_mb = Setting(_positive, lambda: 2048, "MiB, at least 1", "results not yet computed before a push blocks")
    bulk_size = Setting(_bulk, lambda: -1, "-1 or more", "calls put off to be fused; -1: where it pays")
    replay = Setting(_replay, lambda: None, "0, 1 or auto", "compile what imperative loops repeat; auto: where it pays")
    fusion = Setting(_flag, lambda: True, "0 or 1", "compile fused kernels at run time")
    channels_last = Setting(_flag, lambda: True, "0 or 1", "hybridized convolutions of a GPU with channels last")
    cxx = Setting(str, lambda: os.environ.get("CXX", ""), "a command", "their compiler; empty: c++, g++ or clang++")
    cache_dir = Setting(Path, _cache_dir, "a path", "where compiled kernels are kept")
    cache_mb = Setting(_positive, lambda: 512, "MiB, at least 1", "size at which the oldest of them are removed")

    def __init__(self, environment: Mapping[str, str]) -> None:
        for row in self.rows():
            text = environment.get(row.variable)
            self.__dict__[row.name] = row.default() if text is None else row.read(row.variable, text)

    @classmethod
    def rows(cls) -> list[Setting[Any]]:
        """All settings, in the order above."""
        return [row for row in vars(cls).values() if isinstance(row, Setting)]

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.__dict__:
            raise NameNotFound("settings", f"one of {', '.join(self.__dict__)}", name)
        super().__setattr__(name, value)

    def __str__(self) -> str:
        return "\n".join(f"{row.variable:20} {getattr(self, row.name)!s:28} {row.meaning}" for row in self.rows())


settings = Settings(os.environ)

if __name__ == "__main__":
    print(settings)
