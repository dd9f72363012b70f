"""Notebooks are made from the package, whole, the same each time, and fit for Kaggle."""

from __future__ import annotations

import ast
import json
import sys
from dataclasses import fields, replace
from pathlib import Path

import nbformat
import pytest
from slugify import slugify

from pipeline.competition import load_competition
from pipeline.errors import ConfigError, DataError
from pipeline.notebooks import KernelFiles, compare_kernel, prepare_push, variant_kernel
from pipeline.notebooks.compose import compose, with_parameters
from pipeline.notebooks.definition import definition_toml
from pipeline.notebooks.modules import IN_KAGGLES_IMAGE, needed_modules
from pipeline.notebooks.slugs import check_slug, compare_slug, kernel_slug, title_of
from pipeline.stages.kernels import stale_kernels, write_kernels
from pipeline.stages.settings import Settings

REPOSITORY = Path(__file__).parents[2]
DIGITS = Settings(competition="digits")
LAPTOP_ROOMS = ("client", "host", "notebooks", "__main__")


def notebook_of(kernel: KernelFiles) -> nbformat.NotebookNode:
    return nbformat.reads(kernel.files[f"{kernel.slug}.ipynb"].decode(), as_version=4)


def first_cell(kernel: KernelFiles) -> str:
    return str(notebook_of(kernel).cells[0].source)


@pytest.fixture(scope="module")
def kernels() -> dict[str, KernelFiles]:
    return {
        "variant": variant_kernel(DIGITS),
        "compare": compare_kernel(DIGITS, ["subkernel", "channel-selection"]),
    }


@pytest.fixture
def small_package(tmp_path: Path) -> Path:
    package = tmp_path / "pipeline"
    package.mkdir()
    (package / "__init__.py").touch()
    return package


def test_the_committed_kernels_are_not_stale() -> None:
    assert stale_kernels(REPOSITORY) == [], "run `make kernels` and commit what it writes"


def test_a_changed_missing_or_added_file_makes_a_kernel_stale(tmp_path: Path) -> None:
    write_kernels(tmp_path)
    assert stale_kernels(tmp_path) == []
    (tmp_path / "kernels/digits/subkernel/digits-subkernel.ipynb").write_text("{}")
    (tmp_path / "kernels/digits/compare/kernel-metadata.json").unlink()
    (tmp_path / "kernels/dog-vs-cat-vs-bird/compare/old.ipynb").touch()

    assert stale_kernels(tmp_path) == [
        "digits/subkernel",
        "digits/compare",
        "dog-vs-cat-vs-bird/compare",
    ]


def test_sizes_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_kernels(tmp_path)
    write_kernels(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 12
    assert all("kB of 1000" in line for line in lines)
    assert all("up to date" in line for line in lines[6:])


@pytest.mark.parametrize("kind", ["variant", "compare"])
def test_a_notebook_is_valid_stripped_and_small(kernels: dict[str, KernelFiles], kind: str) -> None:
    notebook = notebook_of(kernels[kind])
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert kernels[kind].notebook_size < 1_000_000
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)


def test_generating_again_gives_the_same_bytes(
    kernels: dict[str, KernelFiles], tmp_path: Path
) -> None:
    again = variant_kernel(DIGITS)
    again.write(tmp_path / "kernel")
    assert again == kernels["variant"]
    assert again.are_in(tmp_path / "kernel")


