"""Session-based recommendations: from a click log to a live top-k API.

    import recsys

    model = recsys.fit(clicks)  # a DataFrame, a file or a folder
    model.recommend(["aurora-tent", "aurora-sleeping-bag"], k=10)

`fit`, `load` and `Model` are the public Python API (docs/python-api.md). They are loaded when they
are first used, so `import recsys` loads neither torch nor pandas.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["EvaluationReport", "Model", "RecsysError", "__version__", "fit", "load"]

if TYPE_CHECKING:
    from recsys.api import EvaluationReport, Model, fit, load
    from recsys.errors import RecsysError
else:

    def __getattr__(name: str) -> object:
        """Load a name of the public API when it is first used."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from recsys import api

        return getattr(api, name)


def __dir__() -> list[str]:
    """List the public names, for completion in an editor or a notebook."""
    return sorted(__all__)
