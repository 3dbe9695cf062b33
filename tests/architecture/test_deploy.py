"""What is shipped in deploy/ fits the Holdfast that it is shipped with."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from holdfast.api.metrics import exposition
from holdfast.api.server import STOP_S
from holdfast.base.clock import SystemClock
from holdfast.cli.durations import seconds
from holdfast.engine.host import HostLimits
from holdfast.engine.node import find_node
from holdfast.settings import Settings, load, variable
from holdfast.web.addresses import parse_allowed

DEPLOY = Path(__file__).parents[2] / "deploy"
MADE_UP_OF_PARTS = re.compile(r"holdfast_[a-z_]+")
ORDERLY_STOP_S = 10
"""What a stop may take: tests/acceptance/test_stop.py."""


@pytest.mark.parametrize("name", ["prometheus/holdfast.rules.yml", "grafana/holdfast.json"])
def test_every_metric_asked_for_exists(name: str) -> None:
    """A renamed metric would leave an alert that never fires and a panel that stays empty."""
    exposed = set(re.findall(r"^# TYPE (\S+)", exposition([], [], now=SystemClock().now()).decode(), re.MULTILINE))
    asked = set(MADE_UP_OF_PARTS.findall((DEPLOY / name).read_text()))
    assert asked
    assert asked <= exposed


# Settings.


def test_every_variable_named_is_a_setting() -> None:
    """A misspelt one would prevent the start."""
    known = {variable(name) for name in Settings.model_fields}
    for file in (path for path in DEPLOY.rglob("*") if path.is_file()):
        named = set(re.findall(r"HOLDFAST_[A-Z_]*[A-Z]", file.read_text()))
        assert named <= known, file


def test_the_settings_file_can_be_read(tmp_path: Path) -> None:
    """As it is, and with everything that it proposes switched on."""
    text = (DEPLOY / "holdfast.toml").read_text()
    settings = load({}, file=DEPLOY / "holdfast.toml")
    assert (str(settings.data_dir), str(settings.cache_dir)) == ("/var/lib/holdfast", "/var/cache/holdfast")
    everything = tmp_path / "holdfast.toml"
    everything.write_text(re.sub(r"^# (\[\w+\]|\w+ = )", r"\1", text, flags=re.MULTILINE))
    proposed = load({}, file=everything)
    assert {"api_key", "database_url", "redis_url", "alert_urls", "webhook_url", "backup_recipients"} <= (
        proposed.model_fields_set
    )


def test_the_deadlines_of_a_stop_add_up_to_less_than_ten_seconds() -> None:
    """The worst case is a caller who reads slowly and an engine host that does not respond."""
    limits, margin_s = HostLimits(), 1
    assert STOP_S + limits.stop_deadline_s + limits.term_deadline_s + margin_s <= ORDERLY_STOP_S


# systemd.


def unit() -> configparser.SectionProxy:
    parser = configparser.RawConfigParser(strict=False, comment_prefixes=("#",), delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # the documented way to keep capitals
    parser.read(DEPLOY / "systemd" / "holdfast.service")
    return parser["Service"]


def test_the_unit_leaves_time_for_an_orderly_stop_and_then_leaves_nothing() -> None:
    """More than a stop may take; TERM to Holdfast alone, and KILL to the whole group; no restart after exit code 2."""
    service = unit()
    assert int(service["TimeoutStopSec"]) > ORDERLY_STOP_S
    assert service["KillMode"] == "mixed"
    assert (service["Restart"], service["RestartPreventExitStatus"]) == ("on-failure", "2")


def test_the_unit_writes_where_the_settings_say_and_nowhere_else() -> None:
    """Everything else is read-only, and no root."""
    service, settings = unit(), load({}, file=DEPLOY / "holdfast.toml")
    assert str(settings.data_dir) == f"/var/lib/{service['StateDirectory']}"
    assert str(settings.cache_dir) == f"/var/cache/{service['CacheDirectory']}"
    assert (service["ProtectSystem"], service["User"], service["NoNewPrivileges"]) == ("strict", "holdfast", "yes")
    assert service["CapabilityBoundingSet"] == ""


def test_the_unit_lets_node_compile() -> None:
    """V8 writes machine code and runs it; MemoryDenyWriteExecute would kill it at its start."""
    assert "MemoryDenyWriteExecute" not in unit()


# pm2.


def test_pm2_runs_holdfast_as_it_is_and_waits_for_it() -> None:
    """Read by the Node that Holdfast brings."""
    file = DEPLOY / "pm2" / "ecosystem.config.cjs"
    script = f"process.stdout.write(JSON.stringify(require({json.dumps(str(file))})))"
    done = subprocess.run([find_node().executable, "-e", script], capture_output=True, text=True, check=True)
    (app,) = json.loads(done.stdout)["apps"]
    assert (app["interpreter"], app["args"], app["instances"]) == ("none", "serve", 1)
    assert app["kill_timeout"] > 1000 * ORDERLY_STOP_S
    assert 2 in app["stop_exit_codes"]


# Docker.


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "docker" / "compose.yaml").read_text())
    return found


def test_the_compose_file_is_one() -> None:
    """By the schema of the Compose specification."""
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    file = DEPLOY / "docker" / "compose.yaml"
    done = subprocess.run([*check, file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_images_name_a_version() -> None:
    """`latest`, or no tag, would be a different version on another day."""
    dockerfile = (DEPLOY / "docker" / "Dockerfile").read_text()
    bases = re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)
    images = [service["image"] for service in compose()["services"].values()]
    for image in [*bases, *images]:
        assert re.search(r":\d", image), image
    version = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]["version"]
    assert f"holdfast:{version}" in images
    assert f"-t holdfast:{version} " in dockerfile


def test_ports_are_open_to_this_machine_alone() -> None:
    """The databases' ports are not published."""
    services = compose()["services"]
    ports = {name: service.get("ports", []) for name, service in services.items()}
    assert ports == {"holdfast": ["127.0.0.1:3000:3000"], "postgres": [], "valkey": []}
    assert compose()["networks"]["inside"] == {"internal": True}
    assert {name for name, service in services.items() if service["networks"] == ["inside"]} == {"postgres", "valkey"}


