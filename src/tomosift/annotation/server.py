"""The labeling page over HTTP: fixed files, and a JSON interface of a dozen requests."""

from collections.abc import Callable
from importlib.resources import files
from typing import Annotated, Any

from fastapi import Body, FastAPI, HTTPException, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException as StarletteHTTPException

from tomosift.annotation.access import AccessControl, log_refusal
from tomosift.annotation.session import LabelingSession
from tomosift.annotation.store import AnswerKind
from tomosift.annotation.tables import write_labels

MAX_LASSO_ROWS = 5000
"""Particles that one lasso may label."""
_SCRIPTS = ("main", "server", "volume", "viewer", "rotating", "queue", "map", "palette", "panels", "progress")
_STATIC = {
    "/": ("tomosift.annotation", "index.html", "text/html"),
    "/colors.css": ("tomosift.evaluation.report", "colors.css", "text/css"),
    "/style.css": ("tomosift.annotation", "style.css", "text/css"),
    **{f"/{name}.js": ("tomosift.annotation", f"{name}.js", "text/javascript") for name in _SCRIPTS},
}
"""Every file that is served: path -> package, file in its folder ``page``, content type. No other file is opened."""

_Annotator = Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[^\x00-\x1f\x7f<>]+$")]
_RequestName = Annotated[str, Field(min_length=8, max_length=64, pattern=r"^[A-Za-z0-9-]+$")]
_ClassName = Annotated[str, Field(max_length=80)]
_Row = Annotated[int, Field(ge=0, strict=True)]


