"""Look for inputs that break the readers: manifests, configurations and NIfTI headers, for a bounded time.

    python scripts/fuzz.py --seconds 60            # all three targets, one after the other
    python scripts/fuzz.py --target header --seconds 600 --corpus fuzz/

Each target feeds bytes to a reader, which may refuse them with an `InputError`; any other exception, a hang
of more than ten seconds or more than 2 GB of memory is a finding: it is printed, the bytes are kept, and the
exit code is 1. Findings become tests (tests/robustness).

Coverage-guided by atheris (pip install atheris; Linux), which is needed by this script alone; without it,
mutations of sound files drawn at random.
"""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import nibabel as nib
import numpy as np
from benchmarking import script_parser

from mrigmm.config import PRESETS, load_config, make_config
from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.volumes import read_image, read_map
from mrigmm.errors import InputError
from mrigmm.settings_yaml import dump_config, parse_overrides

Target = Callable[[bytes, Path], None]


def manifest(data: bytes, folder: Path) -> None:
    """Bytes as a manifest."""
    path = folder / "manifest.json"
    path.write_bytes(data)
    read_manifest(path)


def config(data: bytes, folder: Path) -> None:
    """Bytes as a run's configuration, and as the value of --set."""
    path = folder / "config.yaml"
    path.write_bytes(data)
    try:
        load_config(path)
    except InputError:
        parse_overrides(["epochs=" + data.decode("utf-8", "replace")])


def header(data: bytes, folder: Path) -> None:
    """Bytes as a NIfTI file, as it is and compressed, as an image and as a map."""
    for name, content in (("a.nii", data), ("a.nii.gz", gzip.compress(data, 1)), ("b.nii.gz", data)):
        path = folder / name
        path.write_bytes(content)
        try:
            volume = read_image(path, study="s", role="LGE")
            assert volume.data.shape == volume.grid.shape
            assert np.isfinite(volume.data).all()
        except InputError:
            pass
        with suppress(InputError):
            read_map(path, study="s", role="region", known=(0, 1, 2))


TARGETS: dict[str, Target] = {"manifest": manifest, "config": config, "header": header}


def seeds(target: str) -> list[bytes]:
    """Sound inputs to begin with."""
    if target == "manifest":
        study = {
            "id": "a",
            "image": ["a.nii", None],
            "region": {"rule": "lv"},
            "label": "l.nii",
            "patient": "p",
        }
        named = {"id": "b", "image": {"T2": {"file": "t.nii", "frame": 1}}, "region": "r.nii"}
        content = {
            "modality": {"0": "LGE", "1": "T2"},
            "labels": {"blood": 1, "scar": [3, 4]},
            "training": [study],
            "test": [named],
        }
        return [json.dumps(content).encode(), json.dumps({**content, "labels": "emidec"}).encode()]
    if target == "config":
        return [dump_config(make_config(preset)).encode() for preset in PRESETS]
    images = [
        nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.diag([1.2, 1.2, 8, 1])),
        nib.Nifti2Image(np.ones((3, 2), dtype=np.float32), np.eye(4)),
    ]
    return [image.to_bytes() for image in images]


