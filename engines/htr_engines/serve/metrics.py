"""What the service counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class Metrics:
    """Counters of one service."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        self.requests = Counter("htr_requests", "Requests by path and status.", ["path", "status"], registry=registry)
        self.lines = Counter("htr_lines", "Lines that were read.", registry=registry)
        self.seconds = Histogram("htr_request_seconds", "From the request to its answer.", registry=registry)
        self.batch_size = Histogram(
            "htr_batch_lines", "Lines per run of the engine.", buckets=[1, 2, 4, 8, 16, 32, 64], registry=registry
        )
        self.waiting = Gauge("htr_waiting_lines", "Lines that wait for the engine.", registry=registry)

    def text(self) -> bytes:
        """Return all of it in the text format of Prometheus."""
        return generate_latest(self._registry)
