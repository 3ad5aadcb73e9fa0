"""The training loop: epochs, steps, validation, checkpoints, and going on where it stopped."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset
from tqdm import tqdm

from ovsdino.batches import epoch_order, micro_batches
from ovsdino.checkpoint import CheckpointInfo, save_checkpoint
from ovsdino.curves import CURVES, plot_curves
from ovsdino.data.dataset import Batch, Collate, View, ViewDataset
from ovsdino.distributed import Ranks, joined
from ovsdino.journal import Journal, read_journal
from ovsdino.memory import memory_in_a_line
from ovsdino.optimizer import Stepper, create_optimizer, rate_factor, set_rates
from ovsdino.preparation import Prepared, prepare
from ovsdino.progress import Progress, read_progress, write_progress
from ovsdino.settings import TrainConfig
from ovsdino.training_record import Line, checkpoint_info, step_line
from ovsdino.validation import validate
from ovsdino.view_store import TaughtViews
from ovsdino_runtime.errors import DataError
from ovsdino_runtime.files import ensure_folder


@dataclass(frozen=True)
class FitResult:
    """Where a training left its checkpoints.

    Attributes:
        best: the checkpoint with the highest validation mIoU; without a validation figure the last.
        last: the checkpoint after the last epoch.
        best_miou: its validation mIoU in [0, 1]; None without one.
        main: whether this process is the one of several that should say so.
    """

    best: Path
    last: Path
    best_miou: float | None
    main: bool = True


def fit(
    config: TrainConfig,
    *,
    say: Callable[[str], None] = lambda sentence: None,
    on_step: Callable[[Line], None] = lambda line: None,
) -> FitResult:
    """Train a model (sec. 4.3, 5.1); started by torchrun, together with the other processes.

    Args:
        config: what to do.
        say: takes sentences for the person who waits, from one process.
        on_step: takes the metrics of each step, from one process.

    Raises:
        OvsDinoError: data, weights, device or output are not as they should be.
    """
    with joined(config.device) as ranks:
        speak: Callable[[str], None] = say if ranks.main else (lambda sentence: None)
        if config.batch_size % ranks.world:
            raise DataError(
                f"a batch of {config.batch_size} cannot be shared by {ranks.world} processes; "
                "choose a --batch-size they divide"
            )
        ensure_folder(config.out)
        progress = read_progress(config)
        with memory_in_a_line(config):
            prepared = prepare(config, ranks, speak, progress.foundation if progress is not None else None)
            return _Training(config, ranks, prepared, progress, speak, on_step).run()


class _Training:
    """A training under way."""

    def __init__(
        self,
        config: TrainConfig,
        ranks: Ranks,
        prepared: Prepared,
        progress: Progress | None,
        say: Callable[[str], None],
        on_step: Callable[[Line], None],
    ) -> None:
        self.config, self.ranks, self.prepared, self.on_step = config, ranks, prepared, on_step
        self.say, self.said_unmeasured = say, False
        self.model = prepared.objective.model
        self.views: Dataset[View] = prepared.training
        if prepared.cached_training is not None:
            cached = prepared.cached_training
            whole = self.model.config.whole_backbone
            self.views = TaughtViews(prepared.training, cached) if whole else cached
        self.optimizer = create_optimizer(self.model, config)
        self.progress = progress if progress is not None else Progress()
        if progress is not None:
            progress.restore(self.model, self.optimizer)
        self.objective: nn.Module = prepared.objective
        self.broadcasts = False
        if ranks.world > 1:
            # Every trainable parameter is in every forward pass, whatever the switches: none is unused.
            # Running statistics of BatchNorm, in a backbone that learns as a whole, are the first process's.
            self.broadcasts = any(name.endswith("running_mean") for name, _ in self.model.named_buffers())
            self.objective = DistributedDataParallel(prepared.objective, broadcast_buffers=self.broadcasts)
        self.share = config.batch_size // ranks.world
        self.steps_per_epoch = -(-len(prepared.training) // config.batch_size)
        self.total_steps = config.epochs * self.steps_per_epoch
        self.warmup_steps = round(config.warmup_epochs * self.steps_per_epoch)
        self.stepper = Stepper(self.optimizer, config.grad_clip)
        self.journal = Journal(config.out, self.progress.step, self.progress.epochs) if ranks.main else None

    def run(self) -> FitResult:
        """Train to the end."""
        bar = tqdm(
            total=self.total_steps,
            initial=self.progress.step,
            desc="training",
            unit="step",
            disable=not self.ranks.main,
        )
        self.objective.train()
        with bar:
            while self.progress.epochs < self.config.epochs:
                self._epoch(self.progress.epochs, bar)
        if self.ranks.main:
            plot_curves(read_journal(self.config.out), self.config.out / CURVES)
        self.ranks.barrier()
        best, last = self.config.out / "best", self.config.out / "last"
        return FitResult(best, last, self.progress.best_miou, self.ranks.main)

    def _epoch(self, epoch: int, bar: tqdm[Any]) -> None:
        started = time.perf_counter()
        first = self.progress.step - epoch * self.steps_per_epoch
        batches = self._batches(epoch, first)
        for _ in range(first, self.steps_per_epoch):
            line = self._step(epoch, batches)
            bar.update()
            shown = {
                name: line[name] for name in ("loss", "seg", "align", "distill") if line.get(name) is not None
            }
            bar.set_postfix({name: f"{value:.3f}" for name, value in shown.items()})
            every = self.config.save_every
            ends = self.progress.step % self.steps_per_epoch == 0
            if every and self.progress.step % every == 0 and not ends and self.ranks.main:
                self._write_progress()
        self._finish_epoch(epoch, started, bar)

    def _write_progress(self) -> None:
        write_progress(self.config, self.progress, self.prepared.foundation, self.model, self.optimizer)

    def _batches(self, epoch: int, first: int) -> Iterator[Batch]:
        """Return this process's micro-batches of an epoch from a step on."""
        config, training = self.config, self.prepared.training
        return micro_batches(
            self.views,
            Collate(training.table, config.negatives, config.seed),
            epoch_order(config.seed, epoch, len(training), config.batch_size)[first:],
            epoch,
            config,
            self.ranks,
        )

    def _step(self, epoch: int, batches: Iterator[Batch]) -> Line:
        """Take one step of the optimizer and return what to write down about it."""
        started = time.perf_counter()
        factor = rate_factor(self.progress.step, self.warmup_steps, self.total_steps)
        set_rates(self.optimizer, factor)
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        done = 0
        while done < self.share:
            batch = next(batches).to(self.ranks.device)
            done += len(batch)
            weight = len(batch) / self.share
            # Gradients travel between processes once a step, with the last micro-batch.
            with self._quiet() if done < self.share else nullcontext():
                losses: dict[str, Tensor] = self.objective(batch)
                torch.autograd.backward(losses["loss"] * weight)
            for name, value in losses.items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value.detach() * weight
        norm = self.stepper.step()
        self.progress.step += 1
        values = self.ranks.mean(torch.stack(list(sums.values()))).tolist()
        figures = dict(zip(sums, values, strict=True)) | {"grad_norm": norm}
        line = step_line(self.progress.step, epoch, figures, self.optimizer, self.model)
        line["seconds"] = round(time.perf_counter() - started, 4)
        if self.journal is not None:
            self.journal.write(line)
            self.on_step(line)
        return line

    def _quiet(self) -> AbstractContextManager[None]:
        if isinstance(self.objective, DistributedDataParallel):
            return self.objective.no_sync()
        return nullcontext()

    def _finish_epoch(self, epoch: int, started: float, bar: tqdm[Any]) -> None:
        """Validate, and keep what the epoch made."""
        is_last = epoch + 1 == self.config.epochs
        figures: dict[str, float | None] = {}
        if self.prepared.validation is not None and ((epoch + 1) % self.config.val_every == 0 or is_last):
            figures = self._validate(self.prepared.validation, epoch)
        miou = figures.get("mean")
        if figures and miou is None and not self.said_unmeasured:
            self.said_unmeasured = True
            self.say(
                "note: no validation image has a labelled pixel, so there is no mIoU to choose the best by"
            )
        self.progress.epochs = epoch + 1
        if self.journal is not None:
            self._keep(epoch, miou)
            line = {"kind": "epoch", "step": self.progress.step, "epoch": epoch, "val_miou": miou}
            line |= {"val_miou_by_data": {k: v for k, v in figures.items() if k != "mean"}}
            self.journal.write(line | {"seconds": round(time.perf_counter() - started, 2)})
            self._write_progress()
            if miou is not None:
                bar.write(f"epoch {epoch + 1}: validation mIoU {100 * miou:.1f}", file=sys.stderr)
        self.ranks.barrier()

    def _validate(self, validation: ViewDataset, epoch: int) -> dict[str, float | None]:
        """Return the validation figures. If they fail, `last` has the weights and --resume measures them."""
        if self.ranks.main:
            self._write_progress()
        if self.broadcasts:
            self.ranks.share(self.model.buffers())  # what is validated is what the first process saves
        cached = self.prepared.cached_validation
        try:
            return validate(self.prepared.objective, validation, cached, self.ranks, self.config.micro_batch)
        except Exception:  # a broken label, or no room
            if self.ranks.main:
                save_checkpoint(self.config.out / "last", self.model, self._info(epoch, None))
            raise

    def _keep(self, epoch: int, miou: float | None) -> None:
        """Save the epoch's weights, and once more if they are the best."""
        best = self.progress.best_miou
        better = miou is not None and (best is None or miou > best)
        if better:
            self.progress.best_miou, self.progress.best_epoch = miou, epoch
        info = self._info(epoch, miou)
        save_checkpoint(self.config.out / "last", self.model, info)
        is_last = epoch + 1 == self.config.epochs
        if better or (is_last and self.progress.best_miou is None):  # nothing chose: the last is the best
            save_checkpoint(self.config.out / "best", self.model, info)

    def _info(self, epoch: int, miou: float | None) -> CheckpointInfo:
        return checkpoint_info(
            self.config,
            self.prepared,
            epochs=epoch + 1,
            steps=self.progress.step,
            miou=miou,
            processes=self.ranks.world,
        )
