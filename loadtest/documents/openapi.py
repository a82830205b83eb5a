"""The served OpenAPI document is valid, and the checked-in one but for its origin."""

import json
import os
import pathlib
import sys

import requests
from openapi_spec_validator import validate

origin = os.environ["CROCHET_ORIGIN"]
checked_in = pathlib.Path(__file__).parents[2] / "control-plane" / "openapi.json"

served = requests.get(origin + "/api/openapi.json", timeout=30)
assert served.status_code == 200, served.status_code
assert served.headers["Content-Type"] == "application/json", served.headers
document = served.json()
validate(document)
assert document["openapi"].startswith("3.1"), document["openapi"]

# The repository's document is made with the default origin.
there = json.loads(checked_in.read_text())
default = there["servers"][0]["url"].removesuffix("/api/v1")
here = json.loads(served.text.replace(origin, default))
if here != there:
    sys.exit("the served document is not the checked-in one")
operations = sum(len(item) for item in document["paths"].values())
print(f"{operations} operations, valid OpenAPI {document['openapi']}")
