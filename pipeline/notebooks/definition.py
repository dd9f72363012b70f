"""A competition's definition as TOML: what the package ships and what the user set, in one file."""

from __future__ import annotations

import json
from typing import Any

from pipeline.competition import Competition


def definition_toml(competition: Competition) -> str:
    """TOML from which `load_competition` reads the same competition."""
    values = competition.as_dict()
    del values["slug"]  # the file's name
    tables = {key: values.pop(key) for key in ("data", "submission")}
    lines = _pairs(values)
    for name, table in tables.items():
        lines += ["", f"[{name}]", *_pairs(table)]
    return "\n".join(lines) + "\n"


def _pairs(values: dict[str, Any]) -> list[str]:
    """`key = value` lines; strings, numbers, booleans and lists look the same in JSON."""
    return [
        f"{key} = {json.dumps(value, ensure_ascii=False)}"
        for key, value in values.items()
        if value is not None
    ]
