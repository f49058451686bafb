"""Everything that changes an operation; each field is an environment variable RECSYS_<NAME>."""

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
    """The host in lower case, without a dot at its end, an IPv6 address in its shortest form.

    None where the text is no host, or has a port.
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
    """The canonical host is an IP address, not a name."""
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


EMBEDDED = "embedded"  # instead of a Redis URL: a private server that ends with the service
PREFIX = "RECSYS_"
REQUIRED = "required"  # instead of a default
# variables of the same prefix that are no settings of the service
OTHER_VARIABLES = (
    "RECSYS_API_KEY",  # recsys bench
    "RECSYS_REAL_DATA",  # tests: the folder of real click logs
    "RECSYS_PICTURES",  # tests: the folder for pictures of the playground
    "RECSYS_PUBLISHED_PORT",  # docker-compose.yml, like the two below
    "RECSYS_CPUS",
    "RECSYS_MEMORY",
)


def _parts(text: object) -> object:
    """An environment variable holds several values with commas between them."""
    if not isinstance(text, str):
        return text
    return [part.strip() for part in text.split(",") if part.strip()]


def _key_hash(text: str) -> str:
    """Never shown when it is wrong: it may be the key itself, put here by mistake."""
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
    tuple[Annotated[str, AfterValidator(_key_hash)], ...], NoDecode, BeforeValidator(_parts)
]
Origins = Annotated[
    tuple[Annotated[str, AfterValidator(_origin)], ...], NoDecode, BeforeValidator(_parts)
]

Hosts = Annotated[
    tuple[Annotated[str, AfterValidator(_host)], ...], NoDecode, BeforeValidator(_parts)
]


class Settings(BaseSettings):
    """Read once at start-up and handed on; nothing else reads the environment."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="ignore"
    )

    bundle: Path = Field(
        description="bundle folder, as written by recsys train, or a shelf of them"
    )
    follow_seconds: float = Field(
        1.0, ge=0.05, description="how often it is asked which bundle of the shelf is current"
    )
    redis: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="Redis URL, also with TLS, a cluster or sentinels; its password is never "
        "shown; `embedded` starts a private Redis that ends with the service",
    )
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")

    workers: int = Field(
        1, ge=1, le=64, description="processes that share the port, about one for each core"
    )

    api_key_hashes: KeyHashes = Field(
        (), description="hashes of the keys that may call the API, as recsys key prints them"
    )
    admin_key_hashes: KeyHashes = Field(
        (), description="hashes of the keys that may call /v1/admin/; without any, nobody may"
    )
    public_without_key: bool = Field(
        False, description="listen on an address that others can reach although no key is set"
    )
    playground: bool = Field(
        False,
        description="a page at / to try the model with, which shows items, names, counts, states",
    )
    rate_limit: str | None = Field(
        None,
        pattern="^[1-9][0-9]{0,8}/(second|minute|hour)$",
        description="requests of a key (without keys: of an address) to each worker, as "
        "`100/second`; more are 429",
    )
    cors_origins: Origins = Field(
        (), description="origins whose pages may call the API from a browser, as https://a.example"
    )

    allowed_hosts: Hosts = Field(
        (),
        description="hosts that requests may name, as `shop.example,*.shop.example`; `*`: all. "
        "Unset: all where a key is needed, else localhost, addresses and `RECSYS_HOST`",
    )

    idle_seconds: int = Field(
        1800, ge=1, le=31_536_000, description="silence after which a session is forgotten"
    )
    history_length: int = Field(
        50,
        ge=1,
        le=1_000,
        description="last clicks kept of each user; more where a served bundle has a larger window",
    )
    tombstone_seconds: int = Field(
        300,
        ge=1,
        le=31_536_000,
        description="how long repeats from before a DELETE are still recognised",
    )
    event_ids_kept: int = Field(
        1000, ge=1, le=10_000, description="last event ids known for each user"
    )
    user_id_secret: SecretStr | None = Field(
        None,
        min_length=16,
        description="key that hashes user ids; made once and kept in Redis where unset",
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
    deadline_ms: int = Field(
        150,
        ge=1,
        description="how long a queue may stand: once the oldest request has waited longer than a "
        "tenth of it for all of it, more requests are refused and those that waited longer than "
        "it are dropped, 503, until a batch is not full",
    )
    max_body_bytes: int = Field(
        # 500 clicks, each of two ids of 128 characters written as \uXXXX, and 61 bytes around them
        800_000,
        ge=1,
        description="largest request body; more is 413",
    )
    max_head_bytes: int = Field(
        16_384, ge=1024, description="largest URL and headers together; more is 431"
    )
    max_headers: int = Field(100, ge=10, description="most headers of a request; more is 431")
    max_url_bytes: int = Field(4096, ge=256, description="longest path and query; more is 414")
    max_connections: int = Field(
        1000, ge=1, description="open connections to each worker; another one is told 503"
    )
    read_seconds: float = Field(
        10,
        ge=0.1,
        le=3600,
        description="time a client has to send a whole request, else it is told 408, and to take "
        "an answer, else it is cut off",
    )
    keep_alive_seconds: int = Field(
        75,
        ge=1,
        description="silence after which a connection is closed; longer than a proxy's before it",
    )

    shutdown_seconds: float = Field(
        10,
        ge=0.5,
        le=3600,
        description="time in which the process ends after SIGTERM: half of it for clients, the "
        "rest for the store",
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least that is logged; `debug` may show ids, the others never do"
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="`text` for people, `json` with one object on each line"
    )

    @field_validator("admin_key_hashes")
    @classmethod
    def _no_key_for_both(cls, hashes: tuple[str, ...], others: ValidationInfo) -> tuple[str, ...]:
        if set(hashes) & set(others.data.get("api_key_hashes", ())):
            raise ValueError("must not name a key of RECSYS_API_KEY_HASHES: make another one")
        return hashes

    @field_validator("redis")
    @classmethod
    def _redis_url(cls, url: SecretStr) -> SecretStr:
        """Refused here, by name, rather than by the client later; the URL itself is not shown."""
        if url.get_secret_value() != EMBEDDED:
            read_url(url.get_secret_value())
        return url


def described() -> list[tuple[str, str, str]]:
    """Return variable, default and description of every setting."""
    found = []
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, SecretStr):
            default = default.get_secret_value()
        if field.is_required():
            default = REQUIRED
        shown = "" if default in (None, ()) else str(default)
        found.append((f"{PREFIX}{name.upper()}", shown, str(field.description)))
    return found


def misspelled(names: Iterable[str]) -> list[str]:
    """Return a sentence for every variable of our prefix that no part of this product reads.

    Values are not looked at: they may be secrets.
    """
    known = [name.upper() for name in Settings.model_fields]
    sentences = []
    for name in sorted(names):
        variable = name.upper()
        typed = variable.removeprefix(PREFIX)  # the prefix alone would make all of them alike
        if not variable.startswith(PREFIX) or typed in known or variable in OTHER_VARIABLES:
            continue
        near = difflib.get_close_matches(typed, known, n=1)
        hint = f"Did you mean {PREFIX}{near[0]}?" if near else "recsys serve --help lists them."
        sentences.append(f"{name} is no setting and has no effect. {hint}")
    return sentences
