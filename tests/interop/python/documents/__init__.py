"""Large OpenAPI documents in the styles of public APIs, with a sample call for each operation."""
