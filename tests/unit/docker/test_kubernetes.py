"""Static checks of the Kubernetes manifests; no cluster is needed."""

import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from typer.main import get_command

from recsys.cli.app import app
from service.api.routes import health
from service.serve import read_settings
from service.settings import Settings
from tests.support.documents.command_check import check_command
from tests.support.documents.markdown import ROOT, Page
from tests.unit.docker.test_compose import OURS, series_names

FOLDER = ROOT / "docker" / "kubernetes"
PATCH = FOLDER / "components" / "object-store" / "copy.yaml"
VERSIONS = (
    "1.30",
    "1.37",
)  # the oldest that has all fields in use, and the newest of the validator
OPERATORS = {"ScaledObject", "PodMonitor"}  # kinds that are not of Kubernetes itself
WITH_PODS = {"Deployment", "Job", "CronJob"}
COMING = {"retrain"}  # a command of `components/retraining`
Resource = dict[str, Any]


@cache
def read(path: Path) -> list[Resource]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def resources() -> Iterator[Resource]:
    for path in FOLDER.rglob("*.yaml"):
        if path.name != "kustomization.yaml" and path != PATCH:
            yield from read(path)


def named(kind: str, name: str) -> Resource:
    (found,) = [r for r in resources() if (r["kind"], r["metadata"]["name"]) == (kind, name)]
    return found


def pods() -> Iterator[tuple[str, Resource]]:
    """Yield the name and the template of everything that starts pods."""
    for resource in resources():
        if resource["kind"] in WITH_PODS:
            spec = resource["spec"]
            spec = spec["jobTemplate"]["spec"] if resource["kind"] == "CronJob" else spec
            yield resource["metadata"]["name"], spec["template"]


def containers() -> Iterator[Resource]:
    for _, pod in pods():
        yield from pod["spec"]["containers"]
    yield from read(PATCH)[0]["spec"]["template"]["spec"]["initContainers"]


def api() -> Resource:
    template: Resource = named("Deployment", "recsys-api")["spec"]["template"]["spec"]
    return template


def check(resource: Resource, *versions: str) -> None:
    for version in versions:
        kubernetes_validate.validate(resource, version, strict=True)


def test_every_resource_is_valid() -> None:
    checked = [resource for resource in resources() if resource["kind"] not in OPERATORS]

    assert len(checked) >= 10
    for resource in checked:
        check(resource, *VERSIONS)


def test_an_unknown_field_is_found() -> None:
    service = named("Service", "recsys")

    with pytest.raises(kubernetes_validate.ValidationError, match="portz"):
        check(service | {"spec": service["spec"] | {"portz": []}}, VERSIONS[-1])


def test_kustomize_builds_the_overlay_of_the_page_with_all_components(tmp_path: Path) -> None:
    if (kubectl := shutil.which("kubectl")) is None:
        pytest.skip("there is no kubectl, which contains kustomize")
    shutil.copytree(FOLDER, tmp_path / "session-recsys/docker/kubernetes")
    (block,) = [b for b in Page(ROOT / "docs/kubernetes.md").blocks if b.language == "yaml"]
    overlay = yaml.safe_load(block.text)
    kubernetes = overlay["resources"][0].removesuffix("/base")
    overlay["resources"] = [f"{kubernetes}/trial"]  # the base, and a Job
    overlay["components"] += [f"{kubernetes}/components/{c}" for c in ("object-store", "tracing")]
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))

    ran = subprocess.run(
        [kubectl, "kustomize", str(tmp_path)], capture_output=True, text=True, check=True
    )

    built = list(yaml.safe_load_all(ran.stdout))
    assert len(built) == len(list(resources()))
    for resource in built:
        if resource["kind"] not in OPERATORS:
            check(resource, VERSIONS[-1])
    (deployed,) = [
        r["spec"]
        for r in built
        if (r["kind"], r["metadata"]["name"]) == ("Deployment", "recsys-api")
    ]
    (container,) = deployed["template"]["spec"]["containers"]
    assert "replicas" not in deployed  # the autoscaler decides
    assert container["image"] == "registry.example/session-recsys:serve"
    assert {"name": "RECSYS_WORKERS", "value": "2"} in container["env"]
    assert container["resources"]["limits"] == {"cpu": "2", "memory": "2Gi"}
    volumes = {v.pop("name"): v for v in deployed["template"]["spec"]["volumes"]}
    assert volumes["bundles"] == {"emptyDir": {"sizeLimit": "4Gi"}}


def test_every_file_is_in_a_kustomization() -> None:
    for path in FOLDER.rglob("kustomization.yaml"):
        (listed,) = read(path)
        patches = [patch["path"] for patch in listed.get("patches", ()) if "path" in patch]
        files = {f.name for f in path.parent.glob("*.yaml")} - {path.name}

        assert {f for f in [*listed["resources"], *patches] if ".." not in f} == files


def test_every_container_is_restricted_as_in_compose() -> None:
    for container in containers():
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]
        assert container["image"] in OURS
    for name, pod in pods():
        security = pod["spec"]["securityContext"]
        assert security["runAsNonRoot"], name
        assert f"--uid {security['runAsUser']} " in (ROOT / "Dockerfile").read_text(), name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["spec"]["automountServiceAccountToken"] is False, name


def test_the_pod_ends_within_its_grace_period() -> None:
    (container,) = api()["containers"]
    sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    shutdown = Settings.model_fields["shutdown_seconds"].default

    assert sleep + shutdown < api()["terminationGracePeriodSeconds"]  # 5 + 10 < 30


