"""Which credentials are found, and what a child process gets to see."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.client.credentials import half_credentials, known_secrets, scrub
from pipeline.client.endpoint import has_kaggle_credentials, kaggle_endpoint, local_endpoint
from tests.client.fault_server import KEY, TOKEN, USERNAME

LEGACY = json.dumps({"username": USERNAME, "key": KEY})


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(text)


def test_no_credentials(tmp_path: Path) -> None:
    assert not has_kaggle_credentials({"HOME": str(tmp_path)})


@pytest.mark.parametrize(
    "variables",
    [{"KAGGLE_API_TOKEN": TOKEN}, {"KAGGLE_USERNAME": USERNAME, "KAGGLE_KEY": KEY}],
)
def test_credentials_in_the_environment(tmp_path: Path, variables: dict[str, str]) -> None:
    assert has_kaggle_credentials({"HOME": str(tmp_path), **variables})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (".kaggle/kaggle.json", LEGACY),
        (".config/kaggle/kaggle.json", LEGACY),
        (".kaggle/access_token", TOKEN),
        (".kaggle/access_token.txt", TOKEN),
        (".kaggle/credentials.json", json.dumps({"refresh_token": TOKEN, "username": USERNAME})),
    ],
)
def test_credentials_in_the_home_folder(tmp_path: Path, name: str, text: str) -> None:
    write(tmp_path / name, text)
    assert has_kaggle_credentials({"HOME": str(tmp_path)})
    assert not has_kaggle_credentials({"HOME": str(tmp_path / "other")})


@pytest.mark.parametrize("text", ["", LEGACY[:-9], json.dumps({"username": USERNAME})])
def test_a_cut_credentials_file_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / ".kaggle" / "kaggle.json"
    write(path, text)
    home = {"HOME": str(tmp_path)}

    assert not has_kaggle_credentials(home)
    assert half_credentials(home) == f"{path} does not hold a username and a key"
    assert half_credentials({**home, "KAGGLE_USERNAME": USERNAME, "KAGGLE_KEY": KEY}) is None


def test_half_of_the_credentials_in_the_environment_is_told(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}

    assert half_credentials(home) is None
    alone = half_credentials({**home, "KAGGLE_KEY": KEY})
    assert alone == "KAGGLE_KEY is set alone, without the other of the two"


@pytest.mark.parametrize(
    ("variable", "name"),
    [("KAGGLE_CONFIG_DIR", "kaggle.json"), ("XDG_CONFIG_HOME", "kaggle/kaggle.json")],
)
def test_credentials_in_a_named_folder(tmp_path: Path, variable: str, name: str) -> None:
    write(tmp_path / "folder" / name, LEGACY)
    assert has_kaggle_credentials({"HOME": str(tmp_path), variable: str(tmp_path / "folder")})


def test_token_in_a_named_file(tmp_path: Path) -> None:
    write(tmp_path / "secret" / "token", f"{TOKEN}\n")
    path = str(tmp_path / "secret" / "token")
    assert known_secrets({"HOME": str(tmp_path), "KAGGLE_API_TOKEN": path}) == [TOKEN]


def test_line_ends_are_no_part_of_a_secret(tmp_path: Path) -> None:
    variables = {
        "KAGGLE_API_TOKEN": f"{TOKEN}\n",
        "KAGGLE_USERNAME": "me",
        "KAGGLE_KEY": f"{KEY}\n",
    }
    assert {TOKEN, KEY} <= set(known_secrets({"HOME": str(tmp_path), **variables}))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (".kaggle/kaggle.json", "not json"),
        (".kaggle/kaggle.json", json.dumps({"username": USERNAME})),
        (".kaggle/access_token", "\n"),
        (".kaggle/credentials.json", "[]"),
    ],
)
def test_broken_files_hold_no_credentials(tmp_path: Path, name: str, text: str) -> None:
    write(tmp_path / name, text)
    assert not has_kaggle_credentials({"HOME": str(tmp_path)})


def test_a_shell_pointed_at_the_local_host_has_no_kaggle_credentials(tmp_path: Path) -> None:
    variables = {"KAGGLE_USERNAME": "local-user", "KAGGLE_KEY": KEY, "HOME": str(tmp_path)}
    assert not has_kaggle_credentials({**variables, "KAGGLE_API_ENVIRONMENT": "LOCALHOST"})


def test_local_endpoint_replaces_what_could_lead_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_PROXY", "VERBOSE", "NO_PROXY", "all_proxy", "NETRC"):
        monkeypatch.setenv(name, "user's own")
    environment = local_endpoint(18080, "user", KEY, "1", scratch=tmp_path).environment
    assert "user's own" not in environment.values()
    assert environment["KAGGLE_API_ENVIRONMENT"] == "LOCALHOST"
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        assert environment[name] == "http://127.0.0.1:18080"
    for name in ("HOME", "TMPDIR", "KAGGLE_CONFIG_DIR", "XDG_CONFIG_HOME"):
        assert environment[name] == str(tmp_path)
    assert environment["PATH"]


def test_kaggle_endpoint_keeps_the_users_credentials_and_proxies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = {"KAGGLE_API_TOKEN": TOKEN, "HTTPS_PROXY": "http://127.0.0.1:9"}
    dropped = {"VERBOSE": "true", "VERBOSE_OUTPUT": "1", "KAGGLE_API_ENVIRONMENT": "STAGING"}
    for name, value in (kept | dropped).items():
        monkeypatch.setenv(name, value)
    endpoint = kaggle_endpoint()
    assert kept.items() <= endpoint.environment.items()
    assert not dropped.keys() & endpoint.environment.keys()
    assert TOKEN not in repr(endpoint)


def test_scrubbing_leaves_no_part_of_a_longer_secret(tmp_path: Path) -> None:
    environment = {
        "HOME": str(tmp_path),
        "KAGGLE_USERNAME": USERNAME,
        "KAGGLE_KEY": "abcdef",
        "KAGGLE_API_TOKEN": "abcdef-long",
    }
    assert scrub("token abcdef-long, key abcdef", environment) == "token ***, key ***"
