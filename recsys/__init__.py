"""The core that training and serving share: model, ranking, metrics, catalogue, bundle, errors."""

__version__ = "0.1.0"