class _Posted(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    annotator: _Annotator


class _Answer(_Posted):
    request: _RequestName
    row: _Row
    kind: AnswerKind
    class_name: _ClassName = ""


class _Lasso(_Posted):
    request: _RequestName
    rows: Annotated[list[_Row], Field(min_length=1, max_length=MAX_LASSO_ROWS)]
    kind: AnswerKind = "label"
    class_name: _ClassName = ""


class _Undo(_Posted):
    request: _RequestName


class _NewClass(_Posted):
    name: _ClassName


class _Export(_Posted):
    pass


def create_app(session: LabelingSession, token: str, host: str = "127.0.0.1") -> FastAPI:
    """Create the application that serves the labeling page of one set.

    Parameters
    ----------
    session
        Session of the set.
    token
        Secret that every request must contain as ``Authorization: Bearer``, but those for the files of the page.
    host
        Address that it will be served at. Beyond loopback, names and addresses of this machine are accepted as well.
    """
    app = FastAPI(title="tomosift label", docs_url=None, redoc_url=None, openapi_url=None)
    _add_error_handlers(app)
    _add_files(app)
    _add_queries(app, session)
    _add_answers(app, session)
    app.add_middleware(AccessControl, token=token, host=host, open_paths=tuple(_STATIC))
    return app


def _add_error_handlers(app: FastAPI) -> None:
    """Turn every error of a request into one sentence, and log it."""

    def respond(request: Request, status: int, reason: str) -> JSONResponse:
        log_refusal(request.scope, status, reason)
        return JSONResponse({"detail": reason}, status)

    @app.exception_handler(RequestValidationError)
    async def respond_malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return respond(request, 422, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")

    @app.exception_handler(ValueError)
    async def respond_invalid(request: Request, error: ValueError) -> JSONResponse:
        return respond(request, 400, str(error))

    @app.exception_handler(StarletteHTTPException)
    async def respond_missing(request: Request, error: StarletteHTTPException) -> JSONResponse:
        return respond(request, error.status_code, str(error.detail))


def _add_files(app: FastAPI) -> None:
    """Serve the files of the page."""

    def make_reader(package: str, name: str, kind: str) -> Callable[[], Response]:
        content = (files(package) / "page" / name).read_bytes()
        return lambda: Response(content, media_type=f"{kind}; charset=utf-8")

    for path, (package, name, kind) in _STATIC.items():
        app.add_api_route(path, make_reader(package, name, kind), methods=["GET"], response_class=Response)


def _add_queries(app: FastAPI, session: LabelingSession) -> None:
    """Serve the requests that only read."""
    # Functions without `async` run on threads, so a slow read delays no other request.
    Row = Annotated[int, Path(ge=0, lt=len(session.subtomograms))]
    Annotator = Annotated[_Annotator, Query()]

    @app.get("/api/state")
    def state(annotator: Annotator) -> dict[str, Any]:
        return session.describe_state(annotator)

    @app.get("/api/next")
    def next_queries(
        annotator: Annotator,
        count: Annotated[int, Query(ge=1, le=32)] = 8,
        have: Annotated[list[int] | None, Query(max_length=64)] = None,
    ) -> dict[str, Any]:
        held_rows = have or []
        if any(not 0 <= row < len(session.subtomograms) for row in held_rows):
            raise ValueError(f"rows are from 0 to {len(session.subtomograms) - 1}")
        return {
            "round": session.learner.state.round,
            "have": [session.describe_particle(row, annotator) for row in held_rows],
            "next": session.select_queries(annotator, count, held_rows),
        }

    @app.get("/api/particle/{row}")
    def particle(row: Row, annotator: Annotator) -> dict[str, Any]:
        return session.describe_particle(row, annotator)

    @app.get("/api/subtomogram/{row}")
    def subtomogram(row: Row) -> Response:
        volume, (low, high) = session.read_gray_levels(row)
        headers = {"X-Tomosift-Edge": str(len(volume)), "X-Tomosift-Window": f"{low:.5g} {high:.5g}"}
        return Response(volume.tobytes(), media_type="application/octet-stream", headers=headers)

    @app.get("/api/context/{row}")
    def context(row: Row) -> Response:
        section = session.context.render_section(row)
        if section is None:
            raise HTTPException(404, "the tomogram of this particle is not where it was at extraction")
        headers = {"X-Tomosift-Mark": " ".join(f"{share:.4f}" for share in section.mark)}
        return Response(section.png, media_type="image/png", headers=headers)

    @app.get("/api/map")
    def embedding_map() -> dict[str, Any]:
        return session.describe_map()

    @app.get("/api/search")
    def search(text: Annotated[str, Query(min_length=1, max_length=100)]) -> list[dict[str, Any]]:
        return session.search(text)

    @app.get("/api/finish")
    def finish() -> dict[str, Any]:
        return {"table": str(session.table_path), "commands": session.suggest_commands()}


def _add_answers(app: FastAPI, session: LabelingSession) -> None:
    """Serve the requests that write."""

    @app.post("/api/label")
    def label(answer: Annotated[_Answer, Body()]) -> dict[str, Any]:
        is_labeled = answer.row in session.tracker.update().annotations
        guess = "" if is_labeled else session.learner.state.predict(answer.row)
        written = session.store.add_answer(
            answer.annotator, answer.request, [answer.row], answer.kind, answer.class_name, guess
        )
        session.learner.notify()
        return {"written": written}

    @app.post("/api/lasso")
    def lasso(answer: Annotated[_Lasso, Body()]) -> dict[str, Any]:
        # No prediction is recorded: the annotator of a lasso does not inspect each particle.
        written = session.store.add_answer(
            answer.annotator, answer.request, answer.rows, answer.kind, answer.class_name
        )
        session.learner.notify()
        return {"written": written}

    @app.post("/api/undo")
    def undo(posted: Annotated[_Undo, Body()]) -> dict[str, Any]:
        rows = session.store.undo(posted.annotator, posted.request)
        session.learner.notify()
        return {"rows": rows}

    @app.post("/api/class")
    def new_class(posted: Annotated[_NewClass, Body()]) -> dict[str, Any]:
        session.store.add_class(posted.name.strip(), posted.annotator)
        return {"classes": [entry.name for entry in session.store.read_classes()]}

    @app.post("/api/export")
    def export(posted: Annotated[_Export, Body()]) -> dict[str, Any]:
        summary = write_labels(session.table_path, session.tracker, session.subtomograms, session.grids)
        return {"table": str(session.table_path), "counts": summary.counts, "ties": summary.ties}