def test_probes_call_routes_of_the_service() -> None:
    (container,) = api()["containers"]
    probes = {name: container[f"{name}Probe"] for name in ("startup", "readiness", "liveness")}
    routes = {getattr(route, "path", "") for route in health.router.routes}

    assert {p["httpGet"]["path"] for p in probes.values()} == routes - {"/metrics"}
    assert probes["liveness"]["httpGet"]["path"] == "/health/live"
    # as long as HEALTHCHECK of the image waits for the first bundle
    startup = probes["startup"]
    assert (
        f"--start-period={startup['periodSeconds'] * startup['failureThreshold']}s"
        in (ROOT / "Dockerfile").read_text()
    )


def test_variables_are_settings_and_commands_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {f"RECSYS_{name.upper()}" for name in Settings.model_fields} | {"RECSYS_FEEDBACK"}
    commands = get_command(app).commands  # type: ignore[attr-defined]
    for container in containers():
        variables = {v["name"] for v in container.get("env", ())}
        assert variables <= known
        for name in variables:
            monkeypatch.setenv(name, "set")  # an option that a command requires
        if (words := words_of(container)) and words[0] in COMING - set(commands):
            continue
        if words:
            check_command(["recsys", *words])


def words_of(container: Resource) -> list[str]:
    """Return the arguments of recsys, which is the entry point of the images."""
    match container.get("command", []):
        case ["sh", "-c", script]:
            return shlex.split(script.partition(" || ")[0])[1:]
        case ["python", *_]:
            return []
    return list(container.get("args", []))


def test_queries_use_existing_metrics() -> None:
    triggers = named("ScaledObject", "recsys-api")["spec"]["triggers"]
    queries = " ".join(trigger["metadata"].get("query", "") for trigger in triggers)

    used = set(re.findall(r"recsys_\w+", queries))
    assert used
    assert used <= series_names()


def test_training_has_no_network_and_only_labelled_namespaces_call() -> None:
    policies = {
        r["metadata"]["name"]: r["spec"] for r in resources() if r["kind"] == "NetworkPolicy"
    }
    everything = policies["recsys-deny"]

    assert everything.keys() == {"podSelector", "policyTypes"}  # it allows nothing
    assert everything["policyTypes"] == ["Ingress", "Egress"]
    for name, pod in pods():
        labels = pod["metadata"]["labels"]
        assert everything["podSelector"]["matchLabels"].items() <= labels.items(), name
        allowing = {other for other, policy in policies.items() if selects(policy, labels)}
        training = labels["app.kubernetes.io/component"] == "training"
        assert (allowing == {"recsys-deny"}) == training, name
    (rule,) = policies["recsys-callers"]["ingress"]
    assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"recsys-access": "true"}}}]


def selects(policy: Resource, labels: dict[str, str]) -> bool:
    selector = policy["podSelector"]
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels[expression["key"]] in expression["values"]
        for expression in selector.get("matchExpressions", ())
    )


def test_selectors_find_the_pods_of_the_api() -> None:
    labels = named("Deployment", "recsys-api")["spec"]["template"]["metadata"]["labels"]

    assert named("Service", "recsys")["spec"]["selector"] == labels
    for kind in ("PodDisruptionBudget", "PodMonitor"):
        assert named(kind, "recsys-api")["spec"]["selector"]["matchLabels"] == labels
    collector = named("Deployment", "recsys-collect")["spec"]["template"]["metadata"]["labels"]
    assert named("PodMonitor", "recsys-collect")["spec"]["selector"]["matchLabels"] == collector


def test_only_trainings_write_bundles() -> None:
    for container in (c for _, pod in pods() for c in pod["spec"]["containers"]):
        for mount in container["volumeMounts"]:
            if mount["name"] == "bundles":
                assert mount.get("readOnly", False) == (container["name"] == "api")


def test_settings_are_read_from_a_mounted_secret(tmp_path: Path) -> None:
    """Kubernetes mounts each key as a link to a file of a dated folder."""
    dated = tmp_path / "..2026_11_30"
    dated.mkdir()
    (dated / "recsys_redis").write_text("redis+sentinel://sentinel/shop")
    (tmp_path / "..data").symlink_to(dated.name)
    (tmp_path / "recsys_redis").symlink_to("..data/recsys_redis")

    settings = read_settings({"bundle": tmp_path}, secrets=tmp_path)

    assert settings.redis.get_secret_value() == "redis+sentinel://sentinel/shop"


def test_the_init_container_copies_a_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (container,) = read(PATCH)[0]["spec"]["template"]["spec"]["initContainers"]
    python, option, program, _, _ = container["command"]
    (tmp_path / "store" / "folder").mkdir(parents=True)
    (tmp_path / "store" / "manifest.json").write_text("{}")
    (tmp_path / "store" / "folder" / "file").write_text("1")
    (tmp_path / "bundles").mkdir()
    (tmp_path / "program.py").write_text(program)
    source, target = (tmp_path / "store").as_uri(), f"{tmp_path}/bundles/"
    monkeypatch.setattr(sys, "argv", ["-c", source, target])

    runpy.run_path(str(tmp_path / "program.py"))

    assert (python, option) == ("python", "-c")
    copied = {str(p.relative_to(target)) for p in Path(target).rglob("*") if p.is_file()}
    assert copied == {"manifest.json", "folder/file"}
