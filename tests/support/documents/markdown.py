"""Parser of Markdown pages: code blocks with their comments, links, headings.

It knows the part of Markdown that our pages use: fences of three backticks, inline links, headings.
"""

import json
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[3]
FOLDERS = (".", "clients/python", "data", "docker", "docs")
PAGES = sorted(page for folder in FOLDERS for page in (ROOT / folder).glob("*.md"))
READ = [path for path in PAGES if path.name != "CHANGELOG.md"]  # pages whose code runs
# the reasons not to run a block
DOCKER = "needs Docker; make compose-check runs it"
CLUSTER = "needs a Kubernetes cluster"
CARD = "needs a graphics card"
# those that tests/support/documents/doc_runner.py runs
PROGRAMS = ("recsys", "curl", "python", "make", ".", "py-spy")
ASSIGNMENT = re.compile(r"[A-Z_]+=")
FENCE = re.compile(r"^```([\w-]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NOT_RUN = re.compile(r"<!-- not run: (.+?) -->\n\Z")


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@dataclass(frozen=True, slots=True)
class Block:
    """Fenced block; `not_run` is the reason of the page for not running it."""

    page: Path
    line: int
    language: str
    text: str
    not_run: str | None

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """Return the commands: lines of a shell block, or what follows a `$` in a console."""
        lines = self.text.replace("\\\n", " ").splitlines()
        if self.language == "console":
            return [line[2:] for line in lines if line.startswith("$ ")]
        return [line for line in lines if line.strip() and not line.startswith("#")]


class Page:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text(encoding="utf-8")

    @cached_property
    def blocks(self) -> list[Block]:
        return [
            Block(
                self.path,
                self.text.count("\n", 0, fence.start()) + 1,
                fence[1],
                fence[2],
                reason[1] if (reason := NOT_RUN.search(self.text[: fence.start()])) else None,
            )
            for fence in FENCE.finditer(self.text)
        ]

    @cached_property
    def prose(self) -> str:
        return FENCE.sub("", self.text)

    @cached_property
    def links(self) -> list[str]:
        """Return the targets of links and pictures outside of code."""
        return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", self.prose))

    @cached_property
    def anchors(self) -> set[str]:
        """Return the anchors of the headings: lower case, hyphens for spaces, no punctuation."""
        seen: Counter[str] = Counter()
        anchors = set()
        for heading in re.findall(r"^#{1,6} (.+)$", self.prose, re.MULTILINE):
            slug = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
            anchors.add(slug if not seen[slug] else f"{slug}-{seen[slug]}")
            seen[slug] += 1
        return anchors

    @cached_property
    def inline_code(self) -> list[str]:
        return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", self.prose)]


def answers_of(page: Page) -> dict[int, object]:
    """Return by line of a shell block the JSON right below it, the output of its last command."""
    answers = {}
    for block, after in zip(page.blocks, page.blocks[1:], strict=False):
        end = block.line + block.text.count("\n") + 2
        if block.language == "bash" and after.language == "json" and after.line <= end + 1:
            answers[block.line] = json.loads(after.text)
    return answers
