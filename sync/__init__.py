"""The protocol as values and functions: facts, reconciliation, lifecycle, what to fetch, forward and keep.

No I/O, no clock, no randomness, no threads, no logging: `node` brings all of these.
"""
