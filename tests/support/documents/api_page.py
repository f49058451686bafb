"""Render docs/http-api.md from the OpenAPI document that the service serves.

`render` takes the answers to the examples as an argument: `make docs` requests them from a real
service. A test takes those of the page, so that it can compare the rest exactly, for any weights.
"""

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]
Answers = Mapping[str, object]  # title of an example → answer; absent if there is none
URL = "http://127.0.0.1:8000"
ADMIN_KEY, CATALOGUE_KEY = "ADMIN_KEY", "CATALOGUE_KEY"
KEY_OF = {"admin": ADMIN_KEY, "live catalogue": CATALOGUE_KEY}  # tag → variable of the key
NEW_LINE = "\n"
TITLES = {
    "recommendations": "Recommendations",
    "users": "Users",
    "catalogue": "Items and the model",
    "live catalogue": "Changes of items",
    "operations": "Operations",
    "admin": "Administration",
}
HEAD = """# HTTP API

<!-- made from the OpenAPI document by `make docs`; a test compares it and runs every example -->

JSON over HTTP/1.1. The same, to be tried in a browser, is at `/docs` of a running service, and as
OpenAPI 3.1 at `/openapi.json`. The examples call a service of the synthetic shop on
`http://127.0.0.1:8000`, as [quick-start.md](quick-start.md) starts it; scores depend on the model.
Where keys are set, each call but health and `/docs` needs `Authorization: Bearer …`:
[access.md](access.md). Words are in [glossary.md](glossary.md).
"""


@dataclass(frozen=True, slots=True)
class Example:
    """Example request of the document."""

    title: str
    method: str
    path: str
    body: object = None
    key: str = ""  # variable of the key that it needs

    @property
    def curl(self) -> str:
        words = [] if self.method in ("GET", "POST") else ["-X", self.method]
        if self.method == "POST" and self.body is None:
            words = ["-X", "POST"]
        lines = [shlex.join(["curl", *words, URL + self.path])]
        lines += [f'-H "Authorization: Bearer ${self.key}"'] if self.key else []
        if self.body is not None:
            lines += ["-H 'Content-Type: application/json'"]
            lines += ["-d " + shlex.quote(json.dumps(self.body, ensure_ascii=False))]
        return " \\\n  ".join(lines)


A_PROBLEM = Example(
    "A problem, a wrong field", "POST", "/v1/recommendations", {"user_id": "ada", "k": 0}
)


def examples(document: Document) -> Iterator[Example]:
    """Yield each example of each call, in the order of the page."""
    for path, method, call in calls(document):
        yield from _examples_of(path, method, call)
    yield A_PROBLEM


def calls(document: Document) -> Iterator[tuple[str, str, Document]]:
    """Yield (path, method, call) by tag; tags without a title come last."""
    operations = [
        (path, method.upper(), call)
        for path, methods in document["paths"].items()
        for method, call in methods.items()
    ]
    order = list(TITLES)
    yield from sorted(
        operations, key=lambda c: order.index(c[2]["tags"][0]) if c[2]["tags"][0] in order else 99
    )


def _examples_of(path: str, method: str, call: Document) -> Iterator[Example]:
    given = {p["name"]: p["example"] for p in call.get("parameters", ()) if "example" in p}
    query = {p["name"] for p in call.get("parameters", ()) if p["in"] == "query"}
    pairs = [f"{name}={given[name]}" for name in given if name in query]
    pairs += ["k=3"] if "k" in query else []
    url = path.format(**given) + ("?" + "&".join(pairs) if pairs else "")
    key = KEY_OF[call["tags"][0]] if "security" in call else ""
    content = call.get("requestBody", {}).get("content", {}).get("application/json", {})
    if not content:
        yield Example(f"{method} {path}", method, url, key=key)
    for title, example in content.get("examples", {}).items():
        yield Example(f"{method} {path}, {title}", method, url, example["value"], key)


def render(document: Document, answers: Answers) -> str:
    parts, tag = [HEAD], ""
    described = {tag["name"]: tag["description"] for tag in document.get("tags", ())}
    for path, method, call in calls(document):
        if call["tags"] != [tag]:
            (tag,) = call["tags"]
            parts.append(f"## {TITLES.get(tag, tag.capitalize())}\n")
            parts += [described[tag]] if tag in described else []
        parts.append(f"### {method} {path}\n\n{call['description']}\n")
        parts += _tables(document, call)
        for example in _examples_of(path, method, call):
            parts += _shown(example, answers)
    parts.append(_problems(document, answers))
    return "\n".join(parts)


def _shown(example: Example, answers: Answers) -> Iterator[str]:
    _, _, title = example.title.partition(", ")
    yield f"{title[0].upper() + title[1:]}:\n" if title else "Example:\n"
    yield f"```bash\n{example.curl}\n```\n"
    if example.title in answers:
        yield f"```json\n{written(answers[example.title])}\n```\n"


