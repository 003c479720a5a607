"""Access control: checks that every request to the labeling page must pass before it is processed.

Every web site that a user visits can send requests to a page on the local machine. A request must therefore name this
machine as its host, or a foreign name could be bound to its address. It must not come from a foreign origin, and its
size is limited. Unless it requests a file of the page, it must contain a secret that only the opened address contains.
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

MAX_BODY_BYTES = 65536
"""Largest body of a request."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Sent with every response."""
_TOO_LONG = f"the body is longer than {MAX_BODY_BYTES} bytes"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_log = logging.getLogger("tomosift.annotation")


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address.

    Examples
    --------
    >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0")
    (True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class AccessControl:
    """Refuses and logs requests without access, and adds `HEADERS` to every response.

    Parameters
    ----------
    app
        Application that processes the other requests.
    token
        Secret that a request must contain.
    host
        Address that the page is served at.
    open_paths
        Paths that need no secret.
    """

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

        status, reason = self._check(scope)
        body = b""
        if not status:
            body, is_too_long = await _read_body(receive)
            status, reason = (413, _TOO_LONG) if is_too_long else (0, "")
        if status:
            log_refusal(scope, status, reason)
            await JSONResponse({"detail": reason}, status)(scope, receive, send_with_headers)
            return

        async def replay_body() -> Message:
            nonlocal body
            part, body = body, b""
            return {"type": "http.request", "body": part, "more_body": False}

        await self._app(scope, replay_body, send_with_headers)

    def _check(self, scope: Scope) -> tuple[int, str]:
        """Return the status and the reason of a refusal; the status is 0 for a request with access."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_own(host):
            return 403, "the host name is not that of the page"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return 403, "the request comes from another site"
        if headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
            return 403, "the request comes from another site"
        if scope["method"] not in {"GET", "HEAD", "POST"}:
            return 405, "the method is not allowed, expected GET or POST"
        if (
            not headers.get("content-length", "0").isdecimal()
            or int(headers.get("content-length", "0")) > MAX_BODY_BYTES
        ):
            return 413, _TOO_LONG
        if scope["path"] in self._open:
            return 0, ""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or not secrets.compare_digest(token.encode(), self._token):
            return 401, "the token is missing or wrong; open the address that the command printed"
        return 0, ""

    def _is_own(self, host: str) -> bool:
        """Return whether a host name is one of this machine."""
        name = (urlsplit(f"//{host}").hostname or "") if host and "@" not in host else ""
        if name in self._names:
            return True
        # No foreign name can be bound to a numeric address.
        try:
            return not self._loopback and bool(ipaddress.ip_address(name))
        except ValueError:
            return False


def log_refusal(scope: Scope, status: int, reason: str) -> None:
    """Log a refused request. Texts from outside are quoted and shortened, so that they cannot forge a line."""
    client = (scope.get("client") or ("?",))[0]
    _log.warning("refused %d %s %.120r from %s: %.200r", status, scope["method"], scope["path"], client, reason)


async def _read_body(receive: Receive) -> tuple[bytes, bool]:
    """Read a body; return it, and whether it is longer than allowed, in which case the rest is not read."""
    parts: list[bytes] = []
    length = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b"".join(parts), False
        parts.append(message.get("body", b""))
        length += len(parts[-1])
        if length > MAX_BODY_BYTES:
            return b"", True
        if not message.get("more_body", False):
            return b"".join(parts), False
