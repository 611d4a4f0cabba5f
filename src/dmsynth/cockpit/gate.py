"""Access control of the cockpit: only pages of this machine, and only with the token of the user who started it."""

from __future__ import annotations

import re
import secrets
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

from fastapi import Response
from fastapi.responses import HTMLResponse, PlainTextResponse
from pydantic import Field
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dmsynth.cockpit.workspace import Workspace
from dmsynth.support.errors import DmsynthError
from dmsynth.support.records import Count, Record, checked, json_of

_HERE = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?")
# The routes that the page needs. Gradio has about fifty more, which run functions outside the queue, fetch from other
# addresses, or change the page's own code: they are blocked.
_SERVED = re.compile(
    r"/|/(config|theme\.css|manifest\.json|favicon\.ico|live|record|camera)|/(own|api|files|static|assets|svelte)/.*|"
    r"/gradio_api/(queue/(join|data)|reset|cancel|upload|upload_progress|info|app_id|theme\.css|heartbeat/\w+|file=.*)",
    re.DOTALL,
)
_JSON_ROUTES = ("/gradio_api/queue/join", "/gradio_api/reset", "/gradio_api/cancel")
_LONGEST = 4 * 2**20  # bytes of such a request
# Content Security Policy: only the page's own scripts run, identified by a nonce per response, and what they load; no
# inline event handlers, whatever a title or a DMS's answer contains. Gradio needs two exceptions: inline styles, and
# functions made from strings (gradio.HTML's templates, which contain no untrusted text). Nothing is loaded from other
# sites, and no other page can embed this one in a frame.
_POLICY = (
    "default-src 'self' data: blob:; "
    "script-src 'nonce-{nonce}' 'strict-dynamic' 'unsafe-eval'; script-src-attr 'none'; "
    "style-src 'self' 'unsafe-inline'; connect-src 'self' data: blob: ws://{host}; "
    "frame-ancestors 'self'; base-uri 'self'; form-action 'self'; object-src 'none'"
)
# Login: the token is stored as a cookie and removed from the URL. A redirect by a page of this origin is needed,
# because a browser does not send the SameSite=Strict cookie after a link from another page or a file.
_LOGIN_PAGE = '<!doctype html><meta http-equiv="refresh" content="0; url={path}"><title>dmsynth cockpit</title>'
_ENTRANCES = ("/", "/record")
# No page may use what the machine has beside the screen; the one that records overrides this for the camera.
_PERMISSIONS = "camera=(), microphone=(), geolocation=(), display-capture=()"


class _QueueRequest(Record):
    """A request to Gradio's queue: a function by its number, and the values of its fields."""

    fn_index: Count | None = None
    data: list[Any] | None = None
    session_hash: Annotated[str, Field(max_length=100)] | None = None
    event_id: Annotated[str, Field(max_length=100)] | None = None
    trigger_id: Count | None = None
    simple_format: bool = False


