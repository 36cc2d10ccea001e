"""JSON Schemas as far as Foxglove reads them.

Foxglove refuses a whole channel whose schema has a reference, an alternative, a null, an array of arrays or an object
without named properties (``packages/mcap-support/src/parseJsonSchema.ts`` of its last public release). What can be
said without these is kept; of the rest the schema is silent, which allows it.
"""

from __future__ import annotations

from typing import Any

_SCALARS = frozenset({"boolean", "string", "number", "integer"})


def plain_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """The part of an object's JSON Schema that Foxglove reads; whatever fits the whole schema fits it too."""
    found = _object(schema, schema.get("$defs", {}), ())
    assert found is not None
    return {"title": schema.get("title", ""), **found}


def _object(schema: dict[str, Any], definitions: dict[str, Any], above: tuple[str, ...]) -> dict[str, Any] | None:
    if "properties" not in schema:
        return None
    properties = {}
    for name, value in schema["properties"].items():
        plain = _value(value, definitions, above)
        if plain is not None:
            properties[name] = plain
    return {"type": "object", "properties": properties}


def _value(schema: dict[str, Any], definitions: dict[str, Any], above: tuple[str, ...]) -> dict[str, Any] | None:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        # A type that contains itself has no plain form.
        return None if name in above else _value(definitions[name], definitions, (*above, name))
    kind = schema.get("type")
    if kind in _SCALARS:
        return {key: schema[key] for key in ("type", "description", "contentEncoding") if key in schema}
    if kind == "object":
        return _object(schema, definitions, above)
    if kind == "array":
        items = _items(schema, definitions, above)
        return None if items is None or items["type"] == "array" else {"type": "array", "items": items}
    return None


def _items(schema: dict[str, Any], definitions: dict[str, Any], above: tuple[str, ...]) -> dict[str, Any] | None:
    if isinstance(schema.get("items"), dict):
        return _value(schema["items"], definitions, above)
    parts = [_value(part, definitions, above) for part in schema.get("prefixItems", ())]
    first = parts[0] if parts else None
    return first if first is not None and all(part == first for part in parts) else None
