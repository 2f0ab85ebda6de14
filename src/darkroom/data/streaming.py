"""Open the store of a dataset that is larger than the disk."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from darkroom.data.cache import DatasetCard
from darkroom.data.shard_store import ShardStore
from darkroom.data.shards import shard_bytes
from darkroom.errors import ConfigError
from darkroom.utils.units import GIGABYTE
from darkroom.workspace import Workspace


@contextmanager
def open_store(
    local_cache_gb: float | None, workspace: Workspace, card: DatasetCard, splits: Sequence[str]
) -> Iterator[ShardStore | None]:
    """The store of a dataset of which shards of ``splits`` are not on this machine.

    None if all are here, or without ``local_cache_gb``, the gigabytes that the shards may take. Raises ConfigError if
    these are too few.
    """
    directory = workspace.processed(card.name)
    missing = {
        split: [shard for shard in card.shards[split] if not (directory / shard.file).exists()] for split in splits
    }
    if local_cache_gb is None or not any(missing.values()):
        yield None
        return
    sizes = {split: [shard_bytes(shard, card.shape) for shard in shards] for split, shards in missing.items()}
    # Of train one shard is read while the next arrives; all others are kept.
    least = sum(2 * max(each, default=0) if split == "train" else sum(each) for split, each in sizes.items())
    if least > local_cache_gb * GIGABYTE:
        needs = " and ".join("two files of train" if split == "train" else f"all of {split}" for split in splits)
        raise ConfigError(
            f"data.local_cache_gb: {local_cache_gb:g} are too few: {needs} need {least / GIGABYTE:.3g}; raise it, or "
            "lower preprocess.shard_mb"
        )
    place = workspace.streamed / card.fingerprint[:16]
    for other in workspace.streamed.glob("*"):
        if other != place:
            shutil.rmtree(other, ignore_errors=True)
    known = [shard for split in splits for shard in card.shards[split]]
    store = ShardStore(workspace.root, directory, place, card.shape, int(local_cache_gb * GIGABYTE), known)
    try:
        yield store
    finally:
        store.close()
