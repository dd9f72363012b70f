"""push: a variant's kernel from the package to a score, on the host's machine.

Every step is recorded in the push's folder, whose name follows from what is pushed and where. A
crash may fall between a step and its record: so a line with that name is in the pushed notebook,
and the host is asked for a version that holds it before anything is pushed.
"""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

from pipeline.artifacts import content_key
from pipeline.client.client import KaggleClient
from pipeline.client.credentials import known_secrets
from pipeline.client.ledger import now
from pipeline.competition import load_competition
from pipeline.data.submission import SubmissionForm, check_submission
from pipeline.errors import ConfigError, HostError, LimitError
from pipeline.notebooks import KernelFiles, prepare_push, variant_kernel
from pipeline.stages.console import say
from pipeline.stages.download import download
from pipeline.stages.hosts import open_client
from pipeline.stages.kernel_output import NoRunError, UnfinishedRunError, fetch_run
from pipeline.stages.kernel_session import failure_text, wait_for_kernel
from pipeline.stages.lock import only_command
from pipeline.stages.preprocess import preprocess, resolve, submission_form
from pipeline.stages.provenance import provenance
from pipeline.stages.push_checks import check_for_kernel, hours_to_train
from pipeline.stages.push_record import GENERATED, PushFolder, PushRecord
from pipeline.stages.settings import Settings
from pipeline.stages.starting_weights import starting_weights
from pipeline.stages.submit import Via, read_candidate, submit_run, uploaded_as
from pipeline.stages.weights import dataset_of, name_of

MOST_SESSIONS, MOST_IDLE_SESSIONS = 10, 2
_PUSHED_COPY = ".pushed"


def push(settings: Settings, *, via: Via = "file") -> None:
    """Push the settings' kernel, wait for it, and submit what it made; go on where it stopped.

    A kernel trains for the settings' budget at most. Where that ends its training early, its
    output is attached to the next session, which is pushed and goes on from there. The checkout
    is free for other commands while a kernel runs.

    Raises:
        ConfigError: a name is wrong, the kernel is too large, or a secret is in it.
        LimitError: the GPU quota, or the day's submissions, are used up.
        AccessError: the competition is not joined.
        SubmissionError: the kernel's file breaks a rule of the competition; nothing was submitted.
        HostError: the kernel failed, ran too long or left no submission, or the host failed.
    """
    check_for_kernel(settings)
    hours = hours_to_train(settings.budget)
    with only_command(settings.workspace):
        host = download(settings.workspace, settings.competition, settings.host)
        form = _form(settings)
    with open_client(host, settings.competition) as client:
        with only_command(settings.workspace):
            folder = _begin(client, settings)
        while not folder.record.fetched:
            with only_command(settings.workspace):
                _push(client, settings, folder, hours)
            _wait(client, settings, folder)
            with only_command(settings.workspace):
                _fetch(client, folder)
        with only_command(settings.workspace):
            _submit(client, settings, form, folder, via)


def _form(settings: Settings) -> SubmissionForm:
    """The form of the submission, from the competition's own files."""
    workspace, slug = settings.workspace, settings.competition
    folder = workspace.competition(slug)
    definition = load_competition(slug, folder).with_size(settings.size)
    cache = preprocess(workspace, definition)
    return submission_form(workspace, resolve(workspace, definition, cache), cache)


def _begin(client: KaggleClient, settings: Settings) -> PushFolder:
    """The folder of the push; a push that was begun is gone on with.

    FORCE starts anew, except where it did so before and that push has not finished.
    """
    weights = starting_weights(settings)
    definition = settings.workspace.competition(settings.competition)
    kernel = variant_kernel(settings, definition, weights.sha256 if weights else "")
    name = f"{client.kernels.owner()}/{kernel.slug}"
    folder = PushFolder(_run_folder(settings, kernel, name, client.endpoint.instance))
    if folder.started:
        record = folder.record
        if not settings.force or (record.forced and not record.finished):
            say("push", f"going on with {record.pushed or name} in {folder.path}")
            return folder
    kernel.write(folder.path / GENERATED)
    latest = client.kernels.latest_version(name)
    folder.begin(
        PushRecord(
            kernel=name,
            host=client.endpoint.name,
            instance=client.endpoint.instance,
            commit=provenance()["commit"],
            forced=settings.force,
            # The latest version may be this very kernel, its record lost.
            after=latest if settings.force else max(0, latest - 1),
        )
    )
    return folder


def _run_folder(settings: Settings, kernel: KernelFiles, name: str, instance: str) -> Path:
    """The same for the same kernel of the same account on the same host."""
    contents = {file: sha256(content).hexdigest() for file, content in kernel.files.items()}
    run = f"{settings.conv}-kernel-{content_key([contents, name, instance], 8)}"
    return settings.workspace.runs(settings.competition) / run


def _check_quota(client: KaggleClient, competition: str) -> None:
    """Look at what is left before anything is pushed.

    Raises:
        LimitError: no GPU time is left this week.
        AccessError: the competition is not joined.
    """
    quota, limits = client.kernels.quota(), client.limits(competition)
    say("push", f"{quota or 'the host counts no GPU hours'}; {limits}")
    if quota and quota.exhausted:
        raise LimitError(
            f"{client.endpoint.title}: the GPU quota is used up ({quota}); nothing was pushed, "
            f"rerun after {quota.refreshes_at or 'it is refreshed'}"
        )


