"""Run every query of the Grafana dashboard against a Prometheus, without Grafana."""

import json
import re
from pathlib import Path

import httpx

DASHBOARD = Path(__file__).parents[2] / "docker" / "grafana" / "recsys.json"
RANGE = "1m"  # Grafana puts four times the interval of scrapes here, or more


def queries() -> list[str]:
    """Return the queries of all panels, with a range instead of Grafana's variable."""
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    targets = [target for panel in panels for target in panel.get("targets", [])]
    return [target["expr"].replace("$__rate_interval", RANGE) for target in targets]


def dashboard_answers(prometheus: str) -> str:
    """Check that no query is refused, and that each whose series exist has values."""
    with httpx.Client(base_url=f"{prometheus}/api/v1/", timeout=10) as client:
        names = set(client.get("label/__name__/values").json()["data"])
        empty, answered = [], 0
        for query in queries():
            answer = client.get("query", params={"query": query}).json()
            assert answer["status"] == "success", f"{query}: {answer['error']}"
            answered += bool(answer["data"]["result"])
            series = set(re.findall(r"\brecsys_\w+", query))
            if not answer["data"]["result"] and series <= names:
                empty.append(query)
    assert not empty, f"no values, though their series exist: {empty}"
    return f"{len(queries())} queries, {answered} have values"
