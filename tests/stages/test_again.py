"""The command that makes a run again holds what is not as usual, quoted for a shell."""

from dataclasses import asdict

from pipeline.artifacts import write_json
from pipeline.stages.again import command_again, fold_seed, make_command, next_command
from pipeline.stages.settings import Settings
from pipeline.training.recipes import make_recipe
from pipeline.workspace import Workspace


def record(**changes):
    return {
        "competition": "dog-vs-cat-vs-bird",
        "cache": "0",
        "folds": {"count": 5, "sha256": "0"},
        "seed": 0,
        "network": {"model": "resnet14", "conv": "subkernel", "weights": None},
        "recipe": {"name": "quick", **asdict(make_recipe("quick"))},
        "asked": {"convolutions": "auto"},
        **changes,
    }


def test_the_usual_run_needs_no_variable(tmp_path):
    assert command_again(Workspace(root=tmp_path), record()) == "make train"


def test_what_is_not_as_usual_is_given(tmp_path):
    workspace = Workspace(root=tmp_path)
    path = workspace.folds("pets") / "3-seed7-0123abcd.csv"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    recipe = make_recipe("smoke", {"epochs": "9", "mixup": "0.5"})
    made = record(
        competition="pets",
        folds={"count": 3, "sha256": empty},
        seed=2,
        network={"model": "timm/resnet18", "conv": "separable", "weights": "a"},
        recipe={"name": "smoke", **asdict(recipe)},
        asked={"convolutions": "folded", "threads": "1"},
        weights_file="/my weights.safetensors",
    )

    assert fold_seed(workspace, made) == 7
    assert command_again(workspace, made) == (
        "make train COMPETITION=pets CONV=separable MODEL=timm/resnet18 RECIPE=smoke FOLDS=3 "
        "SEED=2 FOLD_SEED=7 EXECUTION=folded WEIGHTS='/my weights.safetensors' "
        "SET='epochs=9 mixup=0.5 threads=1'"
    )


def test_a_run_that_did_not_start_from_the_weights_that_are_there_says_so(tmp_path):
    workspace = Workspace(root=tmp_path)
    (workspace.weights / "resnet14-weights").mkdir(parents=True)
    (workspace.weights / "resnet14-weights/model.safetensors").touch()

    assert command_again(workspace, record()) == "make train WEIGHTS=none"


def test_refinements_name_what_they_were_made_from(tmp_path):
    sources = {"made_from": [{"run": "a"}, {"run": "b"}]}
    equal = record(refinement={"kind": "blend", "how": "equal"}, **sources)
    fitted = record(refinement={"kind": "thresholds"}, made_from=[{"run": "a"}])

    assert command_again(Workspace(root=tmp_path), equal) == "make blend RUNS=a,b BLEND=equal"
    assert command_again(Workspace(root=tmp_path), fitted) == "make thresholds RUN=a"


def test_a_run_on_pseudo_labels_names_the_run_that_gave_them(tmp_path):
    made = record(competition="pets", pseudo={"from": "subkernel-1", "confidence": 0.9})

    again = command_again(Workspace(root=tmp_path), made)

    assert again == "make pseudo COMPETITION=pets RUN=subkernel-1 CONFIDENCE=0.9"


def test_what_follows_a_run_names_its_competition_unless_that_is_the_default():
    values = {"CONV": "subkernel", "RUN": "a"}

    assert make_command("submit", "pets", values) == "make submit COMPETITION=pets RUN=a"
    assert make_command("submit", "dog-vs-cat-vs-bird", values) == "make submit RUN=a"


def test_what_follows_is_of_the_same_images_and_at_the_same_host():
    """A run can be predicted at no other SIZE, and what was for one HOST is not for another."""
    settings = Settings(competition="pets", size=64, host="local")

    command = next_command("submit", settings, {"RUN": "a"})

    assert command == "make submit COMPETITION=pets RUN=a SIZE=64 HOST=local"


def test_what_was_made_from_runs_of_another_size_says_so(tmp_path):
    workspace = Workspace(root=tmp_path)
    write_json(workspace.caches("pets") / "0" / "competition.json", {"data": {"size": 64}})
    sources = {"competition": "pets", "made_from": [{"run": "a"}]}
    pseudo = record(competition="pets", pseudo={"from": "a", "confidence": 0.9})
    fitted = record(refinement={"kind": "temperature"}, **sources)
    blended = record(refinement={"kind": "blend", "how": "greedy"}, **sources)

    assert [command_again(workspace, made) for made in (pseudo, fitted, blended)] == [
        "make pseudo COMPETITION=pets RUN=a CONFIDENCE=0.9 SIZE=64",
        "make calibrate COMPETITION=pets RUN=a SIZE=64",
        "make blend COMPETITION=pets RUNS=a SIZE=64",
    ]
