"""The client and its command line, against the interface over real HTTP."""

from __future__ import annotations

import re
import runpy
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tyro
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

import deployments.client
from deployments.api import create_app
from deployments.client import Client, ServiceError
from deployments.client.__main__ import ClientConfig, InvalidCommand, main
from models.image import decode_image
from tests.deployments.conftest import api_of, serving
from tests.deployments.test_api import open_png


@pytest.fixture
def folder(tmp_path, photo):
    """Four photos, one of them cut, one in a folder, and a file that is none."""
    photos = tmp_path / "photos"
    (photos / "shelf").mkdir(parents=True)
    for name in ("a.jpg", "b.JPG", "shelf/c.jpeg"):
        (photos / name).write_bytes(photo)
    (photos / "cut.jpg").write_bytes(photo[:500])
    (photos / "notes.txt").write_text("no photo")
    return photos


@pytest.fixture
def pauses(monkeypatch) -> list[float]:
    """The pauses that the client would have made."""
    pauses: list[float] = []
    monkeypatch.setattr(deployments.client, "sleep", pauses.append)
    return pauses


def run(address: str, *arguments: object) -> int:
    return main(tyro.cli(ClientConfig, args=[*map(str, arguments), "--url", address]))


def answering(*answers: Response) -> tuple[Starlette, list[Request]]:
    """A service that gives these answers in turn, and the requests that it got."""
    requests: list[Request] = []

    async def answer(request: Request) -> Response:
        requests.append(request)
        return answers[len(requests) - 1]

    return Starlette(routes=[Route("/v1/model", answer)]), requests


