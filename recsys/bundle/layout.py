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
OPTIONAL = (NEIGHBOURS, INDEX, CONTENT, CONTENT_MODEL, REPORT)  # verified where the manifest names them
NEWEST_CLICKS = "newest_clicks"  # tensor of the weights, only with recent popularity
IDENTITY = (WEIGHTS, ITEMS, NEIGHBOURS, INDEX, CONTENT)  # files that decide the answers, with the settings
