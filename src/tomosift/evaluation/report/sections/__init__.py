"""The sections of a report, one module each; a module added to this folder adds a section."""

import importlib
import pkgutil
from functools import cache

from tomosift.evaluation.report.section import Section


@cache
def load_sections() -> tuple[Section, ...]:
    """Return the section of every module in this folder, in the order of the report.

    Examples
    --------
    >>> [section.id for section in load_sections()][-1]
    'provenance'
    """
    modules = (importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
    return tuple(sorted((module.SECTION for module in modules), key=lambda section: section.order))
