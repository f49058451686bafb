"""One project of docker-compose.yml on this machine's Docker, apart from any other.

Knows how to speak with Docker and Compose (`docker compose`, or the older `docker-compose`), and
nothing of what is expected of them.
"""

import json
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
READY_SECONDS = 180.0


class CommandFailed(Exception):
    """A command of Docker, and the end of what it said."""


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """What it printed; raises `CommandFailed`."""
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **(environment or {})}, capture_output=True, text=True
    )
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise CommandFailed(f"{' '.join(command)}: exit {done.returncode}\n{said}")
    return done.stdout


def compose_of_this_machine() -> tuple[str, ...]:
    """`docker compose` where it is there, else the older program; raises `CommandFailed`."""
    try:
        run(["docker", "compose", "version"])
    except (CommandFailed, FileNotFoundError):
        if shutil.which("docker-compose") is None:
            raise CommandFailed("Neither docker compose nor docker-compose is here.") from None
        return ("docker-compose",)
    return ("docker", "compose")


@dataclass(frozen=True, slots=True)
class Project:
    """Volumes, networks and containers of one name; `environment` is what `.env` would hold."""

    name: str
    compose: tuple[str, ...]
    port: int
    prometheus_port: int
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def prometheus(self) -> str:
        return f"http://127.0.0.1:{self.prometheus_port}"

    @property
    def _ports(self) -> dict[str, str]:
        return {
            "RECSYS_PUBLISHED_PORT": str(self.port),
            "PROMETHEUS_PORT": str(self.prometheus_port),
        }

    def __call__(self, *arguments: str) -> str:
        """What Compose printed; raises `CommandFailed`."""
        command = [*self.compose, "--project-name", self.name, *arguments]
        return run(command, {**self._ports, **self.environment})

    def shell(self, script: str, folder: Path) -> str:
        """What a script printed that says `docker compose`, run there; raises `CommandFailed`."""
        told = script.replace("docker compose", " ".join(self.compose))
        where = {
            "COMPOSE_FILE": str(ROOT / "docker-compose.yml"),
            "COMPOSE_PROJECT_NAME": self.name,
        }
        quoted = shlex.quote(str(folder))
        return run(
            ["bash", "-ec", f"cd {quoted}\n{told}"], {**self._ports, **self.environment, **where}
        )

    def up(self, *arguments: str) -> float:
        """Start what is not running; the seconds until the gateway's API answers."""
        began = time.perf_counter()
        self("up", "--detach", *arguments)
        latest = began + READY_SECONDS
        while not self.ready():
            if time.perf_counter() > latest:
                raise CommandFailed(f"Not ready {READY_SECONDS:.0f} s after up:\n{self('ps')}")
            time.sleep(0.2)
        return time.perf_counter() - began

    def ready(self) -> bool:
        return '"ready"' in self.said_by("/health/ready")

    def said_by(self, path: str) -> str:
        """The text of an answer, or nothing where there was none."""
        try:
            return httpx.get(f"{self.url}{path}", timeout=2).text
        except httpx.TransportError:
            return ""

    def containers(self, service: str) -> list[str]:
        """Ids of those that run."""
        found = self("ps", "--quiet", service).split()
        return [each for each in found if inspect(each)["State"]["Running"]]

    def container(self, service: str) -> str:
        """The first of them; raises `CommandFailed`."""
        found = self.containers(service)
        if not found:
            raise CommandFailed(f"No container of {service} runs:\n{self('ps')}")
        return found[0]

    def redis(self, *command: str) -> str:
        """What redis-cli printed, in the container of Redis, which has the password."""
        return self("exec", "-T", "redis", "redis-cli", *command).strip()


def inspect(container_or_image: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(["docker", "inspect", container_or_image]))[0]
    return found


def inside(container: str, *command: str) -> str:
    """What a command printed in a container; raises `CommandFailed`."""
    return run(["docker", "exec", container, *command]).strip()
