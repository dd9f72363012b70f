"""The notebook that compares convolutions, in percent format; this cell is left out of it."""
# ruff: noqa: E402

# %% [markdown]
# # $title: which convolution?
#
# This notebook trains `$model` with each of $convs on the competition `$competition`, on the
# same folds with the same recipe, compares them by cross-validation, and writes the checked
# `submission.csv` of the better one. It needs no internet and no package that Kaggle's image
# lacks. With several GPUs, each trains a fold of its own.
#
# - **To compare others**, change the list in the settings below and run all cells.
# - **To submit**, save a version, wait until it has finished, and submit its `submission.csv`.
# - **If the session is too short**, training stops in time; the last cell says how to go on.
#
# Generated from a package; the cells with its modules are collapsed. Change the package, not
# this file.
#
# Sources: `$sources`

# %% [markdown]
# ## Settings

# %% tags=["parameters"]
COMPETITION = "digits"  # its slug
CONVS = ["subkernel", "channel-selection"]  # the convolutions to compare
MODEL = "resnet14"  # the network
RECIPE = "quick"  # how it is trained; smoke: two epochs, to see that all works
SIZE = 0  # side of the images in pixels; 0: as the competition's definition says
FOLDS = 5  # of cross-validation
SEED = 0  # every random stream of training derives from it
FOLD_SEED = 0  # the folds derive from it
EXECUTION = "auto"  # how the convolutions compute; auto times what the variant offers
SET = ""  # NAME=VALUE of the recipe, or device, compile and the like; such as epochs=40
WEIGHTS = ""  # SHA-256 of the attached weights to start from; empty: none
HOURS = 10.5  # of training at most; a session ends after 12
COMMIT = ""  # of the package; filled in where it is pushed

# %% [markdown]
# ## The code
#
# The package's modules, written to a scratch folder and imported from there. Expand a cell to read
# it.

# %% tags=["modules"]
import os
import sys
import tempfile
from pathlib import Path

SCRATCH = Path(tempfile.mkdtemp(prefix="pipeline-"))
CODE = SCRATCH / "code"
sys.path.insert(0, str(CODE))
os.environ["PIPELINE_COMMIT"] = COMMIT  # goes into the run's record

# %% [markdown]
# ## The data
#
# Found where Kaggle mounts it, decoded once into a cache of tensors. Look at the labels before
# believing any score.

# %%
from IPython.display import Image, display

from pipeline.competition import load_competition
from pipeline.stages.kernel import attached_weights, finish_kernel, open_kernel, train_within
from pipeline.stages.preprocess import CONTACT_SHEET, preprocess, resolve
from pipeline.stages.settings import Settings, check_settings
from pipeline.training.deadline import Deadline

KAGGLE = Path("/kaggle/input")
INPUTS = KAGGLE if KAGGLE.is_dir() else Path("input")  # at home: ./input/<competition>/
OUTPUT = Path.cwd()

deadline = Deadline.after(HOURS * 3600)
workspace = open_kernel(COMPETITION, inputs=INPUTS, working=OUTPUT, scratch=SCRATCH)
variants = {
    conv: Settings(
        competition=COMPETITION,
        conv=conv,
        model=MODEL,
        recipe=RECIPE,
        size=SIZE,
        folds=FOLDS,
        seed=SEED,
        fold_seed=FOLD_SEED,
        execution=EXECUTION,
        set=SET,
        weights=attached_weights(MODEL, WEIGHTS, INPUTS),
        root=workspace.root,
    )
    for conv in CONVS
}
for settings in variants.values():
    check_settings(settings)
definition = load_competition(COMPETITION, workspace.root).with_size(SIZE)
cache = preprocess(workspace, definition)
competition = resolve(workspace, definition, cache)
display(Image(cache / CONTACT_SHEET))

# %% [markdown]
# ## Training
#
# One convolution after the other, all on the same folds.

# %%
from pipeline.metrics.registry import lower_is_better
from pipeline.training.run import METRICS, Run

runs: dict[str, Run] = {}
for conv, settings in variants.items():
    folder = train_within(settings, competition, cache, deadline)
    if folder is not None:
        runs[conv] = Run.open(folder)
finished = len(runs) == len(variants)

# %% [markdown]
# ## Comparison
#
# A difference below the standard deviation of the folds is no difference. The curves are means
# over the folds.

# %%
import matplotlib.pyplot as plt
import pandas as pd


def history(run: Run) -> pd.DataFrame:
    """What every epoch of every fold measured."""
    return pd.concat([pd.read_json(run.fold(n) / METRICS, lines=True) for n in run.folds])


def row(run: Run) -> dict[str, float]:
    """One convolution's line of the table."""
    network = run.network.load(run.fold(0))
    return {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        f"CV {run.record['cv']['metric']}": run.record["cv"]["mean"],
        "± over folds": run.record["cv"]["std"],
        "seconds per epoch": history(run)["seconds"].mean(),
    }


if runs:
    table = pd.DataFrame({conv: row(run) for conv, run in runs.items()}).T
    display(table.round(4).astype({"parameters": int}))
    figure, axis = plt.subplots(figsize=(7, 4))
    for number, (conv, run) in enumerate(runs.items()):
        curve = history(run).groupby("epoch")[["train_loss", "valid_loss"]].mean()
        axis.plot(curve["train_loss"], f"C{number}:", label=f"{conv}, train")
        axis.plot(curve["valid_loss"], f"C{number}", label=f"{conv}, validation")
    axis.set(xlabel="epoch", ylabel="loss")
    axis.legend()
    plt.show()

# %% [markdown]
# ## Prediction and submission
#
# The better convolution by cross-validation predicts. Each test image is seen in several views
# by every fold's network, and the probabilities are averaged. The file is checked against the
# competition's sample before it counts as written.

# %%
if finished:
    metric = next(iter(runs.values())).record["cv"]["metric"]
    choose = min if lower_is_better(metric) else max
    best = choose(runs, key=lambda conv: runs[conv].record["cv"]["mean"])
    print(f"{best} has the better cross-validation score")
    submission_file = finish_kernel(workspace, competition, cache, runs[best].folder, OUTPUT)
    display(pd.read_csv(submission_file).head())

# %% [markdown]
# ## What this session leaves

# %%
if not finished:
    print("The time was up before all folds were trained; nothing is lost. To go on, save this")
    print("version, add its output as an input (Add Input > Notebook Output), and run again.\n")
for file in sorted(path for path in OUTPUT.rglob("*") if path.is_file()):
    print(f"{file.stat().st_size:>12,}  {file.relative_to(OUTPUT)}")
