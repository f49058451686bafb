"""Project of docker-compose.yml on the Docker of this machine, separate from all others.

Runs commands of Docker and Compose (`docker compose`, or the older `docker-compose`).
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
    """A Docker command failed; the message holds the end of its output."""


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """Run a command and return its output; raise `CommandFailed`."""
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **(environment or {})}, capture_output=True, text=True
    )
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise CommandFailed(f"{' '.join(command)}: exit {done.returncode}\n{tail}")
    return done.stdout


def compose_of_this_machine() -> tuple[str, ...]:
    """Return the words of `docker compose`, or of the older program; raise `CommandFailed`."""
    try:
        run(["docker", "compose", "version"])
    except (CommandFailed, FileNotFoundError):
        if shutil.which("docker-compose") is None:
            raise CommandFailed("Neither docker compose nor docker-compose is installed.") from None
        return ("docker-compose",)
    return ("docker", "compose")


@dataclass(frozen=True, slots=True)
class Project:
    """Volumes, networks and containers under one name; `environment` stands for `.env`."""

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
        """Run a Compose command and return its output; raise `CommandFailed`."""
        command = [*self.compose, "--project-name", self.name, *arguments]
        return run(command, {**self._ports, **self.environment})

    def shell(self, script: str, folder: Path) -> str:
        """Run a shell script with `docker compose` in a folder; raise `CommandFailed`."""
        adapted = script.replace("docker compose", " ".join(self.compose))
        where = {
            "COMPOSE_FILE": str(ROOT / "docker-compose.yml"),
            "COMPOSE_PROJECT_NAME": self.name,
        }
        quoted = shlex.quote(str(folder))
        return run(
            ["bash", "-ec", f"cd {quoted}\n{adapted}"], {**self._ports, **self.environment, **where}
        )

    def up(self, *arguments: str) -> float:
        """Start all services; return the seconds until the API answers through the gateway."""
        began = time.perf_counter()
        self("up", "--detach", *arguments)
        latest = began + READY_SECONDS
        while not self.ready():
            if time.perf_counter() > latest:
                raise CommandFailed(f"Not ready {READY_SECONDS:.0f} s after up:\n{self('ps')}")
            time.sleep(0.2)
        return time.perf_counter() - began

    def ready(self) -> bool:
        return '"ready"' in self.text_of("/health/ready")

    def text_of(self, path: str) -> str:
        """Return the text of an answer, or an empty text if there is none."""
        try:
            return httpx.get(f"{self.url}{path}", timeout=2).text
        except httpx.TransportError:
            return ""

    def containers(self, service: str) -> list[str]:
        """Return the ids of the running containers."""
        ids = self("ps", "--quiet", service).split()
        return [each for each in ids if inspect(each)["State"]["Running"]]

    def container(self, service: str) -> str:
        """Return the first running container; raise `CommandFailed`."""
        ids = self.containers(service)
        if not ids:
            raise CommandFailed(f"No container of {service} runs:\n{self('ps')}")
        return ids[0]

    def redis(self, *command: str) -> str:
        """Run redis-cli in the container of Redis, which has the password."""
        return self("exec", "-T", "redis", "redis-cli", *command).strip()


def inspect(container_or_image: str) -> dict[str, Any]:
    description: dict[str, Any] = json.loads(run(["docker", "inspect", container_or_image]))[0]
    return description


def inside(container: str, *command: str) -> str:
    """Run a command in a container and return its output; raise `CommandFailed`."""
    return run(["docker", "exec", container, *command]).strip()
