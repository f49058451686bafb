"""The files of a bundle, by name: they can be looked for without loading what reads them."""

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
IDENTITY = (WEIGHTS, ITEMS, NEIGHBOURS, INDEX)  # with the settings they decide the answers
