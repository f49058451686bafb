"""`recsys serve` logs problems at its start and may run a private Redis."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import redis as redis_py

from service.serve import SECRETS
from service.server.embedded_redis import free_port
from service.settings import OTHER_VARIABLES, Settings, described, misspelled
from tests.support.bundles.trained_shop import TrainedShop
from tests.support.processes import Start, start_fork, start_python
from tests.support.service.app_client import PATIENT, ClientOf
from tests.support.service.processes import family, gone
from tests.support.service.servers import look_until
from tests.support.training.command_line import run

TENT = {"user_id": "ada", "item_id": "aurora-tent"}


class ServeProcess:
    """Process of `recsys serve` with these options, and its log."""

    def __init__(
        self, log: Path, bundle: Path, start: Start, *options: str, **environment: str
    ) -> None:
        self.log, self.url = log, f"http://127.0.0.1:{(port := free_port())}"
        words = ["serve", "--bundle", str(bundle), "--port", str(port), *options]
        patient = {f"RECSYS_{name.upper()}": str(value) for name, value in PATIENT.items()}
        self.process = start(words, log, {**os.environ, **patient, **environment})

    @property
    def output(self) -> str:
        return self.log.read_text()

    def click(self) -> dict[str, object] | None:
        """Return the answer to a click, or None if the service does not answer."""
        try:
            answer: dict[str, object] = httpx.post(
                f"{self.url}/v1/recommendations", json=TENT, timeout=30
            ).json()
        except httpx.TransportError:
            assert self.process.poll() is None, self.output
            return None
        return answer

    @property
    def redis_servers(self) -> list[int]:
        """Return the process ids of the redis-servers among its children."""
        return [
            pid
            for pid in family(self.process.pid)
            if b"redis-server" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
        ]


@contextmanager
def started(
    log: Path, bundle: Path, start: Start, *options: str, **environment: str
) -> Iterator[ServeProcess]:
    server = ServeProcess(log, bundle, start, *options, **environment)
    try:
        look_until(lambda: server.click() is not None, "it does not answer")
        yield server
    finally:
        server.process.kill()
        server.process.wait()


@pytest.mark.parametrize("how", ["option", "environment", "two workers", "killed"])
def test_an_embedded_redis_stores_clicks_and_ends_with_the_service(
    trained: TrainedShop, tmp_path: Path, how: str
) -> None:
    options = [] if how == "environment" else ["--redis", "embedded"]
    variables = {"RECSYS_REDIS": "embedded"} if how == "environment" else {}
    start = start_python if how == "environment" else start_fork
    if how == "two workers":
        options += ["--workers", "2"]
    with started(tmp_path / "log", trained.bundle, start, *options, **variables) as server:
        answer = server.click()
        (redis,) = server.redis_servers
        assert answer is not None
        assert (answer["stored"], answer["degraded"]) == (True, False)
        assert server.output.count("Sessions are kept in a private Redis and end with") == 1
        assert "Redis does not answer" not in server.output
        server.process.send_signal(signal.SIGKILL if how == "killed" else signal.SIGTERM)
        assert server.process.wait(60) == (-signal.SIGKILL if how == "killed" else 0)
        look_until(lambda: gone(redis), "the private Redis is still there")


def test_an_embedded_redis_is_open_only_to_the_user_of_the_service(
    trained: TrainedShop, tmp_path: Path
) -> None:
    with started(tmp_path / "log", trained.bundle, start_fork, "--redis", "embedded") as server:
        (redis,) = server.redis_servers
        folder = Path(f"/proc/{redis}/cwd").readlink()
        with redis_py.Redis(unix_socket_path=str(folder / "redis.sock")) as client:
            assert client.config_get("port") == {"port": "0"}
        assert folder.stat().st_mode & 0o777 == 0o700


def test_the_end_of_an_embedded_redis_is_logged(trained: TrainedShop, tmp_path: Path) -> None:
    with started(tmp_path / "log", trained.bundle, start_fork, "--redis", "embedded") as server:
        (redis,) = server.redis_servers
        assert "private Redis ended" not in server.output
        os.kill(redis, signal.SIGKILL)
        look_until(
            lambda: "The private Redis ended (exit status -9)" in server.output, server.output
        )
        server.process.terminate()
        assert server.process.wait(60) == 0
        assert server.output.count("private Redis ended") == 1


@pytest.mark.parametrize(
    ("number", "workers"),
    [
        (signal.SIGTERM, "1"),
        pytest.param(signal.SIGTERM, "2", marks=pytest.mark.long),
        (signal.SIGKILL, "1"),
    ],
)
def test_a_second_signal_leaves_no_embedded_redis_behind(
    trained: TrainedShop, tmp_path: Path, number: signal.Signals, workers: str
) -> None:
    options = ("--redis", "embedded", "--workers", workers)
    late = {"RECSYS_SHUTDOWN_SECONDS": "60"}
    with started(tmp_path / "log", trained.bundle, start_fork, *options, **late) as server:
        (redis,) = server.redis_servers
        folder = Path(f"/proc/{redis}/cwd").readlink()
        os.kill(redis, signal.SIGSTOP)  # it ends late, so that the service has to wait for it
        try:
            server.process.terminate()
            look_until(lambda: signal.SIGTERM in waiting_for(redis), "Redis was not told to end")
            server.process.send_signal(number)
        finally:
            os.kill(redis, signal.SIGCONT)
        assert server.process.wait(60) == (0 if number == signal.SIGTERM else -signal.SIGKILL)
        look_until(lambda: gone(redis), "the private Redis is still there")
        look_until(lambda: not folder.exists(), "its folder is still there")


def waiting_for(pid: int) -> set[int]:
    """Return the numbers of the signals that a stopped process has not handled."""
    status = Path(f"/proc/{pid}/status").read_text()
    pending = int(status.partition("ShdPnd:")[2].split()[0], 16)
    return {number for number in signal.Signals if pending >> (number - 1) & 1}


def test_an_unreachable_redis_is_logged_at_the_start(trained: TrainedShop, tmp_path: Path) -> None:
    nowhere = ("--redis", f"redis://127.0.0.1:{free_port()}/0")
    with started(tmp_path / "log", trained.bundle, start_fork, *nowhere) as server:
        assert "warning Redis does not answer: sessions are not stored" in server.output


async def test_a_redis_that_answers_is_not_logged(
    open_client: ClientOf, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_client():
        assert not caplog.records


def test_a_misspelled_variable_is_named_with_the_nearest_setting() -> None:
    names = ["RECSYS_RATELIMIT", "RECSYS_XYZ", "recsys_admin_key_hash", "PATH", "MY_RECSYS_PORT"]

    near, far, file = sorted(misspelled(names), key=lambda text: names.index(text.split()[0]))

    assert near == (
        "RECSYS_RATELIMIT is not a setting and has no effect. Did you mean RECSYS_RATE_LIMIT?"
    )
    assert far == "RECSYS_XYZ is not a setting and has no effect. recsys serve --help lists them."
    assert file.endswith("Did you mean RECSYS_ADMIN_KEY_HASHES?")
    assert misspelled([name for name, _, _ in described()]) == []
    assert misspelled([f"recsys_{name}" for name in Settings.model_fields]) == []  # files


def test_every_variable_that_the_product_names_is_listed() -> None:
    """Compose files, scripts and tests also use the prefix for other variables."""
    root = Path(__file__).parents[2]
    listed = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("This is not a git working tree, so the files of the product are unknown.")
    found: set[str] = set()
    for path in listed.stdout.splitlines():
        if path.startswith("tests/") or path == "CHANGELOG.md" or not (root / path).is_file():
            continue
        text = (root / path).read_bytes().decode(errors="ignore")
        found |= set(re.findall(r"\bRECSYS_[A-Z][A-Z_]*[A-Z]\b", text))

    assert misspelled(found) == []
    assert set(OTHER_VARIABLES) <= found


def test_the_warning_of_a_variable_does_not_show_its_value(
    trained: TrainedShop, tmp_path: Path, redis_server: str
) -> None:
    assert str(SECRETS) == "/run/secrets"
    given = ("--redis", redis_server)
    wrong = {"RECSYS_USER_ID_SECRETS": "a-secret-pepper"}
    with started(tmp_path / "log", trained.bundle, start_fork, *given, **wrong) as server:
        (line,) = [line for line in server.output.splitlines() if "not a setting" in line]

    assert " warning RECSYS_USER_ID_SECRETS is not a setting" in line
    assert "Did you mean RECSYS_USER_ID_SECRET?" in line
    assert "pepper" not in server.output


def test_the_help_shows_every_setting_with_its_default(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")

    code, out, _ = run(capsys, "serve", "--help")

    assert code == 0
    options, _, table = out.partition("Settings, as environment variables")
    for default in ("redis://127.0.0.1:6379/0", "127.0.0.1", "8000", "1"):
        assert f"[default: ({default})]" in options
    for variable, default, description in described():
        (row,) = [line for line in table.splitlines() if line.split()[:1] == [variable]]
        assert default in row
        assert description[:40] in row
