from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from models.engines import EngineOptions, EngineRefused
from models.engines.bfloat16 import Bfloat16Engine, load_bfloat16
from models.engines.compiled import CompiledEngine, compile_network
from models.engines.eager import EagerEngine
from models.engines.onnx import OnnxEngine, export_graph
from models.engines.parity import compare, drawn_images
from models.label_set import LabelSet
from models.spec import Architecture, SegmenterSpec
from models.unet import NormalizedNetwork

SIZE = (32, 48)
SPEC = SegmenterSpec(Architecture(), LabelSet.from_names(["background", "can", "box"]), SIZE)


@pytest.fixture(scope="module")
def network() -> NormalizedNetwork:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1)]
    return NormalizedNetwork(nn.Sequential(*layers)).eval()


@pytest.fixture(scope="module")
def graph(network, tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    export_graph(network, SIZE, path)
    return path.read_bytes()


@pytest.fixture(scope="module", params=["torch", "torch_bf16", pytest.param("torch_compile", marks=pytest.mark.slow), "onnx"])
def engine(request, network):
    if request.param == "torch":
        return EagerEngine(network)
    if request.param == "torch_bf16":
        return Bfloat16Engine(network)
    if request.param == "torch_compile":
        return compile_network(network, SPEC, "cpu", EngineOptions("torch_compile"))
    return OnnxEngine(request.getfixturevalue("graph"))


def test_gives_the_networks_probabilities(engine, network):
    pixels = drawn_images(SIZE, 3)
    given = engine.compute(pixels)
    assert given.dtype == torch.float16
    assert given.shape == (3, 3, *SIZE)
    with torch.inference_mode():
        expected = network(torch.from_numpy(pixels).permute(0, 3, 1, 2)).softmax(dim=1)
    tolerance = 1e-2 if isinstance(engine, Bfloat16Engine) else 1e-3  # bfloat16 has 8 bits
    torch.testing.assert_close(given.float(), expected, atol=tolerance, rtol=0)


def test_an_image_gives_the_same_mask_alone_and_at_any_place_of_any_batch(engine):
    images = drawn_images(SIZE, 8)
    alone = [engine.compute(images[i : i + 1])[0].argmax(0) for i in range(8)]
    for size in (2, 3, 8):
        for shift in range(size):
            batch = np.roll(images[:size], shift, axis=0)
            masks = engine.compute(batch).argmax(1)
            for i in range(size):
                assert (masks[(i + shift) % size] == alone[i]).float().mean() >= 0.9999


def test_onnx_gives_an_image_the_same_bits_in_any_batch(graph):
    engine, images = OnnxEngine(graph), drawn_images(SIZE, 8)
    together = engine.compute(images)
    for i in range(8):
        assert torch.equal(engine.compute(images[i : i + 1])[0], together[i])


def test_what_it_returned_stays_when_it_computes_again(engine):
    first = engine.compute(drawn_images(SIZE, 2))
    copy = first.clone()
    engine.compute(np.zeros((2, *SIZE, 3), np.uint8))
    assert torch.equal(first, copy)


@pytest.mark.slow
def test_nothing_compiles_after_the_first_two_batch_sizes(network):
    engine = CompiledEngine(network)
    for size in (1, 2):
        engine.compute(drawn_images(SIZE, size))
    with torch.compiler.set_stance("fail_on_recompile"), ThreadPoolExecutor(1) as thread:  # requests come on another thread
        for size in (1, 2, 3, 8):
            assert thread.submit(engine.compute, drawn_images(SIZE, size)).result().shape[0] == size


@pytest.mark.parametrize("features", [{}, {"avx512_bf16": False}])
def test_bfloat16_is_refused_where_the_processor_would_only_emulate_it(network, features, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
    with pytest.raises(EngineRefused, match="needs hardware that computes bfloat16, and this cpu does not; serve with engine=torch"):
        load_bfloat16(network, SPEC, "cpu", EngineOptions("torch_bf16"))


def test_bfloat16_is_refused_below_the_floor(network, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    with pytest.raises(EngineRefused, match=r"engine torch_bf16 agrees with torch on 9\d\.\d+% of the pixels of 4 drawn images"):
        load_bfloat16(network, SPEC, "cpu", EngineOptions("torch_bf16", min_parity=1.0))
    assert load_bfloat16(network, SPEC, "cpu", EngineOptions("torch_bf16", min_parity=0.9)).compute(drawn_images(SIZE, 1)).shape[0] == 1


def test_compiling_without_a_compiler_is_refused(network, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(EngineRefused, match=r"'no-such-compiler' is not here; install g\+\+, set CXX, or serve with engine=torch"):
        compile_network(network, SPEC, "cpu", EngineOptions("torch_compile"))


def test_bytes_that_are_no_graph_are_refused():
    with pytest.raises(EngineRefused, match="cannot load the graph"):
        OnnxEngine(b"no graph")


class Stated:
    """Gives the class that the red channel states, with certainty."""

    def compute(self, pixels: np.ndarray) -> torch.Tensor:
        return nn.functional.one_hot(torch.from_numpy(pixels[..., 0]).long(), 3).permute(0, 3, 1, 2).half()


class Shifted(Stated):
    """The same, but for the first column, which it calls class 1."""

    def compute(self, pixels: np.ndarray) -> torch.Tensor:
        pixels = pixels.copy()
        pixels[:, :, 0] = 1
        return super().compute(pixels)


def test_parity_counts_pixels_of_all_images():
    images = np.zeros((2, 2, 4, 3), np.uint8)
    images[:, :, 3] = 1  # each row 0 0 0 1; the other engine says 1 0 0 1
    parity = compare(Stated(), Shifted(), images, num_classes=3)
    assert parity.num_images == 2
    assert parity.pixel_agreement == 0.75
    assert parity.class_iou == [pytest.approx(2 / 3), 0.5, None]
    assert parity.largest_difference == 1


def test_drawn_images_are_always_the_same_and_no_two_alike():
    first, again = drawn_images(SIZE, 3), drawn_images(SIZE, 3)
    assert (first == again).all()
    assert (first[0] != first[1]).any()
