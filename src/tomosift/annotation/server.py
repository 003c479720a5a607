"""The labelling page over HTTP: fixed files, and an interface of a dozen requests."""

from collections.abc import Callable
from importlib.resources import files
from typing import Annotated, Any

from fastapi import Body, FastAPI, HTTPException, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException as StarletteHTTPException

from tomosift.annotation.access import AccessControl, refused
from tomosift.annotation.session import LabelingSession
from tomosift.annotation.store import AnswerKind
from tomosift.annotation.tables import write_labels

MOST_AT_ONCE = 5000
"""Particles that one lasso may label."""
_STATIC = {
    "/": ("tomosift.annotation", "index.html", "text/html"),
    "/colors.css": ("tomosift.evaluation.report", "colors.css", "text/css"),
    "/style.css": ("tomosift.annotation", "style.css", "text/css"),
    **{
        f"/{name}.js": ("tomosift.annotation", f"{name}.js", "text/javascript")
        for name in ("main", "server", "volume", "viewer", "rotating", "queue", "map", "palette", "panels", "progress")
    },
}
"""Every file that is served: address -> package, file of its folder ``page``, kind. Nothing else is ever opened."""

_Annotator = Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[^\x00-\x1f\x7f<>]+$")]
_RequestName = Annotated[str, Field(min_length=8, max_length=64, pattern=r"^[A-Za-z0-9-]+$")]
_ClassName = Annotated[str, Field(max_length=80)]
_RowOfSet = Annotated[int, Field(ge=0, strict=True)]


