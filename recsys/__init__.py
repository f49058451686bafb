"""Core that training and serving share: model, ranking, catalogue, bundle, errors."""

__version__ = "0.1.0"
