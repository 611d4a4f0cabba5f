"""The claims of the thesis's third chapter (3.2 and 3.2.5), each as a statistic with a threshold.

``cells`` has one row per training (``dmsynth.experiments.position.train_cell``), ``curves`` one per training and epoch.
Losses are means over splits of the best epoch's validation loss. A claim is undecided if the study lacks a latent size
or has too few epochs.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from dmsynth.learning.stability import WINDOW, relapses
from dmsynth.report.study import Finding

LARGE_SPIKE = 2.0  # a loss twice that of the epochs before it
STEERS = 0.1  # movement gain within 1 ± this
NO_CONTROL = 0.2  # movement gain below this
ENOUGH_EPOCHS = 10  # that count for a spike factor: fewer say little about spikes
UNDECIDED = "cannot be said: "


def findings(cells: pd.DataFrame, curves: pd.DataFrame) -> list[Finding]:
    """The thesis's claims, model by model."""
    return [*_of_r(cells, curves), *_of_rpe(cells, curves), *_of_spe(cells, curves), *_of_sd(cells)]


def _of_r(cells: pd.DataFrame, curves: pd.DataFrame) -> Iterator[Finding]:
    r = _best(cells, "R", "reconstruction")
    yield _largest_step("R: the difference between 2 and 4 dimensions is the greatest", "3.2.1", r)
    correlation = float(spearmanr(r.index, r).statistic)
    yield Finding(
        "R: more dimensions reconstruct better",
        "3.2.1",
        "Spearman correlation of dimensions and loss; at most −0.9",
        f"{correlation:.2f}",
        correlation <= -0.9,
    )
    yield _still_improving(curves)
    psnr = -10 * np.log10(r.get(256, np.nan))
    yield _decided(
        "R reconstructs nearly perfectly at high dimensions",
        "3.2.5",
        "PSNR of R at 256 dimensions; at least 35 dB",
        [psnr],
        f"{psnr:.1f} dB",
        psnr >= 35,
    )
    yield _spikes("R: no large spikes in the reconstruction loss", "3.2.2", cells, "R", "reconstruction", large=False)


def _of_rpe(cells: pd.DataFrame, curves: pd.DataFrame) -> Iterator[Finding]:
    r, rpe = _best(cells, "R", "reconstruction"), _best(cells, "RPE", "reconstruction")
    position = _best(cells, "RPE", "control")
    yield _largest_step("RPE: the reconstruction loss improves most from 2 to 4", "3.2.2", rpe)
    yield _largest_step("RPE: the position loss improves most from 2 to 4", "3.2.2", position)
    spreads = [_spread(losses[losses.index >= 4]) for losses in (rpe, position)]
    yield _decided(
        "RPE: from 4 dimensions on both losses barely change",
        "3.2.2",
        "largest over smallest loss at 4 dimensions and more; at most 1.5 for both",
        spreads,
        f"reconstruction {spreads[0]:.2f}, position {spreads[1]:.2f}",
        max(spreads) <= 1.5,
    )
    steps = _ratio_of(rpe, 2, 4), _ratio_of(r, 2, 4)
    yield _decided(
        "RPE: the difference between 2 dimensions and more is even larger than R's",
        "3.2.2",
        "loss(2) / loss(4) of RPE above that of R",
        steps,
        f"{steps[0]:.2f} against {steps[1]:.2f}",
        steps[0] > steps[1],
    )
    yield _rpe_steers_only_at_two(cells)
    yield _spikes("The position loss alone has large spikes", "3.2.2, Fig. 3.13", cells, "position only", "control")
    yield _spikes("RPE: the position loss has large spikes", "3.2.2", cells, "RPE", "control")
    yield _calmer("Alone, the position loss spikes less than in RPE", "3.2.2", cells, "position only", "RPE", "control")
    yield _reach(curves, "RPE", "reconstruction", "3.2.2")


def _of_spe(cells: pd.DataFrame, curves: pd.DataFrame) -> Iterator[Finding]:
    r, rpe = _best(cells, "R", "reconstruction"), _best(cells, "RPE", "reconstruction")
    spe, position = _best(cells, "SPE", "swap"), _best(cells, "SPE", "control")
    yield _steers_everywhere(cells, "SPE")
    yield _levels_off("SPE", "3.2.3, 3.2.5", spe)
    steps = _ratio_of(spe, 2, 4), _ratio_of(rpe, 2, 4)
    yield _decided(
        "SPE: the step from 2 to 4 dimensions is less dramatic than RPE's",
        "3.2.3",
        "loss(2) / loss(4) of SPE below that of RPE",
        steps,
        f"{steps[0]:.2f} against {steps[1]:.2f}",
        steps[0] < steps[1],
    )
    yield _decided(
        "SPE: the position loss stays flat when the dimensions change",
        "3.2.3",
        "largest over smallest position loss; at most 2",
        [_spread(position)],
        f"{_spread(position):.2f}",
        _spread(position) <= 2,
    )
    yield _spikes("SPE: the position loss has problematic spikes", "3.2.3", cells, "SPE", "control")
    yield _reach(curves, "SPE", "swap", "3.2.3")
    ratios = [_mean_ratio(spe[spe.index >= 4], other[other.index >= 4]) for other in (r, rpe)]
    yield _decided(
        "SPE's images are inferior to R's and RPE's",
        "3.2.3, 3.2.5",
        "geometric mean from 4 dimensions on of SPE's swap loss over the reconstruction loss of R, of RPE; above 1",
        ratios,
        f"{ratios[0]:.2f}, {ratios[1]:.2f}",
        min(ratios) > 1,
    )


