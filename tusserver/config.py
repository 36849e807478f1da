"""What a mount is told, as one frozen value with the defaults of the field. It never reads the environment: the command does."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from tusserver.model import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Cors:
    """Which pages of other origins may use the server.

    Args:
        allow_origin: Regular expression that must match the whole `Origin`.
        allow_credentials: Whether `Access-Control-Allow-Credentials: true` is sent.
        allow_methods: Methods allowed besides those of tus.
        allow_headers: Request headers allowed besides those of tus.
        expose_headers: Response headers exposed besides those of tus.
        max_age: Seconds that a browser may remember a preflight.
    """

    allow_origin: re.Pattern[str] = re.compile(".*")
    allow_credentials: bool = False
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age: int = 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How one mount behaves.

    Args:
        limits: What clients may do.
        cors: For pages of other origins; None sends no CORS header at all.
        public_url: Scheme, host and an optional prefix that clients see, for absolute `Location`s; the mount's path is added.
        behind_proxy: Whether `Forwarded` and `X-Forwarded-*` are trusted for `Location`.
        network_timeout: Seconds without a byte after which a body counts as broken off.
        lock_wait: Seconds to wait for a lock, or for somebody else's finish, before 423.
        hook_timeout: Seconds that a listener may take.
        shutdown_timeout: Seconds that a running finish may take while the server stops.
        sweep_interval: Seconds between two ticks of the sweeper (one of 256 folders each).
    """

    limits: Limits = field(default_factory=Limits)
    cors: Cors | None = field(default_factory=Cors)
    public_url: str | None = None
    behind_proxy: bool = False
    network_timeout: float = 60.0
    lock_wait: float = 5.0
    hook_timeout: float = 60.0
    shutdown_timeout: float = 10.0
    sweep_interval: float = 1.0
