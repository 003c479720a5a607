"""What a help page shows: `--help` the usual options of a command, `--help-all` every option."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import tyro

F = TypeVar("F", bound=Callable[..., None])
S = TypeVar("S")

HINT = "More options are shown by --help-all."


def usual_options(*names: str) -> Callable[[F], F]:
    """Mark the parameters of a command that `--help` shows, besides those without a default.

    Parameters
    ----------
    names
        Parameters; of a group of settings, ``"group"`` shows every field and ``"group.field"`` one.

    Examples
    --------
    >>> @usual_options("seed", "training.steps")
    ... def command(out: str, seed: int = 0, shard: str = "1/1") -> None: ...
    >>> command.usual
    ('seed', 'training.steps')
    """

    def mark(command: F) -> F:
        command.usual = names  # type: ignore[attr-defined]
        return command

    return mark


def prepare_help(command: Callable[..., None], is_short: bool) -> Callable[..., None]:
    """Return the same command for its help page: paragraphs are one line, and a short page hides rare options."""
    usual: tuple[str, ...] | None = getattr(command, "usual", None)
    is_short = is_short and usual is not None
    signature = inspect.signature(command)
    hints = get_type_hints(command, include_extras=True)
    parameters = [one.replace(annotation=hints[one.name]) for one in signature.parameters.values()]
    if is_short:
        parameters = [_hide_if_rare(one, usual or ()) for one in parameters]

    def page(*arguments: Any, **options: Any) -> None:
        command(*arguments, **options)

    page.__name__, page.__module__ = command.__name__, command.__module__
    page.__doc__ = _format_docstring(command.__doc__ or "", HINT if is_short else "")
    set_signature(page, parameters)
    return page


def set_signature(command: Callable[..., None], parameters: list[inspect.Parameter]) -> None:
    """Give a function the signature that tyro reads."""
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in parameters} | {"return": None}


def rename_options(settings: type[S], names: Mapping[str, str]) -> type[S]:
    """Return the same settings whose fields have other names on the command line.

    Parameters
    ----------
    settings
        A frozen dataclass.
    names
        Name of the option by the name of the field; fields that the dataclass lacks are left out.
    """
    hints = get_type_hints(settings, include_extras=True)
    renamed = [one for one in _fields(settings) if one.name in names]
    return _annotate(
        settings, {one: Annotated[hints[one.name], tyro.conf.arg(name=names[one.name])] for one in renamed}
    )


def restore_type(value: S, settings: type[S]) -> S:
    """Return settings of a type by `rename_options` as those of the original type."""
    return settings(**{one.name: getattr(value, one.name) for one in _fields(settings)})


def _hide_if_rare(parameter: inspect.Parameter, usual: tuple[str, ...]) -> inspect.Parameter:
    """Hide a parameter that is not usual, or the fields of a group that are not."""
    name, annotation, default = parameter.name, parameter.annotation, parameter.default
    shown = {one.partition(".")[2] for one in usual if one.startswith(f"{name}.")}
    if name in usual or (default is parameter.empty and not shown):
        return parameter
    if not shown:
        return parameter.replace(annotation=Annotated[annotation, tyro.conf.Suppress])
    settings, *metadata = get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)
    hints = get_type_hints(settings, include_extras=True)
    rare = [one for one in _fields(settings) if one.name not in shown]
    settings = _annotate(settings, {one: Annotated[hints[one.name], tyro.conf.Suppress] for one in rare})
    default = default if default is parameter.empty else settings()
    return parameter.replace(annotation=Annotated[(settings, *metadata)], default=default)


def _annotate(settings: type[S], annotations: Mapping["Field[Any]", Any]) -> type[S]:
    """Return a subclass of a dataclass whose fields have other annotations and the same defaults."""
    members: dict[str, Any] = {"__module__": settings.__module__, "__doc__": settings.__doc__}
    members["__annotations__"] = {one.name: annotation for one, annotation in annotations.items()}
    for one in annotations:
        if one.default_factory is not MISSING:
            members[one.name] = field(default_factory=one.default_factory)
        elif one.default is not MISSING:
            members[one.name] = one.default
    return dataclass(frozen=True)(type(settings.__name__, (settings,), members))


def _fields(settings: type[Any]) -> "tuple[Field[Any], ...]":
    return fields(settings)


def _format_docstring(text: str, hint: str) -> str:
    """Return a docstring in which each paragraph and argument is one line, with a hint before the arguments."""
    before, mark, arguments = inspect.cleandoc(text).partition("\nArgs:\n")
    paragraphs = [" ".join(paragraph.split()) for paragraph in before.strip().split("\n\n")]
    lines: list[str] = []
    for line in arguments.splitlines():
        if line.startswith("        ") and lines:
            lines[-1] += f" {line.strip()}"
        else:
            lines.append(line)
    return "\n\n".join([*paragraphs, *([hint] if hint else [])]) + "\n" + mark + "\n".join(lines)
