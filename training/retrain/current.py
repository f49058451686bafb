"""Current version of the registry: what a candidate is compared with, and takes the place of."""

from dataclasses import dataclass
from pathlib import Path

from recsys.bundle.golden import open_predictor
from recsys.bundle.manifest import Manifest, read_manifest
from recsys.bundle.registry import Published, bundle_path, is_registry, read_current
from recsys.errors import BadInput, BundleRefused
from recsys.predictor import Predictor
from training.retrain.options import RetrainOptions
from training.warm_start import seen_until_ms


@dataclass(frozen=True)
class Current:
    """Current version of the registry, verified."""

    folder: Path
    manifest: Manifest
    predictor: Predictor

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def model_id(self) -> str:
        return self.manifest.model_id

    @property
    def content_kinds(self) -> dict[str, str]:
        """Return name → kind of the content that the model learned from."""
        content = self.predictor.content
        return {} if content is None else {one.name: one.kind for one in content.schema.fields}

    @property
    def seen_until_ms(self) -> int:
        """Return the time from which on a session is new to the model."""
        return seen_until_ms(self.manifest)


def open_current(registry: Path) -> Current | None:
    """Open the current version, which a candidate is compared with; None in a new registry."""
    published = published_in(registry)
    if published is None:
        return None
    folder = bundle_path(registry, published.main)
    try:
        return Current(folder, read_manifest(folder), open_predictor(folder))
    except BundleRefused as refused:
        raise BundleRefused(
            f"No candidate can be compared with the current version: {refused} Publish another "
            f"one: recsys publish {registry} NAME."
        ) from refused


def check_content(options: RetrainOptions, current: Current | None) -> None:
    """Raise `BadInput` where the next model would not place new items and the current one does."""
    if current is not None and current.predictor.content is not None and not options.content:
        raise BadInput(
            "The options cannot be used",
            [
                f"the current version {current.name} learned from the content of its items, and "
                "the next one would not. Give --items and --content, and --vectors if it had any."
            ],
        )


def check_experiment(options: RetrainOptions) -> None:
    """Raise `BadInput` where a publication would end an experiment."""
    published = published_in(options.registry)
    if published is None or published.experiment is None or options.keep_shares:
        return
    shares = ", ".join(f"{name} {share:g} %" for name, share in published.shares.items())
    raise BadInput(
        "No model is published while an experiment runs",
        [
            f"{options.registry} splits the users: {shares}. End the experiment with recsys "
            f"publish {options.registry} NAME; or give --keep-shares, so that a new model takes "
            "the place of the main version, and a new experiment begins with the same shares."
        ],
    )


def published_in(registry: Path) -> Published | None:
    """Return what the registry serves, None in a new one."""
    return read_current(registry) if is_registry(registry) else None
