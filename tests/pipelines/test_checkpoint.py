import torch
from torch import nn

from pipelines.checkpoint import TrainState, load_checkpoint, save_checkpoint


def network_and_optimizer(seed):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    return network, torch.optim.AdamW(network.parameters(), lr=0.1)


def step(network, optimizer, seed):
    torch.manual_seed(seed)
    optimizer.zero_grad()
    network(torch.rand(2, 3, 8, 8)).square().mean().backward()
    optimizer.step()


def test_a_run_that_goes_on_from_a_checkpoint_equals_one_that_never_stopped(tmp_path):
    whole, optimizer = network_and_optimizer(0)
    for i in range(4):
        step(whole, optimizer, i)
        if i == 1:
            save_checkpoint(tmp_path, whole, optimizer, TrainState(2, 2, {"miou": 0.5}))

    resumed, optimizer = network_and_optimizer(1)
    state = load_checkpoint(tmp_path, resumed, optimizer)
    for i in range(state.steps_done, 4):
        step(resumed, optimizer, i)
    assert state.metrics == {"miou": 0.5}
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_nothing_in_a_checkpoint_is_a_pickle(tmp_path):
    save_checkpoint(tmp_path, *network_and_optimizer(0), TrainState())
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".safetensors", ".safetensors"]