def test_the_compose_file_contains_no_secret() -> None:
    """Passwords and keys come from files."""
    environments = [service.get("environment", {}) for service in compose()["services"].values()]
    secret = {variable(name) for name, field in Settings.model_fields.items() if not field.repr} - {
        "HOLDFAST_REDIS_URL"  # without a password, inside
    }
    for environment in environments:
        written = {name for name, value in environment.items() if not re.fullmatch(r"\$\{\w+:-\}", str(value))}
        assert not secret & written
        assert "POSTGRES_PASSWORD" not in environment


def test_receivers_in_the_compose_network_are_served() -> None:
    """Their addresses are private and named; media addresses lead to Holdfast's name there; the databases stay shut."""
    environment = compose()["services"]["holdfast"]["environment"]
    defaults = {name: re.sub(r"^\$\{\w+:-(.*)\}$", r"\1", value) for name, value in environment.items()}
    allowed = parse_allowed(defaults["HOLDFAST_ALLOWED_ADDRESSES"])
    assert allowed.trusts("app", 8080)
    assert not any(allowed.trusts(*place) for place in (("postgres", 5432), ("valkey", 6379), ("app", 22)))
    assert not allowed.permits("172.18.0.2", 8080)
    assert defaults["HOLDFAST_PUBLIC_URL"] == "http://holdfast:3000"
    assert compose()["services"]["holdfast"]["hostname"] == "holdfast"
    assert defaults["HOLDFAST_WEBHOOK_URL"] == ""


def test_containers_start_well_and_stop_in_order() -> None:
    """Holdfast waits for databases that answer, is not root, and gets its time at the end."""
    holdfast = compose()["services"]["holdfast"]
    assert int(holdfast["stop_grace_period"].removesuffix("s")) > ORDERLY_STOP_S
    assert {needed["condition"] for needed in holdfast["depends_on"].values()} == {"service_healthy"}
    last_stage = (DEPLOY / "docker" / "Dockerfile").read_text().rpartition("\nFROM ")[2]
    assert re.search(r"^USER [1-9]\d*$", last_stage, re.MULTILINE)
    assert "/healthz" in last_stage


def test_no_node_modules_get_into_the_image() -> None:
    """libsignal is GPL-3.0: what is passed on holds none of it."""
    ignored = (DEPLOY / "docker" / "Dockerfile.dockerignore").read_text().splitlines()
    assert ignored[0] == "*", "only what is named goes in"
    assert ignored.index("**/node_modules") > ignored.index("!src")


# Kubernetes.


def kubernetes() -> dict[str, dict[str, Any]]:
    """The documents by kind."""
    documents = yaml.safe_load_all((DEPLOY / "kubernetes" / "holdfast.yaml").read_text())
    return {document["kind"]: document for document in documents}


def pod() -> dict[str, Any]:
    found: dict[str, Any] = kubernetes()["Deployment"]["spec"]["template"]["spec"]
    return found


def test_a_pod_drains_before_it_stops_and_has_time_for_both() -> None:
    """The new pod comes first, and there is no pause in which the other pods would give it sessions of theirs."""
    (container,) = pod()["containers"]
    command = container["lifecycle"]["preStop"]["exec"]["command"]
    assert command[:3] == ["holdfast", "drain", "--timeout"]
    assert pod()["terminationGracePeriodSeconds"] > seconds(command[3]) + ORDERLY_STOP_S
    deployment = kubernetes()["Deployment"]["spec"]
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert "minReadySeconds" not in deployment


def test_an_unreachable_database_restarts_no_pod() -> None:
    """Only readiness asks whether the database answers; a pod that a restart can't help stays."""
    (container,) = pod()["containers"]
    paths = {probe: container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")}
    assert paths == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}


def test_the_parts_for_kubernetes_fit_together() -> None:
    """Labels, ports, user, folders and version are those of the image."""
    documents, (container,) = kubernetes(), pod()["containers"]
    labels = documents["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert documents["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert documents["Service"]["spec"]["selector"] == labels
    assert documents["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert container["image"] == compose()["services"]["holdfast"]["image"]
    dockerfile = (DEPLOY / "docker" / "Dockerfile").read_text()
    assert f"USER {pod()['securityContext']['runAsUser']}\n" in dockerfile
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {"/etc/holdfast", "/var/lib/holdfast", "/var/cache/holdfast"} <= mounted
