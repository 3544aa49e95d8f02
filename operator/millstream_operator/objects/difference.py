"""Whether applying a manifest would change anything: the test that keeps an idle operator from writing.

A stamp (hash of what was last applied) catches fields that we no longer set; the field-by-field comparison catches
what others changed. Fields the server fills in are not ours and are not looked at.
"""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from typing import Any

from millstream_api.meta import ANNOTATION_APPLIED
from millstream_operator.objects.naming import short_hash

_UNCACHED = frozenset({"data", "immutable"})  # ConfigMaps are cached without content; they are immutable anyway
_SUFFIXES = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}


def stamped(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest with the hash of itself as an annotation."""
    digest = short_hash(json.dumps(manifest, sort_keys=True))
    metadata = manifest["metadata"]
    annotations = metadata.get("annotations", {}) | {ANNOTATION_APPLIED: digest}
    return manifest | {"metadata": metadata | {"annotations": annotations}}


def differs(desired: dict[str, Any], live: dict[str, Any] | None) -> bool:
    """Return whether applying `desired` (stamped) over `live` would change a field."""
    return live is None or not all(
        _covers(value, live.get(key)) for key, value in desired.items() if key not in _UNCACHED
    )


def _covers(want: Any, have: Any) -> bool:
    if isinstance(want, dict):
        return (isinstance(have, dict) or not want) and all(_covers(v, (have or {}).get(k)) for k, v in want.items())
    if isinstance(want, list):
        # An empty list may be left out by the server.
        same = isinstance(have, list) and len(have) == len(want)
        return (not want and not have) or (same and all(map(_covers, want, have)))
    return bool(want == have) or (have is None and want in ("", False)) or _equal_quantities(want, have)


def _equal_quantities(want: Any, have: Any) -> bool:
    """`0.5` and `500m` are one quantity; the server stores the second form."""
    if not (isinstance(want, str) and isinstance(have, str)):
        return False
    left, right = _quantity(want), _quantity(have)
    return left is not None and left == right


def _quantity(text: str) -> Decimal | None:
    for suffix, power in _BINARY.items():
        if text.endswith(suffix):
            return _decimal(text.removesuffix(suffix), Decimal(2) ** power)
    suffix = text[-1:] if text[-1:].isalpha() else ""
    return _decimal(text[: len(text) - len(suffix)], Decimal(10) ** _SUFFIXES[suffix]) if suffix in _SUFFIXES else None


def _decimal(text: str, factor: Decimal) -> Decimal | None:
    try:
        return Decimal(text) * factor
    except InvalidOperation:
        return None
