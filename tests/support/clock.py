"""A clock that stands still until a test moves it."""


class FakeClock:
    """Wall and monotonic time in the test's hands. `now` may be set to anything; `advance` moves all."""

    def __init__(self, now: int = 1_800_000_000_000) -> None:
        self.now = now
        self._passed = 0
        self.fell_back = False

    def now_ms(self) -> int:
        return self.now

    def monotonic_ms(self) -> int:
        return self._passed

    def carried_ms(self) -> int:
        return self._passed

    def advance(self, ms: int) -> None:
        self.now += ms
        self._passed += ms
