"""Native code is compiled where it runs, by the compiler that is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.models.native_norm import native_norms_problem
from pipeline.native import native_library, native_problem, native_sources


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Code that nothing has compiled before, and a cache folder of its own."""
    monkeypatch.setenv("PIPELINE_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "answer.cpp"
    path.write_text('extern "C" int answer() { return 42; }\n')
    return path


needs_compiler = pytest.mark.skipif(
    native_norms_problem() is not None, reason=f"no native code here: {native_norms_problem()}"
)


@needs_compiler
@pytest.mark.parametrize("compiler", [None, "", "env g++ -pipe"])
def test_the_compiler_may_be_a_command_with_options(
    source: Path, monkeypatch: pytest.MonkeyPatch, compiler: str | None
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    if compiler is not None:
        monkeypatch.setenv("CXX", compiler)

    assert native_problem(source) is None
    assert native_library(source).answer() == 42


@needs_compiler
def test_what_cannot_be_loaded_is_compiled_anew(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    native_library(source)
    [library] = (tmp_path / "cache").rglob("*.so")
    native_library.cache_clear()
    damaged = tmp_path / "another" / "native" / library.name
    damaged.parent.mkdir(parents=True)
    damaged.touch()
    monkeypatch.setenv("PIPELINE_CACHE", str(tmp_path / "another"))

    assert native_library(source).answer() == 42
    assert damaged.read_bytes() == library.read_bytes()


@needs_compiler
def test_another_text_of_a_header_is_compiled_anew(source: Path, tmp_path: Path) -> None:
    header = tmp_path / "shared" / "number.h"
    header.parent.mkdir()
    (tmp_path / "answer.h").write_text('#include "shared/number.h"\n')
    source.write_text('#include "answer.h"\nextern "C" int answer() { return kNumber; }\n')
    found = []
    for number in (42, 7):
        header.write_text(f"constexpr int kNumber = {number};\n")
        native_library.cache_clear()
        found.append(native_library(source).answer())

    assert found == [42, 7]
    assert native_sources(source) == [source, tmp_path / "answer.h", header]


def test_a_compiler_that_fails_is_named(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "false -pipe")

    assert str(native_problem(source)).startswith("false -pipe failed:")
