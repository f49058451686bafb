"""Server of S3 in a process of this machine: that of moto, which keeps objects in memory."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from data.sources.object_stores import Url
from service.server.embedded_redis import free_port
from tests.support.redis.servers import wait_until


@dataclass(frozen=True)
class Bucket:
    """Bucket of a running server, and the variables of the environment that name the server."""

    name: str
    client: Any
    environment: dict[str, str]

    def url(self, key: str) -> Url:
        return Url(f"s3://{self.name}/{key}")

    def put(self, key: str, content: bytes) -> Url:
        self.client.put_object(Bucket=self.name, Key=key, Body=content)
        return self.url(key)

    def put_folder(self, folder: Path, key: str) -> Url:
        """Put all files below a folder."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.put(f"{key}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        return self.url(key)

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)


@contextmanager
def s3_bucket(name: str) -> Iterator[Bucket]:
    """Run a server with one bucket."""
    import boto3

    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: _answers(url), "the server of S3 answers")
        keys = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"}
        client = boto3.client(
            "s3", "eu-central-1", endpoint_url=url, **{k.lower(): v for k, v in keys.items()}
        )
        where = {"LocationConstraint": "eu-central-1"}
        client.create_bucket(Bucket=name, CreateBucketConfiguration=where)
        yield Bucket(
            name,
            client,
            {
                **keys,
                "AWS_ENDPOINT_URL": url,
                "AWS_DEFAULT_REGION": "eu-central-1",
                "AWS_EC2_METADATA_DISABLED": "true",
                "AWS_CONFIG_FILE": "/dev/null",
                "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
                "AWS_MAX_ATTEMPTS": "1",
            },
        )
        client.close()
    finally:
        server.kill()
        server.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False
