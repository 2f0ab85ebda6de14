"""Whether the registry contains the model in the working tree, its files, and the aliases that the history requires."""

from collections.abc import Iterator

from darkroom.commands.doctor.finding import Finding, examined, wrong
from darkroom.config import Config
from darkroom.errors import TrackingError, counted
from darkroom.promotion.aliases import reconcile_aliases
from darkroom.promotion.evaluated_model import load_evaluated_model
from darkroom.promotion.history import History, damage, state_of
from darkroom.promotion.lineage import other_data
from darkroom.promotion.registry import CHALLENGER, CHAMPION, Contender, contender, versions
from darkroom.promotion.working_tree import version_of, working_tree_digest
from darkroom.tracking.tracker import registry_client
from darkroom.tracking.tracking_uri import shown, store_exists, tracking_uri
from darkroom.utils.scratch import scratch_directory
from darkroom.workspace import Workspace

AREA = "registry"


def check(config: Config, workspace: Workspace) -> Iterator[Finding]:
    """Raises TrackingError or ModelError for an inconsistency, MlflowException if the store does not respond."""
    is_evaluated = workspace.weights.exists() and workspace.report("evaluate").exists()
    if not store_exists():
        if is_evaluated:
            yield wrong(AREA, f"{workspace.weights}: not registered in {shown(tracking_uri())}; `darkroom register`")
        return
    client, name = registry_client(workspace), config.registered_model
    yield from examined(AREA, _history(workspace, name))
    found = [contender(each) for each in versions(client, name)]
    for model in found:
        if model.aliases:
            yield from _files(workspace, model)
    if others := sum(not model.aliases for model in found):
        yield Finding(AREA, f"{counted(others, 'version')} without an alias: not checked")
    if not is_evaluated:
        return
    if line := other_data(config, workspace):
        yield wrong(AREA, line)
        return
    here = version_of(client, name, working_tree_digest(workspace))
    if here is None:
        yield wrong(AREA, f"{workspace.weights}: not registered as {name} in this store; `darkroom register`")
    else:
        aliases = f" ({', '.join(sorted(here.aliases))})" if here.aliases else ""
        yield Finding(AREA, f"{workspace.weights}: {name} version {here.version}{aliases}")


def _history(workspace: Workspace, name: str) -> Iterator[Finding]:
    client = registry_client(workspace)
    entries, model = History(client, name).read_and_model()
    lines = damage(entries)
    for line in lines:
        yield wrong(AREA, f"{name}-history: {line}; `darkroom history` shows what is left of it")
    state = state_of(entries)
    aliases = {alias: str(version) for alias, version in model.aliases.items()} if model else {}
    wanted = {"champion": state.champion, "previous": state.previous}
    known = {str(each.version) for each in versions(client, name)}
    deleted = {alias: version for alias, version in wanted.items() if version and version not in known}
    for alias, version in deleted.items():
        line = f"{name}: version {version}, {alias} by its history, was deleted"
        # A champion is needed; the one before it is only a way back.
        yield (
            wrong(AREA, f"{line}; `darkroom promote` makes another version champion")
            if (alias == CHAMPION)
            else Finding(AREA, line)
        )
    moved = {
        alias: version
        for alias, version in wanted.items()
        if alias not in deleted and aliases.get(alias, "") != version
    }
    for alias, version in moved.items() if state.number else ():
        yield wrong(
            AREA,
            f"{name}: {alias} is version {aliases.get(alias) or 'none'}, but its history says version "
            f"{version or 'none'}; `darkroom models` moves it",
            lambda: reconcile_aliases(client, name),
        )
    if state.number and not (moved or deleted or lines):
        yield Finding(
            AREA, f"{name}-history: {counted(len(entries), 'record')}, unchanged; the aliases are where it says"
        )


def _files(workspace: Workspace, model: Contender) -> Iterator[Finding]:
    who = f"{model} ({', '.join(model.aliases)})"
    try:
        with scratch_directory() as place:
            load_evaluated_model(registry_client(workspace), model, place)
    except TrackingError as problem:
        # What serves, or is to be promoted, is needed; one that was champion once is not.
        if {CHAMPION, CHALLENGER}.intersection(model.aliases):
            yield wrong(AREA, str(problem))
        else:
            yield Finding(AREA, f"{who}: `darkroom rollback` to it is refused, as its files have changed")
    else:
        yield Finding(AREA, f"{who}: its files have the registered digests")
