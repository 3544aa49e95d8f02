"""Parts of the source `rest`: configuration, credentials, requests, paging, cursor, records."""
