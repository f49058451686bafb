"""Demo: train on the demo shop, serve it on a private Redis, and request a list over HTTP."""

import os
import sys
import tempfile
import threading
import webbrowser
from pathlib import Path

import pandas as pd
from rich.console import Console

from data.shop.files import VISITS, write_demo_shop
from recsys.cli.demo_service import running_service
from recsys.console import add_row, neat_table, open_console
from recsys_client import Client
from service.middleware.auth import hash_of, new_key
from service.server.embedded_redis import private_redis
from training.demo import train_shop

SESSION = ("aurora-tent", "aurora-sleeping-bag", "aurora-sleeping-mat")
SHOWN = 8


def run_demo(*, check: bool, port: int, command: str = "") -> None:
    """Run the demo; with `check`, return after the first list is printed."""
    console = open_console()
    with tempfile.TemporaryDirectory(prefix="recsys-demo-") as temporary:
        folder = Path(temporary)
        _heading("1  A synthetic shop", console)
        write_demo_shop(folder)
        console.print(
            f"{VISITS:,} visits to a shop of 1,200 items, as clicks.csv and items.csv. "
            "Each visitor has a task and a taste."
        )
        _heading("2  Train", console)
        bundle = train_shop(folder, folder / "bundle", console, command)
        console.print(
            "It goes when the demo ends; recsys demo --out runs/shop makes one that stays."
        )
        _heading("3  Serve, on a private Redis", console)
        key = new_key()
        with (
            private_redis(socket_file=True) as redis,
            running_service(
                {
                    "bundle": bundle,
                    "redis": redis,
                    "port": 0 if check else port,
                    "playground": True,
                    "catalogue_key_hashes": [hash_of(key)],
                }
            ) as url,
        ):
            console.print(f"Listening on {url}")
            _heading("4  Ask", console)
            _ask(url, _names(folder), console)
            if not check:
                console.print(
                    f"The same from a shell:\n  curl '{url}/v1/users/ada/recommendations?k={SHOWN}'"
                )
                console.print(f"\nPlay with it:  {url}/\nThe API:       {url}/docs")
                console.print(f"Catalogue key, to mark items as sold out:  {key}")
                _open(url)
                console.print("Ctrl-C ends the demo.")
                _wait_for_ctrl_c()


def _heading(text: str, console: Console) -> None:
    """Print a heading; a rule would have no end in a pipe."""
    console.print(f"\n{text}\n", style="bold")


def _names(folder: Path) -> dict[str, str]:
    items = pd.read_csv(folder / "items.csv")
    return dict(zip(items["item_id"], items["name"], strict=True))


def _ask(url: str, names: dict[str, str], console: Console) -> None:
    """Send three clicks of one visitor; print the list after the last one."""
    with Client(url) as client:
        for item_id in SESSION:
            answer = client.recommend(user_id="ada", item_id=item_id, k=SHOWN)
    console.print("Ada clicked: " + " → ".join(names[item_id] for item_id in SESSION))
    title = f"Likely next (source: {answer.source})"
    table = neat_table(title, left=["", "item", "name"], right=["score"])
    for place, item in enumerate(answer.items, start=1):
        add_row(table, place, item.item_id, names[item.item_id], f"{item.score:.2f}")
    console.print(table)


def _open(url: str) -> None:
    """Open a browser, except in a pipe, in a container or over SSH."""
    if sys.stdout.isatty() and (os.environ.get("DISPLAY") or sys.platform in ("darwin", "win32")):
        webbrowser.open(f"{url}/")


def _wait_for_ctrl_c() -> None:
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print("\nStopping.")
