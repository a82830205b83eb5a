"""Follows /SKILL.md literally: its Python blocks, in order, as one program.

Two things are replaced, and each must be there exactly once: `pay`, whose deposit is made at the Relay sandbox
in place of a chain, and for the second run the choice of a wallet.
"""

import json
import os
import re
import subprocess
import sys
import tempfile

import requests

ORIGIN = os.environ["CROCHET_ORIGIN"]
RELAY = os.environ["CROCHET_RELAY"]
PAY = f'''
def pay(payment):
    deposit = {{"requestId": payment["relay_request_id"]}}
    requests.post("{RELAY}/sandbox/deposits", json=deposit, timeout=30).raise_for_status()
'''


def once(program, pattern, replacement):
    changed, count = re.subn(pattern, lambda _: replacement, program, flags=re.S | re.M)
    assert count == 1, f"{pattern!r} stands {count} times"
    return changed


def follow(program):
    with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
        file.write(program)
        file.flush()
        ran = subprocess.run([sys.executable, file.name], capture_output=True, text=True, timeout=120)
    if ran.returncode != 0:
        sys.exit(f"SKILL.md does not lead to a paid call:\n{ran.stdout}{ran.stderr}")
    return json.loads(ran.stdout.splitlines()[-1])


served = requests.get(ORIGIN + "/SKILL.md", timeout=30)
assert served.headers["Content-Type"].startswith("text/markdown"), served.headers
blocks = re.findall(r"^```python\n(.*?)^```$", served.text, flags=re.S | re.M)
assert len(blocks) >= 6, f"{len(blocks)} blocks"
assert ORIGIN in served.text, "the addresses are this stack's"
program = once("\n\n".join(blocks), r"^def pay\(payment\):\n(?:    .*?\n|\n)+?(?=\n\npay\()", PAY)

for wallet in ["Solana", "Evm"]:
    said = follow(once(program, r"^wallet = Solana\(\)$", f"wallet = {wallet}()"))
    assert said["request_id"].startswith("gw_req_"), said
    assert said["charged"]["amount_micros"] > 0, said
    print(f"{wallet}: {said['request_id']} for {said['charged']['amount_micros']} micro-dollars")
