"""The servers of a node: what they set on the lines that they accept."""

import socket

import httpx
from fastapi import FastAPI

from node.serving import Servers


def test_answers_do_not_wait_for_the_acknowledgement_of_their_head() -> None:
    """With Nagle's algorithm each answer on a kept line took 40 ms more, on every port of every node."""
    app = FastAPI()
    servers = Servers()
    port = servers.add(app, "127.0.0.1", 0, setting="port")
    servers.start()
    try:
        with httpx.Client(trust_env=False) as client:
            client.get(f"http://127.0.0.1:{port}/")
            (protocol,) = servers._pairs[0][0].server_state.connections
            accepted = protocol.transport.get_extra_info("socket")

            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
    finally:
        servers.ask_to_stop()
        servers.join()
