"""What rows and tables must satisfy. One file per check; `base` is the protocol."""
