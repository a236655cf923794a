"""How much a device and a node take at once, and where a tool reads it."""

import base64
from pathlib import Path

import httpx
from support.dicoms import study_zip
from support.intake import Bench, Phone, app_of
from support.servers import serve

CLIENTS = [f"6b0f9d2e-0000-4000-8000-00000000000{n}" for n in range(4)]


def announced(phone: Phone, client: str, length: int) -> httpx.Response:
    """Announce an upload of a new submission."""
    made = phone.submit(client).json()
    named = base64.b64encode(made["id"].encode()).decode()
    return phone.http.post(
        made["upload_url"], headers={"Upload-Length": str(length), "Upload-Metadata": f"submission {named}"}
    )


def test_a_device_and_a_node_have_quotas(tmp_path: Path) -> None:
    """One phone with a broken app must not fill the clinic's laptop; what ends makes room."""
    bench = Bench(tmp_path / "node", device_bytes=5_000, node_bytes=7_500)
    with serve(app_of(bench.intake)) as base:
        phone, other = Phone(base), Phone(base, device="other")
        first = announced(phone, CLIENTS[0], 3_000)
        too_much = announced(phone, CLIENTS[1], 3_000)
        others = announced(other, CLIENTS[2], 4_000)
        full = announced(other, CLIENTS[3], 1_000)
        phone.http.delete(first.headers["Location"])
        again = announced(phone, CLIENTS[1], 3_000)
        for one in (phone, other):
            one.http.close()
    bench.close()

    assert [answer.status_code for answer in (first, others, again)] == [201, 201, 201]
    assert [(a.status_code, a.json()["code"]) for a in (too_much, full)] == [
        (507, "device-quota"),
        (507, "node-quota"),
    ]


def test_a_disk_that_fills_in_mid_upload_costs_no_byte(tmp_path: Path) -> None:
    """Nobody has to begin anew: what was answered stays, and it goes on when there is room."""
    free, data = [1 << 30], study_zip(1, 300)
    bench = Bench(tmp_path / "node", reserve_bytes=1_000, free_bytes=lambda: free[0])
    with serve(app_of(bench.intake)) as base:
        phone = Phone(base)
        submission, url = phone.begin(len(data))
        half = phone.send(url, data[:50_000])
        free[0] = 0
        full = phone.send(url, data[50_000:], 50_000)
        offset = phone.http.head(url).headers["Upload-Offset"]
        free[0] = 1 << 30
        rest = phone.send(url, data[50_000:], 50_000)
        phone.http.close()
    bench.work()
    view = bench.view(submission)
    bench.close()

    assert (half.status_code, rest.status_code, offset) == (204, 204, "50000")
    assert (full.status_code, full.json()["code"]) == (507, "disk-full")
    assert (view["state"], view["examination"]["studies"][0]["instances"]) == ("examined", 300)


def test_the_contract_tells_the_limits(tmp_path: Path) -> None:
    """Who writes a tool need not find them out by being refused."""
    bench = Bench(tmp_path / "node", max_bytes=1 << 30)
    with serve(app_of(bench.intake)) as base:
        paths = httpx.get(f"{base}/openapi.json").json()["paths"]
        options = httpx.options(f"{base}/api/v1/uploads").headers
    bench.close()
    told = paths["/api/v1/uploads"]["post"]["x-tus"]
    patch = {one["name"] for one in paths["/api/v1/uploads/{upload_id}"]["patch"]["parameters"]}

    assert (told["version"], told["max_bytes"], told["expires_days"]) == ("1.0.0", 1 << 30, 30)
    assert ",".join(told["extensions"]) == options["Tus-Extension"]
    assert (str(told["max_bytes"]), ",".join(told["checksums"])) == (
        options["Tus-Max-Size"],
        options["Tus-Checksum-Algorithm"],
    )
    assert {"Tus-Resumable", "Upload-Offset", "Upload-Checksum"} <= patch
