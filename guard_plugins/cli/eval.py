"""``guard-eval``: attack any checkpoint, or students trained on any distilled set."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from guard_plugins._version import __version__
from guard_plugins.cli.exit_codes import exit_code
from guard_plugins.cli.malloc import keep_freed_memory
from guard_plugins.errors import ConfigError

if TYPE_CHECKING:
    from guard_plugins.artifacts.evaluation import Evaluation

EPILOG = """\
examples:
  guard-eval runs/hook/teacher.safetensors                        a teacher of a run; it says itself what it is
  guard-eval net.pth --arch resnet18 --dataset cifar10 --data-root DATA \\
      --mean 0.4914 0.4822 0.4465 --std 0.2470 0.2435 0.2616 --protocol standard --images 1000
  guard-eval --distilled runs/hook --student convnet3 --seeds 3    three students of another architecture
  guard-eval --distilled runs/hook --teacher runs/hook/teacher.safetensors --output students.html
  guard-eval --distilled runs/kept --labels stored                 the soft labels a run stored, without its teacher

protocols:
  quick      PGD-20 along the epsilon curve 0, 1, 2, 4, 8, 16, 32 over 255
  standard   AutoAttack standard, PGD-100, CW, MIM and Square at 1, 2, 4, 8 over 255, and the curve
  paper      the attacks of the GUARD paper at 1/255
  or an attack alone, as reports label it: autoattack, pgd-100, ...; along the curve, or at the radii of --eps

Attacks live in pixel space, [0, 1]; the normalisation (--mean, --std) goes inside the model. Files of weights are
read without running code from them. Every evaluation ends with the release gate: what failed is on stderr, and the
numbers should not be quoted then.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 2 for wrong input, 1 for other errors, 128 + n after signal n."""
    return exit_code(lambda: _eval(_parser().parse_args(argv)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="guard-eval", description="Attack a checkpoint, or students trained on a distilled set.", epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"guard-eval {__version__}")
    _checkpoint_options(parser.add_argument_group("a checkpoint"))
    _distilled_options(parser.add_argument_group("or students of a distilled set"))
    _test_options(parser.add_argument_group("the test"))
    return parser


def _checkpoint_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("checkpoint", nargs="?", type=Path, metavar="CHECKPOINT",
                       help="a run, any .safetensors (such as its teacher), or a state dict (.pt, .pth)")  # fmt: skip
    group.add_argument("--arch", metavar="NAME", help="network of the weights, where the file does not say it")
    group.add_argument("--activation", choices=("relu", "silu", "gelu"), help="its activation (relu)")
    group.add_argument("--mean", nargs="+", type=float, metavar="M",
                       help="per-channel mean the network was trained with (default: the data set's)")  # fmt: skip
    group.add_argument("--std", nargs="+", type=float, metavar="S", help="per-channel standard deviation, likewise")


def _distilled_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--distilled", type=Path, metavar="PATH",
                       help="a run, or distilled images: our folder, or files of SRe2L, DC or DD-Ranking")  # fmt: skip
    group.add_argument("--student", metavar="NETWORK", help="network of the students (default: the data set's preset)")
    group.add_argument("--seeds", type=int, metavar="N", help="students to train; the table shows mean and sd (1)")
    group.add_argument("--teacher", type=Path, metavar="FILE",
                       help="a run's teacher.safetensors to learn soft labels from, asked at every step")  # fmt: skip
    group.add_argument("--labels", choices=("hard", "stored"),
                       help="without --teacher: hard labels (default), or the soft labels that came with the set; "
                       "those of a run with --student.labels stored bring views, batches and epochs along")  # fmt: skip
    group.add_argument("--recipe", metavar="NAME", help="training recipe, as guard-run's --student.protocol")
    group.add_argument("--epochs", type=int, metavar="N", help="passes over the distilled images")


def _test_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--dataset", default="digits", metavar="NAME", help="where the test images are from (digits)")
    group.add_argument("--preset", metavar="NAME", help="named settings, as guard-run's (the data set's own)")
    group.add_argument("--data-root", type=Path, metavar="DIR", help="folder of its files")
    group.add_argument("--download", action="store_true", help="allow it to be downloaded")
    group.add_argument("--image-size", type=int, metavar="N", help="resize images to N pixels a side")
    group.add_argument("--protocol", default="quick", metavar="NAME", help="which attacks, see below (quick)")
    group.add_argument("--eps", nargs="+", type=float, metavar="R",
                       help="radii of an attack alone: over 255 in L-inf, in pixels in L2 (the curve)")  # fmt: skip
    group.add_argument("--images", type=int, metavar="N", help="attack N test images, spread over the set (all)")
    group.add_argument("--batch-size", type=int, metavar="N", help="images attacked at a time (by device and size)")
    group.add_argument("--seed", type=int, default=0, metavar="S", help="seed of attacks and students (0)")
    group.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="where to compute")
    group.add_argument("--output", type=Path, metavar="FILE",
                       help="write the results to FILE.json or FILE.html too; the same command then goes on where it "
                       "was stopped or killed, its state being in FILE.unfinished/ until it is done")  # fmt: skip


def _eval(options: argparse.Namespace) -> int:
    _check(options)
    keep_freed_memory()
    # Imported here: torch takes seconds, and help and errors should not.
    from guard_plugins.pipeline.standalone.evaluate import EvaluationRequest, evaluate
    from guard_plugins.pipeline.standalone.state_folder import discard
    from guard_plugins.report.gate import failed_lines
    from guard_plugins.report.markdown import evaluation_table

    unfinished = options.output and options.output.with_suffix(".unfinished")
    found = evaluate(
        EvaluationRequest(
            checkpoint=options.checkpoint, distilled=options.distilled, teacher=options.teacher, arch=options.arch,
            labels=options.labels or "hard", activation=options.activation, mean=options.mean, std=options.std,
            settings=_settings(options),
        ),
        keep=unfinished,
    )  # fmt: skip
    sys.stdout.write(evaluation_table(found) + "\n")
    for line in failed_lines(found.kind, found.gate):
        sys.stderr.write(line + "\n")
    if options.output is not None:
        _write(found, options.output)
        discard(unfinished)
    return 0


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings given, nested as in a run's configuration."""
    sections = {
        "data": {"image_size": options.image_size},
        "student": {
            "network": options.student, "count": options.seeds, "protocol": options.recipe, "epochs": options.epochs,
        },
        "evaluation": {
            "protocol": options.protocol, "eps": options.eps, "images": options.images,
            "batch_size": options.batch_size,
        },
    }  # fmt: skip
    return {
        "dataset": options.dataset, "preset": options.preset, "data_root": options.data_root,
        "download": options.download, "seed": options.seed, "device": options.device,
        **{name: {key: value for key, value in keys.items() if value is not None} for name, keys in sections.items()},
    }  # fmt: skip


