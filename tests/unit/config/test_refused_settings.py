"""A wrong setting is refused in a line with its key, the rule and the value."""

from typing import Any

import pytest

from darkroom.config import parse
from darkroom.errors import ConfigError

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown section": ({"trian": {}}, r"^trian: unknown key; did you mean 'train' or 'tracking'\?"),
    "section far from any": (
        {"zzz": {}},
        r"^zzz: unknown key; choose from: recipe, dataset, preprocess, data, audit, model, augment, ",
    ),
    "unknown key": ({"train": {"learning_rat": 1}}, r"^train\.learning_rat: unknown key; .*lr"),
    "misspelt key": ({"train": {"epoch": 1}}, r"^train\.epoch: unknown key; did you mean 'epochs'"),
    "number as key": ({"train": {3: 4}}, r"^train\.3: unknown key; choose from: start_from, "),
    "section without keys": ({"train": None}, r"^train: expected a section with keys below it, got None"),
    "value for a section": ({"train": 3}, r"^train: expected a section with keys below it, got 3"),
    "text for a number": ({"train": {"lr": "0.1"}}, r"^train\.lr: expected number, got '0\.1'"),
    "truth for a number": ({"train": {"epochs": True}}, r"^train\.epochs: expected integer, got True"),
    "fraction for a whole number": ({"train": {"epochs": 1.5}}, r"^train\.epochs: expected integer, got 1\.5"),
    "number for a word": (
        {"augment": {"flip": 1}},
        r"^augment\.flip: expected 'none', 'random' or 'alternating', got 1",
    ),
    "number for a name": ({"dataset": {"path": 3}}, r"^dataset\.path: expected string, got 3"),
    "empty name": ({"dataset": {"path": ""}}, r"^dataset\.path: must not be empty"),
    "text for a list": ({"model": {"filters": "16"}}, r"^model\.filters: expected a list, got '16'"),
    "text for a list of names": ({"evaluate": {"slices": "ink"}}, r"^evaluate\.slices: expected a list, got 'ink'"),
    "empty name in a list": ({"evaluate": {"slices": ["ink", ""]}}, r"^evaluate\.slices\.1: must not be empty"),
    "number for a name in a list": ({"evaluate": {"slices": [3]}}, r"^evaluate\.slices\.0: expected string, got 3"),
    "slices that may lose more than all": (
        {"gate": {"max_slice_drop": 1.5}},
        r"^gate\.max_slice_drop: expected less than or equal to 1, got 1\.5",
    ),
    "unknown corruptions": (
        {"evaluate": {"corruptions": "weather"}},
        r"^evaluate\.corruptions: unknown value 'weather'; choose from: none, common$",
    ),
    "robust accuracy in percent": (
        {"gate": {"min_robust_accuracy": 70}},
        r"^gate\.min_robust_accuracy: expected less than or equal to 1, got 70",
    ),
    "empty list": ({"model": {"filters": []}}, r"^model\.filters: expected at least 1 value, got \[\]"),
    "long list": ({"model": {"hidden": [1] * 9}}, r"^model\.hidden: expected at most 8 values, got \[1, 1"),
    "list with a zero": ({"model": {"filters": [8, 0]}}, r"^model\.filters\.1: expected greater than 0, got 0"),
    "name not among the choices": (
        {"dataset": {"name": "minst"}},
        r"^dataset\.name: unknown value 'minst'; did you mean 'mnist' or 'kmnist'\? \(choose from: digits, mnist, ",
    ),
    "name like no choice": (
        {"model": {"name": "vgg"}},
        r"^model\.name: unknown value 'vgg'; choose from: mlp, simple-cnn, resnet, wide-resnet, fast-cnn, pretrained$",
    ),
    "number for a choice": (
        {"train": {"optimizer": 1}},
        r"^train\.optimizer: expected 'adam', 'adamw', 'sgd' or 'muon', got 1",
    ),
    "number not among the choices": ({"preprocess": {"channels": 2}}, r"^preprocess\.channels: expected 1 or 3, got 2"),
    "text for a number to choose": ({"preprocess": {"channels": "3"}}, r"^preprocess\.channels: .*1 or 3, got '3'$"),
    "zero where positive": ({"train": {"lr": 0}}, r"^train\.lr: expected greater than 0, got 0"),
    "below the range": ({"train": {"epochs": 0}}, r"^train\.epochs: expected greater than or equal to 1, got 0"),
    "above the range": (
        {"augment": {"translate": 65}},
        r"^augment\.translate: expected less than or equal to 64, got 65",
    ),
    "network of a thousand layers": (
        {"model": {"name": "wide-resnet", "depth": 1000}},
        r"^model\.depth: expected less than or equal to 200, got 1000",
    ),
    "at an open end": ({"model": {"dropout": 1.0}}, r"^model\.dropout: expected less than 1, got 1\.0"),
    "seed too large": ({"train": {"seed": 2**31}}, r"^train\.seed: expected less than 2147483648, got 2147483648"),
    "infinity": ({"train": {"lr": float("inf")}}, r"^train\.lr: expected a finite number, got inf"),
    "not a number": ({"train": {"lr": float("nan")}}, r"^train\.lr: expected a finite number, got nan"),
    "one side only": ({"preprocess": {"image_size": [5]}}, r"^preprocess\.image_size\.1: required, but not given"),
    "three sides": ({"preprocess": {"image_size": [5, 5, 5]}}, r"^preprocess\.image_size: expected at most 2 values"),
    "side of zero": (
        {"preprocess": {"image_size": [0, 5]}},
        r"^preprocess\.image_size: each side must be 1 to 4096 pixels, got \[0, 5\]",
    ),
    "side too long": (
        {"preprocess": {"image_size": [5, 4097]}},
        r"^preprocess\.image_size: each side .*got \[5, 4097\]",
    ),
    "all epochs for warm-up": (
        {"train": {"epochs": 5, "warmup_epochs": 5}},
        r"^train\.warmup_epochs: must be below epochs \(5\), got 5",
    ),
    "warm-up twice": (
        {"train": {"schedule": "one-cycle", "warmup_epochs": 1}},
        r"^train\.warmup_epochs: one-cycle warms up by itself; set it to 0 or choose cosine",
    ),
    "blanking twice": (
        {"augment": {"cutout": 4, "erasing": 0.5}},
        r"^augment\.cutout and erasing contradict each other: .*; set one to 0$",
    ),
    "padding without a shift": (
        {"augment": {"padding": "edge"}},
        r"^augment\.padding: edge fills what translate brings in, and that is 0; set translate$",
    ),
    "crop of nothing": (
        {"augment": {"crop_scale": [0, 1]}},
        r"^augment\.crop_scale\.0: expected greater than 0, got 0$",
    ),
    "crop of more than all": ({"augment": {"crop_scale": [0.5, 2]}}, r"^augment\.crop_scale\.1: .* equal to 1, got 2$"),
    "number for an interval": ({"augment": {"crop_scale": 0.5}}, r"^augment\.crop_scale: expected a list, got 0\.5$"),
    "interval upside down": (
        {"augment": {"crop_scale": [0.5, 0.25]}},
        r"^augment\.crop_scale: expected \[low, high\] with low not above high, got \[0\.5, 0\.25\]$",
    ),
    "ratio upside down": (
        {"augment": {"crop_scale": [0.5, 1], "crop_ratio": [2, 1]}},
        r"^augment\.crop_ratio: expected \[low, high\] with low not above high, got \[2\.0, 1\.0\]$",
    ),
    "shape without a crop": (
        {"augment": {"crop_ratio": [1, 2]}},
        r"^augment\.crop_ratio: \[1\.0, 2\.0\] is the shape of what crop_scale cuts out, .* empty; set crop_scale$",
    ),
    "more than half a turn of the hue": (
        {"augment": {"hue": 0.6}},
        r"^augment\.hue: expected less than or equal to 0\.5, got 0\.6$",
    ),
    "balance in the loss and in the sampler": (
        {"train": {"class_weights": "balanced", "sampler": "balanced"}},
        r"^train\.class_weights and sampler both balance the classes; keep one of them$",
    ),
    "alternation of images drawn with replacement": (
        {"augment": {"flip": "alternating"}, "train": {"sampler": "balanced"}},
        r"^augment\.flip: alternating needs each image once an epoch, but train\.sampler is balanced; choose random$",
    ),
    "name that the registry refuses": (
        {"tracking": {"registered_model": "team/digits"}},
        r"^tracking\.registered_model: MLflow takes no '/', ':', '@' or '\?' in it, .*; got 'team/digits'$",
    ),
    "name with both kinds of quotes": (
        {"tracking": {"registered_model": "a'b\"c"}},
        r"^tracking\.registered_model: MLflow takes .* not both kinds of quotes",
    ),
    "name that addresses cut off": (
        {"tracking": {"registered_model": "what?"}},
        r"^tracking\.registered_model: MLflow takes .*got 'what\?'$",
    ),
    "name that leads up": (
        {"tracking": {"registered_model": ".."}},
        r"^tracking\.registered_model: MLflow takes .*no '\.\.' at its beginning; got '\.\.'$",
    ),
    "name of a space": (
        {"tracking": {"registered_model": " "}},
        r"^tracking\.registered_model: expected a name of visible characters, got ' '$",
    ),
    "name with a line break": (
        {"tracking": {"experiment": "a\nb"}},
        r"^tracking\.experiment: expected a name of visible characters, got 'a\\nb'$",
    ),
    "name longer than the registry's column": (
        {"tracking": {"registered_model": "a" * 241}},
        r"^tracking\.registered_model: expected at most 240 characters, got 'a{199}…$",
    ),
    "experiment longer than its column": (
        {"tracking": {"experiment": "a" * 257}},
        r"^tracking\.experiment: expected at most 256 characters, got 'a",
    ),
    "truth for a number to choose": ({"preprocess": {"channels": True}}, r"^preprocess\.channels: .*1 or 3, got True$"),
    "fraction for a number to choose": ({"preprocess": {"channels": 1.0}}, r"^preprocess\.channels: .* 3, got 1\.0$"),
    "a thousand million filters": (
        {"model": {"filters": [10**9]}},
        r"^model\.filters\.0: expected less than or equal to 65536, got 1000000000$",
    ),
    "more units than Python numbers hold": (
        {"model": {"hidden": 10**30}},
        r"^model\.hidden\.0: expected less than or equal to 65536, got 10{30}$",
    ),
    "very long value": (
        {"train": {"optimizer": "a" * 5000}},
        r"^train\.optimizer: unknown value 'a{199}…; choose from: ",
    ),
    "very long key": ({"train": {"a" * 5000: 1}}, r"^train\.a{200}: unknown key; "),
}


@pytest.mark.parametrize(("sections", "message"), REFUSED.values(), ids=REFUSED)
def test_a_wrong_setting_is_refused_with_its_key_rule_and_value(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(sections, where="")
