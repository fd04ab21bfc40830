"""The console command ``nnUNetv2_tpmamba``: one verb, one file.

A verb's module has ``HELP`` (one line), ``add_arguments(parser)`` and ``run(args)``, which returns the exit status: 0,
or 1 for a failed run. argparse itself exits with 2 for wrong use. Our code raises ``ValueError``, ``OSError`` and
``RuntimeError`` with messages for users, so these become one sentence on stderr and exit status 1; any other exception
is a bug and shows its traceback.
"""

import argparse
import importlib
import os
import sys
import warnings

VERBS = (
    *("path", "doctor", "weights", "trainers", "preprocess", "demo", "benchmark"),
    *("fewshot", "study", "compare", "export", "install"),
)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command with all its verbs."""
    parser = argparse.ArgumentParser(prog="nnUNetv2_tpmamba", description="Tri-Plane Mamba for nnU-Net v2.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name in VERBS:
        module = importlib.import_module(f"{__name__}.{name}")
        verb = verbs.add_parser(
            name, help=module.HELP, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_arguments(verb)
        verb.set_defaults(run=module.run)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the verb in ``argv`` (default: the command line) and return its exit status."""
    args = build_parser().parse_args(argv)
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch")  # importing timm makes torch warn
    try:
        status = args.run(args)
        sys.stdout.flush()  # here, so that a closed pipe is noticed here and not at the interpreter's end
        return status
    except BrokenPipeError:  # whoever reads the output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError, RuntimeError) as error:
        print(f"nnUNetv2_tpmamba {args.verb}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"nnUNetv2_tpmamba {args.verb}: interrupted", file=sys.stderr)
        return 1
