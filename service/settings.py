"""Settings of the service. Each field is an environment variable RECSYS_<NAME>."""

import difflib
import re
from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service.redis_client.url import read_url

HOST = re.compile(r"[\w-]+(\.[\w-]+)*\.?|\[[0-9A-Fa-f:.]+\]", re.ASCII)


def canonical(host: str) -> str | None:
    """Return the host in lower case, without a final dot, with IPv6 in its shortest form.

    Return None if the text is not a host or has a port.
    """
    if not HOST.fullmatch(host):
        return None
    if not host.startswith("["):
        return host.lower().removesuffix(".")
    try:
        return f"[{IPv6Address(host[1:-1])}]"
    except ValueError:
        return None


def is_address(host: str) -> bool:
    """Return whether the canonical host is an IP address."""
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


EMBEDDED = "embedded"  # value of `redis` that starts a private server
PREFIX = "RECSYS_"
REQUIRED = "required"  # shown as the default of a setting without one
# variables with the prefix that are not settings of the service
OTHER_VARIABLES = (
    "RECSYS_API_KEY",  # recsys bench
    "RECSYS_CATALOGUE_KEY",  # recsys catalogue push
    "RECSYS_REAL_DATA",  # tests: the folder of real click logs
    "RECSYS_PICTURES",  # tests: the folder for pictures of the playground
    "RECSYS_PUBLISHED_PORT",  # docker-compose.yml, as the two below
    "RECSYS_CPUS",
    "RECSYS_MEMORY",
)


def _split(text: object) -> object:
    """Split the value of an environment variable at its commas."""
    if not isinstance(text, str):
        return text
    return [part.strip() for part in text.split(",") if part.strip()]


def _key_hash(text: str) -> str:
    """Check the format; the message never shows the text, which may be a key by mistake."""
    if not re.fullmatch("sha256:[0-9a-f]{64}", text):
        raise ValueError("must be hashes as recsys key prints them: sha256:… with 64 digits")
    return text


def _origin(text: str) -> str:
    if text != "*" and not re.fullmatch(r"https?://[^/\s?#]+", text):
        raise ValueError(f"must be origins such as https://shop.example, or *; got {text!r}")
    return text


def _host(text: str) -> str:
    if text == "*":
        return text
    any_before = "*." if text.startswith("*.") else ""
    host = canonical(text.removeprefix("*."))
    if host is None or (any_before and is_address(host)):
        raise ValueError(
            f"must be hosts without a port such as shop.example, *.shop.example or [::1], "
            f"names that are not ASCII as xn--…; got {text!r}"
        )
    return any_before + host


KeyHashes = Annotated[
    tuple[Annotated[str, AfterValidator(_key_hash)], ...], NoDecode, BeforeValidator(_split)
]
Origins = Annotated[
    tuple[Annotated[str, AfterValidator(_origin)], ...], NoDecode, BeforeValidator(_split)
]

Hosts = Annotated[
    tuple[Annotated[str, AfterValidator(_host)], ...], NoDecode, BeforeValidator(_split)
]


