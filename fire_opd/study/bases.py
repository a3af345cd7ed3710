"""The demos that a study may be on: what is built of each for a seed, and its spec there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fire_opd.demo.build import build_demo, demo_assets, demo_spec
from fire_opd.demo.lm import LmAssets, build_lm, lm_spec
from fire_opd.spec import RunSpec
from fire_opd.storage import state_folder


@dataclass(frozen=True)
class Demo:
    """A demo as the base of a study; the seed is that of the run, and of the student where each seed has its own."""

    build: Callable[[int], object]
    built: Callable[[int], bool]
    spec: Callable[[int, Sequence[str]], RunSpec]


def _toy(clean: bool) -> Demo:
    def spec(seed: int, overrides: Sequence[str]) -> RunSpec:
        return demo_spec(demo_assets(state_folder() / "demo", seed), overrides, clean=clean)

    return Demo(
        build=lambda seed: build_demo(state_folder() / "demo", seed),
        built=lambda seed: demo_assets(state_folder() / "demo", seed).built(),
        spec=spec,
    )


def _lm_assets() -> LmAssets:
    return LmAssets(state_folder() / "demo-lm")


DEMOS = {
    "demo": _toy(clean=False),
    "demo-clean": _toy(clean=True),
    "demo-lm": Demo(
        build=lambda seed: build_lm(_lm_assets().root),
        built=lambda seed: _lm_assets().prompts.is_dir(),
        spec=lambda seed, overrides: lm_spec(_lm_assets(), [*overrides, f"seed={seed}"]),
    ),
}
