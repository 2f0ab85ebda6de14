"""`darkroom backbones` lists torchvision's and timm's names, and what is known of each."""

import re
import sys

import pytest
from huggingface_hub import constants


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    """The caches of torch and of Hugging Face, with nothing in them."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def test_without_a_pattern_torchvisions_are_listed_and_timms_counted(darkroom):
    code, output, _ = darkroom("backbones")

    assert code == 0
    assert re.search(r"^ *resnet18 +11\.7 +224x224 *$", output, re.MULTILINE)
    assert re.search(r"^ *vit_h_14 +633\.5 +518x518 *$", output, re.MULTILINE)
    assert re.search(r"^timm has 1,\d{3} more: `darkroom backbones 'timm/convnext\*'` lists", output, re.MULTILINE)
    assert "googlenet" not in output


@pytest.mark.parametrize("pattern", ["tf_efficientnet_lite0", "timm/tf*lite0.*"])
def test_a_part_of_the_name_or_a_pattern_finds_timms(darkroom, pattern):
    code, output, _ = darkroom("backbones", pattern)

    assert code == 0
    # As published for ImageNet's 1000 classes.
    assert re.findall(r"^ *(\S+) +(\d+\.\d) +(\d+x\d+)", output, re.MULTILINE) == [
        ("timm/tf_efficientnet_lite0.in1k", "4.7", "224x224")
    ]


def test_of_many_the_sizes_are_listed_and_no_parameters(darkroom):
    code, output, _ = darkroom("backbones", "timm/convnext*")

    assert code == 0
    assert re.search(r"^ *timm/convnext_tiny\.fb_in1k +224x224 *$", output, re.MULTILINE)
    assert re.search(r"^\d+ names; parameters are counted for 20 or fewer of timm's$", output, re.MULTILINE)


def test_weights_on_this_machine_are_marked(darkroom, caches):
    kept = caches / "torch" / "hub" / "checkpoints"
    kept.mkdir(parents=True)
    (kept / "resnet18-f37072fd.pth").touch()
    repository = caches / "hub" / "models--timm--resnet18.a1_in1k"
    (repository / "snapshots" / "1").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("1")
    (repository / "snapshots" / "1" / "model.safetensors").touch()

    _, output, _ = darkroom("backbones", "resnet18*")
    _, of_timm, _ = darkroom("backbones", "timm/resnet18.*")

    marked = re.findall(r"^ *(\S+) .*on this machine", output + of_timm, re.MULTILINE)
    assert set(marked) == {"resnet18", "timm/resnet18.a1_in1k"}


def test_without_timm_its_installation_is_told(darkroom, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)

    code, output, _ = darkroom("backbones", "resnet18")

    assert code == 0
    assert "timm/" not in output
    assert "timm is not installed; `pip install --editable '.[timm]'` adds" in output


def test_a_pattern_without_a_match_is_refused(darkroom):
    assert darkroom("backbones", "resnet19") == (2, "", "error: no backbone matches 'resnet19'\n")
