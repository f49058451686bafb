"""Pages for browsers, each with a policy that allows only the resources it names.

A script in the page is allowed by its digest, so that no other script runs. No other site may show
the page in a frame or learn where a visitor came from.
"""

import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse

ASSETS = "static-offline-docs"
PLAYGROUND = Path(__file__).parent
PLAYGROUND_PATH = "/playground"
INLINE = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def page(html: str, *rules: str) -> HTMLResponse:
    """Return a page that runs only its own scripts; `rules` are further rules of its policy."""
    digests = [sha256(script.encode()).digest() for script in INLINE.findall(html)]
    scripts = "".join(f" 'sha256-{b64encode(digest).decode()}'" for digest in digests)
    policy = [
        "default-src 'none'",
        f"script-src 'self'{scripts}",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        *rules,
    ]
    headers = {"Content-Security-Policy": "; ".join(policy), "Referrer-Policy": "no-referrer"}
    return HTMLResponse(html, headers=headers)


def playground(*, changes_items: bool) -> HTMLResponse:
    """Return the playground. Trusted Types keep text of items from becoming markup.

    changes_items: the service takes changes of items, so the page has a switch for them.
    """
    html = (PLAYGROUND / "page.html").read_text(encoding="utf-8")
    if changes_items:
        html = html.replace("<html ", "<html data-stock ", 1)
    return page(html, "font-src 'self'", "require-trusted-types-for 'script'")


def docs(title: str) -> HTMLResponse:
    """Return Swagger UI. Its addresses are relative, so that a proxy may add a path prefix."""
    html = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=title,
        swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
        swagger_css_url=f"{ASSETS}/swagger-ui.css",
        swagger_favicon_url=f"{ASSETS}/favicon.png",
        swagger_ui_parameters={"validatorUrl": None},  # else the page calls validator.swagger.io
    )
    return page(bytes(html.body).decode())