class Settings(BaseSettings):
    """Settings, read once at the start. No other code reads the environment."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="ignore"
    )

    # bundle
    bundle: Path = Field(description="bundle folder of recsys train, or model registry")
    follow_seconds: float = Field(
        1.0, ge=0.05, description="interval of the checks which bundle of the registry is current"
    )

    # address and processes
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free port")
    workers: int = Field(
        1, ge=1, le=64, description="processes that share the port, about one for each core"
    )
    shutdown_seconds: float = Field(
        10,
        ge=0.5,
        le=3600,
        description="maximum time from SIGTERM to the end of the process: half of it for clients, "
        "the rest for the store",
    )

    # access
    api_key_hashes: KeyHashes = Field(
        (), description="hashes of the keys that may call the API, as recsys key prints them"
    )
    admin_key_hashes: KeyHashes = Field(
        (), description="hashes of the keys that may call /v1/admin/; without any, it is closed"
    )
    catalogue_key_hashes: KeyHashes = Field(
        (), description="hashes of the keys that may change items; without any, items are fixed"
    )
    public_without_key: bool = Field(
        False, description="allow an address that other machines can reach although no key is set"
    )
    allowed_hosts: Hosts = Field(
        (),
        description="hosts that requests may name, such as `shop.example,*.shop.example`; `*` "
        "allows all. Unset: all if a key is set, else localhost, IP addresses and `RECSYS_HOST`",
    )
    cors_origins: Origins = Field(
        (),
        description="origins whose pages may call the API from a browser, such as "
        "https://a.example",
    )
    rate_limit: str | None = Field(
        None,
        pattern="^[1-9][0-9]{0,8}/(second|minute|hour)$",
        description="requests of each key (without keys: of each address) to each worker, such as "
        "`100/second`; more are answered with 429",
    )
    playground: bool = Field(
        False,
        description="serve a page at / to try the model, which shows items, names, counts and "
        "states",
    )

    # sessions
    idle_seconds: int = Field(
        1800, ge=1, le=31_536_000, description="silence after which a session is forgotten"
    )
    history_length: int = Field(
        50,
        ge=1,
        le=1_000,
        description="last clicks stored of each user; more if a served bundle has a larger window",
    )
    event_ids_kept: int = Field(
        1000, ge=1, le=10_000, description="last event ids stored of each user"
    )
    tombstone_seconds: int = Field(
        300,
        ge=1,
        le=31_536_000,
        description="time in which repeated clicks from before a DELETE are recognised",
    )
    user_id_secret: SecretStr | None = Field(
        None,
        min_length=16,
        description="secret of the hash of user ids; if unset, made once and stored in Redis",
    )

    # trending
    trending: bool = Field(
        True,
        description="count clicks in Redis and serve the counts, if the bundle was trained to; "
        "else the counts of the end of training are served",
    )

    # feedback
    feedback: Literal["off", "stream"] = Field(
        "off",
        description="`stream`: log clicks and answered lists in Redis Streams, for recsys collect; "
        "answers have a `list_id`",
    )
    feedback_max_mb: int = Field(
        64,
        ge=1,
        le=1_000_000,
        description="megabytes of Redis for feedback that is not collected yet; above three "
        "quarters lists are not logged, above it clicks are answered with `stored: false`",
    )

    # Redis
    redis: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="Redis URL, also with TLS, of a cluster or of sentinels; its password is never "
        "shown; `embedded` starts a private Redis that ends with the service",
    )
    redis_timeout_ms: int = Field(
        50, ge=1, description="timeout of one connect or one round trip of Redis"
    )
    redis_budget_ms: int = Field(
        100, ge=1, description="timeout of all calls of Redis within one request"
    )
    redis_connections: int = Field(
        64, ge=1, description="connections of each process to each Redis server"
    )
    redis_failures: int = Field(
        3, ge=1, description="failures in a row after which a Redis server is not called any more"
    )
    redis_pause_ms: int = Field(
        1000, ge=1, description="time until one request tries such a server again"
    )
    catalogue_timeout_ms: int = Field(
        1000, ge=1, le=1000, description="timeout of a call of Redis that reads or changes items"
    )

    # queue
    batch_size: int = Field(32, ge=1, le=1024, description="maximum of requests scored together")
    queue_size: int = Field(
        1024, ge=100, description="maximum of waiting requests; more are answered with 503"
    )
    deadline_ms: int = Field(
        150,
        ge=1,
        description="time that a queue may stand. If the oldest request waits longer than a tenth "
        "of it for all of this time, new requests are refused and those that waited longer than "
        "it are dropped, both with 503, until a batch is not full",
    )

    # limits of connections
    max_body_bytes: int = Field(
        # 500 clicks, each of two ids of 128 characters written as \uXXXX, and 61 bytes around them
        800_000,
        ge=1,
        description="maximum size of a request body; more is answered with 413",
    )
    max_head_bytes: int = Field(
        16_384,
        ge=1024,
        description="maximum size of URL and headers together; more is answered with 431",
    )
    max_headers: int = Field(
        100, ge=10, description="maximum number of headers; more is answered with 431"
    )
    max_url_bytes: int = Field(
        4096, ge=256, description="maximum size of path and query; more is answered with 414"
    )
    max_connections: int = Field(
        1000, ge=1, description="open connections to each worker; more are answered with 503"
    )
    read_seconds: float = Field(
        10,
        ge=0.1,
        le=3600,
        description="time for a client to send a complete request, else it is answered with 408, "
        "and to read an answer, else its connection is aborted",
    )
    keep_alive_seconds: int = Field(
        75,
        ge=1,
        description="silence after which a connection is closed; set it above that of a proxy",
    )

    # log
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="lowest level that is logged; only `debug` may show ids"
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="`text` for people, `json` for one object on each line"
    )
    audit_log: Path | None = Field(
        None,
        description="file to which a line of JSON is appended for each call that needs an admin or "
        "catalogue key, refused ones included; unset: stderr",
    )
    tracing: bool = Field(
        False,
        description="send spans of requests to an OTLP receiver, which the standard variables "
        "`OTEL_…` name; needs the extra `tracing`",
    )

    @field_validator("admin_key_hashes", "catalogue_key_hashes")
    @classmethod
    def _no_key_of_others(cls, hashes: tuple[str, ...], others: ValidationInfo) -> tuple[str, ...]:
        for name in ("api_key_hashes", "admin_key_hashes"):
            if name != others.field_name and set(hashes) & set(others.data.get(name, ())):
                raise ValueError(f"must not hold a key of {PREFIX}{name.upper()}: make another key")
        return hashes

    @field_validator("redis")
    @classmethod
    def _redis_url(cls, url: SecretStr) -> SecretStr:
        """Check the URL at the start, so that the error names the setting but not the URL."""
        if url.get_secret_value() != EMBEDDED:
            read_url(url.get_secret_value())
        return url


def described() -> list[tuple[str, str, str]]:
    """Return variable, default and description of every setting."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, SecretStr):
            default = default.get_secret_value()
        if field.is_required():
            default = REQUIRED
        shown = "" if default in (None, ()) else str(default)
        rows.append((f"{PREFIX}{name.upper()}", shown, str(field.description)))
    return rows


def misspelled(names: Iterable[str]) -> list[str]:
    """Return a sentence for each variable with the prefix that no part of this product reads.

    The function gets no values, because they may be secrets.
    """
    known = [name.upper() for name in Settings.model_fields]
    sentences = []
    for name in sorted(names):
        variable = name.upper()
        typed = variable.removeprefix(PREFIX)  # with it, all names would be similar
        if not variable.startswith(PREFIX) or typed in known or variable in OTHER_VARIABLES:
            continue
        near = difflib.get_close_matches(typed, known, n=1)
        hint = f"Did you mean {PREFIX}{near[0]}?" if near else "recsys serve --help lists them."
        sentences.append(f"{name} is not a setting and has no effect. {hint}")
    return sentences
