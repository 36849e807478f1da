"""HTTP as aiohttp has it, on one side; commands and results of the engine, on the other.

The order of checks is the same for every request: method override → OPTIONS → method → version → owner → existence → headers and rules → lock →
body. An error raised anywhere ends here, and is rendered by the dialect.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from aiohttp import web

from tusserver.body import Body
from tusserver.config import Config
from tusserver.engine.core import Engine
from tusserver.errors import ClientGone, NotFound, Passing, Refuse, TusError
from tusserver.model import Upload
from tusserver.protocol import location, rules, tus1
from tusserver.protocol.message import Headers, Reply, Request
from tusserver.web import dismiss, download
from tusserver.web.cors import cors_headers
from tusserver.web.reader import RequestReader, check_untouched, is_chunked

ID = re.compile(r"[0-9a-f]{32}")
Owner: TypeAlias = Callable[[web.Request], Awaitable[str | None] | str | None]
log = logging.getLogger("tusserver")


@dataclass(kw_only=True)
class Exchange:
    """One request on its way to its answer."""

    request: web.Request
    message: Request
    reader: RequestReader
    created: Upload | None = None


class OwnerSaysNo(Exception):
    """What the application's `owner` raised as 401, 403 or 404: passes as it is."""

    def __init__(self, response: web.HTTPException) -> None:
        super().__init__(response.reason)
        self.response = response


async def expect_handler(_request: web.Request) -> None:
    """Send no 100 yet: that is for after the checks."""