def test_the_hash_in_the_first_cell_follows_modules_and_settings(
    kernels: dict[str, KernelFiles], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = first_cell(kernels["variant"])
    assert first_cell(variant_kernel(replace(DIGITS, seed=1))) != before

    modules = needed_modules()
    modules["pipeline/errors.py"] += "\n# changed\n"
    monkeypatch.setattr("pipeline.notebooks.generate.needed_modules", lambda _: modules)
    assert first_cell(variant_kernel(DIGITS)) != before


def test_modules_stand_in_visible_collapsed_cells_as_they_are(
    kernels: dict[str, KernelFiles],
) -> None:
    cells = {cell.id: cell for cell in notebook_of(kernels["variant"]).cells}
    cell = cells["pipeline-convs-factors-py"]
    source = (REPOSITORY / "pipeline/convs/factors.py").read_text()
    assert cell.source == f"%%writefile {{CODE}}/pipeline/convs/factors.py\n{source}"
    assert cell.metadata == {"_kg_hide-input": True, "jupyter": {"source_hidden": True}}


def test_only_what_a_run_needs_travels() -> None:
    paths = needed_modules()
    assert {"pipeline/stages/kernel.py", "pipeline/training/fold_worker.py"} <= set(paths)
    assert "pipeline/competitions/__init__.py" in paths
    assert not [path for path in paths if path.split("/")[1].removesuffix(".py") in LAPTOP_ROOMS]
    assert "pipeline/stages/submit.py" not in paths


@pytest.mark.parametrize(
    ("model", "carried"),
    [
        ("resnet14", {"resnet14"}),
        ("mnist-net", {"mnist_net"}),
        ("test_resnet.r160_in1k", {"libraries", "swap"}),
    ],
)
def test_a_notebook_carries_the_one_network_that_it_trains(model: str, carried: set[str]) -> None:
    networks = {"resnet14", "nntrain", "mnist_net", "vbnet", "layer3d", "libraries", "swap"}
    cells = {cell.id for cell in notebook_of(variant_kernel(replace(DIGITS, model=model))).cells}
    assert {n for n in networks if f"pipeline-models-{n}-py" in cells} == carried


def test_weights_to_start_from_are_named_by_hash_and_attached(tmp_path: Path) -> None:
    model = "test_resnet.r160_in1k"
    kernel = variant_kernel(replace(DIGITS, model=model), weights="0a" * 32)
    assert f'WEIGHTS = "{"0a" * 32}"' in notebook_of(kernel).cells[2].source
    metadata = json.loads(kernel.files["kernel-metadata.json"])
    assert metadata["dataset_sources"] == ["OWNER/test-resnet-r160-in1k-weights"]
    kernel.write(tmp_path / "kernel")
    copy = prepare_push(tmp_path / "kernel", "alice", "abc123", tmp_path / "copy")
    pushed = json.loads((copy / "kernel-metadata.json").read_text())
    assert pushed["dataset_sources"] == ["alice/test-resnet-r160-in1k-weights"]


def test_settings_stand_in_one_cell_at_the_top(kernels: dict[str, KernelFiles]) -> None:
    code = [cell for cell in notebook_of(kernels["compare"]).cells if cell.cell_type == "code"]
    values = {
        node.targets[0].id: ast.literal_eval(node.value)  # type: ignore[attr-defined]
        for node in ast.parse(code[0].source).body
    }
    assert values["COMPETITION"] == "digits"
    assert values["CONVS"] == ["subkernel", "channel-selection"]
    assert (values["MODEL"], values["RECIPE"], values["FOLDS"]) == ("resnet14", "quick", 5)


@pytest.mark.parametrize("kind", ["variant", "compare"])
def test_a_notebook_takes_every_setting_that_decides_what_is_trained(
    kernels: dict[str, KernelFiles], kind: str
) -> None:
    elsewhere = {"host", "force", "budget", "launch", "run"}  # for the command that pushes
    (cell,) = (cell for cell in notebook_of(kernels[kind]).cells if "ettings(\n" in cell.source)
    calls = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Call)]
    (made,) = (call for call in calls if getattr(call.func, "id", "") == "Settings")
    taken = {keyword.arg for keyword in made.keywords}
    assert taken == {field.name for field in fields(Settings)} - elsewhere


def test_other_folds_make_another_kernel(kernels: dict[str, KernelFiles]) -> None:
    assert variant_kernel(replace(DIGITS, fold_seed=1)) != kernels["variant"]


def test_a_setting_may_hold_any_text_but_must_exist() -> None:
    odd = 'a "quoted" \\1 # name'
    assert with_parameters("A = 1  # why\nAB = 2\n", {"A": odd}) == (
        'A = "a \\"quoted\\" \\\\1 # name"  # why\nAB = 2\n'
    )
    with pytest.raises(ValueError, match="sets B 0 times"):
        with_parameters("A = 1\n", {"B": 1})


def test_an_import_outside_kaggles_image_is_named(small_package: Path) -> None:
    (small_package / "start.py").write_text("from pipeline import other\nimport torch, json\n")
    (small_package / "other.py").write_text("def f():\n    import stamina\n")
    with pytest.raises(ImportError, match=r"pipeline/other\.py imports stamina"):
        needed_modules(["pipeline.start"], small_package)


