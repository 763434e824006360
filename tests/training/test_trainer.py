import errno
import json
import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from geomatch.errors import InputError, TrainingError
from geomatch.io import atomic
from geomatch.options import Precision
from geomatch.training.distributed import ProcessGroup
from geomatch.training.trainer import Optimisation, StepLoss, TrainingFiles, Validation, learning_rate_at, train


class Regression:
    """Fit a fixed linear map from data that depend on the step alone; optionally fail or stop at a step."""

    def __init__(self, on_step: Callable[[int], None] = lambda _: None, spoil_at: int = -1) -> None:
        torch.manual_seed(0)
        self.network = torch.nn.ModuleDict({"trunk": torch.nn.Conv2d(3, 4, 1), "head": torch.nn.Conv2d(4, 2, 1)})
        self.on_step, self.spoil_at = on_step, spoil_at

    def loss(self, step: int, autocast: AbstractContextManager[object]) -> StepLoss:
        self.on_step(step)
        x = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(step))
        with autocast:
            y = self.network["head"](self.network["trunk"](x))
        loss = (y - x[:, :2]).square().mean()
        return StepLoss(loss * (float("nan") if step == self.spoil_at else 1), {}, images=4)


def run(
    task: Regression,
    folder: Path,
    *,
    resume: bool = False,
    steps: int = 12,
    recipe: dict[str, object] | None = None,
    batches: int = 1,
    ema_decay: float = 0.0,
    wise_ft_alpha: float = 1.0,
    checkpoint_minutes: float = 5.0,
    validation: Validation | None = None,
    processes: ProcessGroup | None = None,
) -> list[float]:
    log = folder / "log.jsonl"
    train(
        task,
        Optimisation(
            steps=steps,
            batches_per_step=batches,
            ema_decay=ema_decay,
            wise_ft_alpha=wise_ft_alpha,
            warmup_steps=3,
            trunk_learning_rate=1e-2,
            head_learning_rate=1e-2,
            precision=Precision.float32,
            checkpoint_minutes=checkpoint_minutes,
        ),
        TrainingFiles(folder / "checkpoint", log),
        validation=validation,
        recipe=recipe or {"seed": 0},
        resume=resume,
        on_progress=lambda _: None,
        processes=processes,
    )
    lines = map(json.loads, log.read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]


def stopped_at(step: int) -> Regression:
    def interrupt(batch: int) -> None:
        if batch == step:
            raise KeyboardInterrupt

    return Regression(interrupt)


def test_train_interrupted_and_resumed(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole = Regression()
    losses = run(whole, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(stopped_at(7), tmp_path / "parts")
    resumed = Regression()
    assert run(resumed, tmp_path / "parts", resume=True) == losses
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, resumed.network.state_dict()[name]), name


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_train_signal_waits_for_end_of_step(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "whole").mkdir()
    whole = Regression()
    losses = run(whole, tmp_path / "whole")
    step, taken = torch.optim.AdamW.step, iter(range(12))

    def disturbed(optimiser: torch.optim.AdamW) -> None:
        if next(taken) == 6:
            os.kill(os.getpid(), number)
        step(optimiser)

    monkeypatch.setattr(torch.optim.AdamW, "step", disturbed)
    with pytest.raises(KeyboardInterrupt):
        run(Regression(), tmp_path)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 7
    monkeypatch.undo()
    resumed = Regression()
    assert run(resumed, tmp_path, resume=True) == losses
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(resumed)[name]), name
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_train_interrupted_validation_is_repeated(tmp_path: Path) -> None:
    scores = iter([0.3, KeyboardInterrupt, 0.5, 0.4])
    kept: list[float] = []

    def score() -> float:
        found = next(scores)
        if found is KeyboardInterrupt:
            raise KeyboardInterrupt
        kept.append(found)
        return found

    validation = Validation(4, score, lambda: None)
    with pytest.raises(KeyboardInterrupt):
        run(Regression(), tmp_path, validation=validation)
    losses = run(Regression(), tmp_path, validation=validation, resume=True)
    (tmp_path / "whole").mkdir()
    assert losses == run(Regression(), tmp_path / "whole")
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(line["step"], line["validation"]) for line in lines if "validation" in line] == [
        (4, 0.3),
        (8, 0.5),
        (12, 0.4),
    ]


