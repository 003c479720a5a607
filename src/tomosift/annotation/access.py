"""Who may talk to the page: checks that every request passes before anything else sees it.

A page on the local machine is within reach of every web site that its user visits. So a request must name this machine
as its host (else a foreign name could be bound to this address), must not come from a foreign origin, must be
small, and must hold a secret that only the address opened by the user holds, unless it asks for a file of the page.
"""

import ipaddress
import logging
import secrets
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 65536
"""Longest body of a request."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Sent with every answer."""
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_log = logging.getLogger("tomosift.annotation")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach this address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class AccessControl:
    """Refuses what should not be here, logs it, and adds the headers of `HEADERS` to every answer."""

    def __init__(self, app: ASGIApp, token: str, host: str, open_paths: Sequence[str]) -> None:
        self._app, self._token, self._open = app, token.encode(), frozenset(open_paths)
        self._loopback = is_loopback(host)
        self._names = {*_LOOPBACK, host} if self._loopback else {*_LOOPBACK, host, socket.gethostname().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        status, reason = self._fault(scope)
        body = b""
        if not status:
            body, too_long = await _body(receive)
            status, reason = (413, f"the body is longer than {MOST_BYTES} bytes") if too_long else (0, "")
        if status:
            refused(scope, status, reason)
            await JSONResponse({"detail": reason}, status)(scope, receive, send_with_headers)
            return

        async def read_again() -> Message:
            nonlocal body
            part, body = body, b""
            return {"type": "http.request", "body": part, "more_body": False}

        await self._app(scope, read_again, send_with_headers)

    def _fault(self, scope: Scope) -> tuple[int, str]:
        """Status and reason; 0 where nothing is wrong."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_ours(host):
            return 403, "this host name is not that of the page"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return 403, "the request comes from another site"
        if headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
            return 403, "the request comes from another site"
        if scope["method"] not in {"GET", "HEAD", "POST"}:
            return 405, "only GET and POST are answered"
        if not headers.get("content-length", "0").isdecimal() or int(headers.get("content-length", "0")) > MOST_BYTES:
            return 413, f"the body is longer than {MOST_BYTES} bytes"
        if scope["path"] in self._open:
            return 0, ""
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or not secrets.compare_digest(given.encode(), self._token):
            return 401, "the token is missing or wrong; open the address that the command printed"
        return 0, ""

    def _is_ours(self, host: str) -> bool:
        name = (urlsplit(f"//{host}").hostname or "") if host and "@" not in host else ""
        if name in self._names:
            return True
        # No foreign name can be bound to an address that is written in numbers.
        try:
            return not self._loopback and bool(ipaddress.ip_address(name))
        except ValueError:
            return False


def refused(scope: Scope, status: int, reason: str) -> None:
    """Log a refused request; what came from outside is quoted and cut, so that it cannot forge a line."""
    client = (scope.get("client") or ("?",))[0]
    _log.warning("refused %d %s %.120r from %s: %.200r", status, scope["method"], scope["path"], client, reason)


async def _body(receive: Receive) -> tuple[bytes, bool]:
    """The body, and whether it is longer than allowed; then the rest is not read."""
    parts: list[bytes] = []
    length = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b"".join(parts), False
        parts.append(message.get("body", b""))
        length += len(parts[-1])
        if length > MOST_BYTES:
            return b"", True
        if not message.get("more_body", False):
            return b"".join(parts), False
