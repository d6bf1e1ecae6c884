# SPDX-License-Identifier: Apache-2.0
"""Medians of few samples, and how sure they are. Pure.

Nothing is assumed of how samples are spread: the k-th smallest and the k-th largest of n independent ones have the
true median between them unless fewer than k fell on one side of it, as coins do.
"""
import math
import statistics

CONFIDENCE = 0.9  # a bound that is beyond one end is wrongly so once in 20 times
# When a row is looked at again and again until it is decided, chance has more than one try.
CONFIDENCE_AGAIN = 0.98
ROUNDS_MIN = 5  # with fewer even the smallest and the largest are no such interval
WIDE = 0.2      # an end of the interval so far from the median, as a part of it: no figure


def coverage(n, k):
    """How often the k-th smallest and the k-th largest of n have the median between them."""
    return 1 - 2 * sum(math.comb(n, i) for i in range(k)) / 2 ** n


def interval(values, confidence=CONFIDENCE):
    """(low, high) around the median, or None: too few."""
    ordered, k = sorted(values), 0
    while 2 * (k + 1) <= len(ordered) and coverage(len(ordered), k + 1) >= confidence:
        k += 1
    return (ordered[k - 1], ordered[-k]) if k else None


class Estimate:
    """A median with its interval. Of a row that is planned with too few rounds for one, the interval is all there is
    between its smallest and its largest."""

    def __init__(self, values, planned=ROUNDS_MIN, confidence=CONFIDENCE):
        self.n = len(values)
        self.median = statistics.median(values) if values else None
        found = interval(values, confidence)
        if not found and values and planned <= self.n < ROUNDS_MIN:
            found = min(values), max(values)
        self.low, self.high = found or (None, None)
        self.largest = max(values, default=None)

    @property
    def is_known(self):
        return self.low is not None

    @property
    def is_wide(self):
        return self.is_known and max(self.high - self.median, self.median - self.low) > WIDE * abs(self.median)

    @property
    def percent(self):
        """Half of the interval."""
        return 50 * (self.high - self.low) / abs(self.median) if self.median else 0

    def meets(self, bound, more):
        """True, False, or None: the bound is within the interval."""
        if not self.is_known:
            return None
        worst, best = (self.low, self.high) if more else (-self.high, -self.low)
        bound = bound if more else -bound
        return True if worst >= bound else None if best >= bound else False


def ratios(ours, theirs):
    """Of each round in which both have a figure: the programs of one round share the machine's state."""
    return [a / b for a, b in zip(ours, theirs) if is_figure(a) and is_figure(b) and b]


def is_figure(sample):
    """Not None, measured in other rounds only, nor a reason why there is none."""
    return sample is not None and not isinstance(sample, str)
