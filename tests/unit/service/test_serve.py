"""Settings come from several sources, public addresses need a key, and open files have a limit."""

import contextlib
import resource
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from recsys.errors import BadInput
from service.middleware.auth import hash_of
from service.serve import listen, read_settings, refuse_public_address
from service.settings import Settings

KEY, ADMIN = "a key", "an admin's key"


def settings(**options: Any) -> Settings:
    return read_settings({"bundle": Path("none"), **options})


def test_files_of_secrets_give_settings_that_the_environment_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty variable counts as not set."""
    (tmp_path / "recsys_redis").write_text("redis://:from-a-file@redis:6379/0\n")
    (tmp_path / "recsys_api_key_hashes").write_text(f"{hash_of(KEY)},{hash_of(ADMIN)}\n")
    (tmp_path / "recsys_log_level").write_text("error")
    monkeypatch.setenv("RECSYS_API_KEY_HASHES", "")
    monkeypatch.setenv("RECSYS_LOG_LEVEL", "warning")

    merged = read_settings({"bundle": Path("none")}, tmp_path)

    assert merged.redis.get_secret_value() == "redis://:from-a-file@redis:6379/0"
    assert merged.api_key_hashes == (hash_of(KEY), hash_of(ADMIN))
    assert merged.log_level == "warning"
    assert read_settings({"bundle": Path("none")}, tmp_path / "none").api_key_hashes == ()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7"])
def test_a_public_address_is_refused_without_a_key(host: str) -> None:
    with pytest.raises(BadInput, match=r"open to all.*recsys key.*RECSYS_PUBLIC_WITHOUT_KEY"):
        refuse_public_address(host, settings(host=host))

    refuse_public_address(host, settings(host=host, api_key_hashes=hash_of(KEY)))
    refuse_public_address(host, settings(host=host, public_without_key=True))
    with pytest.raises(BadInput, match="open to all"):  # that key opens admin calls only
        refuse_public_address(host, settings(host=host, admin_key_hashes=hash_of(ADMIN)))


def test_an_address_is_checked_after_it_is_resolved() -> None:
    for host in ("127.0.0.1", "localhost", "127.7.7.7"):
        with contextlib.closing(listen(settings(host=host, port=0))) as bound:
            assert bound.getsockname()[0] in (host, "127.0.0.1", "::1")
    for host in ("0", "0x0", "00.0.0.0"):  # the C library takes all of these for 0.0.0.0
        with pytest.raises(BadInput):
            listen(settings(host=host, port=0))


def test_an_empty_host_does_not_mean_all_addresses() -> None:
    try:
        bound = listen(settings(host="", port=0))
    except BadInput:
        return
    with contextlib.closing(bound):
        assert bound.getsockname()[0] in ("127.0.0.1", "::1")


def test_a_taken_port_is_reported_in_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BadInput, match=f"127.0.0.1:{port}.*Choose another"):
            listen(settings(port=port))


def limited(soft: int, hard: int, connections: int) -> "subprocess.CompletedProcess[str]":
    """Run `allow_open_files` in a process with these limits, which prints its new soft limit."""
    program = (
        "import resource\n"
        "from service.serve import allow_open_files\n"
        "from service.settings import Settings\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n"
        f"allow_open_files(Settings(bundle='none', max_connections={connections}))\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_limit_of_open_files_fits_the_connections_or_is_reported() -> None:
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= 2500

    assert limited(512, 2500, 2000).stdout == f"{2000 + 64 + 200}\n"
    assert limited(2500, 2500, 10).stdout == "2500\n"
    refused = limited(512, 2000, 2000)
    assert refused.returncode != 0
    assert "2,000 connections need 2,264 open files, and the system allows 2,000" in refused.stderr
