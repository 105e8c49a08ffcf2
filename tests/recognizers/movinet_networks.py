"""Small MoViNets with weights that leave no part of the network silent."""

import importlib.util
from dataclasses import replace

import torch

from recognizers.movinet import BlockConfig, MoViNet, MoViNetConfig, architecture

NUM_CLASSES = 5


def tiny_config(*, stream=True, **changes):
    """Two stages with every kind of block: strided, widened, temporal 1, 3 and 5, plain skip."""
    released = architecture("a0", stream=stream)
    stages = (
        (
            BlockConfig(in_channels=8, expand_channels=16, out_channels=8, kernel=(1, 5), stride=2),
            BlockConfig(in_channels=8, expand_channels=24, out_channels=8, kernel=(3, 3)),
        ),
        (
            BlockConfig(
                in_channels=8, expand_channels=24, out_channels=16, kernel=(5, 3), stride=2
            ),
            BlockConfig(in_channels=16, expand_channels=32, out_channels=24, kernel=(3, 3)),
        ),
    )
    small = {"num_classes": NUM_CLASSES, "head_channels": 32, "hidden_channels": 24}
    return replace(released, stages=stages, **{**small, **changes})


def network(config: MoViNetConfig, seed=0):
    """A MoViNet in eval mode whose branches, norms and encodings all matter."""
    torch.manual_seed(seed)
    model = MoViNet(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 0:
                parameter.fill_(0.7)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm3d):
                module.weight.normal_(1.0, 0.1)
                module.bias.normal_(0.0, 0.1)
                module.running_mean.normal_(0.0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
        model.classifier.weight.normal_(0.0, 0.3)
    return model.eval()


def video(batch_size, num_frames, height=19, width=26, seed=1):
    """Random frames (B, T, 3, H, W) in [0, 1], not square, sides odd and even."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch_size, num_frames, 3, height, width, generator=generator)


def run(model, frames, chunks, state=None):
    """Logits after every frame, and the last state, of frames cut in chunks of these lengths."""
    if state is None:
        state = model.init_state(len(frames), *frames.shape[-2:], dtype=model.dtype)
    logits = []
    for chunk in frames.split(chunks, dim=1):
        out, state = model.step(chunk, state)
        logits.append(out)
    return torch.cat(logits, dim=1), state


def seeded_weights(folder, shapes):
    """The golden files' weights: their generator lies beside them."""
    spec = importlib.util.spec_from_file_location("golden_seeded", folder / "seeded.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.seeded_state_dict(shapes)
