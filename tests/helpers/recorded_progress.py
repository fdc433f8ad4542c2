"""A progress that remembers what it was told."""

from __future__ import annotations


class RecordedProgress:
    def __init__(self):
        self.steps, self.totals, self.done = [], [], 0

    def step(self, what):
        self.steps.append(what)

    def total(self, amount):
        self.totals.append(amount)

    def advance(self, amount=1):
        self.done += amount
