"""Names of the files of a bundle, in a module that imports nothing."""

MANIFEST = "manifest.json"
MODEL = "model.ts"
WEIGHTS = "weights.safetensors"
ITEMS = "items.parquet"
GOLDEN = "golden.jsonl"
REPORT = "report.html"
NEIGHBOURS = "neighbours.safetensors"
INDEX = "retrieval.index"
FILES = (MODEL, WEIGHTS, ITEMS, GOLDEN)
OPTIONAL = (NEIGHBOURS, INDEX, REPORT)  # verified where the manifest names them
NEWEST_CLICKS = "newest_clicks"  # tensor of the weights, only with recent popularity
NEWEST_MS = "newest_clicks_ms"  # their time, int64 without dimension, only where clicks decay
IDENTITY = (WEIGHTS, ITEMS, NEIGHBOURS, INDEX)  # files that decide the answers, with the settings
