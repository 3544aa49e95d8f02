"""How `files` reaches, unpacks and parses files. Private to that source: stores below, formats above, config beside."""
