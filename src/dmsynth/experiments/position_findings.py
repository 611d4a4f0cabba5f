"""What the thesis's third chapter claims (3.2 and 3.2.5), each claim as a statistic with a threshold.

``cells`` has one row a training (``dmsynth.experiments.position.train_cell``), ``curves`` one row a training and epoch.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from dmsynth.report.study import Finding
from dmsynth.stability import relapses

LARGE_SPIKE = 2.0  # a loss twice that of the epochs before it
STEERS = 0.1  # movement gain within 1 ± this
NO_CONTROL = 0.2  # movement gain below this


def findings(cells: pd.DataFrame, curves: pd.DataFrame) -> list[Finding]:
    """The thesis's claims, in its order. Needs a study of all eight latent sizes."""
    r, rpe = _best(cells, "R", "reconstruction"), _best(cells, "RPE", "reconstruction")
    rpe_position = _best(cells, "RPE", "control")
    spe, spe_position = _best(cells, "SPE", "swap"), _best(cells, "SPE", "control")
    sd = _best(cells, "SD", "swap")
    rpe_spreads = [_spread(losses[losses.index >= 4]) for losses in (rpe, rpe_position)]
    return [
        _largest_step("R: the difference between 2 and 4 dimensions is the greatest", "3.2.1", r),
        _more_is_better(r),
        Finding(
            "R reconstructs nearly perfectly at high dimensions",
            "3.2.5",
            "PSNR of R at 256 dimensions, validation; at least 35 dB",
            f"{_psnr(r[256]):.1f} dB",
            _psnr(r[256]) >= 35,
        ),
        _calm("R: no large spikes in the reconstruction loss", "3.2.2", cells, "R", "reconstruction"),
        _largest_step("RPE: the reconstruction loss improves most from 2 to 4", "3.2.2", rpe),
        _largest_step("RPE: the position loss improves most from 2 to 4", "3.2.2", rpe_position),
        Finding(
            "RPE: from 4 dimensions on both losses barely change",
            "3.2.2",
            "largest over smallest mean loss at 4 to 256 dimensions; at most 1.5 for both",
            "reconstruction {:.2f}, position {:.2f}".format(*rpe_spreads),
            max(rpe_spreads) <= 1.5,
        ),
        _rpe_steers_only_at_two(cells),
        _spikes("The position loss alone has large spikes", "3.2.2, Fig. 3.13", cells, "position only"),
        _spikes("RPE: the position loss has large spikes", "3.2.2", cells, "RPE"),
        _reach(curves, "RPE", "reconstruction", "3.2.2"),
        _steers_everywhere(cells, "SPE"),
        Finding(
            "SPE: the swap loss falls up to 32 dimensions and not beyond",
            "3.2.3, 3.2.5",
            "loss(2) / loss(32) at least 1.5, and loss(32) / smallest loss at 64 to 256 at most 1.1",
            f"{spe[2] / spe[32]:.2f} and {spe[32] / spe[spe.index > 32].min():.2f}",
            bool(spe[2] / spe[32] >= 1.5 and spe[32] / spe[spe.index > 32].min() <= 1.1),
        ),
        Finding(
            "SPE: the step from 2 to 4 dimensions is less dramatic than RPE's",
            "3.2.3",
            "loss(2) / loss(4) of SPE below that of RPE",
            f"{spe[2] / spe[4]:.2f} against {rpe[2] / rpe[4]:.2f}",
            bool(spe[2] / spe[4] < rpe[2] / rpe[4]),
        ),
        Finding(
            "SPE: the position loss stays flat when the dimensions change",
            "3.2.3",
            "largest over smallest mean position loss; at most 2",
            f"{_spread(spe_position):.2f}",
            _spread(spe_position) <= 2,
        ),
        _spikes("SPE: the position loss has problematic spikes", "3.2.3", cells, "SPE"),
        _reach(curves, "SPE", "swap", "3.2.3"),
        Finding(
            "SPE's images are inferior to R's",
            "3.2.3, 3.2.5",
            "geometric mean over 4 to 256 dimensions of SPE's swap loss over R's reconstruction loss; above 1",
            f"{_ratio(spe[spe.index >= 4], r[r.index >= 4]):.2f}",
            _ratio(spe[spe.index >= 4], r[r.index >= 4]) > 1,
        ),
        _steers_everywhere(cells, "SD"),
        Finding(
            "SD's swap loss is slightly lower than SPE's",
            "3.2.4, 3.2.5",
            "geometric mean over dimensions of SD's over SPE's; 0.8 to below 1",
            f"{_ratio(sd, spe):.2f}",
            0.8 <= _ratio(sd, spe) < 1,
        ),
        _calmer(cells),
    ]


def _best(cells: pd.DataFrame, objective: str, loss: str) -> pd.Series[float]:
    """Mean over splits of the best epoch's validation loss, by latent size."""
    rows = cells[cells["objective"] == objective]
    return rows.groupby("latent")[f"validation/{loss}"].mean()