def _of_sd(cells: pd.DataFrame) -> Iterator[Finding]:
    spe, sd = _best(cells, "SPE", "swap"), _best(cells, "SD", "swap")
    yield _steers_everywhere(cells, "SD")
    yield _levels_off("SD", "3.2.4, 3.2.5", sd)
    ratio = _mean_ratio(sd, spe)
    yield _decided(
        "SD's swap loss is slightly lower than SPE's",
        "3.2.4, 3.2.5",
        "geometric mean over dimensions of SD's over SPE's; 0.8 to below 1",
        [ratio],
        f"{ratio:.2f}",
        0.8 <= ratio < 1,
    )
    yield _calmer("SD's loss is calmer than SPE's", "3.2.4, 3.2.5", cells, "SD", "SPE", "swap")


def _decided(
    claim: str, where: str, statistic: str, values: list[float] | tuple[float, ...], measured: str, holds: bool
) -> Finding:
    """A finding, undecided if one of the required ``values`` is missing."""
    if not np.isfinite(values).all():
        return Finding(claim, where, statistic, UNDECIDED + "a latent size is missing", None)
    return Finding(claim, where, statistic, measured, bool(holds))


def _best(cells: pd.DataFrame, objective: str, loss: str) -> pd.Series[float]:
    """Mean over splits of the best epoch's validation loss, by latent size."""
    rows = cells[cells["objective"] == objective]
    return rows.groupby("latent")[f"validation/{loss}"].mean()


def _ratio_of(losses: pd.Series[float], latent: int, other: int) -> float:
    """Ratio of the losses of two latent sizes; NaN if one is missing."""
    return float(losses.get(latent, np.nan) / losses.get(other, np.nan))


def _spread(losses: pd.Series[float]) -> float:
    return float(losses.max() / losses.min()) if len(losses) else float("nan")


def _mean_ratio(losses: pd.Series[float], others: pd.Series[float]) -> float:
    """Geometric mean over the latent sizes of the ratio of two losses."""
    return float(np.exp(np.log(losses / others).mean()))


def _largest_step(claim: str, where: str, losses: pd.Series[float]) -> Finding:
    latents = [int(latent) for latent in losses.index]
    steps = {(low, 2 * low): _ratio_of(losses, low, 2 * low) for low in latents if 2 * low in latents}
    first = steps.pop((2, 4), float("nan"))
    largest = max(steps, key=lambda step: steps[step], default=(0, 0))
    return _decided(
        claim,
        where,
        "factor by which the loss falls from 2 to 4; larger than for every other doubling",
        [first, steps.get(largest, float("nan"))],
        f"{first:.2f}; next {steps.get(largest, 0):.2f} ({largest[0]} to {largest[1]})",
        first > steps.get(largest, 0),
    )


def _levels_off(objective: str, where: str, losses: pd.Series[float]) -> Finding:
    fall = _ratio_of(losses, 2, 32)
    beyond = losses.get(32, np.nan) / losses[losses.index > 32].min()
    return _decided(
        f"{objective}: the swap loss falls up to 32 dimensions and not beyond",
        where,
        "loss(2) / loss(32) above 1, and loss(32) / smallest loss of more dimensions at most 1.1",
        [fall, beyond],
        f"{fall:.2f} and {beyond:.2f}",
        fall > 1 and beyond <= 1.1,
    )


def _still_improving(curves: pd.DataFrame) -> Finding:
    ratios = []
    for _, curve in curves[curves["objective"] == "R"].groupby(["latent", "split"]):
        ratios.append(float(relapses(curve["validation/reconstruction"])[-1]))
    median = float(np.median(ratios)) if ratios else float("nan")
    return _decided(
        "R: the validation loss still improves at the end: nothing is overfitted",
        "3.2.1",
        "last validation loss over the median of the five epochs before it, median of all trainings; below 1",
        [median],
        f"{median:.2f}",
        median < 1,
    )


def _spike_factors(cells: pd.DataFrame, objective: str, loss: str) -> tuple[pd.Series[float], int]:
    """Spike factors of the validation loss of every training, and the number of epochs that count for each."""
    rows = cells[cells["objective"] == objective]
    epochs = int(rows["epochs"].min()) - WINDOW if len(rows) else 0
    return rows[f"spike/validation/{loss}"].dropna(), epochs


def _too_few(epochs: int) -> str:
    return f"{UNDECIDED}only {epochs} epochs count, {ENOUGH_EPOCHS} are needed"


