"""The runner that is ours: aiohttp's, with room for large headers, and our header on what aiohttp's parser refuses.

The law: a malformed request is one line in the log, never a traceback.
"""

from __future__ import annotations

import logging
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_log import AccessLogger
from aiohttp.web_protocol import RequestHandler

from tusserver.protocol.tus1 import VERSION

FIELD_BYTES = 64 * 1024
log = logging.getLogger("tusserver")


class Connection(RequestHandler):
    """A connection whose parser's refusals speak tus."""

    __slots__ = ()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer what the parser, or aiohttp itself, could not take."""
        if isinstance(exc, HttpProcessingError) and request.writer.output_size == 0:
            log.warning("a request from %s was refused: %s", request.remote, str(exc.message).partition("\n")[0])
            response: web.StreamResponse = web.Response(status=status, text="bad_request: this is no HTTP request that can be read\n")
            response.force_close()
        else:
            response = super().handle_error(request, status, exc, message)
        response.headers["Tus-Resumable"] = VERSION
        return response


class Server(web.Server):
    """Makes connections of our kind."""

    def __call__(self) -> RequestHandler:
        """A new connection."""
        connection = super().__call__()
        connection.__class__ = Connection  # of the same layout; aiohttp has no other way to choose the class
        return connection


class Runner(web.AppRunner):
    """Runs an application with uploads in it.

    Args:
        app: The application.
        access_log: Where each request leaves a line; None for nowhere.
        access_log_format: As for aiohttp.
        shutdown_timeout: Seconds that handlers have once the uploads were stopped.
    """

    def __init__(
        self,
        app: web.Application,
        *,
        access_log: logging.Logger | None = None,
        access_log_format: str = AccessLogger.LOG_FORMAT,
        access_log_class: type[AbstractAccessLogger] = AccessLogger,
        shutdown_timeout: float = 1.0,
        **options: Any,
    ) -> None:
        options.setdefault("max_line_size", FIELD_BYTES)
        options.setdefault("max_field_size", FIELD_BYTES)
        super().__init__(
            app,
            access_log=access_log,
            access_log_format=access_log_format,
            access_log_class=access_log_class,
            shutdown_timeout=shutdown_timeout,
            **options,
        )

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        server.__class__ = Server
        return server
