"""Parts of the source `sql`."""
