"""Recipes: a TOML file whose keys are a command's options."""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ovsdino_runtime.errors import DataError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read_recipe(path: Path, options: Collection[str]) -> dict[str, Any]:
    """Return the settings of a recipe, by parameter name (`batch-size` becomes `batch_size`).

    Args:
        path: the TOML file; its keys are the long options without their dashes, a switch
            `--gate/--no-gate` is `gate = true`, an option that may stand several times is a list.
        options: the parameters there are.

    Raises:
        DataError: the file cannot be read, is no TOML, or has a key that is no option.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read the recipe {path}: {error.strerror}") from error
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
        raise DataError(f"the recipe {path} is no TOML: {error}") from error
    settings = {key.replace("-", "_"): value for key, value in data.items()}
    unknown = sorted(set(settings) - set(options))
    if unknown:
        raise DataError(
            f"the recipe {path} has {unknown[0]!r}, which is no option of this command; see --help"
        )
    return settings
