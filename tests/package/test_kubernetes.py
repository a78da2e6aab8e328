"""The Kubernetes example: valid, and consistent in itself and with the product."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from comfyui_stateless.config import Settings
from comfyui_stateless.launcher.settings import LauncherSettings
from tests.package import dockerfile, manifests
from tests.package.tools import CHECKOUT, run, tool

EXTENSIONS = {"Kustomization", "PodMonitor", "ScaledObject"}
"""Kinds that Kubernetes itself does not have, and so no schema of it."""

NAME = {"app.kubernetes.io/name": "comfyui-stateless"}


def pod() -> Any:
    return manifests.only("Deployment")["spec"]["template"]["spec"]


@pytest.mark.parametrize("version", ["1.29", "1.37"])
@pytest.mark.parametrize("path", manifests.files(), ids=lambda path: path.name)
def test_it_is_as_kubernetes_wants_it(path: Path, version: str, tmp_path: Path) -> None:
    kinds = {each["kind"] for each in yaml.safe_load_all(path.read_text())}
    said = run([tool("kubernetes-validate"), "--strict", "-k", version, path], tmp_path, tmp_path)
    assert ("Couldn't find schema" in said) == bool(kinds & EXTENSIONS)
    assert ("passed" in said) == bool(kinds - EXTENSIONS)


def test_a_mistake_would_be_found(tmp_path: Path) -> None:
    text = (manifests.FOLDER / "service.yaml").read_text().replace("targetPort", "targetport")
    (tmp_path / "wrong.yaml").write_text(text)
    validate = tool("kubernetes-validate")
    with pytest.raises(AssertionError, match="targetport"):
        run([validate, "--strict", tmp_path / "wrong.yaml"], tmp_path, tmp_path)


def test_the_kustomization_names_files_that_are_there() -> None:
    listed = set(manifests.only("Kustomization")["resources"])
    named = set(re.findall(r"^  #? ?- (\S+\.yaml)$", text_of("kustomization.yaml"), re.MULTILINE))
    rest = {"kustomization.yaml", "secret.example.yaml"}
    assert listed < named
    assert named | rest == {path.name for path in manifests.files()}


def text_of(name: str) -> str:
    return (manifests.FOLDER / name).read_text()


def test_all_that_selects_pods_selects_these() -> None:
    assert manifests.only("Deployment")["spec"]["template"]["metadata"]["labels"] == NAME
    for kind in ("Deployment", "PodDisruptionBudget", "PodMonitor"):
        assert manifests.only(kind)["spec"]["selector"]["matchLabels"] == NAME
    assert manifests.only("Service")["spec"]["selector"] == NAME
    for kind in ("ScaledObject", "HorizontalPodAutoscaler"):
        target = manifests.only(kind)["spec"]["scaleTargetRef"]
        assert target["name"] == manifests.only("Deployment")["metadata"]["name"]


def test_ports_are_named_as_the_container_names_its_one() -> None:
    (port,) = manifests.container()["ports"]
    assert port["containerPort"] == LauncherSettings.model_fields["port"].default
    probes = ("startupProbe", "livenessProbe", "readinessProbe")
    used = {manifests.container()[probe]["httpGet"]["port"] for probe in probes}
    used |= {each["targetPort"] for each in manifests.only("Service")["spec"]["ports"]}
    used |= {each["port"] for each in manifests.only("PodMonitor")["spec"]["podMetricsEndpoints"]}
    assert used == {port["name"]}


def test_a_container_may_take_an_hour_to_become_healthy() -> None:
    probe = manifests.container()["startupProbe"]
    assert probe["httpGet"]["path"] == "/health"
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 3600


def test_there_is_time_for_the_queue_for_what_runs_and_for_messages() -> None:
    script = manifests.before_stop()
    tries = int(re.search(r"seq (\d+)", script)[1])  # type: ignore[index]
    first = int(re.search(r"STOP_AFTER_S:-(\d+)", script)[1])  # type: ignore[index]
    grace = float(manifests.variables()["SHUTDOWN_GRACE_S"])
    assert pod()["terminationGracePeriodSeconds"] >= first + tries + grace + 10


def test_every_variable_is_a_setting() -> None:
    fields = {name.upper() for name in (*Settings.model_fields, *LauncherSettings.model_fields)}
    (secret, metrics) = manifests.objects("Secret")
    assert {*manifests.variables(), *secret["stringData"]} <= fields
    assert metrics["stringData"]["key"] in secret["stringData"]["API_KEYS"].split(",")


def test_every_volume_is_there_and_used_and_covers_what_is_written_to() -> None:
    mounts = manifests.container()["volumeMounts"]
    assert {each["name"] for each in mounts} == {each["name"] for each in pod()["volumes"]}
    paths = {each["mountPath"] for each in mounts if not each.get("readOnly")}
    written = manifests.variables()
    assert {written["CACHE_DIR"], written["STATE_DIR"], "/tmp", "/home/comfy"} <= paths
    folders = ("models", "input", "output", "temp", "user")
    assert {f"/opt/ComfyUI/{name}" for name in folders} <= paths


def test_names_of_secrets_claims_and_config_maps_fit() -> None:
    secrets = {each["metadata"]["name"] for each in manifests.objects("Secret")}
    (source,) = manifests.container()["envFrom"]
    (scrape,) = manifests.only("PodMonitor")["spec"]["podMetricsEndpoints"]
    assert {source["secretRef"]["name"], scrape["authorization"]["credentials"]["name"]} == secrets
    volumes = {each["name"]: each for each in pod()["volumes"]}
    claim = manifests.only("PersistentVolumeClaim")["metadata"]["name"]
    assert volumes["cache"]["persistentVolumeClaim"]["claimName"] == claim
    config = manifests.only("ConfigMap")
    assert volumes["manifest"]["configMap"]["name"] == config["metadata"]["name"]
    assert manifests.variables()["MANIFEST"] == f"/etc/comfyui/{next(iter(config['data']))}"


def test_the_user_is_the_image_s_and_not_root() -> None:
    api = next(
        stage
        for stage in dockerfile.read(CHECKOUT / "docker" / "Dockerfile").stages
        if stage.name == "api"
    )
    security = pod()["securityContext"]
    ids = f"{security['runAsUser']}:{security['runAsGroup']}"
    assert api.all("USER")[-1].text == ids
    assert security["runAsNonRoot"] is True


@pytest.mark.parametrize("name", ["autoscaling-keda.yaml", "autoscaling-hpa.yaml"])
def test_pods_are_scaled_by_the_same_metric_to_the_same_numbers(name: str) -> None:
    assert "comfyui_stateless_queue_depth" in text_of(name)
    scaled = manifests.only("ScaledObject")["spec"]
    hpa = manifests.only("HorizontalPodAutoscaler")["spec"]
    (trigger,) = scaled["triggers"]
    (metric,) = hpa["metrics"]
    assert trigger["metadata"]["threshold"] == metric["pods"]["target"]["averageValue"]
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (
        hpa["minReplicas"],
        hpa["maxReplicas"],
    )
