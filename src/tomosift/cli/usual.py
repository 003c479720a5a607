"""Which options of a command `--help` shows; `--help-all` shows every option."""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import tyro

F = TypeVar("F", bound=Callable[..., None])

_USUAL_FIELDS = {"init", "encoder", "structures", "labels", "tuning", "head", "framework", "decoder"}
"""Fields of the configurations of methods that `--help` shows."""


def usual_options(*names: str) -> Callable[[F], F]:
    """Mark the parameters of a command that `--help` shows, besides those without a default.

    Of a group of settings with a field of `_USUAL_FIELDS`, those fields are shown; of another one, all.

    Examples
    --------
    >>> @usual_options("seed")
    ... def command(out: str, seed: int = 0, shard: str = "1/1") -> None: ...
    >>> command.usual
    ('seed',)
    """

    def mark(command: F) -> F:
        command.usual = names  # type: ignore[attr-defined]
        return command

    return mark


def hide_rare_options(command: Callable[..., None]) -> Callable[..., None]:
    """The same command, whose help page shows the usual options only."""
    usual = getattr(command, "usual", None)
    if usual is None:
        return command
    signature = inspect.signature(command)
    hints = get_type_hints(command, include_extras=True)
    parameters = []
    for name, parameter in signature.parameters.items():
        annotation, default = hints[name], parameter.default
        if default is not parameter.empty and name not in usual:
            annotation = Annotated[annotation, tyro.conf.Suppress]
        elif is_dataclass(default) and _USUAL_FIELDS & {one.name for one in fields(default)}:
            settings = _hide_fields(type(default))
            metadata = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
            annotation, default = Annotated[(settings, *metadata)], settings()
        parameters.append(parameter.replace(annotation=annotation, default=default))

    def short(*arguments: Any, **options: Any) -> None:
        command(*arguments, **options)

    short.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    short.__annotations__ = {one.name: one.annotation for one in parameters} | {"return": None}
    short.__name__, short.__module__ = command.__name__, command.__module__
    short.__doc__ = _add_hint(command.__doc__ or "")
    return short


def _hide_fields(settings: type[Any]) -> type[Any]:
    """The same settings, whose rare fields have no place on a help page."""
    hints = get_type_hints(settings, include_extras=True)
    rare = [one for one in fields(settings) if one.name not in _USUAL_FIELDS]
    members: dict[str, Any] = {"__module__": settings.__module__}
    members["__annotations__"] = {one.name: Annotated[hints[one.name], tyro.conf.Suppress] for one in rare}
    for one in rare:
        has_factory = one.default_factory is not MISSING
        members[one.name] = field(default_factory=one.default_factory) if has_factory else one.default
    return dataclass(frozen=True)(type(settings.__name__, (settings,), members))


def _add_hint(text: str) -> str:
    hint = "More options are shown by --help-all."
    before, mark, arguments = text.partition("\n    Args:\n")
    return f"{before.rstrip()}\n\n    {hint}\n{mark}{arguments}"
