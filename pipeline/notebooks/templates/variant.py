"""The notebook of one variant, in percent format; this cell is left out of it."""
# ruff: noqa: E402

# %% [markdown]
# # $title: $conv
#
# This notebook trains `$model`, built from `$conv` convolutions, on the competition
# `$competition` and writes a checked `submission.csv`. It needs no internet and no package that
# Kaggle's image lacks. With several GPUs, each trains a fold of its own.
#
# - **To try something else**, change the settings below and run all cells.
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
CONV = "subkernel"  # the convolution: subkernel or channel-selection
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
settings = Settings(
    competition=COMPETITION,
    conv=CONV,
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
check_settings(settings)
definition = load_competition(COMPETITION, workspace.root).with_size(SIZE)
cache = preprocess(workspace, definition)
competition = resolve(workspace, definition, cache)
display(Image(cache / CONTACT_SHEET))

# %% [markdown]
# ## Training
#
# Every image validates in exactly one fold. Precision is chosen for the device at hand.

# %%
run = train_within(settings, competition, cache, deadline)

# %% [markdown]
# The loss of every fold by epoch. Validation falling with training is what you want; the gap
# between them is overfitting. (Training sees augmented images and smoothed labels, so its loss
# may be the higher one.)

# %%
import matplotlib.pyplot as plt
import pandas as pd

from pipeline.training.run import METRICS, Run

if run is not None:
    trained = Run.open(run)
    figure, axes = plt.subplots(1, FOLDS, figsize=(3 * FOLDS, 3), sharey=True, squeeze=False)
    for number, axis in enumerate(axes.flat):
        history = pd.read_json(trained.fold(number) / METRICS, lines=True)
        axis.plot(history["epoch"], history["train_loss"], label="train")
        axis.plot(history["epoch"], history["valid_loss"], label="validation")
        axis.set(title=f"fold {number}", xlabel="epoch", ylabel="loss")
        axis.label_outer()
    axes.flat[0].legend()
    figure.tight_layout()
    plt.show()

# %% [markdown]
# ## Prediction and submission
#
# Each test image is seen in several views by every fold's network, and the probabilities are
# averaged. The file is checked against the competition's sample before it counts as written.

# %%
if run is not None:
    submission_file = finish_kernel(workspace, competition, cache, run, OUTPUT)
    display(pd.read_csv(submission_file).head())

# %% [markdown]
# ## What this session leaves

# %%
if run is None:
    print("The time was up before all folds were trained; nothing is lost. To go on, save this")
    print("version, add its output as an input (Add Input > Notebook Output), and run again.\n")
for file in sorted(path for path in OUTPUT.rglob("*") if path.is_file()):
    print(f"{file.stat().st_size:>12,}  {file.relative_to(OUTPUT)}")
