"""Repeat term: fit its numbers on validation sessions, or leave it out.

The formula is in `recsys/model/repeats.py`. Two ways to fit it compete, each fitted on three
quarters of the validation sessions and measured on the last quarter, in turns:

    likelihood  the softmax cross-entropy of bonuses and temperature is minimized
    metric      the sum of the relative gains in recall@20 and mrr@20 is maximized by a search along
                the coordinates

The better one is fitted again on all validation sessions, if it gains more than two of its
standard errors.
Fitting needs the scores of a case only once: of the items outside the window it keeps the best 20,
the number above the target, and the sums of exponentials at some temperatures.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.sessions import Sessions
from recsys.model.ranking import NEVER, UNRANKED
from recsys.model.repeats import RepeatTerm
from recsys.predictor import Predictor
from training.additions.cases import ScoredCases, scored_cases
from training.additions.gain import gains, is_clear, metric_parts
from training.evaluation.evaluate import LIST_LENGTH

FOLDS = 4  # of the validation sessions
RIDGE = 1e-3  # strength of the L2 penalty of the likelihood
COEFFICIENTS = tuple(f.name for f in dataclasses.fields(RepeatTerm) if f.name != "temperature")
NO_BONUS = np.zeros(len(COEFFICIENTS))
TOO_FEW = "none, because there are too few validation sessions to fit it"
EXPONENT_STEP = 0.1
# Inverse temperatures, as multiples of `EXPONENT_STEP`. Without dropout a model is too sure of
# itself, so values below 1 are expected.
EXPONENTS = (5, 6, 7, 8, 9, 10, 12)
LAST_STARTS = (-8.0, -2.0, 0.0, 2.0, 4.0, 8.0)
EARLIER_STARTS = (-2.0, 0.0, 2.0, 4.0, 8.0)
STEPS = (2.0, 1.0, 0.5, 0.25)  # of the search along the coordinates
LEAST_GAIN = 1e-4  # of the metric, for a step of that search

Coefficients = NDArray[np.float64]  # (coefficients,) in the order of `COEFFICIENTS`
Mask = NDArray[np.bool_]  # (cases,)


@dataclass(frozen=True)
class RepeatCases:
    """Scores of the validation cases; an entry is a distinct item of a case's window."""

    session: NDArray[np.int64]  # (cases,)
    known: Mask  # the catalogue has the target
    target_score: NDArray[np.float32]  # (cases,)
    target_entry: NDArray[np.int64]  # (cases,) -1 where the window lacks the target
    above: NDArray[np.int64]  # (cases,) items outside the window that score at least the target
    best: NDArray[np.float32]  # (cases, 20) highest scores of the items outside the window
    log_sums: NDArray[np.float64]  # (cases, temperatures) log-sum-exp of the items outside
    case: NDArray[np.int64]  # (entries,)
    score: NDArray[np.float32]  # (entries,)
    features: NDArray[np.float64]  # (entries, coefficients) a bonus is features · coefficients

    def __len__(self) -> int:
        return len(self.session)

    def ranks(self, coefficients: Coefficients) -> NDArray[np.int64]:
        """Return the conservative ranks of the targets with these bonuses, exact up to 20.

        Args:
            coefficients: (coefficients,) float64.

        Returns:
            (cases,) int64.
        """
        adjusted = self._adjusted(coefficients)
        repeated = self.target_entry >= 0
        target = np.where(repeated, adjusted[self.target_entry], self.target_score)
        in_window = np.bincount(self.case[adjusted >= target[self.case]], minlength=len(self))
        outside = np.where(repeated, (self.best >= target[:, None]).sum(axis=1), self.above)
        return np.where(self.known, in_window + outside, UNRANKED)

    def _adjusted(self, coefficients: Coefficients) -> NDArray[np.float32]:
        """Return the scores of the entries with their bonuses: (entries,) float32."""
        bonuses = np.einsum("ij,j->i", self.features, coefficients)  # no threads: they would spin
        adjusted: NDArray[np.float32] = self.score + bonuses.astype(np.float32)
        return adjusted

    def gains(self, ranks: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return each case's part in the gain of these ranks over those without a bonus."""
        return gains(ranks, self._ranks_without_bonus)

    @cached_property
    def _ranks_without_bonus(self) -> NDArray[np.int64]:
        return self.ranks(NO_BONUS)

    def repeated_share(self, coefficients: Coefficients) -> float:
        """Return the share of the places of a list that hold items of the window."""
        adjusted = self._adjusted(coefficients)
        outside = (self.best[self.case] >= adjusted[:, None]).sum(axis=1)
        order = np.lexsort((-adjusted, self.case))
        first = np.searchsorted(self.case, self.case)
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order)) - first[order]
        return float(np.count_nonzero(outside + place < LIST_LENGTH) / (LIST_LENGTH * len(self)))


