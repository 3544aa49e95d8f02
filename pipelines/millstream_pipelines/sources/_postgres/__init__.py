"""Parts of the source `postgres`: connection and its errors, catalog, exact types, safe horizon, streaming."""
