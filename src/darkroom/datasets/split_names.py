"""Names of folders that mean a split: `train`, `Testing`, `seg_train`, `test-set`, `val2017`."""

import re
from collections import defaultdict
from collections.abc import Iterable

# Pictures to predict have no classes: they are left out.
PRED = "pred"
WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval", "evaluation"), "val"),
    **dict.fromkeys(("test", "tests", "testing"), "test"),
    **dict.fromkeys(("pred", "predict", "prediction", "predictions", "unlabeled", "unlabelled"), PRED),
}
# What a split's name has besides, and says nothing: digits too.
FILLER = r"(data)?sets?|data|images?|imgs?|pics?|pictures?|photos?|split|folder|dir"
# Words that also name classes: a vehicle, a kind of shoe, the opposite of invalid.
ALSO_CLASSES = frozenset({"train", "training", "valid"})
SAYS_NOTHING = re.compile(rf"{FILLER}|\d+")
TOKEN = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_A-Za-z]+")
JOINED = re.compile(rf"({'|'.join(WORDS)})(?:{FILLER})")


def plain_split(name: str) -> str | None:
    """The split of a folder whose whole name is a split's, in any case; None for others."""
    return WORDS.get(name.lower())


def find_splits(names: Iterable[str]) -> dict[str, str]:
    """{name: split} of the sibling folders whose names mean splits.

    A name with other words around a split's name, such as `seg_train`, means a split only if a sibling has the same
    words around another split's name, such as `seg_test`. So `test_tube` and `training_shoes` are not splits.
    """
    found: dict[str, str] = {}
    alike: defaultdict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
    for name in names:
        words = _words(name)
        splits = [WORDS[word] for word in words if word in WORDS]
        if len(splits) != 1:
            continue
        besides = tuple(word for word in words if word not in WORDS and not SAYS_NOTHING.fullmatch(word))
        if besides:
            alike[besides][name] = splits[0]
        else:
            found[name] = splits[0]
    for members in alike.values():
        if len(set(members.values())) > 1:
            found |= members
    return found


def speaks_of_split(name: str) -> bool:
    """Whether one of the words in a name is a split's, as in `train_masks`."""
    return any(word in WORDS for word in _words(name))


def _words(name: str) -> list[str]:
    words = []
    for token in TOKEN.findall(name):
        joined = JOINED.fullmatch(token.lower())
        words.append(joined[1] if joined else token.lower())
    return words