def test_masks_and_objects_of_a_photo(address, client, photo, tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(photo)
    expected = np.asarray(open_png(client.post("/v1/segment?format=png", content=photo).content))
    with Client(address) as service:
        assert service.ready() and service.model()["labels"][0]["name"] == "pet"
        for answer in (service.segment(photo, "png"), service.segment(path, "npy")):
            np.testing.assert_array_equal(answer.mask(), expected)
            assert answer.model_version.startswith("bundle@")
        assert service.segment(str(path)).objects() == client.post("/v1/segment", content=photo).json()["objects"]


def test_an_answer_of_another_form_says_which_to_ask_for(address, photo):
    with Client(address) as service:
        for format in ("json", "overlay", "confidence"):
            with pytest.raises(ValueError, match="format='png' or 'npy'"):
                service.segment(photo, format).mask()
        with pytest.raises(ValueError, match="format='json'"):
            service.segment(photo, "png").objects()


def test_a_refusal_is_the_services_own_words_and_is_not_tried_again(address, photo, pauses):
    with Client(address) as service:
        with pytest.raises(ServiceError, match="the image is empty") as caught:
            service.segment(b"")
        assert caught.value.status == 400
        with pytest.raises(ServiceError, match="class 'unicorn' is not known"):
            service.segment(photo, classes=["pet", "unicorn"])
    assert pauses == []


def test_a_busy_service_is_tried_again_when_it_says(pauses):
    app, requests = answering(
        Response(status_code=503), Response(status_code=429, headers={"Retry-After": "7"}), JSONResponse({"fine": True})
    )
    with serving(app) as address, Client(address, api_key="secret") as service:
        assert service.model() == {"fine": True}
    assert pauses == [0.5, 7]
    assert [request.headers["authorization"] for request in requests] == ["Bearer secret"] * 3


@pytest.mark.parametrize(("retry_after", "expected"), [("1", [1, 1, 2, 4]), ("3600", []), ("soon", [0.5, 1, 2, 4])])
def test_tries_and_time_are_bounded(pauses, retry_after, expected):
    app, requests = answering(*[Response(status_code=503, headers={"Retry-After": retry_after})] * 9)
    with serving(app) as address, Client(address) as service, pytest.raises(ServiceError, match="/v1/model answered 503") as caught:
        service.model()
    assert caught.value.status == 503 and pauses == expected and len(requests) == len(expected) + 1


def test_what_died_with_its_replica_is_sent_again_and_what_the_service_failed_at_is_not(pauses):
    lost, failed = PlainTextResponse("Internal Server Error", 500), Response("{}", 500, media_type="application/problem+json")
    app, requests = answering(lost, lost, JSONResponse({"version": "1"}), failed)
    with serving(app) as address, Client(address) as service:
        assert service.model() == {"version": "1"} and pauses == [0.5, 1]
        with pytest.raises(ServiceError) as caught:
            service.model()
    assert caught.value.status == 500 and len(requests) == 4


def test_no_service(pauses):
    with serving(Starlette()) as gone:
        pass
    with Client(gone) as service:
        assert not service.ready()
        with pytest.raises(ServiceError, match="does not answer") as caught:
            service.model()
    assert caught.value.status is None and pauses == [0.5, 1, 2, 4]
    with pytest.raises(ServiceError, match="begin it with http"):
        Client("127.0.0.1:8000")


def test_one_photo_on_the_command_line(address, folder, tmp_path, capsys):
    assert run(address, folder / "a.jpg") == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["class", "score", "pixels", "x,", "y,", "width,", "height"] and all(
        row.startswith(("pet", "border")) for row in rows
    )
    for name in ("mask.png", "objects.json", "mask.npy"):
        assert run(address, folder / "a.jpg", "--out", tmp_path / name) == 0
    assert decode_image((tmp_path / "mask.png").read_bytes()).shape == (90, 120, 3)
    assert np.load(tmp_path / "mask.npy", allow_pickle=False).shape == (90, 120)
    with pytest.raises(ServiceError, match="'webp' is not known"):
        run(address, folder / "a.jpg", "--out", tmp_path / "mask.webp")
    assert not (tmp_path / "mask.webp").exists()


def test_a_folder_with_a_broken_photo_is_gone_on_with(address, folder, tmp_path, capsys, photo):
    out = tmp_path / "masks"
    assert run(address, folder, "--out", out) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"3 written to {out}, 0 were there, 1 failed" and said[1].startswith("  cut.jpg: the image")
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.*")) == ["a.png", "b.png", "shelf/c.png"]
    (out / "a.png").write_text("kept")
    (folder / "cut.jpg").write_bytes(photo)
    assert run(address, folder, "--out", out) == 0
    assert capsys.readouterr().out == f"1 written to {out}, 3 were there, 0 failed\n"
    assert (out / "a.png").read_text() == "kept"


def test_answers_within_the_folder_are_no_photos(address, folder, capsys):
    (folder / "cut.jpg").unlink()
    for _ in range(2):
        assert run(address, folder, "--out", folder / "masks", "--format", "overlay") == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("0 written")


def test_a_service_that_goes_away_fails_what_is_left_at_once(folder, tmp_path, capsys, pauses):
    def answer_once() -> None:
        with listening, listening.accept()[0] as connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread = threading.Thread(target=answer_once)
        thread.start()
        assert run(address, folder, "--out", tmp_path / "masks", "--workers", 1) == 1
        thread.join()
    said = capsys.readouterr().out
    assert said.startswith("0 written") and "4 failed" in said
    assert 1 <= said.count("does not answer") < 4 and said.count("does not answer") + said.count("run the command again") == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{folder}"], "name a folder for the answers with --out"),
        (["{folder}", "--out", "{folder}/a.jpg"], "name a folder for the answers"),
        (["{folder}", "--out", "{folder}/masks", "--workers", "0"], "use 1 or more"),
        (["{folder}/empty", "--out", "{folder}/masks"], "holds no photo"),
        (["{folder}/twins", "--out", "{folder}/masks"], "rename one of them"),
    ],
)
def test_commands_that_cannot_be_carried_out(address, folder, arguments, words):
    for name in ("empty", "twins"):
        (folder / name).mkdir()
    for name in ("a.jpg", "a.png"):
        (folder / "twins" / name).write_bytes(b"")
    with pytest.raises(InvalidCommand, match=words):
        run(address, *(each.format(folder=folder) for each in arguments))


def test_it_brings_neither_ray_nor_torch():
    program = "import sys, deployments.client.__main__; print({'ray', 'torch', 'starlette', 'mlflow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_readmes_python_works_as_shown(served, config, tmp_path, monkeypatch, photo):
    readme = (Path(__file__).parent.parent.parent / "README.md").read_text()
    programs = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    (tmp_path / "photo.jpg").write_bytes(photo)
    monkeypatch.chdir(tmp_path)
    shelf = replace(served, model=replace(served.model, version="shelf/1"))
    with serving(create_app(api_of(shelf, config))) as address:
        for number, program in enumerate(programs):
            path = tmp_path / f"{number}.py"
            path.write_text(
                program.replace("http://127.0.0.1:8000", address).replace("127.0.0.1:8000", address[7:]).replace('"can"', '"pet"')
            )
            assert runpy.run_path(str(path))["mask"].shape == (90, 120)
    assert len(programs) == 2
