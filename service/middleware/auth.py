"""Authentication by keys, and the hosts and origins that the service answers.

The service knows only hashes of keys. A key has 256 random bits and cannot be guessed, so one
SHA-256, which takes a microsecond, is as safe as a slow hash. Several keys are valid at once, so
that one key can replace another. Keys are neither stored nor logged.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from hmac import compare_digest
from secrets import token_urlsafe

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.problems import problem
from service.settings import Settings, canonical, is_address

PREFIX = "recsys_"  # lets secret scanners find a leaked key
ADMIN = "/v1/admin/"
ITEMS = "/v1/items"  # PUT changes items, GET searches them
CATALOGUE = frozenset({"/v1/items:one", "/v1/items:delete"})
API_KEY, ADMIN_KEY, CATALOGUE_KEY = "an API key", "an admin key", "a catalogue key"
OFF = {  # parts that are closed without keys
    ADMIN_KEY: "Admin calls are off, because RECSYS_ADMIN_KEY_HASHES is not set.",
    CATALOGUE_KEY: "Items cannot be changed, because RECSYS_CATALOGUE_KEY_HASHES is not set.",
}
# Orchestrators read /health/, which shows no user and no item. A browser cannot send a key when it
# opens a page, so pages are open, but the calls of a page need a key.
OPEN = frozenset({"/", "/docs", "/openapi.json"})
OPEN_BELOW = ("/health/", "/static-offline-docs/", "/playground/")
PORT = re.compile(r":\d{0,5}\Z", re.ASCII)
REALM = 'Bearer realm="session-recsys"'


def new_key() -> str:
    """Return a new random key."""
    return PREFIX + token_urlsafe(32)


def hash_of(key: str) -> str:
    """Return the hash of a key, as settings hold it."""
    return f"sha256:{sha256(key.encode()).hexdigest()}"


def is_open(path: str) -> bool:
    """Return whether the path needs no key."""
    return path in OPEN or path.startswith(OPEN_BELOW)


@dataclass(frozen=True, slots=True)
class Keys:
    """SHA-256 digests of the keys of one part of the service."""

    digests: tuple[bytes, ...]

    @classmethod
    def of(cls, hashes: Iterable[str]) -> "Keys":
        return cls(tuple(bytes.fromhex(text.removeprefix("sha256:")) for text in hashes))

    def __bool__(self) -> bool:
        return bool(self.digests)

    def hold(self, digest: bytes) -> bool:
        """Return whether the digest is one of these. All are compared, in constant time."""
        return any([compare_digest(digest, known) for known in self.digests])


class TrustedHost:
    """ASGI middleware that answers 421 if the Host header names none of the allowed hosts.

    It stops DNS rebinding: a page changes its own name to the address of this machine, and its
    browser then takes the service for the server of the page. An address such as 127.0.0.1 or [::1]
    cannot be rebound. `hosts` has the format of `RECSYS_ALLOWED_HOSTS`. Paths of /health/ are not
    checked, because probes send the address of a container, or none.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], *, addresses: bool = False) -> None:
        """Check Host headers against `hosts`; `addresses` allows all IP addresses as well."""
        self._app = app
        self._names = frozenset(name for name in hosts if not name.startswith("*"))
        self._ends = tuple(name[1:] for name in hosts if name.startswith("*."))
        self._addresses = addresses
        self._is_allowed = lru_cache(maxsize=1024)(self._check)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http" and not scope["path"].startswith("/health/"):
            host = next((value for name, value in scope["headers"] if name == b"host"), b"")
            if not self._is_allowed(host):
                app = problem(421, self._detail(host))
        await app(scope, receive, send)

    def _check(self, host: bytes) -> bool:
        name = canonical(PORT.sub("", host.decode("latin-1").strip(" \t")))
        if name is None:
            return False
        if name in self._names or name.endswith(self._ends):
            return True
        return self._addresses and is_address(name)

    @staticmethod
    def _detail(host: bytes) -> str:
        got = host.decode("latin-1")
        return (
            f"The service does not answer for host {got!r}. RECSYS_ALLOWED_HOSTS names its hosts."
        )


def trusted_hosts(app: ASGIApp, settings: Settings) -> ASGIApp:
    """Return the application behind the host check of the settings.

    Without `allowed_hosts`, hosts are checked only if no key is set: a rebound page has no key.
    """
    if "*" in settings.allowed_hosts:
        return app
    if settings.allowed_hosts:
        return TrustedHost(app, settings.allowed_hosts)
    if settings.api_key_hashes:
        return app
    return TrustedHost(app, {"localhost", settings.host.lower()}, addresses=True)


class AllowedOrigins(CORSMiddleware):
    """ASGI middleware for CORS that answers a refused preflight with a problem."""

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=("GET", "POST", "DELETE"),
            allow_headers=("Authorization", "Content-Type", "X-Request-ID"),
            expose_headers=("X-Request-ID", "Retry-After"),
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        answer = super().preflight_response(request_headers)
        if answer.status_code < 400:
            return answer
        cors_headers = {
            name: value
            for name, value in answer.headers.items()
            if name == "vary" or name.startswith("access-control-")
        }
        detail = (
            f"{bytes(answer.body).decode()}. Pages of RECSYS_CORS_ORIGINS may call with "
            f"{', '.join(self.allow_methods)} and the headers "
            f"{cors_headers['access-control-allow-headers']}."
        )
        return problem(answer.status_code, detail, headers=cors_headers)


class Access:
    """ASGI middleware that answers 401 and 403, and sets `scope["caller"]` of allowed requests.

    Each part of the service has its own keys, and a key of one part opens no other.
    """

    def __init__(self, app: ASGIApp, keys: Mapping[str, Keys]) -> None:
        """Check keys; `keys` has those of each part."""
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        part = part_of(scope["path"], scope["method"])
        keys = self._keys[part]
        if part in OFF and not keys:
            return _forbidden(OFF[part])
        if not keys or is_open(scope["path"]):
            return None
        digest = digest_of(scope)
        if digest is None:
            return _unauthorized("This call needs a key. Send it as Authorization: Bearer KEY.")
        if keys.hold(digest):
            scope["caller"] = digest
            return None
        if any([others.hold(digest) for others in self._keys.values()]):
            return _forbidden(
                f"This call needs {part}, and the key that was sent is of another kind."
            )
        return _unauthorized(
            "The key is not valid. It is misspelled, or another key replaced it.", "invalid_token"
        )


def part_of(path: str, method: str) -> str:
    """Return the part of the service that a call is of, named by the key that opens it."""
    if path.startswith(ADMIN):
        return ADMIN_KEY
    if path in CATALOGUE or (path == ITEMS and method == "PUT"):
        return CATALOGUE_KEY
    return API_KEY


def fingerprint(digest: bytes) -> str:
    """Return the beginning of a key's hash, which names the key in the log."""
    return f"sha256:{digest.hex()[:12]}"


def digest_of(scope: Scope) -> bytes | None:
    """Return the digest of the key in the request, valid or not."""
    header = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    scheme, _, key = header.partition(b" ")
    if scheme.lower() != b"bearer" or not key:
        return None
    return sha256(key.strip()).digest()


def _unauthorized(detail: str, error: str | None = None) -> Response:
    challenge = REALM if error is None else f'{REALM}, error="{error}"'
    return problem(401, detail, headers={"WWW-Authenticate": challenge})


def _forbidden(detail: str) -> Response:
    headers = {"WWW-Authenticate": f'{REALM}, error="insufficient_scope"'}
    return problem(403, detail, headers=headers)