def test_imports_of_names_and_of_modules_are_followed(small_package: Path) -> None:
    (small_package / "data").mkdir()
    (small_package / "data/__init__.py").touch()
    (small_package / "data/table.py").write_text("ROWS = 1\n")
    (small_package / "unused.py").touch()
    (small_package / "start.py").write_text("from pipeline.data.table import ROWS\n")
    assert list(needed_modules(["pipeline.start"], small_package)) == [
        "pipeline/__init__.py",
        "pipeline/data/__init__.py",
        "pipeline/data/table.py",
        "pipeline/start.py",
    ]
    with pytest.raises(ImportError, match=r"no module pipeline\.gone"):
        needed_modules(["pipeline.gone"], small_package)


def test_the_templates_import_only_what_kaggles_image_has(
    kernels: dict[str, KernelFiles],
) -> None:
    """IPython is there too: it runs the notebook."""
    modules = needed_modules()
    for kernel in kernels.values():
        for cell in notebook_of(kernel).cells:
            if cell.cell_type != "code" or cell.source.startswith("%%"):
                continue
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, ast.ImportFrom):
                    names = [node.module or ""]
                else:
                    names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                for name in names:
                    root = name.split(".")[0]
                    known = root in IN_KAGGLES_IMAGE or root in sys.stdlib_module_names
                    assert known or root in {"pipeline", "IPython"}, name
                    if root == "pipeline":
                        assert f"{name.replace('.', '/')}.py" in modules


@pytest.mark.parametrize("slug", ["digits-subkernel", "dog-vs-cat-vs-bird-channel-selection"])
def test_kaggle_makes_the_slug_from_the_title(slug: str) -> None:
    assert slugify(title_of(slug)) == slug
    assert 5 <= len(title_of(slug)) <= 50


def test_a_long_slug_ends_in_a_hash() -> None:
    competition = "rsna-2022-cervical-spine-fracture-detection"
    slugs = [kernel_slug(competition, conv) for conv in ("subkernel", "subkernels")]
    assert slugs[0] != slugs[1]
    for slug in [*slugs, compare_slug(competition)]:
        assert slug.startswith("rsna-2022-cervical-spine-fracture-detecti")
        assert slugify(title_of(slug)) == slug
        assert len(slug) <= 50


