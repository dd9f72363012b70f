"""`python -m tests.fuzz TARGET FOLDER [-libfuzzer_option=...]`: mutates a target's good inputs.

It is guided by the code that each input reaches, and ends with an error at the first input that
fails, which stands in FOLDER/crashes; FOLDER/inputs keeps what reached something new.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["pipeline"]):
    from tests.fuzz.targets import TARGETS

_MEGABYTES, _SECONDS_OF_ONE, _LONGEST = 6000, 30, 4096


def main(name: str, folder: Path, options: list[str]) -> None:
    """Fuzz until an option's end is reached; libFuzzer ends the process itself."""
    for below in ("inputs", "crashes", "state"):
        (folder / below).mkdir(parents=True, exist_ok=True)
    target = TARGETS[name](folder / "state")
    for number, seed in enumerate(target.seeds()):
        (folder / "inputs" / f"seed-{number:02}").write_bytes(seed)
    words = folder / "words"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words))
    fixed = [
        f"-dict={words}",
        f"-artifact_prefix={folder}/crashes/",
        f"-rss_limit_mb={_MEGABYTES}",
        f"-timeout={_SECONDS_OF_ONE}",
        f"-max_len={_LONGEST}",
    ]
    atheris.Setup([sys.argv[0], *fixed, *options, str(folder / "inputs")], target.run)
    atheris.Fuzz()


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
