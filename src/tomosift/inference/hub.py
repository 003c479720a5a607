"""Models on the Hugging Face Hub: ``hub:owner/name``, downloaded once and kept in its cache."""

import re
from pathlib import Path

_PATTERN = re.compile(r"hub:(?P<repository>[\w.-]+/[\w.-]+?)(?:@(?P<revision>[\w.-]+))?")
_FILES = ["model.json", "model.safetensors", "about.json"]  # no other file of a repository is downloaded


def is_on_hub(model: Path) -> bool:
    """Whether a path names a model of the Hub instead of a folder."""
    return str(model).startswith("hub:")


def download_model(model: Path) -> Path:
    """Return the folder of a model of the Hub, and download it if the cache does not hold it.

    Parameters
    ----------
    model
        ``hub:owner/name``, or ``hub:owner/name@revision`` for a certain version.

    Raises
    ------
    ValueError
        The name is malformed, the extra ``hub`` is not installed, or the model is neither on the Hub nor in the cache.
    """
    match = _PATTERN.fullmatch(str(model))
    if match is None:
        raise ValueError(f"model is {str(model)!r}, expected hub:owner/name or hub:owner/name@revision")
    try:
        import huggingface_hub
    except ImportError:
        raise ValueError(f"{model} is on the Hugging Face Hub; pip install tomosift[hub] to download it") from None
    try:
        folder = huggingface_hub.snapshot_download(
            match["repository"], revision=match["revision"], allow_patterns=_FILES
        )
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise ValueError(
            f"{model} was not downloaded ({first}); check the name and the connection, or download the folder "
            "elsewhere and give its path"
        ) from None
    return Path(folder)
