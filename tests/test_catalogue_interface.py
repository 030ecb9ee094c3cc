"""The catalogue over HTTP: what its OpenAPI document says holds, for every request that can be made of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from asgi import ask
from catalogue_case import KEYS, World
from starlette.applications import Starlette
from starlette.routing import Mount

from edge_monitor.journal import Digests
from edge_registry import retention
from edge_registry.catalogue.entering import Link, Registration, take
from edge_registry.catalogue.interface import ENDPOINTS, openapi, routes
from edge_registry.catalogue.statements import TEST_RESULT, sign
from edge_registry.catalogue.watch import Watch
from edge_registry.configuration import DEFAULT_S, Configuration
from edge_registry.siem.addresses import open_output, parse_address
from edge_registry.siem.delivery import DeliveryError
from edge_registry.siem.sending import Sender

DATA, MODEL = "1" * 64, "2" * 64


@pytest.fixture
def world(tmp_path: Path, database: str) -> Iterator[World]:
    """A registry with a model, its data, statements, and a robot that uses it and something unknown."""
    world = World(tmp_path, database)
    with world.writing() as catalogue:
        for data in (
            Registration("dataset", "yard", "1", DATA, "paula", {"sources": "three"}, ()).signed(
                "paula", KEYS["paula"], catalogue.now_ns
            ),
            Registration("model", "detector", "3", MODEL, "bruno", {}, (Link("trained_on", "dataset", DATA),)).signed(
                "paula", KEYS["paula"], catalogue.now_ns
            ),
            sign(TEST_RESULT, [("d", MODEL)], {"result": "PASSED"}, KEYS["mallory"]),
        ):
            take(catalogue.tx, data, world.trust, catalogue.now_ns)
    world.drive(Digests(b"\xee" * 32, bytes.fromhex(MODEL), b"1"), time.time_ns())
    world.sync()
    retention.apply(world.store, Configuration(), int(time.time()) + 2 * DEFAULT_S, "night")
    with pytest.raises(DeliveryError):
        nowhere = parse_address("syslog://127.0.0.1:9")
        Sender(world.store, "soc", open_output(nowhere, "cef"), nowhere.text(), "cef").step()
    Watch(world.store, lambda: world.trust, owner="erin").run_to_end()
    yield world
    world.close()


@pytest.fixture
def app(world: World) -> Starlette:
    """The interface as a web application mounts it."""
    return Starlette(routes=[Mount("/api/v1", routes=list(routes(world.reading)))])


def test_every_endpoint_answers_as_its_document_says(world: World, app: Starlette) -> None:
    """With what there is; the shapes of the answers are those of the OpenAPI document, and each endpoint is asked."""
    document = ask(app, "/api/v1/openapi.json").json()
    assert document == openapi()
    with world.reading() as catalogue:
        statement = catalogue.said_of(MODEL)[0].digest
        log = catalogue.tx.connection.exec_driver_sql("select origin from logs").scalar()
    assert isinstance(log, str)
    log = log.rpartition("/")[2]
    asked = {
        "/words": "/words", "/items": "/items?kind=model&limit=1", "/items/{ref}": "/items/model:detector@3",
        "/items/{ref}/lineage": f"/items/{MODEL}/lineage", "/statements/{digest}": f"/statements/{statement}",
        "/robots": "/robots", "/robots/{robot}": "/robots/robot-7",
        "/robots/{robot}/records/{log}/{sequence}/lineage": f"/robots/robot-7/records/{log[:8]}/3/lineage",
        "/erasures": "/erasures", "/outputs": "/outputs", "/exceptions": "/exceptions", "/exceptions/{number}": "/exceptions/1",
    }  # fmt: skip
    assert set(asked) == set(document["paths"]) == {one.path for one in ENDPOINTS}
    found: dict[str, Any] = {}
    for path, url in asked.items():
        response = ask(app, f"/api/v1{url}")
        assert response.status == 200, (url, response.body)
        found[path] = response.json()
        said = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.validate(found[path], {**said, "components": document["components"]})
    assert found["/items"]["items"][0]["alias"] == "model:detector@3" and found["/items"]["next"] == MODEL
    assert ask(app, f"/api/v1/items?after={MODEL}").json()["items"][0]["digest"] == DATA
    assert found["/robots/{robot}/records/{log}/{sequence}/lineage"]["training_data"] == [DATA]
    assert {one["kind"] for one in found["/exceptions"]} == {"unknown_digest", "unreleased_model"}
    assert not found["/robots"][0]["verifies"]
    assert [(one["what"], one["outcome"], one["payloads"]) for one in found["/erasures"]] == [
        ("window over", "done", 5)
    ]
    assert found["/outputs"][0]["name"] == "soc" and "refused" in found["/outputs"][0]["failure"]
    words = [one["standing"]["word"] for one in found["/items/{ref}"]["statements"]]
    assert words == ["verified", "unknown key"]


def test_what_is_wrong_is_one_error_of_one_shape(app: Starlette) -> None:
    """A parameter that can't be is 400, what is not there 404, each with a line that says why; nothing but reading is allowed."""
    for url, status in (
        ("/items?kind=thing", 400), ("/items?limit=0", 400), ("/items?limit=x", 400), ("/items?other=1", 400),
        ("/items?search=%00", 400), ("/items/a%09b", 400), ("/statements/abc", 400), ("/exceptions/99999999999999999999", 400),
        ("/exceptions/-1", 400), ("/exceptions?open=maybe", 400),
        ("/items/model:none", 404), ("/items/%F0%9F%98%80", 404), (f"/statements/{'0' * 64}", 404), ("/robots/robot-8", 404),
        ("/robots/robot-7/records/zz/1/lineage", 404), ("/exceptions/77", 404),
    ):  # fmt: skip
        response = ask(app, f"/api/v1{url}")
        assert response.status == status, (url, response.body)
        error = response.json()["error"]
        assert error["message"] and error["code"] == ("not_found" if status == 404 else "bad_request")
    assert ask(app, "/api/v1/items", "POST").status == 405


def test_no_request_makes_it_fail(app: Starlette) -> None:
    """Schemathesis makes requests of every kind from the document: none ends with 5xx, or otherwise than the document says."""
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    from hypothesis import HealthCheck, given, settings

    schema = schemathesis.openapi.from_asgi("/api/v1/openapi.json", app)
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) == len(ENDPOINTS)
    statuses: set[int] = set()
    for operation in operations:

        @settings(max_examples=20, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def request(case: Any) -> None:
            response = case.call()
            statuses.add(response.status_code)
            assert response.status_code < 500, (case.formatted_path, response.text)
            if response.headers["content-type"] == "application/json":
                case.validate_response(response)

        request()
    assert {200, 404} <= statuses <= {200, 400, 404}
