"""The server of `mrigmm review`: one computer, one user, and nobody else. Needs the extra `review`.

It listens on the loopback address only. Every path begins with a random token that only the user's browser
is told; requests that name another host or come from another page are refused, so that no page of the
internet can speak to it through the browser. A content security policy keeps the page from speaking to
anybody else.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Mapping
from importlib.resources import files
from typing import Any

from pydantic import ValidationError

from mrigmm.errors import InputError, missing_extra
from mrigmm.jobs.reviewing.workbench import ChangedError, Save, Workbench, problem_text

try:
    from waitress import wasyncore
    from waitress.server import create_server
    from werkzeug.exceptions import (
        Conflict,
        Forbidden,
        HTTPException,
        MisdirectedRequest,
        NotFound,
        UnprocessableEntity,
        UnsupportedMediaType,
    )
    from werkzeug.routing import Map, Rule
    from werkzeug.wrappers import Request, Response
except ImportError as error:
    raise missing_extra("review", error) from None

HOST = "127.0.0.1"
# Label maps of 512 x 512 x 100 voxels fit.
_LARGEST_BODY = 64 * 2**20
_IN_MEMORY = 2**30
# File of the page -> package, path in it, type.
_PAGE: Mapping[str, tuple[str, str, str]] = {
    "": ("mrigmm.resources", "review/index.html", "text/html"),
    "review.css": ("mrigmm.resources", "review/review.css", "text/css"),
    "review.js": ("mrigmm.resources", "review/review.js", "text/javascript"),
    "niivue.js": ("mrigmm.reporting", "vendor/niivue/niivue.umd.js", "text/javascript"),
}
_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
# What browsers say of a request that a page of another address has made them send.
_FOREIGN = ("cross-site", "same-site")

_StartResponse = Callable[..., Any]


class ReviewServer:
    """Serves a workbench until it is closed.

    Args:
        bench: the studies.
        port: to listen on; 0: one that is free.

    Raises:
        InputError: the port cannot be used.
    """

    def __init__(self, bench: Workbench, port: int = 0) -> None:
        self.bench = bench
        self.token = secrets.token_urlsafe(24)
        self._channels: dict[int, Any] = {}
        self._running = False
        try:
            if port not in range(2**16):
                raise OverflowError("no port")
            self._server = create_server(
                self,
                map=self._channels,
                host=HOST,
                port=port,
                threads=4,
                max_request_body_size=_LARGEST_BODY,
                # Images go to no temporary file.
                inbuf_overflow=_IN_MEMORY,
                outbuf_overflow=_IN_MEMORY,
                ident=None,
            )
        except (OSError, OverflowError) as error:
            wasyncore.close_all(self._channels)
            raise InputError(
                "the port cannot be used",
                expected="a number from 1024 to 65535 that no other program listens on",
                got=f"{port}: {error}",
                remedy="choose another --port, or leave it out",
            ) from None
        self.port = int(self._server.effective_port)
        studies = f"/{self.token}/studies"
        self._paths = Map(
            [
                Rule(f"/{self.token}/", endpoint="page", defaults={"name": ""}, methods=["GET"]),
                Rule(f"/{self.token}/<name>", endpoint="page", methods=["GET"]),
                Rule(studies, endpoint="list", methods=["GET"]),
                Rule(f"{studies}/<study>", endpoint="show", methods=["GET"]),
                Rule(f"{studies}/<study>", endpoint="save", methods=["POST"]),
            ],
            strict_slashes=False,
            merge_slashes=False,
        )

    @property
    def url(self) -> str:
        """Return the address of the page, with its token."""
        return f"http://{HOST}:{self.port}/{self.token}/"

    def run(self) -> None:
        """Serve until interrupted, or closed by another thread."""
        self._running = True
        self._server.run()
        self._running = False

    def close(self) -> None:
        """Stop; what is being saved is finished first."""
        self._server.task_dispatcher.shutdown()
        if self._running:
            self._server.trigger.pull_trigger(lambda: wasyncore.close_all(self._channels))
        else:
            wasyncore.close_all(self._channels)

    def __call__(self, environ: dict[str, Any], start_response: _StartResponse) -> Iterable[bytes]:
        """Answer a request (WSGI)."""
        request = Request(environ)
        request.max_content_length = _LARGEST_BODY
        response: Any
        try:
            self._check_sender(request)
            endpoint, values = self._paths.bind_to_environ(environ).match()
            response = getattr(self, f"_{endpoint}")(request, **values)
        except HTTPException as error:
            response = Response(f"{error.description}\n", error.code, mimetype="text/plain")
        except InputError as error:
            response = Response(problem_text(error), UnprocessableEntity.code, mimetype="text/plain")
        response.headers.extend(_HEADERS)
        answer: Iterable[bytes] = response(environ, start_response)
        return answer

    def _check_sender(self, request: Request) -> None:
        """Refuse names that lead here by a trick of DNS, pages of other addresses, and who has no token."""
        hosts = (f"{HOST}:{self.port}", f"localhost:{self.port}")
        if request.headers.get("Host") not in hosts:
            raise MisdirectedRequest("This server answers to its own address only.")
        origin = request.headers.get("Origin")
        own = [f"http://{host}" for host in hosts]
        if (origin is not None and origin not in own) or request.headers.get("Sec-Fetch-Site") in _FOREIGN:
            raise Forbidden("Requests of other pages are refused.")
        token = request.path.removeprefix("/").partition("/")[0]
        if not secrets.compare_digest(token.encode(), self.token.encode()):
            raise Forbidden("The address has not the token of this server: open the one that it printed.")

    def _page(self, _request: Request, name: str) -> Response:
        if name not in _PAGE:
            raise NotFound("There is no such file.")
        package, path, kind = _PAGE[name]
        return Response(files(package).joinpath(path).read_bytes(), mimetype=kind)

    def _list(self, _request: Request) -> Response:
        return _json(self.bench.listed())

    def _show(self, _request: Request, study: str) -> Response:
        return _json(self.bench.shown(self._known(study)))

    def _save(self, request: Request, study: str) -> Response:
        request.max_content_length = min(_LARGEST_BODY, self.bench.body_limit(self._known(study)))
        if request.mimetype != "application/json":
            raise UnsupportedMediaType("A study is saved as JSON.")
        try:
            asked = Save.model_validate_json(request.get_data())
        except ValidationError as error:
            first = error.errors()[0]
            raise UnprocessableEntity(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        try:
            return _json(self.bench.save(study, asked))
        except ChangedError as error:
            raise Conflict(
                f"Not saved: the study was changed{error} since this page read it. Reload it to go on; what "
                "you have drawn here is then lost."
            ) from None

    def _known(self, study: str) -> str:
        """Ids come from the list of the folder's files, never from an address."""
        if not self.bench.has(study):
            raise NotFound("There is no such study.")
        return study


def _json(content: Mapping[str, Any]) -> Response:
    return Response(json.dumps(content, allow_nan=False), mimetype="application/json")
