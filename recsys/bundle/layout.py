"""Names of the files of a bundle, in a module that imports nothing."""

MANIFEST = "manifest.json"
MODEL = "model.ts"
WEIGHTS = "weights.safetensors"
ITEMS = "items.parquet"
GOLDEN = "golden.jsonl"
REPORT = "report.html"
NEIGHBOURS = "neighbours.safetensors"
INDEX = "retrieval.index"
CONTENT = "content.safetensors"
CONTENT_MODEL = "content.ts"
FILES = (MODEL, WEIGHTS, ITEMS, GOLDEN)
# verified where the manifest names them
OPTIONAL = (NEIGHBOURS, INDEX, CONTENT, CONTENT_MODEL, REPORT)
NEWEST_CLICKS = "newest_clicks"  # tensor of the weights, only with recent popularity
NEWEST_MS = "newest_clicks_ms"  # their time, int64 without dimension, only where clicks decay
# files that decide the answers, with the settings
IDENTITY = (WEIGHTS, ITEMS, NEIGHBOURS, INDEX, CONTENT)