def test_train_log_ahead_of_checkpoint(tmp_path: Path) -> None:
    """As after a power cut: the log is ahead of the checkpoint."""
    whole = run(Regression(), tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(stopped_at(5), tmp_path)
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"step": 5, "loss": 99}\n{"step": 6, "lo')
    assert run(Regression(), tmp_path, resume=True) == whole


def test_train_lowers_the_loss(tmp_path: Path) -> None:
    losses = run(Regression(), tmp_path, steps=150)
    assert sum(losses[-10:]) < 0.2 * sum(losses[:10])


class SpoiltGradient(Regression):
    """The loss of step 5 is fine, its gradient is not: the square root's slope at zero is infinite."""

    def loss(self, step: int, autocast: AbstractContextManager[object]) -> StepLoss:
        result = super().loss(step, autocast)
        nothing = 0 * result.loss
        return replace(result, loss=result.loss + nothing.sqrt()) if step == 5 else result


@pytest.mark.parametrize(
    ("task", "said"),
    [(Regression(spoil_at=5), "the loss is not finite at step 5"), (SpoiltGradient(), "gradient.*at step 5")],
)
def test_train_stops_if_loss_or_gradient_not_finite(task: Regression, said: str, tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    good = stopped_at(5)
    with pytest.raises(KeyboardInterrupt):
        run(good, tmp_path / "good")
    with pytest.raises(TrainingError, match=said):
        run(task, tmp_path, checkpoint_minutes=0)
    kept = load_file(tmp_path / "checkpoint")
    for name, tensor in weights(good).items():
        assert torch.equal(kept[f"network.{name}"], tensor), name
        assert torch.equal(weights(task)[name], tensor), name


@pytest.mark.parametrize(
    ("recipe", "steps", "said"),
    [
        ({"seed": 2, "network": {"stage": 3}}, 12, r"recipe\.seed was 0 and is now 2"),
        ({"seed": 0, "network": {"stage": 4}}, 12, r"recipe\.network\.stage was 3 and is now 4"),
        ({"seed": 0, "network": {"stage": 3}, "new": [1]}, 12, r"recipe\.new was absent and is now \[1\]"),
        ({"seed": 0}, 12, r"recipe\.network was {'stage': 3} and is now absent"),
        ({"seed": 0, "network": {"stage": 3}}, 14, r"optimisation\.steps was 12 and is now 14"),
    ],
)
def test_resume_with_other_settings_refused(recipe: dict[str, object], steps: int, said: str, tmp_path: Path) -> None:
    run(Regression(), tmp_path, recipe={"seed": 0, "network": {"stage": 3}})
    with pytest.raises(InputError, match=f"checkpoint: made with other settings: {said}; resume with"):
        run(Regression(), tmp_path, resume=True, recipe=recipe, steps=steps)


def test_resume_from_another_version_refused(tmp_path: Path) -> None:
    save_file(
        {"network.x": torch.zeros(1)}, tmp_path / "checkpoint", {"geomatch": '{"format": "geomatch-checkpoint-2"}'}
    )
    with pytest.raises(InputError, match="not a checkpoint of this version"):
        run(Regression(), tmp_path, resume=True)


def test_resume_missing_or_damaged_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no checkpoint"):
        run(Regression(), tmp_path, resume=True)
    (tmp_path / "checkpoint").write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match="damaged"):
        run(Regression(), tmp_path, resume=True)


def test_learning_rate_at_warmup_and_cosine() -> None:
    schedule = Optimisation(steps=110, warmup_steps=10)
    assert [learning_rate_at(step, schedule) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert learning_rate_at(60, schedule) == pytest.approx(0.5)
    assert learning_rate_at(109, schedule) < 0.001


def weights(task: Regression) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in task.network.state_dict().items()}


def test_train_two_batches_per_step(tmp_path: Path) -> None:
    """Against a task whose one batch is the two together: losses are means over as many values each."""

    class Joined(Regression):
        def loss(self, batch: int, autocast: AbstractContextManager[object]) -> StepLoss:
            halves = [Regression.loss(self, 2 * batch + half, autocast).loss for half in range(2)]
            return StepLoss((halves[0] + halves[1]) / 2, {}, images=8)

    (tmp_path / "joined").mkdir()
    accumulated, joined = Regression(), Joined()
    assert run(accumulated, tmp_path, batches=2) == pytest.approx(run(joined, tmp_path / "joined"), rel=1e-5)
    torch.testing.assert_close(weights(accumulated), weights(joined))


def test_train_ema_matches_recurrence(tmp_path: Path) -> None:
    seen: list[dict[str, Tensor]] = []
    task = Regression(lambda step: seen.append(weights(task)) if step else None)
    (tmp_path / "plain").mkdir()
    plain = Regression()
    run(plain, tmp_path / "plain", steps=6)
    run(task, tmp_path, steps=6, ema_decay=0.7)
    expected = seen[0]
    for after in (*seen[1:], weights(plain)):
        expected = {name: 0.7 * expected[name] + 0.3 * tensor for name, tensor in after.items()}
    torch.testing.assert_close(weights(task), expected)


def test_train_ema_resumed(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    whole = Regression()
    run(whole, tmp_path / "whole", ema_decay=0.9)
    with pytest.raises(KeyboardInterrupt):
        run(stopped_at(7), tmp_path, ema_decay=0.9)
    resumed = Regression()
    run(resumed, tmp_path, ema_decay=0.9, resume=True)
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(resumed)[name]), name


def test_train_wise_ft_interpolates_also_resumed(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    start, whole = weights(Regression()), Regression()
    run(whole, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(stopped_at(7), tmp_path, wise_ft_alpha=0.7)
    resumed = Regression()
    run(resumed, tmp_path, wise_ft_alpha=0.7, resume=True)
    expected = {name: 0.3 * start[name] + 0.7 * tensor for name, tensor in weights(whole).items()}
    torch.testing.assert_close(weights(resumed), expected)


def test_train_keeps_best_validated_weights(tmp_path: Path) -> None:
    scores = iter([0.3, 0.5, 0.4, 0.45, 0.6])
    kept: list[float] = []
    last = [0.0]

    def score() -> float:
        last[0] = next(scores)
        return last[0]

    validation = Validation(4, score, lambda: kept.append(last[0]))
    with pytest.raises(KeyboardInterrupt):
        run(stopped_at(13), tmp_path, steps=18, validation=validation)
    assert kept == [0.3, 0.5]
    run(Regression(), tmp_path, steps=18, validation=validation, resume=True)
    assert kept == [0.3, 0.5, 0.6]
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    found = {line["step"]: line["validation"] for line in lines if "validation" in line}
    assert found == {4: 0.3, 8: 0.5, 12: 0.4, 16: 0.45, 18: 0.6}


def test_train_full_disk_keeps_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(Regression(), tmp_path, steps=5)
    before = (tmp_path / "checkpoint").read_bytes()

    replace = atomic.os.replace

    def full(temporary: Path, target: Path) -> None:
        if target.name == "checkpoint":
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(temporary, target)

    monkeypatch.setattr(atomic.os, "replace", full)
    with pytest.raises(InputError, match=r"checkpoint: could not be written.*No space left"):
        run(Regression(), tmp_path, steps=5, recipe={"seed": 1})
    assert (tmp_path / "checkpoint").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "log.jsonl"]
