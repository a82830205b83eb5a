"""What a real seller receives verifies with the official Standard Webhooks libraries, in Python here and in
JavaScript by signatures.mjs: with one secret and, while a rotation overlaps, with both. Nothing altered does.
"""

import hashlib
import http.server
import json
import os
import subprocess
import threading
import time
import uuid
from pathlib import Path

import requests
from standardwebhooks import Webhook, WebhookVerificationError

BASE = os.environ["CROCHET_ORIGIN"] + "/api/v1"
RELAY = os.environ["CROCHET_RELAY"]
SELLER = {"Authorization": "Bearer " + os.environ["CROCHET_SELLER_KEY"]}
BUYER = {"Authorization": "Bearer " + os.environ["CROCHET_BUYER_KEY"]}
NODE = Path(os.environ["CROCHET_NODE"])
SIGNED = ["webhook-id", "webhook-timestamp", "webhook-signature"]

received = []


class Seller(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        received.append({"body": body, "headers": {name: self.headers[name] for name in SIGNED}})
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


def data(answer, status):
    assert answer.status_code == status, answer.text
    return answer.json()["data"]


def solved(pow):
    for number in range(10**9):
        digest = hashlib.sha256(f"{pow['challenge']}{number}".encode()).hexdigest()
        if digest.startswith("0" * pow["difficulty"]):
            return str(number)


def publish(port):
    challenge = data(requests.post(BASE + "/listings/challenge", headers=SELLER, timeout=30), 200)
    listing = {
        "nonce": challenge["nonce"], "pow_nonce": solved(challenge["pow"]), "name": f"Signed {uuid.uuid4()}",
        "description": "Whose calls are verified by others.", "delivery_type": "api", "pricing_model": "per_call",
        "pricing_amount": "1", "status": "active", "private_endpoint_url": f"http://127.0.0.1:{port}/hook",
    }
    return data(requests.post(BASE + "/listings", json=listing, headers=SELLER, timeout=30), 201)


def bought(listing, body):
    """A paid call with exactly these bytes, and what the seller received."""
    url, json_type = f"{BASE}/gateway/{listing}", {"Content-Type": "application/json"}
    asked = requests.post(url, data=body, headers=BUYER | json_type, timeout=30)
    assert asked.status_code == 402, asked.text
    relay = asked.json()["data"]["payment"]["relay_request_id"]
    requests.post(RELAY + "/sandbox/deposits", json={"requestId": relay}, timeout=30).raise_for_status()
    paid = {"X-Crochet-Relay-Request-Id": relay}
    for _ in range(600):
        answer = requests.post(url, data=body, headers=BUYER | json_type | paid, timeout=60)
        if answer.status_code not in (202, 409):
            break
        time.sleep(0.05)
    assert answer.status_code == 200, answer.text
    return received[-1]


def verifies(secret, call):
    try:
        Webhook(secret).verify(call["body"], call["headers"])
    except WebhookVerificationError:
        return False
    return True


def altered(call):
    """The same call with one thing changed, one after the other."""
    yield call | {"body": call["body"] + b" "}
    yield call | {"body": call["body"].replace(b"1", b"2")}
    for name, value in [
        ("webhook-id", call["headers"]["webhook-id"] + "0"),
        ("webhook-timestamp", str(int(call["headers"]["webhook-timestamp"]) + 1)),
        ("webhook-timestamp", str(int(call["headers"]["webhook-timestamp"]) - 3600)),
        ("webhook-signature", call["headers"]["webhook-signature"].replace("v1,", "v2,")),
    ]:
        yield call | {"headers": call["headers"] | {name: value}}


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Seller)
threading.Thread(target=server.serve_forever, daemon=True).start()
listing = publish(server.server_port)
first = listing["gateway_endpoint"]["signing_secret"]
other = "whsec_" + "A" * 43 + "="
cases = []
bodies = ['{"n":1}', ' {"n": 1,\r\n"é":"\U0001f600\\u00e9"}\n', "[1]", "1", '"1"', '{"n":1,"long":"' + "x" * 100_000 + '"}']
for body in bodies:
    cases.append((bought(listing["id"], body.encode()), [first]))

rotated = requests.post(f"{BASE}/listings/{listing['id']}/endpoint/rotate-secret", headers=SELLER, timeout=30)
second = data(rotated, 200)["signing_secret"]
for attempt in range(100):
    call = bought(listing["id"], json.dumps({"n": 1, "after": attempt}).encode())
    if verifies(second, call):
        break
    time.sleep(0.05)
cases.append((call, [first, second]))

for call, secrets in cases:
    for secret in secrets:
        assert verifies(secret, call), call["headers"]
        assert not any(verifies(secret, wrong) for wrong in altered(call)), call["headers"]
    assert not verifies(other, call), call["headers"]
print(f"Python: {len(cases)} calls, the last under both secrets")

written = [
    {
        "secrets": secrets, "other": other, "call": text, "altered": [
            {"headers": wrong["headers"], "body": wrong["body"].decode()} for wrong in altered(call)
        ],
    }
    for call, secrets in cases
    for text in [{"headers": call["headers"], "body": call["body"].decode()}]
]
(NODE / "calls.json").write_text(json.dumps(written))
subprocess.run(["node", "signatures.mjs"], cwd=NODE, check=True, timeout=60)