def _check(options: argparse.Namespace) -> None:
    """Refuse what contradicts itself, before anything slow is imported.

    Raises:
        ConfigError: If nothing or too much is asked for, or the output cannot be written.
    """
    if (options.checkpoint is None) == (options.distilled is None):
        raise ConfigError(
            "Give either a checkpoint or --distilled", seen="both" if options.checkpoint else "neither",
            do="For example: guard-eval runs/hook/teacher.safetensors, or guard-eval --distilled runs/hook",
        )  # fmt: skip
    others = (
        ("student", "seeds", "teacher", "labels", "recipe", "epochs") if options.checkpoint else ("arch", "mean", "std")
    )
    alien = [f"--{name}" for name in others if getattr(options, name) is not None]
    if alien:
        subject = "students of a distilled set" if options.checkpoint else "a checkpoint"
        raise ConfigError(f"{', '.join(alien)} belongs to {subject}", do="Leave it out, or give what it belongs to.")
    if options.labels and options.teacher:
        raise ConfigError(
            "--labels and --teacher exclude each other", do="A teacher's labels are soft; give one of them."
        )
    for name in ("seeds", "epochs", "images", "batch_size", "image_size"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            raise ConfigError(f"--{name.replace('_', '-')} must be at least 1", seen=str(getattr(options, name)))
    output = options.output
    if output is not None and (output.suffix not in (".json", ".html") or not output.parent.is_dir()):
        raise ConfigError(
            "The output must be a .json or .html file in a folder that exists (--output)", seen=str(output)
        )


def _write(found: Evaluation, output: Path) -> None:
    import platform
    from importlib.metadata import version

    from guard_plugins.artifacts.atomic import write_text
    from guard_plugins.report.page import evaluation_page

    if output.suffix == ".html":
        command = shlex.join([PurePath(sys.argv[0]).name, *sys.argv[1:]])
        facts = f"guard-plugins {__version__}, torch {version('torch')}, pyautoattack {version('pyautoattack')}, "
        facts += f"python {platform.python_version()}, {platform.platform()}; {found.seconds:.1f} s."
        write_text(output, evaluation_page(found, command=command, facts=facts))
    write_text(output.with_suffix(".json"), found.model_dump_json(indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
