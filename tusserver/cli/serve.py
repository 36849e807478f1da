"""`tusserver serve`: one server, from its flags to its end.

The laws: it says where it listens, where it stores, and a line to try. On SIGTERM or Ctrl-C the listening socket closes first, open transfers are
cut, kept and answered, and the process is gone; a thread that hangs in the disk does not hold it back. A second signal ends it at once.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import shlex
import signal
import ssl
import sys
import threading
import time
from pathlib import Path

from aiohttp import web

from tusserver.cli.options import Parser, base_path, pattern, port, positive_seconds, seconds, size, url, words
from tusserver.config import Config, Cors
from tusserver.model import Limits
from tusserver.storage.base import StorageUnfit
from tusserver.storage.local import LocalStorage
from tusserver.web.app import setup
from tusserver.web.runner import Runner

NAME, HELP = "serve", "Serve a folder for resumable uploads."
ACCESS_FORMAT = '%a "%r" %s %b %Tf'
LATE_HANDLERS = 0.4  # seconds for a download, and for a client to read its refusal; uploads have been answered by then
LATE_THREADS = 0.5
TRY = "-H 'Tus-Resumable: 1.0.0' -H 'Upload-Length: 6' -H 'Content-Type: application/offset+octet-stream' --data-binary @-"


def add_options(parser: Parser) -> None:
    """All flags of the command."""
    parser.epilog = "BYTES take units, such as 64KB or 512MiB; SECONDS too, such as 500ms, 15m, 24h or 7d. In [ ]: the variable of the environment."
    parser.option("--host", default="127.0.0.1", help="address to listen on")
    parser.option("--port", type=port, default="8080", help="port to listen on; 0 takes a free one")
    parser.option("--unix-sock", metavar="PATH", help="listen on this socket instead")
    parser.option("--base-path", type=base_path, metavar="PATH", default="/files/", help="path of the creation URL")
    parser.option("--upload-dir", metavar="DIR", default="./data", help="the data folder")
    parser.option("--max-size", type=size, metavar="BYTES", help="bytes that an upload may have, such as 512MiB; 0, the default: no limit")
    parser.option(
        "--expire-after", type=seconds, metavar="SECONDS", default="7d", help="time after its last byte when an unfinished upload goes; 0: never"
    )
    parser.option(
        "--network-timeout", type=positive_seconds, metavar="SECONDS", default="60s", help="time without a byte when a body counts as broken off"
    )
    parser.option("--shutdown-timeout", type=seconds, metavar="SECONDS", default="10s", help="time that a running finish has at the end")
    parser.option("--sweep-interval", type=positive_seconds, metavar="SECONDS", default="1s", help="time between two ticks of the sweeper")
    parser.option(
        "--durability", choices=("finish", "patch", "none"), default="finish", help="what a power cut may cost: finish, patch or none"
    )
    parser.option("--public-url", type=url, metavar="URL", help="scheme, host and prefix that clients see")
    parser.option("--behind-proxy", action="store_true", help="trust Forwarded and X-Forwarded-* of a proxy")
    parser.option("--tls-certificate", metavar="FILE", help="certificate chain, PEM")
    parser.option("--tls-key", metavar="FILE", help="key of the certificate, PEM")
    parser.option("--disable-cors", action="store_true", help="send no CORS headers")
    parser.option("--cors-allow-origin", type=pattern, metavar="REGEX", default=".*", help="origins that may use the server, matched whole")
    parser.option("--cors-allow-credentials", action="store_true", help="let pages send cookies")
    parser.option("--cors-allow-methods", type=words, metavar="LIST", default="", help="methods allowed besides those of tus")
    parser.option("--cors-allow-headers", type=words, metavar="LIST", default="", help="request headers allowed besides those of tus")
    parser.option("--cors-expose-headers", type=words, metavar="LIST", default="", help="response headers exposed besides those of tus")
    parser.option("--cors-max-age", type=seconds, metavar="SECONDS", default="86400", help="time that a browser may remember a preflight")
    parser.option("--disable-download", action="store_true", help="no GET of finished files")
    parser.option(
        "--disable-termination", nargs="?", const="all", choices=("all", "finished"), help="no DELETE, or none of finished uploads (=finished)"
    )
    parser.option("--verbose", action="store_true", help="log what is of interest only when something is wrong")


def config_of(options: argparse.Namespace) -> Config:
    """What the flags say about the mount."""
    terminate = {None: "all", "all": "none", "finished": "unfinished"}[options.disable_termination]
    return Config(
        limits=Limits(
            max_size=options.max_size or None,
            expire_after=options.expire_after or None,
            terminate=terminate,  # type: ignore[arg-type]  # one of its three words
            download=not options.disable_download,
        ),
        cors=None if options.disable_cors else _cors_of(options),
        public_url=options.public_url,
        behind_proxy=options.behind_proxy,
        network_timeout=options.network_timeout,
        shutdown_timeout=options.shutdown_timeout,
        sweep_interval=options.sweep_interval,
    )


def _cors_of(options: argparse.Namespace) -> Cors:
    return Cors(
        allow_origin=options.cors_allow_origin,
        allow_credentials=options.cors_allow_credentials,
        allow_methods=options.cors_allow_methods,
        allow_headers=options.cors_allow_headers,
        expose_headers=options.cors_expose_headers,
        max_age=int(options.cors_max_age),
    )


def run(options: argparse.Namespace) -> int:
    """Serve until a signal comes."""
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    if options.tls_key and not options.tls_certificate:
        sys.stderr.write("tusserver serve: --tls-key needs --tls-certificate\n")
        return 2
    try:
        tls = _tls_of(options)
        asyncio.run(_serve(options, tls))
    except (StorageUnfit, OSError, ssl.SSLError) as error:
        sys.stderr.write(f"tusserver: {error}\n")
        return 1
    return 0


def _tls_of(options: argparse.Namespace) -> ssl.SSLContext | None:
    if not options.tls_certificate:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(options.tls_certificate, options.tls_key)
    except OSError as error:
        raise OSError(f"the certificate cannot be used: {error}") from error
    return context


async def _serve(options: argparse.Namespace, tls: ssl.SSLContext | None) -> None:
    app = web.Application()
    setup(app, options.base_path, storage=LocalStorage(options.upload_dir, durability=options.durability), config=config_of(options))
    access_log = logging.getLogger("aiohttp.access")
    # Bytes are stored as sent: an encoded body is for our own 415, not for aiohttp to unpack or refuse.
    runner = Runner(
        app, access_log=access_log, access_log_format=ACCESS_FORMAT, auto_decompress=False, shutdown_timeout=LATE_HANDLERS
    )
    stopped = _stop_on_signals()
    try:
        await runner.setup()
        await _listen(runner, options, tls)
        _announce(options, runner, tls)
        await stopped.wait()
    finally:
        await runner.cleanup()
    _leave()  # from inside the loop, whose own end would wait for every thread


async def _listen(runner: Runner, options: argparse.Namespace, tls: ssl.SSLContext | None) -> None:
    site: web.BaseSite
    if options.unix_sock:
        where, site = options.unix_sock, web.UnixSite(runner, options.unix_sock, ssl_context=tls)
    else:
        where, site = f"{options.host}:{options.port}", web.TCPSite(runner, options.host, options.port, ssl_context=tls, backlog=1024)
    try:
        await site.start()
    except OSError as error:
        raise OSError(f"cannot listen on {where}: {error.strerror or error}") from error
    except UnicodeError as error:  # of a name that cannot be one of a host
        raise OSError(f"cannot listen on {where}: this is no name of a host") from error


def _stop_on_signals() -> asyncio.Event:
    """Set by the first signal; the second ends the process."""
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()

    def stop(name: signal.Signals) -> None:
        if stopped.is_set():
            os._exit(128 + name)
        stopped.set()

    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop, name)
    return stopped


def _announce(options: argparse.Namespace, runner: Runner, tls: ssl.SSLContext | None) -> None:
    scheme, extra = ("https", " --insecure") if tls else ("http", "")
    if options.unix_sock:
        where = f"{options.unix_sock} (a unix socket), path {options.base_path}"
        base, extra = f"{scheme}://localhost{options.base_path}", f"{extra} --unix-socket {shlex.quote(options.unix_sock)}"
    else:
        host, number = runner.addresses[0][:2]
        where = base = f"{scheme}://{f'[{host}]' if ':' in host else host}:{number}{options.base_path}"
    lines = [
        f"tusserver listening on {where}",
        f"storing in {Path(options.upload_dir).resolve()} (durability: {options.durability})",
        f"try: echo hello | curl -si{extra} {TRY} {base}",
    ]
    _say("\n".join([*lines, ""]))


def _say(text: str) -> None:
    """Print, if there is anything to print to: a closed stdout is no reason not to serve."""
    if sys.stdout is not None:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.write(text)
            sys.stdout.flush()


def _leave() -> None:
    """End the process, although a thread may still wait for the disk: what it was to make durable has not been acknowledged."""
    deadline = time.monotonic() + LATE_THREADS
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon and _works(thread):
            thread.join(max(0.0, deadline - time.monotonic()))
    logging.shutdown()
    _say("")
    os._exit(0)


def _works(thread: threading.Thread) -> bool:
    """Whether it is one of the storage's threads, which end once their pool was told to stop."""
    return thread.name.startswith(("tusserver-data", "tusserver-sync"))
