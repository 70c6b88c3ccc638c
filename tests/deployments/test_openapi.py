from __future__ import annotations

from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from deployments.answer_schemas import FORMAT_SCHEMAS
from deployments.formats import FORMATS
from deployments.query import DEADLINE_HEADER, LANE_HEADER, PARAMETERS
from tests.deployments.test_api import JPEG


def check(document: dict, schema_name: str, instance: dict) -> None:
    schema = {"$ref": f"#/components/schemas/{schema_name}", "components": document["components"]}
    errors = [error.message for error in Draft202012Validator(schema).iter_errors(instance)]
    assert not errors


def test_the_document_is_valid(client):
    OpenAPIV31SpecValidator(client.get("/openapi.json").json()).validate()


def test_answers_are_what_it_says(client, photo):
    document = client.get("/openapi.json").json()
    for name, schema in FORMAT_SCHEMAS.items():
        check(document, schema, client.post(f"/v1/segment?format={name}", content=photo, headers=JPEG).json())
    check(document, "Model", client.get("/v1/model").json())
    check(document, "Model", client.get("/v1/models/bundle").json())
    check(document, "Models", client.get("/v1/models").json())
    check(document, "Status", client.get("/healthz").json())
    refusal = client.post("/v1/segment", content=b"")
    check(document, "Problem", refusal.json())
    assert str(refusal.status_code) in document["paths"]["/v1/segment"]["post"]["responses"]


def test_every_route_of_the_interface_is_in_it(client):
    paths = client.get("/openapi.json").json()["paths"]
    routes = {route.path for route in client.app.routes} - {"/openapi.json", "/docs", "/docs/{name}", "/"}
    assert set(paths) == routes


def test_every_parameter_and_media_type_is_in_it(client):
    operation = client.get("/openapi.json").json()["paths"]["/v1/segment"]["post"]
    assert [each["name"] for each in operation["parameters"]] == [*PARAMETERS, DEADLINE_HEADER, LANE_HEADER]
    assert set(operation["responses"]["200"]["content"]) == {each.media_type for each in FORMATS}
