"""What the warehouse `parquet` is made of: storage, the log of commits, files, types, and a look into them."""
