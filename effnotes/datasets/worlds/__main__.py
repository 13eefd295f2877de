"""Write worlds and edits as files: `python -m effnotes.datasets.worlds create ...` and `... edit -g FOLDER ...`.

The options are those of Behemoth's `create_data.py` and `create_finetuning_data.py` under the same names, and the settings of
`World` under their own.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from effnotes.core.files import user_path
from effnotes.datasets.worlds.draws import make_task, subset_size
from effnotes.datasets.worlds.litgpt import to_litgpt_jsonl
from effnotes.datasets.worlds.settings import ALIASES, COMPOSED, SETTINGS, rename_settings
from effnotes.datasets.worlds.storage import export_world, import_world, load_world
from effnotes.datasets.worlds.tasks import TaskKind
from effnotes.datasets.worlds.world import World

_FORMS: dict[str, TaskKind] = {"refusal": "refusal", "qa_refusal": "question_refusal", "qa": "new_question", "remapping": "remap"}

# Settings that facts are drawn from.
_DRAWING = ("n_subjects", "n_relations", "n_objects", "n_nested", "correlation", "binarize", "minority_frac")
_NAMES = (*SETTINGS, *(part for parts in COMPOSED.values() for part in parts))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns 0, or 2 after a message on what was wrong with the request or the files."""
    options = _parser().parse_args(arguments)
    try:
        written = options.run(options)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(written)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m effnotes.datasets.worlds", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(required=True)

    # What is not given is left to the world's own defaults.
    create = commands.add_parser("create", help="write a world", allow_abbrev=False, argument_default=argparse.SUPPRESS)
    create.set_defaults(run=_create)
    create.add_argument("--output-dir", required=True, help="folder to write to")
    create.add_argument("--world", type=Path, help="YAML file with settings; other options override it")
    taken = "take the facts and settings of a world that was written before; other options override how they are written"
    create.add_argument("-g", "--graph-path", type=Path, help=taken)
    create.add_argument("-d", "--shards", type=int, help="files of the training text")
    create.add_argument("-v", "--validation-data-only", action="store_true", help="write no training text")
    create.add_argument("-x", "--write-graph-only", action="store_true", help="write neither training text nor prompts")
    for name in _NAMES:
        flags = [f"-{alias}" if len(alias) == 1 else f"--{alias.replace('_', '-')}" for alias in (*ALIASES.get(name, ()), name)]
        is_flag = name in ("binarize", "shuffle", "correlated_pair")
        how: dict[str, Any] = {"action": argparse.BooleanOptionalAction} if is_flag else {"type": _value}
        create.add_argument(*flags, dest=name, help=f"`{name}` of a world", **how)

    edit = commands.add_parser("edit", help="write an edit of a world that was written before", allow_abbrev=False)
    edit.set_defaults(run=_edit)
    edit.add_argument("-g", "--graph-path", type=Path, required=True, help="folder of the world; the edit goes into it")
    edit.add_argument("-n", "--n", "--num-ft-overrides", dest="n", type=int, default=1, help="facts that are edited")
    edit.add_argument("--num-repeats-per-override", type=int, default=250, help="rows for each edited fact")
    edit.add_argument("--relationship-ordinal", type=int, default=0, help="relation that is edited")
    kinds = edit.add_mutually_exclusive_group()
    kinds.add_argument("-f", "--finetuning-phrase-creator", dest="kind", choices=list(_FORMS), default="remapping")
    same = "facts with one object get one new object"
    kinds.add_argument("--all-same-remapping", dest="kind", action="store_const", const="remap_same", help=same)
    kinds.add_argument("--single-ft-value", dest="kind", action="store_const", const="suppress", help="facts get object 0")
    edit.add_argument("--single-ft-data-subset-frac", type=float, default=0.5, help="share of the relation that does")
    edit.add_argument("--get-correlated-tuples", action="store_true", help="always done in correlated worlds")
    edges = edit.add_mutually_exclusive_group()
    for edge, name in (("sno", "subject"), ("ono", "object")):
        edges.add_argument(f"--remap-{name}-nested-object-edges", dest="edge", action="store_const", const=edge, default="so")
    edit.add_argument("--retain-coverage", type=float, default=0.1, help="share of subjects that retain rows come from")
    edit.add_argument("--seed", type=int, default=0)
    names = edit.add_mutually_exclusive_group()
    names.add_argument("--suffix", default="", help="added to the folder's name")
    names.add_argument("--increment-suffix", action="store_true", help="add the next free number to the folder's name")
    return parser


def _value(text: str) -> Any:
    """Read a number, a word or a mapping; World says whether it fits."""
    try:
        return json.loads(text)
    except ValueError:
        return yaml.safe_load(text)


def _create(options: argparse.Namespace) -> Path:
    given = vars(options)
    settings = rename_settings({name: given[name] for name in _NAMES if name in given})
    if "graph_path" in given:
        if "world" in given:
            raise ValueError("-g and --world both say which world to write; give one of them")
        world = import_world(given["graph_path"])
        kept = world.settings()
        asks_already = world.graph.asked.any()
        fixed = (*_DRAWING, "qa_subject_frac") if asks_already else _DRAWING
        redrawn = [name for name in fixed if name in settings and settings[name] != kept[name]]
        if redrawn:
            why = f"-g takes the facts of {given['graph_path']} as they are, so that {', '.join(redrawn)} cannot change"
            own = ", ".join(repr(kept[name]) for name in redrawn)
            raise ValueError(f"{why}; leave it out, or give the world's own value, {own}")
        if settings.get("qa_frac") and not asks_already:
            world = replace(world, given_graph=replace(world.graph, asked=World(**(kept | settings)).graph.asked))
        # Other templates may need words that this world did not have.
        world = replace(world, **settings, given_words=None if "templates" in settings else world.given_words)
    else:
        base: dict[str, Any] = load_world(given["world"]).settings() if "world" in given else {}
        world = World(**(base | settings))
    graph_only = "write_graph_only" in given
    text = not graph_only and "validation_data_only" not in given
    export_world(world, options.output_dir, text=text, validation=not graph_only, shards=given.get("shards"))
    return user_path(options.output_dir)


def _edit(options: argparse.Namespace) -> Path:
    world = import_world(options.graph_path)
    kind = _FORMS.get(options.kind, options.kind)
    n = subset_size(world, options.single_ft_data_subset_frac) if kind == "suppress" else options.n
    given = {"relation": options.relationship_ordinal, "retain_coverage": options.retain_coverage, "seed": options.seed}
    task = make_task(world, kind, n, edge=options.edge, **given)
    name = f"ft_{kind}_{task.edge}_n{n}_r{options.relationship_ordinal}" + (f"_{options.suffix}" if options.suffix else "")
    graph = user_path(options.graph_path)
    folder: Path = graph / name
    if options.increment_suffix:
        folder = next(path for number in range(1, 10**6) if not (path := graph / f"{name}_{number}").exists())
    to_litgpt_jsonl(task, folder, repeats=options.num_repeats_per_override, seed=options.seed)
    return folder


if __name__ == "__main__":
    sys.exit(main())