class Handlers:
    """The requests of one mount.

    Args:
        engine: Does what they ask.
        config: How this mount behaves.
        owner: Who asks; None when everybody is one.
    """

    def __init__(self, engine: Engine, config: Config, owner: Owner | None) -> None:
        self._engine, self._config, self._owner = engine, config, owner

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        headers = Headers(request.headers.items())
        exchange = Exchange(request=request, message=self._message(request, headers), reader=RequestReader(request))
        try:
            answer = await self._answer(exchange)
        except OwnerSaysNo as no:
            answer = _as_it_is(no.response)
        except ClientGone as gone:
            return self._gone(request, gone)
        except TusError as error:
            if error.status == 500:
                log.error("%s %s: %s", request.method, request.path, error.line)
            answer = self._failed(exchange, error)
        except ConnectionError:
            return self._gone(request, ClientGone())
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            answer = self._failed(exchange, TusError(close=True))
        return await self._send(exchange, answer)

    # -- requests

    def _message(self, request: web.Request, headers: Headers) -> Request:
        tail = request.match_info.get("tail", "")
        mount = request.rel_url.raw_path
        return Request(
            method=tus1.override(request.method, headers),
            headers=headers,
            upload_id=tail or None,
            content_length=None if is_chunked(request) else request.content_length or 0,
            base=location.base_url(
                headers,
                mount=mount if mount.endswith("/") else mount + "/",
                public_url=self._config.public_url,
                behind_proxy=self._config.behind_proxy,
                scheme=request.scheme,
            ),
        )

    async def _answer(self, exchange: Exchange) -> Reply | web.StreamResponse:
        message, limits = exchange.message, self._config.limits
        exchange.reader.check_expectation()
        if message.method == "OPTIONS":
            return tus1.options(message, limits, self._engine.storage.features)
        tus1.check_method(message, limits)
        tus1.check_version(message)
        tus1.check_repeats(message)
        owner = await self._who(exchange.request)
        if message.has_body:
            check_untouched(exchange.request)
        if message.upload_id is None:
            return await self._create(exchange, owner)
        if not ID.fullmatch(message.upload_id):
            raise NotFound
        answer = {"HEAD": self._head, "GET": self._get, "PATCH": self._patch, "DELETE": self._delete}[message.method]
        return await answer(exchange, message.upload_id, owner)

    async def _who(self, request: web.Request) -> str | None:
        if self._owner is None:
            return None
        try:
            owner = self._owner(request)
            return await owner if inspect.isawaitable(owner) else owner
        except web.HTTPException as error:
            if error.status in {401, 403, 404}:
                raise OwnerSaysNo(error) from None
            raise Passing("the service that knows the owner failed") from error
        except Exception as error:
            log.exception("the application's owner() failed")
            raise Passing("the service that knows the owner failed") from error

    async def _create(self, exchange: Exchange, owner: str | None) -> Reply:
        message, limits = exchange.message, self._config.limits
        command = tus1.parse_create(message, limits)
        rules.check_create(command, limits)
        upload = exchange.created = await self._engine.run(self._engine.create(command, owner, exchange.request))
        if command.with_body or upload.full:
            body = self._body(exchange)
            upload = await self._engine.run(self._engine.fill(upload, command, body, exchange.request), body)
        return tus1.created(message, upload, limits, with_body=command.with_body)

    async def _head(self, exchange: Exchange, upload_id: str, owner: str | None) -> Reply:
        return tus1.state(await self._engine.find(upload_id, owner), self._config.limits)

    async def _get(self, exchange: Exchange, upload_id: str, owner: str | None) -> Reply | web.StreamResponse:
        if "Tus-Resumable" in exchange.message.headers:
            return await self._head(exchange, upload_id, owner)
        content = await self._engine.download(upload_id, owner)
        return await download.send(exchange.request, exchange.message, content, self._cors(exchange))

    async def _patch(self, exchange: Exchange, upload_id: str, owner: str | None) -> Reply:
        upload = await self._engine.find(upload_id, owner)
        command = tus1.parse_append(exchange.message)
        body = self._body(exchange)
        upload = await self._engine.run(self._engine.append(upload, command, body, exchange.request), body)
        return tus1.appended(upload, self._config.limits)

    async def _delete(self, exchange: Exchange, upload_id: str, owner: str | None) -> Reply:
        await self._engine.run(self._engine.terminate(upload_id, owner, exchange.request))
        return tus1.terminated()

    def _body(self, exchange: Exchange) -> Body:
        return Body(exchange.reader, timeout=self._config.network_timeout)

    # -- answers

    def _failed(self, exchange: Exchange, error: TusError) -> Reply:
        created = exchange.created
        place = location.upload_url(exchange.message.base, created.id) if created and not isinstance(error, Refuse) else None
        return tus1.failed(exchange.message, error, location=place)

    def _cors(self, exchange: Exchange) -> dict[str, str]:
        headers = exchange.message.headers
        preflight = headers if exchange.message.method == "OPTIONS" else None
        return cors_headers(headers.get("Origin"), self._config.cors, preflight_headers=preflight)

    async def _send(self, exchange: Exchange, answer: Reply | web.StreamResponse) -> web.StreamResponse:
        if isinstance(answer, web.StreamResponse):
            response = answer
        else:
            fields = answer.headers | self._cors(exchange)
            has_text = bool(answer.body) and exchange.request.method != "HEAD"
            response = web.Response(status=answer.status, headers=fields, text=answer.body + "\n" if has_text else None)
            if answer.close:
                response.force_close()
        return await dismiss.dismiss(exchange.request, response, exchange.reader, hurry=self._engine.stopping)

    def _gone(self, request: web.Request, gone: ClientGone) -> web.StreamResponse:
        """Nobody is owed an answer: end the connection; what is returned is for the access log alone."""
        log.info("%s %s: %s", request.method, request.path, gone.line)
        dismiss.close(request)
        return web.Response(status=gone.status)


def _as_it_is(response: web.HTTPException) -> Reply:
    """An answer of the application, with our header added."""
    about_body = {"content-length", "content-type"}
    fields = {name: value for name, value in response.headers.items() if name.lower() not in about_body}
    return Reply(status=response.status, headers=fields | {"Tus-Resumable": tus1.VERSION}, body=response.text or "")