def _check_dataset(client: KaggleClient, settings: Settings) -> None:
    """See that the kernel will find the weights that it starts from.

    Raises:
        ConfigError: the host does not have them.
    """
    weights = starting_weights(settings)
    if weights is None:
        return
    dataset, name = dataset_of(client, settings.model), name_of(weights.sha256)
    if client.datasets.files(dataset) != [name]:
        raise ConfigError(
            f"{client.endpoint.title}: {dataset} does not hold {name}; nothing was pushed, run "
            f"`make weights MODEL={settings.model} WEIGHTS={weights.path}` first"
        )
    say("push", f"the kernel starts from {dataset}")


def _push(client: KaggleClient, settings: Settings, folder: PushFolder, hours: float) -> None:
    record = folder.record
    if record.failure or record.pushed:
        return
    marker = folder.marker
    pushed = client.kernels.pushed_version(record.kernel, marker, after=record.after)
    if pushed:
        say("push", f"up to date: {pushed} on {client.endpoint.title} is this kernel")
    else:
        _check_quota(client, settings.competition)
        _check_dataset(client, settings)
        copy = _write_copy(client, folder, hours)
        pushed = client.kernels.push(copy, marker=marker, after=record.after)
        say("push", f"pushed {pushed} to {client.endpoint.title}")
    folder.update(version=pushed.version, pushed_at=now())


def _write_copy(client: KaggleClient, folder: PushFolder, hours: float) -> Path:
    """The copy that is pushed: owner, commit and the push's name in it, and no secret.

    Raises:
        ConfigError: a secret is in it.
    """
    record = folder.record
    copy = prepare_push(
        folder.path / GENERATED,
        client.kernels.owner(),
        record.commit,
        folder.path / _PUSHED_COPY,
        note=f"Push: `{folder.marker}`",
        settings={"HOURS": hours},
        known={*known_secrets(client.endpoint.environment), *known_secrets(os.environ)},
        attach={"kernel_sources": [record.attached] if record.attached else []},
    )
    (notebook,) = copy.glob("*.ipynb")
    say("push", f"{notebook.name}: {notebook.stat().st_size / 1000:.0f} kB, no secret found")
    return copy


def _wait(client: KaggleClient, settings: Settings, folder: PushFolder) -> None:
    """Wait for the kernel to end, and note it unless another command has gone on from there.

    Raises:
        HostError: it failed, now or in an earlier command.
    """
    record = folder.record
    if record.failure:
        raise HostError(f"nothing pushed: {record.failure}")
    if record.state or record.pushed is None:
        return
    status = wait_for_kernel(client, record.pushed, folder.path)
    with only_command(settings.workspace):
        if folder.record.pushed != record.pushed:
            return
        if status.state == "COMPLETE":
            folder.update(state=status.state)
            return
        reason = status.message or "the host gives no reason"
        raise _failed(client, folder, f"{record.pushed} ended as {status.state} ({reason})")


def _failed(client: KaggleClient, folder: PushFolder, what: str) -> HostError:
    failure = failure_text(folder.path, f"{client.endpoint.title}: {what}")
    folder.update(failure=failure)
    return HostError(failure)


def _fetch(client: KaggleClient, folder: PushFolder) -> None:
    record = folder.record
    if record.fetched or record.pushed is None or record.state is None:
        return
    try:
        fetch_run(client, record.pushed, folder.path, record.commit)
    except UnfinishedRunError as unfinished:
        _go_on(client, folder, unfinished)
        return
    except NoRunError as err:
        raise _failed(client, folder, f"{record.pushed}: {err}") from None
    folder.update(fetched=True)
    say("push", f"done: {folder.path} holds the run of {record.pushed}")


def _go_on(client: KaggleClient, folder: PushFolder, unfinished: UnfinishedRunError) -> None:
    """Make the next session the one to push; it goes on from the output of the last.

    Raises:
        HostError: too many sessions did not finish, or no epoch was finished in the last two.
    """
    record = folder.record
    if record.session == MOST_SESSIONS:
        what = f"{record.pushed}: {unfinished}, as {MOST_SESSIONS - 1} sessions before"
        raise _failed(client, folder, what)
    idle = 0 if unfinished.epochs > record.epochs else record.idle_sessions + 1
    folder.update(
        session=record.session + 1,
        attached=str(record.pushed),
        epochs=unfinished.epochs,
        idle_sessions=idle % MOST_IDLE_SESSIONS,
        after=record.version,
        version=None,
        pushed_at=None,
        state=None,
    )
    if idle == MOST_IDLE_SESSIONS:
        raise HostError(
            f"{client.endpoint.title}: {record.pushed} is the second session in a row that "
            "finished no epoch; rerun with a larger BUDGET to go on from it"
        )
    say("push", f"{unfinished}; session {record.session + 1} goes on from {record.pushed}")


def _submit(
    client: KaggleClient, settings: Settings, form: SubmissionForm, folder: PushFolder, via: Via
) -> None:
    """Submit once: a forced push also where the same file was submitted before."""
    record, workspace = folder.record, settings.workspace
    check_submission(folder.path / "submission.csv", form)
    candidate = read_candidate(settings.competition, folder.path, form)
    earlier = uploaded_as(workspace, candidate, record.instance)
    force = record.forced and (earlier is None or earlier.kernel != str(record.pushed))
    try:
        submit_run(client, workspace, form, candidate, force=force, via=via)
    finally:
        upload = uploaded_as(workspace, candidate, record.instance)
        if upload and (not force or upload.kernel == str(record.pushed)):
            folder.update(submission=upload.ref)