def _largest_step(claim: str, where: str, losses: pd.Series[float]) -> Finding:
    values, latents = losses.to_numpy(), list(losses.index)
    steps = values[:-1] / values[1:]
    place = int(np.argmax(steps[1:])) + 1
    return Finding(
        claim,
        where,
        "factor by which the mean best validation loss falls from 2 to 4; larger than for every other doubling",
        f"{steps[0]:.2f}; next {steps[place]:.2f} ({latents[place]} to {latents[place + 1]})",
        bool(steps[0] > steps[place]),
    )


def _more_is_better(losses: pd.Series[float]) -> Finding:
    correlation = float(spearmanr(losses.index, losses).statistic)
    return Finding(
        "R: more dimensions reconstruct better",
        "3.2.1",
        "Spearman correlation of dimensions and mean best validation loss; at most −0.9",
        f"{correlation:.2f}",
        correlation <= -0.9,
    )


def _spike_factors(cells: pd.DataFrame, objective: str, loss: str) -> pd.Series[float]:
    return cells.loc[cells["objective"] == objective, f"spike/validation/{loss}"].dropna()


def _calm(claim: str, where: str, cells: pd.DataFrame, objective: str, loss: str) -> Finding:
    factors = _spike_factors(cells, objective, loss)
    return Finding(
        claim,
        where,
        f"largest spike factor of its {len(factors)} trainings, validation; below {LARGE_SPIKE:g}",
        f"{factors.max():.2f}",
        bool(factors.max() < LARGE_SPIKE),
    )


def _spikes(claim: str, where: str, cells: pd.DataFrame, objective: str) -> Finding:
    factors = _spike_factors(cells, objective, "control")
    return Finding(
        claim,
        where,
        f"median spike factor of its {len(factors)} trainings, validation; at least {LARGE_SPIKE:g}",
        f"{factors.median():.2f} (largest {factors.max():.1f})",
        bool(factors.median() >= LARGE_SPIKE),
    )


def _reach(curves: pd.DataFrame, objective: str, loss: str, where: str) -> Finding:
    pairs = []
    for _, curve in curves[curves["objective"] == objective].groupby(["latent", "split"]):
        both = zip(relapses(curve["validation/control"]), relapses(curve[f"validation/{loss}"]), strict=True)
        pairs += list(both)
    position, other = np.array(pairs).T
    correlation = float(spearmanr(position, other).statistic)
    return Finding(
        f"{objective}: the position loss's spikes reach the {loss} loss",
        where,
        "Spearman correlation, epoch by epoch, of each loss over the median of its five epochs before; at least 0.3",
        f"{correlation:.2f} ({len(position)} epochs)",
        correlation >= 0.3,
    )


def _gains(cells: pd.DataFrame, objective: str) -> pd.DataFrame:
    """Movement gain in x and y by latent size, mean over splits."""
    return cells[cells["objective"] == objective].groupby("latent")[["gain_x", "gain_y"]].mean()


def _rpe_steers_only_at_two(cells: pd.DataFrame) -> Finding:
    gains = _gains(cells, "RPE")
    two, others = gains.loc[2].to_numpy(), gains[gains.index > 2].abs().max(axis=1)
    text = ", ".join(f"{latent}: {gain:.2f}" for latent, gain in others.items())
    return Finding(
        "RPE steers the position at 2 dimensions only",
        "3.2.2, 3.2.5",
        f"movement gains at 2 within 1 ± {STEERS:g}; the larger of both at every other size below {NO_CONTROL:g}",
        f"at 2: {two[0]:.2f} and {two[1]:.2f}; at {text}",
        bool((np.abs(two - 1) <= STEERS).all() and (others < NO_CONTROL).all()),
    )


def _steers_everywhere(cells: pd.DataFrame, objective: str) -> Finding:
    gains = _gains(cells, objective).to_numpy()
    worst = gains.flat[int(np.argmax(np.abs(gains - 1)))]
    return Finding(
        f"{objective} steers the position at any number of dimensions",
        "3.2, 3.2.5",
        f"movement gains in x and y at every size within 1 ± {STEERS:g}",
        f"farthest from 1: {worst:.3f}",
        bool(np.abs(worst - 1) <= STEERS),
    )


def _calmer(cells: pd.DataFrame) -> Finding:
    sd, spe = (_spike_factors(cells, objective, "swap") - 1 for objective in ("SD", "SPE"))
    return Finding(
        "SD's loss is calmer than SPE's",
        "3.2.4, 3.2.5",
        "mean excess (spike factor − 1) of the validation swap loss; SD's below SPE's",
        f"{sd.mean():.3f} against {spe.mean():.3f}",
        bool(sd.mean() < spe.mean()),
    )


def _spread(losses: pd.Series[float]) -> float:
    return float(losses.max() / losses.min())


def _ratio(losses: pd.Series[float], others: pd.Series[float]) -> float:
    """Geometric mean over the sizes of one loss over the other."""
    return float(np.exp(np.log(losses / others).mean()))


def _psnr(loss: float) -> float:
    """Of images in [0, 1] with a mean squared error of ``loss``, in dB."""
    return float(-10 * np.log10(loss))