def _spikes(claim: str, where: str, cells: pd.DataFrame, objective: str, loss: str, *, large: bool = True) -> Finding:
    """Whether the median training has a ``large`` spike; or, if not ``large``, whether no training has one."""
    factors, epochs = _spike_factors(cells, objective, loss)
    limit = f"median spike factor; at least {LARGE_SPIKE:g}" if large else f"largest; below {LARGE_SPIKE:g}"
    statistic = f"spike factors of {len(factors)} trainings, {epochs} epochs counting; {limit}"
    measured = f"median {factors.median():.2f}, largest {factors.max():.2f}"
    if epochs < ENOUGH_EPOCHS:
        return Finding(claim, where, statistic, f"{_too_few(epochs)} ({measured})", None)
    holds = factors.median() >= LARGE_SPIKE if large else factors.max() < LARGE_SPIKE
    return Finding(claim, where, statistic, measured, bool(holds))


def _calmer(claim: str, where: str, cells: pd.DataFrame, calm: str, wild: str, loss: str) -> Finding:
    (factors, epochs), (others, other_epochs) = (_spike_factors(cells, name, loss) for name in (calm, wild))
    statistic = f"mean excess (spike factor − 1) of the validation loss; that of {calm} below that of {wild}"
    measured = f"{factors.mean() - 1:.3f} against {others.mean() - 1:.3f}"
    if epochs != other_epochs or epochs < ENOUGH_EPOCHS:
        return Finding(claim, where, statistic, f"{UNDECIDED}{epochs} against {other_epochs} epochs count", None)
    return Finding(claim, where, statistic, measured, bool(factors.mean() < others.mean()))


def _reach(curves: pd.DataFrame, objective: str, loss: str, where: str) -> Finding:
    """Where the position loss is worse than usual *at that epoch*, is the other loss, too?"""
    rows = []
    for _, curve in curves[curves["objective"] == objective].groupby(["latent", "split"]):
        position, other = (np.log(relapses(curve[f"validation/{name}"])) for name in ("control", loss))
        rows.append(pd.DataFrame({"epoch": np.arange(len(position)), "position": position, "other": other}))
    both = pd.concat(rows)
    unusual = both[["position", "other"]] - both.groupby("epoch")[["position", "other"]].transform("mean")
    correlation = float(spearmanr(unusual["position"], unusual["other"]).statistic)
    spiked = both["position"] >= np.log(LARGE_SPIKE)
    rise = float(np.exp(unusual.loc[spiked, "other"].mean() - unusual.loc[~spiked, "other"].mean()))
    statistic = (
        "Spearman correlation of the two losses' relapses (loss over the median of five epochs before), each less its "
        "mean over trainings at that epoch; at least 0.3"
    )
    measured = f"{correlation:.2f}; the {loss} loss is {100 * (rise - 1):+.1f} % in the {spiked.sum()} spiked epochs"
    epochs = int(both["epoch"].max()) + 1
    claim = f"{objective}: the position loss's spikes reach the {loss} loss"
    if epochs < ENOUGH_EPOCHS:
        return Finding(claim, where, statistic, f"{_too_few(epochs)} ({correlation:.2f})", None)
    return Finding(claim, where, statistic, measured, correlation >= 0.3)


def _gains(cells: pd.DataFrame, objective: str) -> pd.DataFrame:
    """Movement gains of every training, by latent size: ``gain_x``, ``gain_y``."""
    return cells[cells["objective"] == objective].set_index("latent")[["gain_x", "gain_y"]]


def _rpe_steers_only_at_two(cells: pd.DataFrame) -> Finding:
    gains = _gains(cells, "RPE")
    two = gains[gains.index == 2].to_numpy().ravel()
    others = gains[gains.index > 2].abs().max(axis=1).groupby("latent").max()
    worst = float(two[int(np.argmax(np.abs(two - 1)))]) if len(two) else float("nan")
    text = ", ".join(f"{latent}: {gain:.2f}" for latent, gain in others.items())
    return _decided(
        "RPE steers the position at 2 dimensions only",
        "3.2.2, 3.2.5",
        f"movement gains of every training: at 2 within 1 ± {STEERS:g}, else in x and y below {NO_CONTROL:g}",
        [worst, *others],
        f"at 2 farthest from 1: {worst:.2f}; largest at {text}",
        abs(worst - 1) <= STEERS and bool((others < NO_CONTROL).all()),
    )


def _steers_everywhere(cells: pd.DataFrame, objective: str) -> Finding:
    gains = _gains(cells, objective)
    values = gains.to_numpy().ravel()
    worst = int(np.argmax(np.abs(values - 1)))
    return _decided(
        f"{objective} steers the position at any number of dimensions",
        "3.2, 3.2.5",
        f"movement gains in x and y of all {len(gains)} trainings within 1 ± {STEERS:g}",
        list(values),
        f"farthest from 1: {values[worst]:.3f}, at {gains.index[worst // 2]} dimensions",
        abs(float(values[worst]) - 1) <= STEERS,
    )
