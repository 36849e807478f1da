"""Mounting: `setup` puts an upload server into an aiohttp application, in one call."""

from __future__ import annotations

import dataclasses
import sys
import weakref
from pathlib import Path
from types import EllipsisType

from aiohttp import web

from tusserver.config import Config, Cors
from tusserver.engine.core import Engine
from tusserver.hooks.base import Events, Listeners
from tusserver.locks.base import Locks
from tusserver.locks.host import HostLocks
from tusserver.locks.memory import MemoryLocks
from tusserver.storage.base import Storage
from tusserver.storage.local import LocalStorage
from tusserver.web.handlers import Handlers, Owner, expect_handler

_engines: weakref.WeakValueDictionary[int, Engine] = weakref.WeakValueDictionary()  # by the id of its storage, which it keeps alive


class Uploads:
    """A mounted upload server: its events take `.append(coroutine)` until the application starts."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.events = engine.events

    before_create: Listeners = property(lambda self: self.events.before_create)  # type: ignore[assignment]  # read as an attribute
    after_create: Listeners = property(lambda self: self.events.after_create)  # type: ignore[assignment]  # read as an attribute
    progress: Listeners = property(lambda self: self.events.progress)  # type: ignore[assignment]  # read as an attribute
    before_finish: Listeners = property(lambda self: self.events.before_finish)  # type: ignore[assignment]  # read as an attribute
    after_finish: Listeners = property(lambda self: self.events.after_finish)  # type: ignore[assignment]  # read as an attribute
    before_terminate: Listeners = property(lambda self: self.events.before_terminate)  # type: ignore[assignment]  # read as an attribute
    after_terminate: Listeners = property(lambda self: self.events.after_terminate)  # type: ignore[assignment]  # read as an attribute


def setup(
    app: web.Application,
    prefix: str = "/files/",
    *,
    upload_dir: str | Path | None = None,
    storage: Storage | None = None,
    locks: Locks | None = None,
    owner: Owner | None = None,
    events: Events | None = None,
    config: Config | None = None,
    max_size: int | EllipsisType | None = ...,
    expire_after: float | EllipsisType | None = ...,
    cors: Cors | EllipsisType | None = ...,
) -> Uploads:
    """Mount an upload server.

    Args:
        app: An application that has not started; one that is added to another with `add_subapp` will do.
        prefix: The path of the creation URL, "/files/" or "/".
        upload_dir: The data folder; "./data" unless `storage` is given.
        storage: Where uploads live, instead of `upload_dir`. Two mounts may share one storage object, with the same `config`.
        locks: Who may write; by default as the storage needs it.
        owner: Asked once on each request whose upload this is; may be a coroutine function. Uploads of other owners do not exist
            for a client. It may raise `web.HTTPUnauthorized`, `HTTPForbidden` or `HTTPNotFound`.
        events: Listeners; by default none, append them to what is returned.
        config: Everything else.
        max_size: Bytes that an upload may have; None for no limit. Overrides `config`.
        expire_after: Seconds after which an unfinished upload goes; None for never. Overrides `config`.
        cors: Which other origins may use it; None for no CORS headers. Overrides `config`.

    Raises:
        ValueError: Both `upload_dir` and `storage`; or the storage is mounted already with another configuration.
    """
    if storage is not None and upload_dir is not None:
        raise ValueError("give upload_dir or storage, not both")
    config = _configured(config or Config(), max_size, expire_after, cors)
    engine = _engine(storage or LocalStorage(upload_dir or "./data"), locks, events, config)
    _route(app, prefix, Handlers(engine, config, owner))
    app.on_startup.append(lambda _app: engine.start())
    app.on_shutdown.insert(0, lambda _app: engine.halt())
    app.on_cleanup.append(lambda _app: engine.stop())
    return Uploads(engine)


def _configured(
    config: Config, max_size: int | EllipsisType | None, expire_after: float | EllipsisType | None, cors: Cors | EllipsisType | None
) -> Config:
    limits = config.limits
    if not isinstance(max_size, EllipsisType):
        limits = dataclasses.replace(limits, max_size=max_size)
    if not isinstance(expire_after, EllipsisType):
        limits = dataclasses.replace(limits, expire_after=expire_after or None)
    return dataclasses.replace(config, limits=limits, cors=config.cors if isinstance(cors, EllipsisType) else cors)


def _engine(storage: Storage, locks: Locks | None, events: Events | None, config: Config) -> Engine:
    engine = _engines.get(id(storage))
    if engine is None:
        engine = Engine(storage=storage, locks=locks or _locks(storage), events=events or Events(), config=config)
        _engines[id(storage)] = engine
    elif engine.config != config or locks is not None or events is not None:
        raise ValueError("this storage is mounted already: a second mount of it shares its configuration, locks and events")
    return engine


def _locks(storage: Storage) -> Locks:
    if isinstance(storage, LocalStorage) and sys.platform.startswith("linux"):
        return HostLocks(storage.folder)
    return MemoryLocks()


def _route(app: web.Application, prefix: str, handlers: Handlers) -> None:
    """Every method of every path below the prefix comes to us; the tail is checked by hand, so that no path is decoded into another."""
    base = "/" + prefix.strip("/")
    paths = ["/", "/{tail:[0-9a-f]{32}}"] if base == "/" else [base, base + "/", base + "/{tail:.+}"]
    if base == "/":
        paths.insert(0, "")
    for path in paths:
        app.router.add_route("*", path, handlers.handle, expect_handler=expect_handler)