class _Posted(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    annotator: _Annotator


class _Answer(_Posted):
    request: _RequestName
    row: _RowOfSet
    kind: AnswerKind
    class_name: _ClassName = ""


class _Lasso(_Posted):
    request: _RequestName
    rows: Annotated[list[_RowOfSet], Field(min_length=1, max_length=MOST_AT_ONCE)]
    kind: AnswerKind = "label"
    class_name: _ClassName = ""


class _Undo(_Posted):
    request: _RequestName


class _NewClass(_Posted):
    name: _ClassName


class _Export(_Posted):
    pass


def create_app(desk: LabelingSession, token: str, host: str = "127.0.0.1") -> FastAPI:
    """The page for one set.

    Parameters
    ----------
    token
        Secret that every request but those for the files of the page must bring as ``Authorization: Bearer``.
    host
        Address it will be served at; beyond loopback, names and addresses of this machine are answered to as well.
    """
    app = FastAPI(title="tomosift label", docs_url=None, redoc_url=None, openapi_url=None)
    _refuse_with_one_sentence(app)
    _serve_files(app)
    _serve_questions(app, desk)
    _take_answers(app, desk)
    app.add_middleware(AccessControl, token=token, host=host, open_paths=tuple(_STATIC))
    return app


def _refuse_with_one_sentence(app: FastAPI) -> None:
    def answer(request: Request, status: int, reason: str) -> JSONResponse:
        refused(request.scope, status, reason)
        return JSONResponse({"detail": reason}, status)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return answer(request, 422, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")

    @app.exception_handler(ValueError)
    async def wrong(request: Request, error: ValueError) -> JSONResponse:
        return answer(request, 400, str(error))

    @app.exception_handler(StarletteHTTPException)
    async def missing(request: Request, error: StarletteHTTPException) -> JSONResponse:
        return answer(request, error.status_code, str(error.detail))


def _serve_files(app: FastAPI) -> None:
    def reader(package: str, name: str, kind: str) -> Callable[[], Response]:
        content = (files(package) / "page" / name).read_bytes()
        return lambda: Response(content, media_type=f"{kind}; charset=utf-8")

    for address, (package, name, kind) in _STATIC.items():
        app.add_api_route(address, reader(package, name, kind), methods=["GET"], response_class=Response)


def _serve_questions(app: FastAPI, desk: LabelingSession) -> None:
    # Functions without `async` run on threads, so a slow read keeps no other request waiting.
    Row = Annotated[int, Path(ge=0, lt=len(desk.boxes))]
    Who = Annotated[_Annotator, Query()]

    @app.get("/api/state")
    def state(annotator: Who) -> dict[str, Any]:
        return desk.state(annotator)

    @app.get("/api/next")
    def next_ones(
        annotator: Who,
        count: Annotated[int, Query(ge=1, le=32)] = 8,
        have: Annotated[list[int] | None, Query(max_length=64)] = None,
    ) -> dict[str, Any]:
        known = have or []
        if any(not 0 <= row < len(desk.boxes) for row in known):
            raise ValueError(f"rows are from 0 to {len(desk.boxes) - 1}")
        return {
            "round": desk.teacher.guesses.round,
            "have": [desk.about(row, annotator) for row in known],
            "next": desk.ask(annotator, count, known),
        }

    @app.get("/api/particle/{row}")
    def particle(row: Row, annotator: Who) -> dict[str, Any]:
        return desk.about(row, annotator)

    @app.get("/api/box/{row}")
    def box(row: Row) -> Response:
        volume, (low, high) = desk.box(row)
        headers = {"X-Tomosift-Edge": str(len(volume)), "X-Tomosift-Window": f"{low:.5g} {high:.5g}"}
        return Response(volume.tobytes(), media_type="application/octet-stream", headers=headers)

    @app.get("/api/context/{row}")
    def context(row: Row) -> Response:
        section = desk.surroundings.section(row)
        if section is None:
            raise HTTPException(404, "the tomogram of this particle is not where it was when boxes were cut")
        headers = {"X-Tomosift-Mark": " ".join(f"{share:.4f}" for share in section.mark)}
        return Response(section.png, media_type="image/png", headers=headers)

    @app.get("/api/map")
    def embedding_map() -> dict[str, Any]:
        return desk.map()

    @app.get("/api/search")
    def search(text: Annotated[str, Query(min_length=1, max_length=100)]) -> list[dict[str, Any]]:
        return desk.search(text)

    @app.get("/api/finish")
    def finish() -> dict[str, Any]:
        return {"table": str(desk.table), "commands": desk.next_commands()}


def _take_answers(app: FastAPI, desk: LabelingSession) -> None:
    @app.post("/api/label")
    def label(answer: Annotated[_Answer, Body()]) -> dict[str, Any]:
        guess = desk.teacher.guesses.guess(answer.row) if answer.row not in desk.votes.answers().names else ""
        written = desk.store.answer(
            answer.annotator, answer.request, [answer.row], answer.kind, answer.class_name, guess
        )
        desk.teacher.nudge()
        return {"written": written}

    @app.post("/api/lasso")
    def lasso(answer: Annotated[_Lasso, Body()]) -> dict[str, Any]:
        # No guess is noted: whoever draws a line around particles that look alike does not judge each by itself.
        written = desk.store.answer(answer.annotator, answer.request, answer.rows, answer.kind, answer.class_name)
        desk.teacher.nudge()
        return {"written": written}

    @app.post("/api/undo")
    def undo(asked: Annotated[_Undo, Body()]) -> dict[str, Any]:
        rows = desk.store.undo(asked.annotator, asked.request)
        desk.teacher.nudge()
        return {"rows": rows}

    @app.post("/api/class")
    def new_class(asked: Annotated[_NewClass, Body()]) -> dict[str, Any]:
        desk.store.add_class(asked.name.strip(), asked.annotator)
        return {"classes": [one.name for one in desk.store.classes()]}

    @app.post("/api/export")
    def export(asked: Annotated[_Export, Body()]) -> dict[str, Any]:
        made = write_labels(desk.table, desk.votes, desk.boxes, desk.grids)
        return {"table": str(desk.table), "counts": made.counts, "left_out": made.left_out}