class Gate:
    """ASGI middleware around the whole application, including Gradio's routes and the WebSocket.

    A request must have this machine as its host, this origin or none, and the token as a cookie, which ``/?token=…``
    or ``/record?token=…`` sets.
    """

    def __init__(self, app: ASGIApp, workspace: Workspace, token: str) -> None:
        self.app, self.workspace, self.token = app, workspace, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refused = self._refusal(scope, headers)
        if refused is None and scope["path"] in _JSON_ROUTES:
            refused, receive = await _validated_request(receive)
        if refused is None:
            if scope["type"] == "websocket":
                await self.app(scope, receive, send)
            else:
                await _with_policy(self.app, scope, receive, send, headers["host"])
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            refused.headers["Referrer-Policy"] = "no-referrer"
            refused.headers["X-Content-Type-Options"] = "nosniff"
            refused.headers["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'none'"
            await refused(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """The error response for a refused request; None: allowed."""
        if not _is_ours(headers.get("host"), headers.get("origin")) or _is_embedded_elsewhere(scope, headers):
            return PlainTextResponse("this page is for this machine alone", 403)
        # cookies are not separated by port: two cockpits of one user need different names
        cookie = f"dmsynth-{scope['server'][1]}"
        if not self._is_token(cookie_parser(headers.get("cookie", "")).get(cookie)):
            given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [None])[0]
            if scope["type"] == "http" and scope["path"] in _ENTRANCES and self._is_token(given):
                answer = HTMLResponse(_LOGIN_PAGE.format(path=scope["path"]), headers={"Cache-Control": "no-store"})
                answer.set_cookie(cookie, self.token, httponly=True, samesite="strict")
                return answer
            return PlainTextResponse("open the address that dmsynth cockpit printed: it holds a token", 401)
        if not _SERVED.fullmatch(scope["path"]):
            return PlainTextResponse("no such page", 404)
        asked = scope["path"].partition("/file=")
        if asked[1]:  # Gradio's own route follows links, and fetches from any address that it is given
            try:
                self.workspace.inside(asked[2])
            except DmsynthError:
                return PlainTextResponse("no such file", 404)
        return None

    def _is_token(self, given: str | None) -> bool:
        return given is not None and secrets.compare_digest(given.encode(), self.token.encode())


async def _validated_request(receive: Receive) -> tuple[Response | None, Receive]:
    """Read and validate a request to Gradio's queue: an error response if it is invalid, and a ``receive`` that replays
    the body."""
    body = bytearray()
    while (message := await receive())["type"] == "http.request":
        body += message.get("body", b"")
        if len(body) > _LONGEST:
            return PlainTextResponse("this request is too long", 413), receive
        if not message.get("more_body"):
            break
    try:
        checked(
            json_of(bytes(body), "this request", "reload the page"), _QueueRequest, "this request", "reload the page"
        )
    except DmsynthError as error:
        return PlainTextResponse(str(error), 422), receive
    read: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

    async def again() -> Message:
        return read.pop() if read else await receive()

    return None, again


async def _with_policy(app: ASGIApp, scope: Scope, receive: Receive, send: Send, host: str) -> None:
    """Serve with a Content Security Policy; the page's own scripts get the nonce."""
    nonce, page = secrets.token_urlsafe(16), bytearray()
    begun: list[Message] = []
    is_page = scope["path"] == "/" and scope["method"] == "GET"
    if is_page:  # it is modified, so not compressed
        scope = {**scope, "headers": [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]}

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.setdefault("X-Content-Type-Options", "nosniff")
            headers.setdefault("Referrer-Policy", "no-referrer")
            headers.setdefault("Permissions-Policy", _PERMISSIONS)
            headers.setdefault("Content-Security-Policy", _POLICY.format(nonce=nonce, host=host))
            if is_page:
                begun.append(message)
                return
        elif is_page:
            page.extend(message.get("body", b""))
            if message.get("more_body"):
                return
            # Gradio's template: in untrusted data "<" is escaped (routes.toorjson)
            body = bytes(page).replace(b"<script", f'<script nonce="{nonce}"'.encode())
            # Gradio's loader copies this nonce to what it preloads
            body = body.replace(b"<head>", f'<head><meta property="csp-nonce" nonce="{nonce}">'.encode(), 1)
            headers = MutableHeaders(scope=begun[0])
            headers["Content-Length"] = str(len(body))
            headers["Cache-Control"] = "no-store"
            await send(begun[0])
            message = {"type": "http.response.body", "body": body}
        await send(message)

    await app(scope, receive, sent)


def _is_embedded_elsewhere(scope: Scope, headers: Headers) -> bool:
    """Whether a page of another site embeds this one or a part of it. A link to the page is allowed."""
    elsewhere = headers.get("sec-fetch-site") in ("cross-site", "same-site")
    return elsewhere and scope["type"] == "http" and headers.get("sec-fetch-dest") != "document"


def _is_ours(host: str | None, origin: str | None) -> bool:
    """Whether a request has this machine as its host, and this origin or none."""
    if host is None or _HERE.fullmatch(host) is None:
        return False
    return origin is None or urlsplit(origin).netloc == host
