"""This machine on its networks: its addresses and what to call it (ifaddr's home)."""

import socket

import ifaddr

_MOST = 16


def own_addresses() -> list[str]:
    """Return this machine's addresses, at most 16, as people's certificates may name them."""
    of_adapters = (ip.ip for adapter in ifaddr.get_adapters() for ip in adapter.ips)
    return sorted(ip if isinstance(ip, str) else ip[0] for ip in of_adapters)[:_MOST]


def default_label() -> str:
    """Return what to call this node if its owner says nothing."""
    return socket.gethostname().split(".")[0][:64] or "node"
