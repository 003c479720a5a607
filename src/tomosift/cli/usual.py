"""Commands as tyro reads them: names of options, and help pages with the usual options or with all of them."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import tyro

from tomosift.cli.options import OPTION_NAMES

F = TypeVar("F", bound=Callable[..., None])
HelpPage = Literal["none", "short", "full"]

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


def prepare_command(command: Callable[..., None], help_page: HelpPage = "none") -> Callable[..., None]:
    """Return a command as tyro reads it.

    Fields of settings get the names of `OPTION_NAMES`. For a help page each paragraph becomes one line, and a short
    page hides rare options.
    """
    signature, hints = inspect.signature(command), get_type_hints(command, include_extras=True)
    parameters = [_rename_fields(one.replace(annotation=hints[one.name])) for one in signature.parameters.values()]
    usual: tuple[str, ...] | None = getattr(command, "usual", None)
    is_short = help_page == "short" and usual is not None
    if is_short:
        parameters = [_hide_if_rare(one, usual or ()) for one in parameters]

    def prepared(*arguments: Any, **options: Any) -> None:
        command(*arguments, **{name: _restore_type(value) for name, value in options.items()})

    prepared.__name__, prepared.__module__, prepared.__doc__ = command.__name__, command.__module__, command.__doc__
    if help_page != "none":
        prepared.__doc__ = _format_docstring(command.__doc__ or "", HINT if is_short else "")
    set_signature(prepared, parameters)
    return prepared


def set_signature(command: Callable[..., None], parameters: list[inspect.Parameter]) -> None:
    """Give a function the signature that tyro reads."""
    vars(command).pop("__wrapped__", None)  # by a decorator such as that of jaxtyping; tyro would read its signature
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in parameters} | {"return": None}


def _find_settings(parameter: inspect.Parameter) -> tuple[type[Any] | None, tuple[Any, ...]]:
    """The dataclass of a group of settings, or None, and the metadata of its annotation."""
    annotation = parameter.annotation
    settings, *metadata = get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)
    return (settings if is_dataclass(settings) and isinstance(settings, type) else None), tuple(metadata)


def _rename_fields(parameter: inspect.Parameter) -> inspect.Parameter:
    """Give the fields of a group of settings the names of `OPTION_NAMES`."""
    settings, _ = _find_settings(parameter)
    names = {one.name for one in fields(settings)} & set(OPTION_NAMES) if settings is not None else set()
    return _annotate_fields(parameter, {name: tyro.conf.arg(name=OPTION_NAMES[name]) for name in names})


def _hide_if_rare(parameter: inspect.Parameter, usual: tuple[str, ...]) -> inspect.Parameter:
    """Hide a parameter that is not usual, or the fields of a group that are not."""
    name, annotation, default = parameter.name, parameter.annotation, parameter.default
    shown = {one.partition(".")[2] for one in usual if one.startswith(f"{name}.")}
    if name in usual or (default is parameter.empty and not shown):
        return parameter
    settings, _ = _find_settings(parameter)
    if not shown or settings is None:
        return parameter.replace(annotation=Annotated[annotation, tyro.conf.Suppress])
    return _annotate_fields(
        parameter, {one.name: tyro.conf.Suppress for one in fields(settings) if one.name not in shown}
    )


def _annotate_fields(parameter: inspect.Parameter, marks: Mapping[str, Any]) -> inspect.Parameter:
    """Add a mark of tyro to fields of a group of settings, whose type becomes a subclass with the same defaults."""
    settings, metadata = _find_settings(parameter)
    if settings is None or not marks:
        return parameter
    hints = get_type_hints(settings, include_extras=True)
    members: dict[str, Any] = {"__module__": settings.__module__, "__doc__": settings.__doc__, "restored": settings}
    members["__annotations__"] = {name: Annotated[hints[name], mark] for name, mark in marks.items()}
    for one in fields(settings):
        if one.name in marks and one.default_factory is not MISSING:
            members[one.name] = field(default_factory=one.default_factory)
        elif one.name in marks and one.default is not MISSING:
            members[one.name] = one.default
    subclass: type[Any] = dataclass(frozen=True)(type(settings.__name__, (settings,), members))
    default = parameter.default
    if default is not parameter.empty:
        default = subclass(**{one.name: getattr(default, one.name) for one in fields(settings)})
    annotation = Annotated[(subclass, *metadata)] if metadata else subclass
    return parameter.replace(annotation=annotation, default=default)


def _restore_type(value: Any) -> Any:
    """Settings of a subclass by `_annotate_fields` as those of the original type; any other value as it is."""
    settings = getattr(type(value), "restored", None)
    return value if settings is None else settings(**{one.name: getattr(value, one.name) for one in fields(settings)})


def _format_docstring(text: str, hint: str) -> str:
    """Return a docstring for a terminal: each paragraph and argument is one line, with a hint before the arguments."""
    before, mark, arguments = inspect.cleandoc(text).replace("``", "`").partition("\nArgs:\n")
    paragraphs = [" ".join(paragraph.split()) for paragraph in before.strip().split("\n\n")]
    lines: list[str] = []
    for line in arguments.splitlines():
        if line.startswith("        ") and lines:
            lines[-1] += f" {line.strip()}"
        else:
            lines.append(line)
    return "\n\n".join([*paragraphs, *([hint] if hint else [])]) + "\n" + mark + "\n".join(lines)
