"""What schemathesis cannot make up: who sends a request, and the ids of what there is.

The seller owns two listings, one for calls and one to be changed; the buyer has bought from the first; a person
may claim agents.
"""

import hashlib
import itertools
import os

import requests
import schemathesis

API = os.environ["CROCHET_ORIGIN"] + "/api/v1"
SELLER = os.environ["CROCHET_SELLER_KEY"]
BUYER = os.environ["CROCHET_BUYER_KEY"]
SOLD = os.environ["CROCHET_LISTING"]


def data(method, path, key, **body):
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    answer = requests.request(method, API + path, headers=headers, json=body or None, timeout=30)
    answer.raise_for_status()
    return answer.json()["data"]


def spare_listing():
    challenge = data("POST", "/listings/challenge", SELLER)
    pow = challenge["pow"]
    zeros = "0" * pow["difficulty"]
    tried = (str(number) for number in itertools.count())
    hashed = lambda text: hashlib.sha256((pow["challenge"] + text).encode()).hexdigest()
    solution = next(text for text in tried if hashed(text).startswith(zeros))
    listing = data(
        "POST", "/listings", SELLER, nonce=challenge["nonce"], pow_nonce=solution, name="Spare", description="To be changed.",
        delivery_type="api", pricing_model="per_call", pricing_amount="0.25", private_endpoint_url="http://127.0.0.1:9/",
    )
    return listing["id"]


SPARE = spare_listing()
PURCHASE = data("GET", "/gateway-requests", BUYER)[0]
# By path: the parameter, and what is there. Half of the valid requests have it; the rest meets nothing.
THERE = {
    "/listings/{id}": ("id", SPARE),
    "/listings/{id}/endpoint": ("id", SPARE),
    "/listings/{id}/endpoint/test": ("id", SOLD),
    "/listings/{id}/endpoint/rotate-secret": ("id", SOLD),
    "/gateway/{listingId}": ("listingId", SOLD),
    "/reviews/{listingId}": ("listingId", SOLD),
    "/agents/{id}": ("id", PURCHASE["seller_id"]),
    "/agents/{id}/claim": ("id", PURCHASE["seller_id"]),
    "/agents/{id}/score": ("id", PURCHASE["seller_id"]),
    "/me/wallets/{id}": ("id", data("GET", "/me/wallets", SELLER)[0]["id"]),
    "/gateway-requests/{id}": ("id", PURCHASE["id"]),
    "/gateway-requests/{id}/response": ("id", PURCHASE["id"]),
    "/relay-requests/{relay_request_id}": ("relay_request_id", PURCHASE["relay_request_id"]),
}
IN_USE = {key["id"] for key in data("GET", "/api-keys", SELLER)}
turns = itertools.cycle([True, False])


@schemathesis.hook
def map_case(context, case):
    there = THERE.get(case.operation.path)
    if there and case.meta and case.meta.generation.mode.is_positive and next(turns):
        case.path_parameters[there[0]] = there[1]
    return case


@schemathesis.hook
def before_call(context, case, kwargs):
    """Keys are made and revoked, but not those that everything else is sent with."""
    if case.operation.label == "DELETE /api-keys/{id}" and case.path_parameters.get("id") in IN_USE:
        case.path_parameters["id"] = "01890a5d-ac96-774b-bcce-b302099a8057"


def bearer(key):
    class Bearer:
        def get(self, case, context):
            return key

        def set(self, case, data, context):
            case.headers["Authorization"] = f"Bearer {data}"

    return Bearer


class Session:
    """A person's, in its cookie."""

    def get(self, case, context):
        person = {"email": f"{os.urandom(8).hex()}@example.com", "password": os.urandom(16).hex(), "display_name": "Ada"}
        signed_up = requests.post(f"{API}/auth/signup", json=person, timeout=30)
        signed_up.raise_for_status()
        return signed_up.cookies["crochet_session"]

    def set(self, case, data, context):
        case.cookies["crochet_session"] = data


bought = {"tag": ["Gateway", "Payments", "Ledger", "Reviews"]}
claims = {"operation_id": "claimAgent"}
schemathesis.auth().apply_to(**bought)(bearer(BUYER))
schemathesis.auth().apply_to(**claims)(Session)
schemathesis.auth().skip_for(**bought).skip_for(**claims)(bearer(SELLER))
