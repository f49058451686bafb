"""`recsys serve`: settings from options and environment, then uvicorn."""

from collections.abc import Mapping
from typing import Any

import uvicorn
from pydantic import ValidationError

from recsys.errors import BadInput
from service.app import create_app
from service.settings import Settings


def read_settings(given: Mapping[str, Any]) -> Settings:
    """Options win over the environment; raises `BadInput` with every setting at fault."""
    try:
        return Settings(**given)
    except ValidationError as wrong:
        problems = [
            f"RECSYS_{str(error['loc'][0]).upper()} (or --{error['loc'][0]}): {error['msg']}."
            for error in wrong.errors()
        ]
        raise BadInput("The settings cannot be used", problems) from wrong


def serve(given: Mapping[str, Any]) -> None:
    """Serve until SIGTERM or Ctrl-C; what is accepted is finished first."""
    settings = read_settings(given)
    uvicorn.run(create_app(settings), host=settings.host, port=settings.port, access_log=False)
