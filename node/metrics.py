"""Numbers for whoever watches a node: Prometheus metrics, one registry a node (prometheus_client's home).

What can be read off the node's tables is read when it is asked for; only what passes by is counted as it
happens. Labels are states, reasons, steps and the names of destinations: nothing of any patient.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

Readings = Mapping[str, float | Mapping[str, float]]
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
CONTENT_TYPE = CONTENT_TYPE_LATEST

# Name → (what it is, the label of its several values).
GAUGES: dict[str, tuple[str, str]] = {
    "clinicmesh_studies": ("Entries that this node knows, by state.", "state"),
    "clinicmesh_oldest_waiting_seconds": ("For how long the oldest undelivered entry has been here.", ""),
    "clinicmesh_held_bytes": ("Sealed octets that are kept here.", ""),
    "clinicmesh_free_bytes": ("Octets that are free on the disk.", ""),
    "clinicmesh_undelivered_copies": ("Undelivered entries, by their number of verified copies.", "copies"),
    "clinicmesh_waiting_to_erase": ("Ended entries whose blobs are still here.", ""),
    "clinicmesh_facts": ("Facts that are here, by class.", "class"),
    "clinicmesh_locked": ("1 while the node waits for its passphrase.", ""),
    "clinicmesh_running_seconds": ("For how long the node has been running, all its runs together.", ""),
}


class Metrics:
    """The metrics of one node. Safe to call from many threads."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._setbacks = Counter(
            "clinicmesh_delivery_setbacks",
            "Deliveries that did not get on and will be tried again, by reason.",
            ["reason"],
            registry=self._registry,
        )
        self._pacs = Histogram(
            "clinicmesh_pacs_seconds",
            "How long a PACS took for a chunk of a study, by destination and step.",
            ["destination", "step"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._scrubbed = Counter(
            "clinicmesh_scrubbed_entries",
            "Entries that were read again, by result.",
            ["result"],
            registry=self._registry,
        )

    def read_from(self, readings: Callable[[], Readings]) -> None:
        """Have `readings` called for the values of `GAUGES` whenever the metrics are asked for."""
        self._registry.register(_Gauges(readings))

    def set_back(self, reason: str) -> None:
        """Count a delivery that did not get on."""
        self._setbacks.labels(reason).inc()

    def scrubbed(self, *, sound: bool) -> None:
        """Count an entry that was read again."""
        self._scrubbed.labels("sound" if sound else "damaged").inc()

    @contextmanager
    def timed(self, destination: str, step: str) -> Iterator[None]:
        """Note how long the block takes, also when it fails."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._pacs.labels(destination, step).observe(time.perf_counter() - started)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class _Gauges(Collector):
    def __init__(self, readings: Callable[[], Readings]) -> None:
        self._readings = readings

    def collect(self) -> Iterable[Metric]:
        """Yield the gauges (prometheus_client calls this)."""
        for name, value in self._readings().items():
            said, label = GAUGES[name]
            family = GaugeMetricFamily(name, said, labels=[label] if label else None)
            if isinstance(value, Mapping):
                for key, each in value.items():
                    family.add_metric([key], each)
            else:
                family.add_metric([], value)
            yield family

    def describe(self) -> Iterable[Metric]:
        """Yield nothing: the names are not needed before the values."""
        return ()
