"""Everything that changes an operation; each field is an environment variable RECSYS_<NAME>."""

from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.redis_url import read_url


class Settings(BaseSettings):
    """Read once at start-up and handed on; nothing else reads the environment."""

    model_config = SettingsConfigDict(env_prefix="RECSYS_", frozen=True, extra="ignore")

    bundle: Path = Field(description="bundle folder, as written by recsys train")
    redis: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="Redis URL, also with TLS or of a cluster; its password is never shown",
    )
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")

    workers: int = Field(
        1, ge=1, le=64, description="processes that share the port, about one for each core"
    )

    idle_seconds: int = Field(
        1800, ge=1, le=31_536_000, description="silence after which a session is forgotten"
    )
    tombstone_seconds: int = Field(
        300,
        ge=1,
        le=31_536_000,
        description="how long repeats from before a DELETE are still recognised",
    )
    event_ids_kept: int = Field(1000, ge=1, description="last event ids known for each user")
    user_id_secret: SecretStr | None = Field(
        None, description="key that hashes user ids; made once and kept in Redis where unset"
    )

    redis_timeout_ms: int = Field(50, ge=1, description="one connect or one round trip of Redis")
    redis_budget_ms: int = Field(100, ge=1, description="all of Redis within one request")
    redis_connections: int = Field(
        64, ge=1, description="connections of this process to each Redis server"
    )
    redis_failures: int = Field(
        3, ge=1, description="failures in a row after which a Redis server is left alone"
    )
    redis_pause_ms: int = Field(
        1000, ge=1, description="how long, before one request tries it again"
    )

    batch_size: int = Field(32, ge=1, le=1024, description="requests scored together")
    queue_size: int = Field(
        1024, ge=100, description="requests that may wait; more are refused, 503"
    )
    deadline_ms: int = Field(2000, ge=1, description="longest wait in the queue; then refused, 503")
    max_body_bytes: int = Field(1_000_000, ge=1, description="largest request body; more is 413")

    @field_validator("redis")
    @classmethod
    def _redis_url(cls, url: SecretStr) -> SecretStr:
        """Refused here, by name, rather than by the client later; the URL itself is not shown."""
        read_url(url.get_secret_value())
        return url
