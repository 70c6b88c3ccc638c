"""Who may call: keys, rates, other origins' pages, and headers that nobody needs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from deployments.access import Bucket, InvalidKeyFile, Key, KeyRing, main, read_keys
from deployments.api import create_app
from deployments.config import AppConfig
from deployments.front import LimitHeaders
from deployments.problems import HeadersTooLarge, InvalidRequest, TooManyRequests, Unauthorized
from deployments.served_version import ServedVersion
from tests.deployments.conftest import api_of
from tests.deployments.test_api import problem_of

# sha256 of "alpha" and "beta"
ALPHA = "8ed3f6ad685b959ead7022518e1af76cd816f8e8ec7ccdda1ed4018e8f2223f8"
BETA = "f44e64e75f3948e9f73f8dfa94721c4ce8cbb4f265c4790c702b2d41cfbf2753"
BEARER = {"Authorization": "Bearer alpha"}
PAGE = "https://page.example"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "keys"
    file.write_text(f"# whose keys\n\nana:{ALPHA}\nbob:{BETA}:6\n")
    return file


@pytest.fixture
def client_of(served: ServedVersion, config: AppConfig) -> Callable[..., TestClient]:
    def make(**settings) -> TestClient:
        return TestClient(create_app(api_of(served, config.model_copy(update=settings))))

    return make


def test_a_key_file_is_names_digests_and_rates(key_file):
    assert read_keys(key_file) == [Key("ana", ALPHA), Key("bob", BETA, 6)]


@pytest.mark.parametrize("line", ["ana", "ana:alpha", f"ana:{ALPHA}:0", f"ana:{ALPHA}:fast", f"a b:{ALPHA}", f"bob:{ALPHA}\nbob:{BETA}"])
def test_a_wrong_line_is_refused_without_repeating_it(tmp_path, line):
    (tmp_path / "keys").write_text(line)
    with pytest.raises(InvalidKeyFile, match="keys") as refusal:
        read_keys(tmp_path / "keys")
    assert ALPHA not in str(refusal.value)


def test_a_missing_key_file_is_named(tmp_path):
    with pytest.raises(InvalidKeyFile, match="nowhere"):
        KeyRing(str(tmp_path / "nowhere"), 1)


def test_a_made_key_opens_what_its_line_is_in(tmp_path, capsys):
    main("ana", requests_per_minute=600)
    secret, line = (printed.split(": ")[1].strip() for printed in capsys.readouterr().out.splitlines())
    (tmp_path / "keys").write_text(line)
    KeyRing(str(tmp_path / "keys"), 1).admit(secret)
    assert secret not in line and line.startswith("ana:") and line.endswith(":600")


def test_a_bucket_gives_ten_seconds_worth_at_once_and_then_its_rate():
    bucket = Bucket(rate=0.5, filled_at=100.0)
    assert [bucket.take(100.0) for _ in range(6)] == [0, 0, 0, 0, 0, 2.0]
    assert bucket.take(101.0) == 1.0
    assert bucket.take(102.0) == 0
    assert [bucket.take(1000.0) for _ in range(6)] == [0, 0, 0, 0, 0, 2.0]


def test_a_slow_rate_still_lets_one_through():
    bucket = Bucket(rate=1 / 60, filled_at=0.0)
    assert bucket.take(0.0) == 0
    assert bucket.take(0.0) == pytest.approx(60)


def test_replicas_share_a_rate(tmp_path):
    (tmp_path / "keys").write_text(f"ana:{ALPHA}:120")
    ring = KeyRing(str(tmp_path / "keys"), num_replicas=4)  # half a token per second for each
    for _ in range(5):
        ring.admit("alpha")
    with pytest.raises(TooManyRequests, match="'ana' allows 120 requests per minute"):
        ring.admit("alpha")


def test_a_changed_file_counts_from_the_next_request_and_a_broken_one_does_not(key_file):
    ring = KeyRing(str(key_file), 1)
    ring.admit("alpha")
    key_file.write_text(f"bob:{BETA}")
    with pytest.raises(Unauthorized):
        ring.admit("alpha")
    key_file.write_text("half a li")
    ring.admit("beta")
    key_file.unlink()
    ring.admit("beta")


@pytest.mark.parametrize("headers", [BEARER, {"Authorization": "bearer alpha"}, {"X-API-Key": "alpha"}])
def test_a_known_key_opens_the_interface(client_of, key_file, photo, headers):
    client = client_of(api_keys_file=str(key_file))
    assert client.get("/v1/model", headers=headers).status_code == 200
    assert client.post("/v1/segment", content=photo, headers=headers).status_code == 200


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer gamma"}, {"Authorization": "Basic alpha"}, {"X-API-Key": b"\xff"}])
def test_no_key_or_an_unknown_one_does_not(client_of, key_file, headers):
    response = client_of(api_keys_file=str(key_file)).post("/v1/segment", content=b"", headers=headers)
    assert response.status_code == 401 and problem_of(response) == "unauthorized"
    assert response.headers["www-authenticate"].startswith("Bearer")


def test_a_key_over_its_rate_is_told_when_to_come_back(client_of, key_file):
    client = client_of(api_keys_file=str(key_file))
    answers = [client.get("/v1/model", headers={"X-API-Key": "beta"}) for _ in range(2)]
    assert [each.status_code for each in answers] == [200, 429]
    assert problem_of(answers[1]) == "too-many-requests" and 1 <= int(answers[1].headers["retry-after"]) <= 10
    assert client.get("/v1/model", headers=BEARER).status_code == 200


def test_health_and_documentation_need_no_key(client_of, key_file):
    client = client_of(api_keys_file=str(key_file))
    assert [client.get(path).status_code for path in ("/healthz", "/readyz", "/docs", "/openapi.json")] == [200] * 4


def test_pages_of_other_origins_are_refused_unless_named(client_of, key_file):
    preflight = {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    closed, opened = client_of(), client_of(cors_origins=(PAGE,), api_keys_file=str(key_file))
    assert "access-control-allow-origin" not in closed.get("/v1/model", headers={"Origin": PAGE}).headers
    assert closed.options("/v1/segment", headers=preflight).status_code == 405
    assert opened.options("/v1/segment", headers=preflight).headers["access-control-allow-origin"] == PAGE
    assert opened.options("/v1/segment", headers=preflight | {"Origin": "https://other.example"}).status_code == 400
    refusal = opened.get("/v1/model", headers={"Origin": PAGE})
    assert refusal.status_code == 401 and refusal.headers["access-control-allow-origin"] == PAGE


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ({"A": "b" * 1_000_000}, "headers-too-large"),
        ([(f"A{index}", "b") for index in range(20_000)], "headers-too-large"),
    ],
)
def test_headers_that_nobody_needs_are_refused(client_of, headers, name):
    response = client_of().post("/v1/segment", content=b"", headers=headers)
    assert response.status_code == 431 and problem_of(response) == name


@pytest.mark.parametrize(
    ("hosts", "version", "error"), [(0, "1.1", InvalidRequest), (2, "1.1", InvalidRequest), (101, "1.1", HeadersTooLarge)]
)
def test_exactly_one_host(hosts, version, error):
    with pytest.raises(error):
        run_through_limit(hosts, version)


@pytest.mark.parametrize(("hosts", "version"), [(1, "1.1"), (0, "1.0")])
def test_one_host_or_none_in_the_old_protocol(hosts, version):
    assert run_through_limit(hosts, version) == ["reached"]


def run_through_limit(num_hosts: int, version: str) -> list[str]:
    reached = []

    async def app(scope, receive, send):
        reached.append("reached")

    scope = {"headers": [(b"host", b"a")] * num_hosts, "http_version": version}
    with pytest.raises(StopIteration):
        LimitHeaders(app)(scope, None, None).send(None)
    return reached


def test_ray_and_haproxy_take_the_settings_of_the_front(tmp_path):
    """Two of them are directives within a value: Ray's template has to carry them, and HAProxy has to know them."""
    root = Path(__file__).parents[2]
    names = {"CONFIG_FILE_LOC": "haproxy.cfg", "SOCKET_PATH": "admin.sock", "SERVER_STATE_BASE": "", "SERVER_STATE_FILE": "state"}
    own = {f"RAY_SERVE_HAPROXY_{name}": str(tmp_path / file) for name, file in names.items()}
    program = """
import subprocess, sys
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig, get_haproxy_binary
backend = BackendConfig(name="a", path_prefix="/", servers=[ServerConfig("replica", "127.0.0.1", 30000)])
api = HAProxyApi(HAProxyConfig(), {"a": backend})
api._generate_config_file_internal()
print(open(api.config_file_path).read())
sys.exit(subprocess.run([get_haproxy_binary(), "-c", "-f", api.config_file_path], capture_output=True).returncode)
"""
    shell = 'set -a; . deployments/front.env; set +a; exec "$0" -c "$1"'
    done = subprocess.run(
        ["bash", "-c", shell, sys.executable, program], cwd=root, env=os.environ | own, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    defaults = done.stdout.partition("defaults\n")[2].partition("frontend")[0]
    lines = {line.strip() for line in defaults.splitlines()}
    assert {"option http-buffer-request", "timeout http-request 10s", "retry-on conn-failure empty-response 500", "retries 3"} <= lines
