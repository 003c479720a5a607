"""Models that somebody published on the Hugging Face Hub: ``hub:owner/name``, fetched once and kept in its cache."""

import re
from pathlib import Path

_PATTERN = re.compile(r"hub:(?P<repository>[\w.-]+/[\w.-]+?)(?:@(?P<revision>[\w.-]+))?")
_FILES = ["model.json", "model.safetensors", "about.json"]  # nothing else of a repository is of use, or is fetched


def is_on_hub(model: Path) -> bool:
    """Whether this names a model of the Hub, and not a place in the file system."""
    return str(model).startswith("hub:")


def download_model(model: Path) -> Path:
    """Folder of a model of the Hub, downloaded where the cache does not hold it; ``@revision`` pins a version.

    Raises
    ------
    ValueError
        When the name cannot be one, the extra `hub` is not installed, or the model is neither there nor in the cache.
    """
    named = _PATTERN.fullmatch(str(model))
    if named is None:
        raise ValueError(f"model is {str(model)!r}, expected hub:owner/name or hub:owner/name@revision")
    try:
        import huggingface_hub
    except ImportError:
        raise ValueError(f"{model} is on the Hugging Face Hub; pip install tomosift[hub] to fetch it") from None
    try:
        folder = huggingface_hub.snapshot_download(
            named["repository"], revision=named["revision"], allow_patterns=_FILES
        )
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise ValueError(
            f"{model} was not fetched ({first}); check the name and the connection, or download the folder elsewhere "
            "and give its path"
        ) from None
    return Path(folder)