def written(value: object, room: int = 96) -> str:
    """Format JSON in lines that fit, with three decimals."""
    if isinstance(value, float):
        value = round(value, 3)
    if not isinstance(value, dict | list) or not value:
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        parts = [written(part, room - 1) for part in value]
        return f"[{_filled(parts, room)}]"
    parts = [f"{json.dumps(name)}: {written(part, room - 4)}" for name, part in value.items()]
    return f"{{{_filled(parts, room)}}}"


def _filled(parts: list[str], room: int) -> str:
    """Put as many parts in a line as fit; a part of several lines begins on a new one."""
    lines = [parts[0]]
    for part in parts[1:]:
        if "\n" in part or len(lines[-1]) + len(part) + 2 > room or "\n" in lines[-1]:
            lines.append(part)
        else:
            lines[-1] += f", {part}"
    return ",\n".join(lines).replace("\n", "\n ")


def _tables(document: Document, call: Document) -> Iterator[str]:
    named = [
        f"| `{p['name']}` | {p['in']} | {_kind(document, p['schema'])} | {_rule(p['schema'])} |"
        for p in call.get("parameters", ())
    ]
    if named:
        yield "\n".join(["| parameter | in | kind | |", "|---|---|---|---|", *named, ""])
    body = call.get("requestBody", {}).get("content", {}).get("application/json", {})
    if body:
        yield _fields_table(document, body["schema"], "field of the request")
    for media, content in call["responses"].get("200", {}).get("content", {}).items():
        if media == "application/json" and "$ref" in content["schema"]:
            yield _fields_table(document, content["schema"], "field of the answer")
    refusals = [status for status in sorted(call["responses"]) if status[0] != "2"]
    if refusals:
        linked = [f"[{status}](#problems)" for status in refusals]
        yield f"Refused with {', '.join(linked)}.\n"


def _fields_table(document: Document, schema: Document, heading: str) -> str:
    rows = [f"| {heading} | kind | |", "|---|---|---|"]
    required = _resolved(document, schema).get("required", ())
    for name, field in _resolved(document, schema)["properties"].items():
        notes = [field.get("description", ""), _rule(field)]
        if heading == "field of the request" and name in required:
            notes.append("required")
        rows.append(_row(name, _kind(document, field), notes))
        inner = _resolved(document, field.get("items", {})).get("properties", {})
        for part, of in inner.items():
            if "description" in of and not set(inner) & {"k", "source"}:  # described elsewhere
                rows.append(_row(f"{name}[].{part}", _kind(document, of), [of["description"]]))
    return "\n".join([*rows, ""])


def _row(name: str, kind: str, notes: list[str]) -> str:
    return f"| `{name}` | {kind} | {'; '.join(part for part in notes if part)} |"


def _resolved(document: Document, schema: Document) -> Document:
    if "$ref" not in schema:
        return schema
    resolved: Document = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[-1]]
    return resolved


def _kind(document: Document, schema: Document) -> str:
    """Name the kind of a value: `text`, `list of text`, …; an object by its fields."""
    if "anyOf" in schema:
        return " or ".join(_kind(document, one) for one in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "$ref" in schema:
        names = _resolved(document, schema)["properties"]
        return "{" + ", ".join(f"`{name}`" for name in names) + "}"
    if schema.get("type") == "array":
        return "list of " + _kind(document, schema["items"])
    kinds = {"string": "text", "object": "object", "null": "null", "boolean": "true or false"}
    kind = str(schema.get("type", "anything"))
    return kinds.get(kind, kind)


def _rule(schema: Document) -> str:
    """Describe bounds and default in words."""
    one = next((s for s in schema.get("anyOf", ()) if s.get("type") != "null"), schema)
    bounds = []
    for low, high, what in (
        ("minimum", "maximum", ""),
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", " of them"),
        ("minProperties", "maxProperties", " of them"),
    ):
        if high in one:
            bounds.append(f"{one.get(low, 0):g} to {one[high]:g}{what}")
    if schema.get("default") not in (None, [], {}):
        bounds.append(f"default `{json.dumps(schema['default'])}`")
    return ", ".join(bounds)


def _problems(document: Document, answers: Answers) -> str:
    described = document["components"]["responses"].items()
    rows = [f"| {n.removeprefix('problem-')} | {p['description']} |" for n, p in described]
    table = "\n".join(["| status | |", "|---|---|", *rows])
    reference = {"$ref": "#/components/schemas/Problem"}
    return f"""## Problems

Whatever is refused is answered with `application/problem+json` (RFC 9457):

{_fields_table(document, reference, "field of a problem")}
{table}

429 and 503 say in `Retry-After` when to send the request again. Limits of headers,
URLs, connections and time, which apply before the call is known (400, 408, 414, 431, 503):
[access.md](access.md#limits).

{NEW_LINE.join(_shown(A_PROBLEM, answers))}"""
