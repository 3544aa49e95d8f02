"""Where rows go. One file per warehouse; `base` is the protocol."""
