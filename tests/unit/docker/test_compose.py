"""Static checks of the container files; `make compose-check` runs them on Docker."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from recsys import __version__
from recsys.shadowing import PACKAGES
from service.collector.metrics import CollectorMetrics
from service.metrics import ServiceMetrics
from service.settings import Settings
from tests.compose.dashboard import DASHBOARD
from tests.compose.dashboard import queries as dashboard_queries
from tests.unit.documents.test_docs import ROOT

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
TEXT = (ROOT / "docker-compose.yml").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
EXAMPLE = (ROOT / ".env.example").read_text()
OURS = ("session-recsys:serve", "session-recsys:train")


def test_the_file_suits_compose_1_29_and_2() -> None:
    """Version 1.29 does not know a top-level name; version 2 warns of a `version`."""
    assert COMPOSE.keys() - {"x-logging", "x-hardened", "x-learner", "x-trainer"} == {
        "services",
        "networks",
        "volumes",
    }


def test_plain_up_starts_what_gives_recommendations_and_nothing_else() -> None:
    plain = {name for name, service in SERVICES.items() if "profiles" not in service}

    assert plain == {"redis", "shop", "api", "gateway"}
    assert SERVICES["train"]["profiles"] == ["train"]
    assert SERVICES["prometheus"]["profiles"] == ["monitoring"]
    assert SERVICES["collect"]["profiles"] == SERVICES["retrain"]["profiles"] == ["feedback"]


def test_the_cluster_starts_without_preparing_and_preparing_starts_the_cluster() -> None:
    for name in ("scheduler", "worker"):
        assert SERVICES[name]["profiles"] == ["cluster", "prepare"]
    assert SERVICES["prepare"]["profiles"] == ["prepare"]
    assert SERVICES["prepare"]["depends_on"].keys() == {"scheduler", "worker"}
    assert SERVICES["worker"]["scale"] == 2
    for name in ("prepare", "worker"):  # under the same path
        assert "prepared:/prepared" in SERVICES[name]["volumes"]
        assert "${CLICKS:-./clicks}:/clicks:ro" in SERVICES[name]["volumes"]


def test_services_wait_for_their_dependencies() -> None:
    waits = {name: service.get("depends_on", {}) for name, service in SERVICES.items()}

    assert waits["api"] == {
        "redis": {"condition": "service_healthy"},
        "shop": {"condition": "service_completed_successfully"},
    }
    assert waits["retrain"] == {"shop": {"condition": "service_completed_successfully"}}
    assert waits["gateway"] == {"api": {"condition": "service_healthy"}}


def test_every_container_is_restricted() -> None:
    for name, service in SERVICES.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"], name
        assert service["logging"]["options"]["max-size"], f"{name} could fill the disk"
        assert "privileged" not in service, name
        assert "docker.sock" not in str(service), name


def test_servers_restart_and_commands_do_not() -> None:
    stays = ("redis", "api", "gateway", "prometheus", "scheduler", "worker", "collect", "retrain")
    for name in stays:
        assert SERVICES[name]["restart"] == "unless-stopped"
    for name in ("shop", "train", "prepare"):
        assert SERVICES[name]["restart"] == "no"


def test_published_is_the_gateway_and_prometheus_on_loopback() -> None:
    published = {name: s["ports"] for name, s in SERVICES.items() if "ports" in s}

    assert set(published) == {"gateway", "prometheus"}
    for ports in published.values():
        assert all(port.startswith("127.0.0.1:") for port in ports)
    # the API needs no key only because of this
    assert SERVICES["api"]["environment"]["RECSYS_PUBLIC_WITHOUT_KEY"] == "true"


def test_redis_and_the_api_reach_nothing_outside() -> None:
    internal = {name for name, network in COMPOSE["networks"].items() if network.get("internal")}

    assert set(SERVICES["redis"]["networks"]) == {"store"}
    assert set(SERVICES["api"]["networks"]) <= internal
    for name in ("shop", "train", "retrain"):
        assert SERVICES[name]["network_mode"] == "none"
    for name in ("prepare", "scheduler", "worker"):
        assert SERVICES[name]["networks"] == ["cluster"]
    assert "cluster" in internal
    assert "store" not in SERVICES["gateway"]["networks"]


def test_only_training_writes_bundles_and_no_container_writes_clicks() -> None:
    assert "bundles:/bundles:ro" in SERVICES["api"]["volumes"]
    assert "bundles:/bundles" in SERVICES["train"]["volumes"]
    assert "${CLICKS:-./clicks}:/clicks:ro" in SERVICES["train"]["volumes"]


def test_the_collector_writes_events_and_training_reads_them() -> None:
    assert SERVICES["collect"]["volumes"] == ["events:/events"]
    assert SERVICES["collect"]["environment"].items() <= SERVICES["api"]["environment"].items()
    for name in ("train", "retrain"):
        assert {"events:/events:ro", "bundles:/bundles"} <= set(SERVICES[name]["volumes"])
    # a named volume has the owner of the folder in the image
    assert "mkdir /bundles /events && chown recsys /bundles /events" in DOCKERFILE


def test_no_secret_has_a_default() -> None:
    """An unset secret is empty, which turns the feature off."""
    secrets = re.findall(r"\$\{(\w*(?:PASSWORD|SECRET|KEY)\w*):-([^}]*)\}", TEXT)

    assert {name for name, _ in secrets} >= {"REDIS_PASSWORD", "RECSYS_USER_ID_SECRET"}
    assert all(default in ("", "/dev/null") for _, default in secrets)
    assert "secret" not in DOCKERFILE.lower()


def test_the_example_names_every_variable_and_sets_none() -> None:
    used = set(re.findall(r"\$\{(\w+)", TEXT))
    named = set(re.findall(r"^# ([A-Z_]+)=", EXAMPLE, re.MULTILINE))

    assert named == used
    assert all(line.startswith("#") for line in EXAMPLE.splitlines() if line)


def test_variables_of_the_container_files_are_settings() -> None:
    known = {f"RECSYS_{name.upper()}" for name in Settings.model_fields}

    assert set(SERVICES["api"]["environment"]) <= known
    assert set(re.findall(r"RECSYS_\w+", DOCKERFILE)) <= known


def test_files_that_are_mounted_exist() -> None:
    mounted = re.findall(r"- (\./docker/[\w./]+):", TEXT)

    assert len(mounted) >= 4
    for path in mounted:
        assert (ROOT / path).exists(), path


def test_images_are_not_root_and_know_their_version() -> None:
    final = [stage for stage in DOCKERFILE.split("\nFROM ") if " AS " in stage.splitlines()[0]]
    (runtime,) = [stage for stage in final if stage.splitlines()[0].endswith("AS runtime")]

    assert "\nUSER recsys\n" in runtime
    assert 'ENTRYPOINT ["recsys"]' in runtime  # a list, so that the process gets the signals
    assert DOCKERFILE.count(f'ARG VERSION="{__version__}"') == 2
    assert {service["image"] for service in SERVICES.values() if "build" in service} == set(OURS)
    assert SERVICES["api"]["init"] is True


def test_both_images_hold_all_packages() -> None:
    """The command line imports options of all of them, and refuses to start if one is missing."""
    for name in ("recsys", *PACKAGES):
        assert DOCKERFILE.count(f"\nCOPY {name} {name}\n") == 2, name


def test_the_image_by_itself_requires_a_key() -> None:
    """An operator who publishes the port sets a key, or states that none is needed."""
    assert "PUBLIC_WITHOUT_KEY" not in DOCKERFILE


def test_dependencies_are_installed_before_the_code_and_as_pinned() -> None:
    base = DOCKERFILE.index("-r base.txt")

    assert "PIP_CONSTRAINT=/build/constraints.txt" in DOCKERFILE[:base]
    assert base < DOCKERFILE.index("COPY recsys")
    assert 'ARG EXTRA_INDEX_URL=""' in DOCKERFILE[:base]


def test_the_context_of_the_images_holds_no_secret() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split("\n")

    assert ignored[1] == "*"
    assert "!/docker" not in ignored
    assert {"/.env", "/docker/secrets/*"} <= set((ROOT / ".gitignore").read_text().split())


def test_every_alert_has_a_test_in_which_it_fires() -> None:
    rules = yaml.safe_load((ROOT / "docker" / "alerts.yml").read_text())
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    tests = yaml.safe_load((ROOT / "docker" / "alerts.test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]

    assert {case["alertname"] for case in cases if case["exp_alerts"]} == alerts
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == alerts


def test_every_alert_is_on_the_page_for_the_person_on_call() -> None:
    groups = yaml.safe_load((ROOT / "docker" / "alerts.yml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    rows = re.findall(r"^\| `(Recsys\w+)` \|", (ROOT / "docs" / "on-call.md").read_text(), re.M)

    assert rows == [rule["alert"] for rule in rules]


def test_the_expected_annotations_of_alerts_are_those_of_the_rules() -> None:
    groups = yaml.safe_load((ROOT / "docker" / "alerts.yml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    tests = yaml.safe_load((ROOT / "docker" / "alerts.test.yml").read_text())["tests"]
    patterns = {rule["alert"]: rule["annotations"] for rule in rules}

    for case in (case for test in tests for case in test["alert_rule_test"]):
        for expected in case["exp_alerts"]:
            for name, template in patterns[case["alertname"]].items():
                pattern = ".*".join(map(re.escape, re.split(r"\{\{.*?\}\}", template)))
                assert re.fullmatch(pattern, expected["exp_annotations"][name]), case["alertname"]


def test_alerts_and_dashboard_use_existing_metrics() -> None:
    """Each series that a query names is one of the service or of the collector."""
    rules = yaml.safe_load((ROOT / "docker" / "alerts.yml").read_text())["groups"]
    queries = [rule["expr"] for group in rules for rule in group["rules"]]
    known = series_names()

    for query in [*queries, *dashboard_queries()]:
        assert set(re.findall(r"\brecsys_\w+", query)) <= known, query


def series_names() -> set[str]:
    """Return the names of all series of the service and of the collector."""
    registries = ServiceMetrics().registry, CollectorMetrics().registry
    families = [family for registry in registries for family in registry.collect()]
    suffixes = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
    return {family.name + suffix for family in families for suffix in suffixes[family.type]}


def test_the_dashboard_asks_the_prometheus_that_a_reader_chooses() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]

    assert [each["type"] for each in dashboard["templating"]["list"]] == ["datasource"]
    for panel in panels:
        assert panel["title"]
        assert panel["description"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_ci_runs_the_make_targets() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    commands = "\n".join(step.get("run", "") for step in steps)

    assert {"check", "test", "image", "compose-check"} <= set(
        re.findall(r"make ([\w-]+)", commands)
    )
    assert workflow["permissions"] == {"contents": "read"}


def test_no_file_names_a_machine() -> None:
    files = [ROOT / "Dockerfile", ROOT / "docker-compose.yml", ROOT / ".env.example"]
    for path in [*files, *(ROOT / "docker").rglob("*.*"), *(ROOT / ".github").rglob("*.yml")]:
        assert not re.search(r"/(work|home|root)/", path.read_text()), path


def test_the_readme_of_docker_names_its_files() -> None:
    text = (ROOT / "docker" / "README.md").read_text()

    for path in (ROOT / "docker").iterdir():
        name = f"{path.name}/" if path.is_dir() else path.name
        assert path.name == "README.md" or f"`{name}`" in text, name


def test_the_limits_of_the_documents_are_those_of_the_files() -> None:
    """Limits that stand in two places are equal."""
    text = (ROOT / "docs" / "operating.md").read_text()
    memory = re.search(r"^maxmemory (\d+)mb", (ROOT / "docker/redis.conf").read_text(), re.M)

    assert memory is not None
    assert f"maxmemory {memory[1]}mb" in text
    assert Path(ROOT / "docs" / "settings.md").name in text
