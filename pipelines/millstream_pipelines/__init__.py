"""The engine: extract, check, load, transform. Knows the API, never Kubernetes."""
