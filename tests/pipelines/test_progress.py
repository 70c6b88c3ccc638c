"""The lines that a person reads while training goes on."""

from pipelines.progress import Progress

PHASES = {"data": 0.1, "to_device": 0.0, "forward": 0.3, "backward": 0.5, "all_reduce": 0.0, "optimizer": 0.1}
METRICS = {"train_loss": 0.5, "samples_per_s": 31.25, **{f"step_share/{phase}": share for phase, share in PHASES.items()}}


def test_progress_says_where_training_is_and_what_it_reached(capsys):
    progress = Progress(4, silent=False)
    progress.begin_run(10, 2, 5)
    progress.epoch_done(METRICS)
    progress.validated({"miou": 0.25, "iou/can": 0.1})
    said = capsys.readouterr().out
    assert "going on after epoch 2 of 4 and step 5 of 10" in said
    assert "epoch 3/4  loss 0.500  31.2 images/s" in said
    assert "left" in said
    assert "validation  miou 0.2500" in said


def test_the_bottleneck_is_named_once_with_its_remedy(capsys):
    progress = Progress(4, silent=False)
    progress.begin_run(10, 0, 0)
    for share in (0.31, 0.32, 0.01):
        progress.epoch_done(METRICS | {"step_share/data": share, "step_share/optimizer": 0.0})
    said = capsys.readouterr().out
    assert "waiting for data takes 31% of a step; raise --loader-processes" in said
    assert "32%" not in said
    assert "the network takes 80% of a step" in said


def test_ranks_other_than_the_first_say_nothing(capsys):
    progress = Progress(4, silent=True)
    progress.begin_run(10, 2, 0)
    progress.epoch_done(METRICS)
    assert capsys.readouterr().out == ""
