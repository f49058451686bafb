"""HTTP API: routes, request checks, serialisation of answers and the OpenAPI document."""
