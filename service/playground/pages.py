"""Pages a browser shows: each comes with a policy that lets nothing in but what it names itself.

A script that stands in the page is allowed by its digest, so that one which got in otherwise is
not. No other site may show the page in a frame, and none is told where a visitor came from.
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


def page(html: str, *more: str) -> HTMLResponse:
    """A page whose own scripts run; `more` are further rules."""
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
        *more,
    ]
    headers = {"Content-Security-Policy": "; ".join(policy), "Referrer-Policy": "no-referrer"}
    return HTMLResponse(html, headers=headers)


def playground() -> HTMLResponse:
    """Text that came from anywhere cannot become markup in it, not even by a mistake of ours."""
    html = (PLAYGROUND / "page.html").read_text(encoding="utf-8")
    return page(html, "font-src 'self'", "require-trusted-types-for 'script'")


def docs(title: str) -> HTMLResponse:
    """Swagger UI from files of ours, by relative addresses: any prefix may stand before them."""
    shown = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=title,
        swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
        swagger_css_url=f"{ASSETS}/swagger-ui.css",
        swagger_favicon_url=f"{ASSETS}/favicon.png",
        swagger_ui_parameters={"validatorUrl": None},  # else it asks validator.swagger.io
    )
    return page(bytes(shown.body).decode())
