"""What makes tables from tables. One file per engine; `base` is the protocol."""
