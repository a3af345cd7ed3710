"""The demo's shapes, tokenizer and prompts without its training: models that are made in a second."""

from pathlib import Path

from fire_opd.demo import tasks
from fire_opd.demo.build import RECIPE, DemoAssets, demo_assets
from fire_opd.demo.models import STUDENT, TEACHER, build_model, build_tokenizer


def untrained_demo(root: Path) -> DemoAssets:
    """Untrained student and teachers, 256 training prompts and 20 held-out ones, where a built demo has them."""
    demo = demo_assets(root, seed=0)
    for number, (path, shape) in enumerate([(demo.student, STUDENT), *((t, TEACHER) for t in demo.teachers.values())]):
        build_model(shape, seed=number).save_pretrained(path)
        build_tokenizer().save_pretrained(path)
    training, held_out = tasks.training(clean=False), tasks.held_out()
    demo.mixed.parent.mkdir()
    tasks.write_problems(demo.mixed, training[:: len(training) // 256][:256])
    tasks.write_problems(demo.clean, training[1 :: len(training) // 256][:256])
    tasks.write_problems(demo.held_out, held_out[:: len(held_out) // 20][:20])
    (demo.root / "recipe").write_text(f"{RECIPE}\n")
    return demo
