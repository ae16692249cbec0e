"""What a server counts and measures, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """The metrics of one server. gauges: functions that give a number now, by the names of their gauges."""

    def __init__(self, gauges: Mapping[str, Callable[[], float]]) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "foveate_requests", "Requests answered.", ("route", "status"), registry=self._registry
        )
        self._bytes = Counter("foveate_received_bytes", "Bytes of videos.", registry=self._registry)
        self._macs = Counter("foveate_gmacs", "Multiply-adds of answers / 1e9.", registry=self._registry)
        self._parts = Histogram(
            "foveate_seconds",
            "Seconds by part: upload, wait, decode, transform, model, answer.",
            ("part",),
            registry=self._registry,
            buckets=SECONDS,
        )
        for name, value in gauges.items():
            Gauge(f"foveate_{name}", f"{name.capitalize()} now.", registry=self._registry).set_function(value)

    def answered(self, route: str, status: int) -> None:
        self._requests.labels(route, status).inc()

    def took(self, **seconds: float) -> None:
        for part, value in seconds.items():
            self._parts.labels(part).observe(value)

    def counted(self, received_bytes: int = 0, gmacs: float = 0.0) -> None:
        self._bytes.inc(received_bytes)
        self._macs.inc(gmacs)

    def text(self) -> bytes:
        """All metrics in the text format of Prometheus."""
        return generate_latest(self._registry)