@dataclass(frozen=True, slots=True)
class FittedRepeats:
    """Repeat term of a run, None where it does not help, with a sentence about it."""

    term: RepeatTerm | None
    summary: str
    temperature: float = 1.0  # of the scores, with the term


def fit_repeats(predictor: Predictor, valid: Sessions) -> FittedRepeats:
    """Fit the term on validation sessions.

    Args:
        predictor: Predictor that was not trained on `valid`, without a repeat term.
        valid: Sessions to validate on, items as codes of their log.
    """
    parts = [_Part.of(scored) for scored in scored_cases(predictor, valid)]
    return choose(_joined(parts)) if parts else FittedRepeats(None, TOO_FEW)


def choose(cases: RepeatCases) -> FittedRepeats:
    """Return the better fit, or none where neither gains more than `ERRORS` standard errors."""
    every = np.ones(len(cases), dtype=bool)
    if len(np.unique(cases.session[cases.known] % FOLDS)) < FOLDS:
        return FittedRepeats(None, TOO_FEW)
    ranks = _ranks_of_unseen(cases)
    of_ways = {way: cases.gains(of_way) for way, of_way in ranks.items()}
    way = max(of_ways, key=lambda way: of_ways[way].mean())
    if not is_clear(of_ways[way], cases.session):
        return FittedRepeats(
            None,
            "left out, because no bonus gains more than two standard errors",
            temperature_of(cases, NO_BONUS),
        )
    coefficients = fits(cases, every)[way]
    numbers = dict(zip(COEFFICIENTS, coefficients.round(4).tolist(), strict=True))
    before, after = (metric_parts(r).mean(axis=1) for r in (cases.ranks(NO_BONUS), ranks[way]))
    share = cases.repeated_share(NO_BONUS), cases.repeated_share(coefficients)
    temperature = temperature_of(cases, coefficients)
    return FittedRepeats(
        RepeatTerm(temperature=temperature, **numbers),
        f"recall@20 {before[0]:.4f} -> {after[0]:.4f} and mrr@20 {before[1]:.4f} -> {after[1]:.4f} "
        "on validation sessions that the fit did not see; items of the session fill "
        f"{share[0]:.1%} -> {share[1]:.1%} of the lists",
        temperature,
    )


def _ranks_of_unseen(cases: RepeatCases) -> dict[str, NDArray[np.int64]]:
    """Return way of fitting → ranks of each fold of the sessions, fitted on the other folds."""
    ranks: dict[str, NDArray[np.int64]] = {}
    for fold in range(FOLDS):
        left_out = cases.session % FOLDS == fold
        for way, fitted in fits(cases, ~left_out).items():
            of_way = ranks.setdefault(way, np.zeros(len(cases), dtype=np.int64))
            of_way[left_out] = cases.ranks(fitted)[left_out]
    return ranks


def fits(cases: RepeatCases, chosen: Mask) -> dict[str, Coefficients]:
    """Return way of fitting → coefficients for the chosen cases."""
    likely = by_likelihood(cases, chosen)
    return {"likelihood": likely, "metric": by_metric(cases, chosen, likely)}