def tried(target: str, data: bytes, folder: Path) -> str | None:
    """Return what went wrong with these bytes, or None."""
    try:
        TARGETS[target](data, folder)
    except InputError as error:
        return None if error.problems and str(error) else "an error without a message"
    except Exception:
        return traceback.format_exc()
    return None


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The bytes with a few changes."""
    raw = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(len(raw) + 1)
        kind = rng.randrange(5)
        if kind == 0:
            raw[place : place + rng.randint(1, 8)] = rng.randbytes(rng.randint(0, 8))
        elif kind == 1 and raw:
            raw[place % len(raw)] ^= 1 << rng.randrange(8)
        elif kind == 2:
            raw[place:place] = rng.choice(_PIECES)
        elif kind == 3:
            other = rng.randrange(len(raw) + 1)
            raw[place:place] = raw[other : other + rng.randint(1, 40)]
        else:
            del raw[place : place + rng.randint(1, 40)]
    return bytes(raw)


_PIECES = (
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b'"',
        b",",
        b":",
        b"null",
        b"1e400",
        b"NaN",
        b"-0",
        b"\\ud800",
        b"\\u0000",
        b"../",
    ),
    *(b"*a", b"&a ", b"!!int ", b"<<: ", b"? ", b"- ", b"\t", b"'", b"9" * 400, b"[" * 400),
    *(
        b"\x7f\xff",
        b"\x80\x00",
        b"\x00" * 8,
        b"\xff" * 8,
        np.float32(np.nan).tobytes(),
        np.float32(1e38).tobytes(),
    ),
)


def at_random(target: str, seconds: float, seed: int, corpus: Path) -> int:
    """Mutations drawn at random; returns the number of findings."""
    rng, started, found, count = random.Random(seed), time.monotonic(), 0, 0
    pool = seeds(target)
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() - started < seconds:
            data = mutated(rng.choice(pool), rng)
            begun = time.monotonic()
            problem = tried(target, data, Path(folder))
            if problem is None and time.monotonic() - begun > 10:
                problem = "more than ten seconds"
            if problem is None and rng.random() < 0.01 and len(pool) < 500 and len(data) < 20_000:
                pool.append(data)  # changes upon changes
            if problem is not None:
                found += 1
                kept = corpus / f"finding-{target}-{found}"
                kept.write_bytes(data)
                print(f"{kept}\n{problem}")
            count += 1
    print(f"{target}: {count} inputs in {seconds:g} s, at random: {found} findings")
    return found


# The package has to be imported under atheris, which counts what is reached in it.
_STARTER = """
import sys
import atheris
sys.path.insert(0, sys.argv[1])
with atheris.instrument_imports(include=["mrigmm", "yaml"]):
    import fuzz
fuzz.inside(sys.argv[2:])
"""


def coverage_guided(target: str, seconds: float, seed: int, corpus: Path) -> int:
    """atheris, in a process of its own, which ends with the first finding; returns 0 or 1."""
    for number, content in enumerate(seeds(target)):
        (corpus / f"seed-{target}-{number}").write_bytes(content)
    limits = [f"-max_total_time={seconds:g}", f"-seed={seed + 1}", "-timeout=10", "-rss_limit_mb=2048"]
    names = [f"-artifact_prefix={corpus}/finding-{target}-", "-max_len=4096", "-print_final_stats=1"]
    command = [
        sys.executable,
        "-c",
        _STARTER,
        str(Path(__file__).parent),
        target,
        *limits,
        *names,
        str(corpus),
    ]
    return int(subprocess.run(command, check=False).returncode != 0)


def inside(arguments: list[str]) -> None:
    """Run atheris, which ends the process; `coverage_guided` starts it."""
    import atheris

    target, *options = arguments
    folder = Path(tempfile.mkdtemp())

    def one(data: bytes) -> None:
        problem = tried(target, data, folder)
        if problem is not None:
            raise AssertionError(problem)

    atheris.Setup(["fuzz", *options], one)
    atheris.Fuzz()


def main() -> int:
    parser = script_parser(__doc__)
    parser.add_argument("--target", choices=[*TARGETS, "all"], default="all")
    parser.add_argument("--seconds", type=float, default=60, help="for each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--corpus", type=Path, default=Path("fuzz"), help="folder for what is found")
    asked = parser.parse_args()
    asked.corpus.mkdir(parents=True, exist_ok=True)
    try:
        import atheris  # noqa: F401

        search = coverage_guided
    except ImportError:
        print("atheris is not installed (pip install atheris): mutations at random instead")
        search = at_random
    targets = list(TARGETS) if asked.target == "all" else [asked.target]
    found = 0
    for target in targets:
        corpus = asked.corpus / target
        corpus.mkdir(exist_ok=True)
        found += search(target, asked.seconds, asked.seed, corpus)
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
