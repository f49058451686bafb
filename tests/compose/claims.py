"""Checks of the images and containers of docker-compose.yml, without load.

Each check takes the project, returns what it measured in a few words, and raises `AssertionError`
if the claim does not hold.
"""

import subprocess

from tests.compose.project import ROOT, CommandFailed, Project, inside, inspect, run

PROFILES = ("train", "monitoring", "prepare", "cluster")
SERVE, TRAIN = "session-recsys:serve", "session-recsys:train"
NOT_SERVED = ("pandas", "scipy", "optuna", "pip", "dask", "s3fs")  # modules
RULES = ROOT / "docker"


def config_is_clean(project: Project) -> str:
    profiles = [word for name in PROFILES for word in ("--profile", name)]
    command = [*project.compose, *profiles, "config"]
    done = subprocess.run([*command, "--quiet"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return "no warning, " + " ".join(run([*project.compose, "version"]).split()[:5])


def images_are_not_root(_: Project) -> str:
    sizes = []
    for image in (SERVE, TRAIN):
        image_info = inspect(image)
        assert image_info["Config"]["User"] not in ("", "0", "root"), f"{image} runs as root"
        labels = image_info["Config"]["Labels"]
        for name in ("title", "description", "version"):
            assert labels[f"org.opencontainers.image.{name}"], f"{image} has no label {name}"
        base = inspect("python:3.11-slim")["Size"]
        added = image_info["Size"] - base
        sizes.append(f"{image}: base {base / 1e6:,.0f} MB + {added / 1e6:,.0f} MB")
    return ", ".join(sizes)


def the_serving_image_cannot_train(_: Project) -> str:
    look = "import sys, importlib.util as u; print(*[n for n in sys.argv[1:] if u.find_spec(n)])"
    command = ["docker", "run", "--rm", "--network=none", "--read-only", "--entrypoint=python"]
    present = run([*command, SERVE, "-c", look, *NOT_SERVED]).split()
    assert not present, f"the serving image has {', '.join(present)}"
    return "no " + ", no ".join(NOT_SERVED)


def containers_are_locked(project: Project) -> str:
    """Check that roots are read-only, that no capabilities remain, and that limits are set."""
    ids = project("ps", "--quiet").split()
    locked = [check_locked(each) for each in ids if inspect(each)["State"]["Running"]]
    assert {"api", "gateway", "redis"} <= set(locked)
    for service in ("api", "gateway"):
        assert inside(project.container(service), "id", "-u") != "0", f"{service} is root"
    assert _user_of_redis(project) != "0", "Redis is root"
    assert _is_refused(project.container("api"), "touch", "/anything")
    return f"{', '.join(sorted(set(locked)))}: read-only, no capabilities, not root"


def check_locked(container: str) -> str:
    """Check the limits of one container, and return its service."""
    found = inspect(container)
    service, host = found["Config"]["Labels"]["com.docker.compose.service"], found["HostConfig"]
    assert host["ReadonlyRootfs"], f"{service} can write to its root"
    assert host["CapDrop"] == ["ALL"], f"{service} keeps capabilities"
    assert "no-new-privileges:true" in host["SecurityOpt"], f"{service} may gain privileges"
    assert host["Memory"], f"{service} has no memory limit"
    return str(service)


def only_the_gateway_is_published(project: Project) -> str:
    published = {}
    for each in project("ps", "--quiet").split():
        container = inspect(each)
        service = container["Config"]["Labels"]["com.docker.compose.service"]
        for bindings in (container["NetworkSettings"]["Ports"] or {}).values():
            for binding in bindings or []:
                published[service] = binding["HostIp"]
    assert set(published) <= {"gateway", "prometheus"}, published
    assert set(published.values()) == {"127.0.0.1"}, published
    return " and ".join(sorted(published)) + " on 127.0.0.1, nothing else"


def alerts_pass_their_tests(_: Project) -> str:
    """Run promtool of the Prometheus image."""
    image = "prom/prometheus:v3.5.0"
    mount = ["-v", f"{RULES}:/rules:ro", "-w", "/rules"]
    promtool = ["docker", "run", "--rm", "--network=none", *mount, "--entrypoint=promtool", image]
    run([*promtool, "test", "rules", "alerts.test.yml"])
    output = run([*promtool, "check", "rules", "alerts.yml"])
    return output.strip().splitlines()[-1].strip()


def _user_of_redis(project: Project) -> str:
    """Return the user id of the server process; `exec` in that container runs as root."""
    status = inside(project.container("redis"), "cat", "/proc/1/status")
    return next(row.split()[1] for row in status.splitlines() if row.startswith("Uid:"))


def _is_refused(container: str, *command: str) -> bool:
    try:
        inside(container, *command)
    except CommandFailed:
        return True
    return False
