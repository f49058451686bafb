"""The public Python API: `recsys.fit`, `recsys.load`, and the `Model` that they return.

DataFrames, files and folders come in; DataFrames go out. `fit` runs the pipeline of `recsys train`,
so the same clicks and the same recipe give the same weights and the same model id. All other
packages are imported where they are used: importing this package loads neither torch nor pandas.
"""

from recsys.api.evaluation import EvaluationReport
from recsys.api.model import Model, load
from recsys.api.training import fit

__all__ = ["EvaluationReport", "Model", "fit", "load"]
