"""VariantComparison of the variants of an experiment from the events that were collected."""
