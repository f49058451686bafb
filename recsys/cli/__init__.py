"""The command line `recsys`. It imports training and service lazily; no package imports it."""
