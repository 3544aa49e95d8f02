"""Where rows come from. One file per source; `base` is the protocol."""
