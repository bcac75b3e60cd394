"""Change the settings of a recipe by name: what ``--set KEY=VALUE`` means."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from ..errors import UserError

Settings = TypeVar("Settings")
_TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def changed(settings: Settings, given: Mapping[str, Any], pairs: Sequence[str] = ()) -> Settings:
    """Return a frozen dataclass with other values.

    given: values by field name, None where a field keeps its own; pairs: 'name=value' as typed:
    true or false for a switch, commas between the items of a list. ``pairs`` win.

    Raises:
        UserError: no such field (the message lists them with their values), or not its type.
    """
    fields = {one.name: getattr(settings, one.name) for one in dataclasses.fields(settings)}  # type: ignore[arg-type]
    types = get_type_hints(type(settings))
    new = {name: value for name, value in given.items() if value is not None and name in fields}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        name = name.strip().replace("-", "_")
        if not sign or name not in fields:
            known = ", ".join(f"{key}={_typed(value)}" for key, value in fields.items())
            raise UserError(f"--set {pair}: there are {known}")
        try:
            new[name] = _parsed(text.strip(), types[name])
        except ValueError as error:
            raise UserError(f"--set {pair}: {error}") from None
    return dataclasses.replace(settings, **new)  # type: ignore[type-var]


def _parsed(text: str, kind: Any) -> Any:
    if kind is bool:
        if text.lower() not in _TRUTH:
            raise ValueError("true or false")
        return _TRUTH[text.lower()]
    if kind in (int, float, str):
        return kind(text)
    if get_origin(kind) is tuple and get_args(kind)[0] is str:
        return tuple(one.strip() for one in text.split(",") if one.strip())
    raise ValueError("this setting cannot be given here")


def _typed(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