def by_likelihood(cases: RepeatCases, chosen: Mask) -> Coefficients:
    """Return the coefficients with the highest likelihood of the chosen cases' targets.

    The bonuses are on the scale of the scores: the likelihood is that of (score + bonus) divided by
    the best of the temperatures.
    """
    from scipy.optimize import minimize  # a quarter of a second, in vain for most commands

    at, scaled = EXPONENTS.index(10), NO_BONUS
    found: dict[int, tuple[float, Coefficients]] = {}

    def loss_at(index: int) -> float:
        if index not in found:
            loss = RepeatLoss(cases, chosen & cases.known, index, EXPONENT_STEP * EXPONENTS[index])
            start = found[min(found, key=lambda other: abs(other - index))][1] if found else scaled
            best = minimize(loss, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-6})
            found[index] = float(best.fun), best.x
        return found[index][0]

    # the loss is convex in inverse temperature and coefficients, so it has one minimum
    while True:
        beside = [index for index in (at - 1, at + 1) if 0 <= index < len(EXPONENTS)]
        lower = min(beside, key=loss_at)
        if loss_at(lower) >= loss_at(at):
            return found[at][1] / (EXPONENT_STEP * EXPONENTS[at])
        at = lower


def by_metric(cases: RepeatCases, chosen: Mask, likely: Coefficients) -> Coefficients:
    """Return coefficients with a high sum of relative gains over the chosen cases.

    The search begins at the likeliest coefficients or at the best point of a coarse grid.
    """

    def value(coefficients: Coefficients) -> float:
        return float(cases.gains(cases.ranks(coefficients))[chosen].mean())

    best = max([likely, *_starts()], key=value)
    best_value = value(best)
    for step in STEPS:
        for at in range(len(best)):
            for change in (step, -step):
                while True:
                    moved = best.copy()
                    moved[at] += change
                    if not value(moved) > best_value + LEAST_GAIN:
                        break
                    best, best_value = moved, value(moved)
    return best


def temperature_of(cases: RepeatCases, coefficients: Coefficients) -> float:
    """Return the temperature with the highest likelihood for these bonuses."""
    every = np.ones(len(cases), dtype=bool)
    losses = []
    for at, exponent in enumerate(EXPONENTS):
        inverse = EXPONENT_STEP * exponent
        losses.append(
            RepeatLoss(cases, every & cases.known, at, inverse)(inverse * coefficients)[0]
        )
    return round(1 / (EXPONENT_STEP * EXPONENTS[int(np.argmin(losses))]), 4)


def _starts() -> Iterator[Coefficients]:
    for last in LAST_STARTS:
        for earlier in EARLIER_STARTS:
            start = NO_BONUS.copy()
            start[COEFFICIENTS.index("last")] = last
            start[COEFFICIENTS.index("earlier")] = earlier
            yield start


class RepeatLoss:
    """Mean cross-entropy of some cases at one temperature, with its gradient."""

    def __init__(self, cases: RepeatCases, chosen: Mask, at: int, inverse: float) -> None:
        entries = chosen[cases.case]
        number = np.cumsum(chosen) - 1
        self._case = number[cases.case[entries]]
        self._first = np.searchsorted(self._case, np.arange(np.count_nonzero(chosen)))
        self._features = cases.features[entries]
        self._score = inverse * cases.score[entries].astype(np.float64)
        self._outside = cases.log_sums[chosen, at]
        self._count = max(np.count_nonzero(chosen), 1)
        targets = cases.target_entry[chosen]
        self._target_features = cases.features[targets[targets >= 0]].sum(axis=0)
        self._target_scores = inverse * float(cases.target_score[chosen].sum(dtype=np.float64))

    def __call__(self, coefficients: Coefficients) -> tuple[float, Coefficients]:
        """Return the loss and its gradient; coefficients: divided by the temperature."""
        logits = self._score + np.einsum("ij,j->i", self._features, coefficients)
        highest = np.maximum(self._outside, np.maximum.reduceat(logits, self._first))
        powers = np.exp(logits - highest[self._case])
        sums = np.bincount(self._case, powers, minlength=len(highest))
        sums += np.exp(self._outside - highest)
        total = float((np.log(sums) + highest).sum())
        loss = (total - self._target_scores - self._target_features @ coefficients) / self._count
        shares = powers / sums[self._case]
        weighted = np.einsum("i,ij->j", shares, self._features)
        gradient = (weighted - self._target_features) / self._count
        return (
            float(loss + RIDGE * coefficients @ coefficients),
            gradient + 2 * RIDGE * coefficients,
        )


