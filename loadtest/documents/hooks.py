"""Who sends what schemathesis makes up: its settings know one credential, and this API has three.

The seller owns a listing and its endpoint, the buyer has bought from it, and a person may claim agents.
"""

import os

import requests
import schemathesis

ORIGIN = os.environ["CROCHET_ORIGIN"]
SELLER = os.environ["CROCHET_SELLER_KEY"]
BUYER = os.environ["CROCHET_BUYER_KEY"]


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
        signed_up = requests.post(f"{ORIGIN}/api/v1/auth/signup", json=person, timeout=30)
        signed_up.raise_for_status()
        return signed_up.cookies["crochet_session"]

    def set(self, case, data, context):
        case.cookies["crochet_session"] = data


bought = {"tag": ["Gateway", "Payments", "Ledger", "Reviews"]}
claims = {"operation_id": "claimAgent"}
schemathesis.auth().apply_to(**bought)(bearer(BUYER))
schemathesis.auth().apply_to(**claims)(Session)
schemathesis.auth().skip_for(**bought).skip_for(**claims)(bearer(SELLER))

keys = requests.get(f"{ORIGIN}/api/v1/api-keys", headers={"Authorization": f"Bearer {SELLER}"}, timeout=30)
IN_USE = {key["id"] for key in keys.json()["data"]}


@schemathesis.hook
def before_call(context, case, kwargs):
    """Keys are made and revoked, but not the one that everything else is sent with."""
    if case.operation.label == "DELETE /api-keys/{id}" and case.path_parameters.get("id") in IN_USE:
        case.path_parameters["id"] = "01890a5d-ac96-774b-bcce-b302099a8057"
