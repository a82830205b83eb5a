"""Holds what is deployed with to what it says it is: the chart as Helm renders it, the compose file, the Dockerfile, the
systemd units; and every variable they set to the settings that the programs know.

CROCHET_HELM names Helm's program. What cannot be run on this machine is said, and is no failure.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import compose_spec
import yaml

DEPLOY = pathlib.Path(__file__).resolve().parent.parent
BIN = pathlib.Path(sys.executable).parent
CHART = DEPLOY / "helm/crochet"
HELM = os.environ["CROCHET_HELM"]
SETTLEMENT = "settlementAddress=0x52908400098527886E0F7030069857D2E4169EE7"
# The chart as it comes, with everything, and with as little as may be.
VALUES = {
    "as it comes": [],
    "with everything": [
        "secrets.publicTls=public-tls", "serviceMonitor.enabled=true", "networkPolicy.collector.cidrs={10.1.0.0/16}",
        "controlPlane.env.AUDIT_SECONDS=60", "gateway.env.GATEWAY_THREADS=2", "gateway.service.type=LoadBalancer",
    ],
    "with little": ["migrations.enabled=false", "networkPolicy.enabled=false"],
}
# What other programs than ours read.
OTHERS = re.compile(r"POSTGRES_|GF_|RELAY_SANDBOX_LISTEN$|RELAY_WEBHOOK_URL$")
# Kinds that belong to others than Kubernetes, which the validator has no schema of.
FOREIGN = {"PodMonitor"}

failed = False


def said(what, problems):
    global failed
    print(f"  {what}: {'holds' if not problems else 'FAILED'}")
    for problem in problems:
        print(f"    {problem}")
    failed |= bool(problems)


def run(*command):
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)


def outcome(*command):
    ended = run(*command)
    return [] if ended.returncode == 0 else (ended.stdout + ended.stderr).splitlines()


def rendered(values):
    sets = [word for value in [SETTLEMENT, *values] for word in ("--set", value)]
    ended = run(HELM, "template", "crochet", CHART, *sets)
    if ended.returncode != 0:
        return None, ended.stderr.splitlines()
    return ended.stdout, []


def known_settings():
    page = (DEPLOY / "CONFIGURATION.md").read_text()
    return set(re.findall(r"^\| `([A-Z0-9_]+)`", page, re.MULTILINE))


def unknown(names):
    settings = known_settings()
    return [f"{name} is no setting" for name in sorted(names) if name not in settings and not OTHERS.match(name)]


def chart(directory):
    said("helm lint --strict", outcome(HELM, "lint", "--strict", CHART, "--set", SETTLEMENT))
    refused = run(HELM, "template", "crochet", CHART)
    said("without a settlement address it is not rendered", [] if refused.returncode else ["it was"])
    for name, values in VALUES.items():
        text, problems = rendered(values)
        if text is None:
            said(f"the chart {name}", problems)
            continue
        documents = [one for one in yaml.safe_load_all(text) if one]
        ours = [one for one in documents if one["kind"] not in FOREIGN]
        file = directory / "chart.yaml"
        file.write_text(yaml.safe_dump_all(ours))
        problems = outcome(BIN / "kubernetes-validate", "--strict", "-k", "1.37.0", file)
        said(f"the chart {name}, {len(documents)} objects, in Kubernetes 1.37", problems + unknown(chart_names(documents)) + reach(ours))


def chart_names(documents):
    for one in documents:
        pod = one.get("spec", {}).get("template", {}).get("spec", {})
        for container in pod.get("containers", []):
            yield from (variable["name"] for variable in container.get("env", []))


def reach(documents):
    """Who reaches whom, by the network policies."""
    policies = {one["metadata"]["name"]: one["spec"] for one in documents if one["kind"] == "NetworkPolicy"}
    if not policies:
        return []
    plane, gateway = policies["crochet-control-plane"], policies["crochet-gateway"]
    problems = []
    for rule in plane["ingress"]:
        ports = {port["port"] for port in rule["ports"]}
        names = {
            peer.get("podSelector", {}).get("matchLabels", {}).get("app.kubernetes.io/name") for peer in rule.get("from", [])
        }
        if ports & {8081, 8443} and names != {"gateway-proxy"}:
            problems.append(f"the control plane's {ports} is reached by {names or 'everybody'}")
    if any(port["port"] == 5432 for rule in gateway["egress"] for port in rule["ports"]):
        problems.append("a gateway reaches Postgres")
    return problems


def compose():
    text = (DEPLOY / "compose.yaml").read_text()
    # `${NAME:-default}` and `${NAME:?where}`, as the shell would fill them in.
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
    text = re.sub(r"\$\{\w+:\?[^}]*\}", "said", text)
    # Merges and anchors are YAML's, and resolved before the specification is asked.
    file = yaml.safe_load(text)
    problems = []
    try:
        compose_spec.PyCompose.from_yaml(yaml.safe_dump(file)).validate()
    except Exception as error:  # The parser's own kinds are not exported.
        problems.append(str(error))
    names = {name for service in file["services"].values() for name in (service.get("environment") or {})}
    said("compose.yaml, by the specification and by our settings", problems + unknown(names))


def units(directory):
    if not shutil.which("systemd-analyze"):
        print("  systemd units: NOT RUN, there is no systemd-analyze here")
        return
    for unit in (DEPLOY / "systemd").glob("*.service"):
        # The programs are not installed here; everything else is as it stands.
        text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", unit.read_text(), flags=re.MULTILINE)
        (directory / unit.name).write_text(text)
    for unit in sorted(directory.glob("*.service")):
        ended = run("systemd-analyze", "verify", "--man=no", unit)
        # It may also warn of what else is on this machine.
        about = [line for line in ended.stderr.splitlines() if unit.name in line or str(directory) in line]
        said(unit.name, about + ([] if ended.returncode == 0 else [f"systemd-analyze ended with {ended.returncode}"]))


with tempfile.TemporaryDirectory() as kept:
    chart(pathlib.Path(kept))
    compose()
    said("Dockerfile, by hadolint", outcome(BIN / "hadolint", DEPLOY / "Dockerfile"))
    units(pathlib.Path(kept))
print("  not run: no image is built, no container started, no cluster asked")
sys.exit(failed)