@pytest.mark.parametrize(
    ("slug", "complaint"),
    [
        ("a-b", "has 3 characters"),
        ("x" * 51, "has 51 characters"),
        ("a_b-subkernel", "lower-case letters"),
        ("Digits-subkernel", "lower-case letters"),
        ("digits--x", "single hyphens"),
        ("../digits", "lower-case letters"),
    ],
)
def test_a_slug_that_kaggle_would_not_take_is_refused(slug: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        check_slug(slug)


def test_metadata_leaves_nothing_to_the_clients_defaults(
    kernels: dict[str, KernelFiles],
) -> None:
    metadata = json.loads(kernels["variant"].files["kernel-metadata.json"])
    assert metadata == {
        "id": "OWNER/digits-subkernel",
        "title": "Digits Subkernel",
        "code_file": "digits-subkernel.ipynb",
        "language": "python",
        "kernel_type": "notebook",
        "is_private": True,
        "enable_gpu": True,
        "enable_tpu": False,
        "enable_internet": False,
        "machine_shape": "NvidiaTeslaT4",
        "docker_image_pinning_type": "original",
        "keywords": [],
        "dataset_sources": [],
        "competition_sources": ["digits"],
        "kernel_sources": [],
        "model_sources": [],
    }
    assert kernel_slug("digits", "channel-selection") == "digits-channel-selection"


def test_a_users_definition_travels_with_what_the_package_says(tmp_path: Path) -> None:
    (tmp_path / "competition.toml").write_text(
        'classes = ["a", "b \\"c\\""]\n[data]\nsize = 32\nlabel_column = "é"\n'
    )
    expected = load_competition("digits", tmp_path)
    cells = {c.id: c.source for c in notebook_of(variant_kernel(DIGITS, tmp_path)).cells}
    toml = cells["pipeline-competitions-digits-toml"].split("\n", 1)[1]
    assert toml == definition_toml(expected)

    (tmp_path / "new").mkdir()
    (tmp_path / "new/competition.toml").write_text(toml)
    assert replace(load_competition("new", tmp_path / "new"), slug="digits") == expected
    assert expected.data.size == 32
    assert expected.data.mirror is False


def test_the_pushed_copy_has_owner_and_commit(tmp_path: Path) -> None:
    variant_kernel(DIGITS).write(tmp_path / "kernel")
    attach = {"kernel_sources": ["alice/digits-subkernel"]}

    copy = prepare_push(
        tmp_path / "kernel", "alice", "abc123", tmp_path / "copy", attach=attach, note="Run 7"
    )

    metadata = json.loads((copy / "kernel-metadata.json").read_text())
    assert metadata["id"] == "alice/digits-subkernel"
    assert metadata["kernel_sources"] == ["alice/digits-subkernel"]
    notebook = nbformat.read(copy / metadata["code_file"], as_version=4)
    assert notebook.cells[0].source.endswith("\n\nCommit: `abc123`\n\nRun 7")
    assert 'COMMIT = "abc123"' in notebook.cells[2].source
    assert sorted(path.name for path in copy.iterdir()) == [
        "digits-subkernel.ipynb",
        "kernel-metadata.json",
    ]


def test_a_secret_is_refused_before_a_copy_exists(tmp_path: Path) -> None:
    kernel, copy = tmp_path / "kernel", tmp_path / "copy"
    variant_kernel(DIGITS).write(kernel)
    path = kernel / "digits-subkernel.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[2].source += "\ntoken = 'KGAT" + "_0123456789abcdef0123456789abcdef'"
    nbformat.write(notebook, path)

    with pytest.raises(ConfigError, match=r"1 secrets, first digits-subkernel.ipynb: Kaggle token"):
        prepare_push(kernel, "alice", "abc123", copy)
    assert not copy.exists()


def test_the_users_own_credential_is_refused(tmp_path: Path) -> None:
    variant_kernel(DIGITS).write(tmp_path / "kernel")
    with pytest.raises(ConfigError, match="one of your credentials"):
        prepare_push(
            tmp_path / "kernel", "alice", "abc123", tmp_path / "copy", known=["subkernel or ch"]
        )


def test_outputs_do_not_travel(tmp_path: Path) -> None:
    variant_kernel(DIGITS).write(tmp_path / "kernel")
    path = tmp_path / "kernel/digits-subkernel.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[2].outputs = [nbformat.v4.new_output("stream", text="seen at home")]
    notebook.cells[2].execution_count = 3
    nbformat.write(notebook, path)

    copy = prepare_push(tmp_path / "kernel", "alice", "abc123", tmp_path / "copy")

    assert "seen at home" not in (copy / path.name).read_text()


def test_a_kernel_of_a_megabyte_is_refused(tmp_path: Path) -> None:
    variant_kernel(DIGITS).write(tmp_path)
    path = tmp_path / "digits-subkernel.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].source += "x" * 1_000_000
    nbformat.write(notebook, path)
    with pytest.raises(ConfigError, match=r"has 1,\d{3},\d{3} bytes, Kaggle takes less than"):
        prepare_push(tmp_path, "alice", "abc123", tmp_path / "copy")


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda folder: (folder / "kernel-metadata.json").unlink(), "holds no kernel-metadata"),
        (lambda folder: (folder / "kernel-metadata.json").write_text("{"), "is not JSON"),
        (lambda folder: (folder / "kernel-metadata.json").write_text("{}"), "has no 'id'"),
        (lambda folder: (folder / "digits-subkernel.ipynb").unlink(), "is not a notebook"),
        (lambda folder: (folder / "digits-subkernel.ipynb").write_text("{}"), "not a notebook"),
    ],
)
def test_a_damaged_kernel_folder_is_named(tmp_path: Path, damage, complaint: str) -> None:
    variant_kernel(DIGITS).write(tmp_path)
    damage(tmp_path)
    with pytest.raises(DataError, match=complaint):
        prepare_push(tmp_path, "alice", "abc123", tmp_path / "copy")


def test_a_template_with_an_unknown_name_in_its_text_is_refused() -> None:
    template = '"""Header."""\n\n# %% [markdown]\n# $nobody\n'
    with pytest.raises(KeyError, match="nobody"):
        compose(template, {}, {}, {})
