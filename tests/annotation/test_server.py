"""Requests to the page: which are answered, and which are refused with a 4xx, a line in the log and nothing written."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from tomosift.annotation.access import MAX_BODY_BYTES, is_loopback
from tomosift.annotation.background_learner import BackgroundLearner
from tomosift.annotation.consensus import ConsensusTracker
from tomosift.annotation.server import create_app
from tomosift.annotation.session import LabelingSession
from tomosift.annotation.store import Store
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.io.particles import read_particles

TOKEN = "a-token-that-only-the-opened-address-holds"
ADDRESS = "http://127.0.0.1:8123"
KNOWN = {"Authorization": f"Bearer {TOKEN}"}
LABEL = {"annotator": "ada", "request": "request-1", "row": 5, "kind": "label", "class_name": "groel"}


class Client:
    """Talks to an app without a network."""

    def __init__(self, app: FastAPI, address: str = ADDRESS, headers: dict[str, str] | None = None) -> None:
        self._transport, self._address, self._headers = httpx.ASGITransport(app), address, headers

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            async with httpx.AsyncClient(
                transport=self._transport, base_url=self._address, headers=self._headers
            ) as client:
                return await client.request(method, path, **options)

        return asyncio.run(send())

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.request("POST", path, **options)


@pytest.fixture
def session(store: Store, subtomograms: Subtomograms, tmp_path: Path) -> LabelingSession:
    tracker = ConsensusTracker(store)
    return LabelingSession(
        subtomograms,
        store,
        tracker,
        BackgroundLearner(subtomograms, "digest", tracker, Path("general"), tmp_path / "embeddings.npz"),
        {},
    )


@pytest.fixture
def page(session: LabelingSession) -> Client:
    return Client(create_app(session, TOKEN), headers=KNOWN)


def get(page: Client, path: str, **query: Any) -> Any:
    answer = page.get(path, params={"annotator": "ada", **query})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_label_lasso_class_and_undo_reach_the_store(page: Client, store: Store) -> None:
    assert page.post("/api/label", json=LABEL).json() == {"written": 1}
    lasso = {"annotator": "ada", "request": "request-2", "rows": [1, 2, 3], "kind": "junk"}
    assert page.post("/api/lasso", json=lasso).json() == {"written": 3}
    assert (
        page.post("/api/class", json={"annotator": "ada", "name": "proteasome"}).json()["classes"][-1] == "proteasome"
    )
    assert get(page, "/api/state")["labeled"] == 4
    assert page.post("/api/undo", json={"annotator": "ada", "request": "request-3"}).json() == {"rows": [1, 2, 3]}
    state = get(page, "/api/state")
    assert (state["labeled"], state["junk"], state["own_labels"]) == (1, 0, 1)
    assert {entry["name"]: entry["count"] for entry in state["classes"]}["groel"] == 1
    assert len(store.read_events()) == 7


def test_subtomogram_is_served_in_gray_levels(page: Client, subtomograms: Subtomograms) -> None:
    answer = page.get("/api/subtomogram/7")
    edge = int(answer.headers["X-Tomosift-Edge"])
    low, high = map(float, answer.headers["X-Tomosift-Window"].split())
    volume = np.frombuffer(answer.content, np.uint8).reshape(edge, edge, edge) / 255 * (high - low) + low
    expected = subtomograms.volumes([7])[0]
    assert np.abs(volume - expected.clip(low, high)).max() <= (high - low) / 255


def test_queries_are_different_and_none_is_repeated(page: Client) -> None:
    queries = get(page, "/api/next", count=8)["next"]
    rows = [item["row"] for item in queries]
    assert len(set(rows)) == 8
    page.post("/api/label", json={**LABEL, "row": rows[0]})
    more = get(page, "/api/next", count=8, have=rows[1:])
    assert [item["row"] for item in more["have"]] == rows[1:]
    assert not {item["row"] for item in more["next"]} & set(rows)


def test_two_annotators_get_different_queries_except_for_second_opinions(page: Client) -> None:
    one = [item["row"] for item in get(page, "/api/next", count=8)["next"]]
    other = get(page, "/api/next", annotator="bob", count=8)["next"]
    assert not {item["row"] for item in other} & set(one)
    for k, row in enumerate(one):
        page.post("/api/label", json={**LABEL, "row": row, "request": f"request-{k}"})
    have = [item["row"] for item in other]
    again = get(page, "/api/next", annotator="bob", count=8, have=have)["next"]
    second = [item for item in again if item["reason"] == "second opinion"]
    assert len(second) == 2
    assert {item["row"] for item in second} <= set(one)
    assert not any(item["own_label"] for item in second)


def test_disagreements_are_selected_again(page: Client) -> None:
    page.post("/api/label", json=LABEL)
    page.post("/api/label", json={**LABEL, "annotator": "bob", "request": "request-2", "class_name": "apoferritin"})
    assert get(page, "/api/state")["disagreements"] == 1
    ada = get(page, "/api/next", count=8)["next"]
    bob = get(page, "/api/next", annotator="bob", count=8)["next"]
    assert 5 in [item["row"] for item in ada]
    assert 5 not in [item["row"] for item in bob]


def test_export_is_written_beside_the_store(page: Client, store: Store) -> None:
    page.post("/api/label", json=LABEL)
    summary = page.post("/api/export", json={"annotator": "ada"}).json()
    assert summary == {"table": str(store.path.parent / "labels.star"), "counts": {"groel": 1}, "ties": 0}
    assert read_particles(store.path.parent / "labels.star").class_name.tolist() == ["groel"]
    commands = page.get("/api/finish").json()["commands"]
    assert f"--labels {store.path.parent / 'labels.star'}" in commands[0]["command"]


def test_search_is_by_number_and_by_name(page: Client, subtomograms: Subtomograms) -> None:
    assert page.get("/api/search", params={"text": "12"}).json()[0]["row"] == 11
    name = str(subtomograms.particles.particle_id[40])
    assert page.get("/api/search", params={"text": name[-8:]}).json()[0]["particle_id"].endswith(name[-8:])
    assert page.get("/api/search", params={"text": "no such particle"}).json() == []
    assert page.get("/api/particle/11", params={"annotator": "ada"}).json()["row"] == 11


def test_context_is_missing_where_the_set_names_no_tomogram(page: Client) -> None:
    assert page.get("/api/context/5").status_code == 404
    assert get(page, "/api/state")["has_context"] is False


def test_map_is_empty_until_it_is_computed(page: Client) -> None:
    assert page.get("/api/map").json()["rows"] == []


def test_every_response_has_the_headers_that_exclude_other_sites(page: Client) -> None:
    for path in ("/", "/main.js", "/api/search?text=1", "/nothing"):
        policy = page.get(path).headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:;")
        assert "unsafe" not in policy


def test_files_of_the_page_are_served_without_a_token_and_load_nothing_from_elsewhere(session: LabelingSession) -> None:
    stranger, folder = Client(create_app(session, TOKEN)), files("tomosift.annotation") / "page"
    for name in [file.name for file in folder.iterdir()]:
        path = "/" if name == "index.html" else f"/{name}"
        assert stranger.get(path).status_code == 200, path
        text = (folder / name).read_text(encoding="utf-8")
        assert "://" not in text
        assert ' style="' not in text
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert stranger.get(path).status_code == 401


def refused(
    page: Client, store: Store, caplog: pytest.LogCaptureFixture, method: str, path: str, **options: Any
) -> int:
    """Status of a request that must be refused, logged, and write nothing."""
    before, caplog_before = store.read_events(), len(caplog.records)
    files_before = sorted(store.path.parent.iterdir())
    with caplog.at_level(logging.WARNING, "tomosift.annotation"):
        answer = page.request(method, path, **options)
    assert 400 <= answer.status_code < 500, (path, answer.status_code)
    assert len(caplog.records) > caplog_before
    assert set(answer.json()) == {"detail"}
    assert store.read_events() == before
    assert sorted(store.path.parent.iterdir()) == files_before
    return answer.status_code


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer wrong"},
        {"Authorization": ""},
        {"Authorization": TOKEN},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": f"Bearer {TOKEN}x"},
    ],
)
def test_wrong_token_is_refused(
    page: Client, store: Store, caplog: pytest.LogCaptureFixture, headers: dict[str, str]
) -> None:
    assert refused(page, store, caplog, "POST", "/api/label", json=LABEL, headers=headers) == 401
    assert refused(page, store, caplog, "GET", "/api/subtomogram/1", headers=headers) == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:8123"},
        {"Host": "127.0.0.1.evil.example:8123"},
        {"Host": "127.0.0.1@evil.example"},
        {"Host": "192.168.0.7:8123"},
        {"Host": ""},
        {"Origin": "https://evil.example"},
        {"Origin": "http://localhost:9999"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_foreign_host_and_origin_are_refused_even_with_the_token(
    page: Client, store: Store, caplog: pytest.LogCaptureFixture, headers: dict[str, str]
) -> None:
    assert refused(page, store, caplog, "POST", "/api/label", json=LABEL, headers=headers) == 403


def test_own_origin_and_the_local_end_of_a_tunnel_are_accepted(page: Client) -> None:
    for host in ("127.0.0.1:8123", "localhost:9000", "[::1]:8123"):
        headers = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
        assert page.post("/api/label", json=LABEL, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/..%2f..%2f..%2fetc%2fpasswd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/main.js/../../store.py",
        "/store.py",
        "/api/subtomogram/..%2f..%2fetc%2fpasswd",
        "/api/subtomogram/240",
        "/api/subtomogram/-1",
        "/api/subtomogram/1.5",
        "/api/subtomogram/1e2",
        "/api/subtomogram/99999999999999999999999",
        "/api/context/240",
        "/api/particle/abc",
        "/api/next?annotator=ada&have=240",
        "/api/next?annotator=ada&count=1000",
        "/api/state",
        "/api/state?annotator=%00",
        "/api/search?text=",
        "/api/nothing",
    ],
)
def test_unknown_paths_and_rows_are_refused(
    page: Client, store: Store, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    refused(page, store, caplog, "GET", path)


@pytest.mark.parametrize(
    "change",
    [
        {"row": 240},
        {"row": -1},
        {"row": "5"},
        {"row": 5.0},
        {"row": True},
        {"row": None},
        {"kind": "undo"},
        {"kind": "delete"},
        {"class_name": "proteasome"},
        {"class_name": ""},
        {"class_name": "x" * 500},
        {"class_name": ["groel"]},
        {"annotator": ""},
        {"annotator": "<script>"},
        {"annotator": "a\nb"},
        {"annotator": "x" * 100},
        {"request": "short"},
        {"request": "../../../etc"},
        {"path": "/etc/passwd"},
        {"guess": "groel"},
    ],
)
def test_malformed_answers_are_refused(
    page: Client, store: Store, caplog: pytest.LogCaptureFixture, change: dict[str, Any]
) -> None:
    refused(page, store, caplog, "POST", "/api/label", json={**LABEL, **change})


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 20000, b'{"row": 1e999}'])
def test_bodies_that_are_not_an_answer_are_refused(
    page: Client, store: Store, caplog: pytest.LogCaptureFixture, body: bytes
) -> None:
    headers = {"Content-Type": "application/json"}
    refused(page, store, caplog, "POST", "/api/label", content=body, headers=headers)


def test_long_bodies_are_refused_with_and_without_their_length(
    page: Client, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    body = json.dumps({**LABEL, "class_name": "x" * MAX_BODY_BYTES}).encode()
    assert refused(page, store, caplog, "POST", "/api/label", content=body) == 413

    async def in_parts() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]

    assert refused(page, store, caplog, "POST", "/api/label", content=in_parts()) == 413


@pytest.mark.parametrize("rows", [[], [1, 1], [0, 240], [-1], ["1"], list(range(6000))])
def test_malformed_lassos_are_refused(
    page: Client, store: Store, caplog: pytest.LogCaptureFixture, rows: list[Any]
) -> None:
    lasso = {"annotator": "ada", "request": "request-1", "rows": rows, "class_name": "groel"}
    refused(page, store, caplog, "POST", "/api/lasso", json=lasso)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_refused(page: Client, store: Store, caplog: pytest.LogCaptureFixture, method: str) -> None:
    refused(page, store, caplog, method, "/api/label")


def test_export_takes_no_path(page: Client, store: Store, caplog: pytest.LogCaptureFixture) -> None:
    page.post("/api/label", json=LABEL)
    refused(page, store, caplog, "POST", "/api/export", json={"annotator": "ada", "path": "/tmp/labels.star"})
    refused(page, store, caplog, "POST", "/api/export?path=/tmp/x", json=[])


def test_log_cannot_be_forged(page: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "tomosift.annotation"):
        page.get("/api/subtomogram/%0Arefused%20nothing")
    assert all("\n" not in record.getMessage() for record in caplog.records)
    assert caplog.records


def test_page_beyond_loopback_accepts_numeric_hosts_and_its_own_name_only(session: LabelingSession) -> None:
    client = Client(create_app(session, TOKEN, host="192.168.0.7"), "http://192.168.0.7:8123", KNOWN)
    assert client.get("/").status_code == 200
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 403


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("10.0.0.1", False), ("x", False)],
)
def test_loopback_addresses_are_recognized(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
