from __future__ import annotations

from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.deployments.test_api import JPEG


def check(document: dict, schema_name: str, instance: dict) -> None:
    schema = {"$ref": f"#/components/schemas/{schema_name}", "components": document["components"]}
    errors = [error.message for error in Draft202012Validator(schema).iter_errors(instance)]
    assert not errors


def test_the_document_is_valid(client):
    OpenAPIV31SpecValidator(client.get("/openapi.json").json()).validate()


def test_answers_are_what_it_says(client, photo):
    document = client.get("/openapi.json").json()
    check(document, "Segmentation", client.post("/v1/segment", content=photo, headers=JPEG).json())
    check(document, "Model", client.get("/v1/model").json())
    check(document, "Status", client.get("/healthz").json())
    refusal = client.post("/v1/segment", content=b"")
    check(document, "Problem", refusal.json())
    assert str(refusal.status_code) in document["paths"]["/v1/segment"]["post"]["responses"]


def test_every_route_of_the_interface_is_in_it(client):
    paths = client.get("/openapi.json").json()["paths"]
    routes = {route.path for route in client.app.routes} - {"/openapi.json", "/docs", "/docs/{name}", "/"}
    assert set(paths) == routes