def collect(parts: Iterable[ScoredCases]) -> RepeatCases:
    """Return what fitting needs of these cases, of which there is at least one."""
    return _joined([_Part.of(scored) for scored in parts])


def _joined(parts: Sequence["_Part"]) -> RepeatCases:
    joined = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        for field in dataclasses.fields(_Part)
    }
    lengths, item, target = joined.pop("lengths"), joined.pop("item"), joined.pop("target")
    case = np.repeat(np.arange(len(lengths)), lengths)
    repeated = np.flatnonzero(item == target[case])
    target_entry = np.full(len(lengths), -1)
    target_entry[case[repeated]] = repeated
    return RepeatCases(case=case, known=target >= 0, target_entry=target_entry, **joined)


@dataclass(frozen=True)
class _Part:
    """Cases of one part; the fields are those of `RepeatCases`, and what they follow from."""

    session: NDArray[np.int64]
    target: NDArray[np.int64]
    target_score: NDArray[np.float32]
    above: NDArray[np.int64]
    best: NDArray[np.float32]
    log_sums: NDArray[np.float64]
    lengths: NDArray[np.int64]  # (cases,) distinct items of the windows
    item: NDArray[np.int64]  # (entries,)
    score: NDArray[np.float32]
    features: NDArray[np.float64]

    @classmethod
    @torch.inference_mode()
    def of(cls, scored: ScoredCases) -> "_Part":
        windows, scores = scored.windows.lists(), scored.scores
        # a bonus is linear in the coefficients, so each feature is the bonus of a unit coefficient
        bonuses = [[term.bonuses(window) for window in windows] for term in _unit_terms()]
        lengths = np.array([len(row) for row in bonuses[0]], dtype=np.int64)
        entries = int(lengths.sum())
        item = np.fromiter((i for row in bonuses[0] for i in row), np.int64, entries)
        features = [
            np.fromiter((value for row in rows for value in row.values()), np.float64, entries)
            for rows in bonuses
        ]
        case = np.repeat(np.arange(len(windows)), lengths)
        at = torch.from_numpy(case), torch.from_numpy(item)
        score = scores[at].numpy()
        target = torch.from_numpy(np.maximum(scored.target, 0)).unsqueeze(1)
        target_score = scores.gather(1, target)
        scores[at] = NEVER
        best = torch.full((len(scores), LIST_LENGTH), NEVER)
        highest = torch.topk(scores, min(LIST_LENGTH, scores.size(1)), dim=1)[0]
        best[:, : highest.size(1)] = highest
        return cls(
            session=scored.session,
            target=scored.target,
            target_score=target_score.squeeze(1).numpy(),
            above=(scores >= target_score).sum(dim=1).numpy(),
            best=best.numpy(),
            log_sums=_log_sums(scores),
            lengths=lengths,
            item=item,
            score=score,
            features=np.stack(features, axis=1),
        )


def _unit_terms() -> list[RepeatTerm]:
    return [RepeatTerm(**{name: 1.0}) for name in COEFFICIENTS]


def _log_sums(scores: Tensor) -> NDArray[np.float64]:
    """Return the log-sum-exp of scores / temperature for every temperature.

    A power of the exponentials needs a product only, which is faster than another exponential.

    Args:
        scores: (cases, N) float32; overwritten.

    Returns:
        (cases, temperatures) float64.
    """
    highest = scores.amax(dim=1, keepdim=True).clamp(min=-1e30)  # all items are in the window
    base = scores.sub_(highest).mul_(EXPONENT_STEP).exp_()
    power, columns = torch.ones_like(base), []
    for exponent in range(1, max(EXPONENTS) + 1):
        power *= base
        if exponent in EXPONENTS:
            logs = power.sum(dim=1).clamp(min=1e-30).log().double()
            columns.append(logs + EXPONENT_STEP * exponent * highest.squeeze(1).double())
    return torch.stack(columns, dim=1).numpy()
