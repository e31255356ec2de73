"""Reading a manifest: a MONAI/Decathlon datalist in JSON, read strictly.

Format and rules stand in `docs/data.md`. Everything wrong with the *structure* of a manifest is
reported at once; whether the files it names are usable is decided when a study is read, so that one
bad study does not stop a cohort.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from mrigmm.data.manifest import Manifest
from mrigmm.data.manifest_structure import ManifestStructure
from mrigmm.errors import InputError


def read_manifest(path: Path | str, data_root: Path | str | None = None) -> Manifest:
    """Read a manifest and check its structure.

    Args:
        path: the JSON file.
        data_root: folder that the paths inside resolve against; default the manifest's own folder.

    Raises:
        InputError: with every structural problem found.
    """
    path = Path(path)
    content = _load_json(path)
    root = path.parent if data_root is None else Path(data_root)
    if not root.is_dir():
        raise InputError("the data root is not a folder", file=root, remedy="give an existing folder")
    return parse_manifest(content, path, root)


def parse_manifest(content: dict[str, Any], path: Path, root: Path) -> Manifest:
    """Check the structure of a manifest's content.

    Args:
        content: parsed JSON.
        path: the file that it stands in, or will be written to.
        root: folder that the paths inside resolve against.

    Raises:
        InputError: with every structural problem found.
    """
    structure = ManifestStructure(path, root.resolve())
    manifest = structure.manifest(content)
    if structure.problems:
        raise InputError.from_problems(structure.problems)
    return manifest


def _load_json(path: Path) -> dict[str, Any]:
    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        repeated = [name for name, times in Counter(name for name, _ in pairs).items() if times > 1]
        if repeated:
            raise InputError(
                f"the key '{repeated[0]}' stands twice in one object",
                file=path,
                remedy="keep one of them: JSON readers silently drop the other",
            )
        return dict(pairs)

    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=no_duplicates)
    except FileNotFoundError:
        raise InputError("the manifest does not exist", file=path, remedy="check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        folder = path.is_dir()
        make_it = f"mrigmm manifest files {path} -o {path / 'manifest.json'} --image LGE='{{id}}_LGE.nii.gz'"
        raise InputError(
            "the manifest cannot be read",
            file=path,
            expected="a JSON file in UTF-8 (docs/data.md)",
            got="a folder" if folder else str(error),
            remedy=f"make its manifest first, for example: {make_it}"
            if folder
            else "give a JSON file; one with letters of another encoding, saved as UTF-8",
        ) from None
    except (ValueError, RecursionError) as error:
        raise InputError(
            "the manifest is not valid JSON", file=path, got=str(error), remedy="see docs/data.md"
        ) from None
    if not isinstance(content, dict):
        raise InputError(
            "the manifest is not a JSON object",
            file=path,
            expected='{"modality": ..., "training": [...]}',
            got=type(content).__name__,
            remedy="see docs/data.md",
        )
    return content
