"""Recommend items to any user with a trained model of this package.

    recbole-mm recommend --model=saved/MMM4Rec-....pth --output=top.parquet
    recbole-mm recommend --model=saved/MMM4Rec-....pth --histories=today.csv --k=20 --output=top.csv
    recbole-mm recommend --model=bundles/Shop --histories=today.csv --new-items=new.csv --output=top.csv

Histories are a table with one event per row (columns user, item and, optionally, timestamp),
or with one history per row (user, items and timestamps: lists, or cells like: a b c, or ["a", "b"]).
They are complete: the list of a user is for the time after the last event (--stored-events puts
those of the data set first). Users need not be known; those without a known item get the most
popular items, by all events of the data set (source: popular). Without --histories, every user of
the data set gets a list. Items of the data set without interactions are recommended by their
features, as new items. An
interrupted command resumes when it is repeated. torchrun distributes the users among processes
(torchrun --nproc_per_node=2 -m recbole_mm recommend ...), --tool=ray among workers on a ray cluster
(RAY_ADDRESS, or one that runs on this machine) or, without a cluster, on this machine. All nodes of
a cluster need the model, its data set and the folder of the output under the same paths.
"""

from contextlib import nullcontext
from datetime import datetime, timezone
from functools import partial

from recbole_mm.prepare.commands.options import pairs, parser_of
from recbole_mm.prepare.fields import SECONDS_PER_UNIT
from recbole_mm.prepare.formats import refuse_unreadable
from recbole_mm.recommend.item_options import (
    add_item_options,
    add_model_and_output,
    add_text_options,
    change_items,
    inputs_of,
    read_item_options,
    refuse_unreadable_ids,
    text_of,
)
from recbole_mm.recommend.paths import require_model, require_new
from recbole_mm.recommend.streams import as_file, is_stream, refuse_shared_stream
from recbole_mm.tools.command_lines import path_argument, with_dashes
from recbole_mm.tools.errors import UserError
from recbole_mm.tools.extras import require_installed
from recbole_mm.tools.files import refuse_input_as_output
from recbole_mm.tools.variables import is_one_of_several

ID_FILE = "text with one id per line (.txt), or a table"


def main(arguments: list[str]) -> int:
    """Run the command.

    Raises:
        UserError: the model, the histories, the output or an option cannot be used.
        RunFailed: the output cannot be written.
    """
    options = read_arguments(arguments)
    from recbole_mm.recommend.tables import TableForm, read_ids
    from recbole_mm.tools import processes

    processes.start()
    form = TableForm(
        options.user_column,
        options.item_column,
        options.time_column,
        options.lists or None,
        options.time_unit,
        options.time_format,
        options.text,
    )
    recommender = open_recommender(options, form, "cpu" if options.tool else options.device)
    with as_file(options.histories) as histories, _workers(options, form) as workers:
        summary = recommender.write(
            options.output,
            histories,
            k=options.k,
            overwrite=options.overwrite,
            show_progress=not options.no_progress,
            workers=workers,
            filter_seen=options.filter_seen,
            stored_events=options.stored_events,
            users=options.users and read_ids(options.users, "user", form),
            items=options.items and read_ids(options.items, "item", form),
            exclude=options.exclude and read_ids(options.exclude, "item", form),
            candidates=options.candidates,
            form=form,
            request_time=options.request_time,
            strict=options.strict,
            batch_size=options.batch_size,
            result_columns=options.result_columns,
            titles=options.titles,
            pictures=options.pictures,
        )
    if processes.is_first():
        print(f"{options.output}: {summary}")
    return 0


def open_recommender(options, form, device=None):
    """The model on a device, with the items that the options ask for."""
    from recbole_mm.recommend.recommender import Recommender

    recommender = Recommender.from_pretrained(
        options.model, device=device, data_path=options.data_path
    )
    change_items(recommender, options, form, options.strict)
    return recommender


def _workers(options, form):
    """Context with the workers that compute the lists, if any."""
    if options.tool is None:
        return nullcontext()
    from recbole_mm.recommend.ray_workers import on_ray

    return on_ray(partial(open_recommender, options, form), options.jobs)


def read_arguments(arguments: list[str]):
    """Parse the command line, and find every file that it names.

    Raises:
        UserError: a file does not exist, or its name cannot be used.
    """
    options = _parser().parse_args(with_dashes(arguments))
    _check_tool(options)
    options.text = text_of(options)
    require_model(options.model)
    if options.histories is not None and is_stream(options.histories):
        refuse_shared_stream("--histories", options.histories)
    elif options.histories is not None:
        refuse_unreadable(options.histories, options.text)
    if options.candidates is not None:
        refuse_unreadable(options.candidates, options.text)
    for path in (options.users, options.items, options.exclude):
        refuse_unreadable_ids(path, options.text)
    read_item_options(options, options.text)
    names = ("model", "histories", "users", "items", "exclude", "candidates")
    refuse_input_as_output(options.output, inputs_of(options, *names))
    options.output = require_new(options.output, options.overwrite)
    options.result_columns = _result_columns(options.result_columns)
    options.request_time = _unix_seconds(options.request_time)
    return options


def _check_tool(options) -> None:
    if options.tool is None:
        if options.jobs is not None:
            raise UserError(
                "--jobs needs --tool=ray; without it, torchrun starts several processes"
            )
        return
    if options.jobs is not None and options.jobs < 1:
        raise UserError(f"--jobs={options.jobs}: give a number >= 1")
    if options.device is not None:
        raise UserError(
            f"--device={options.device}: omit it with --tool=ray, which gives every worker a "
            f"GPU if the cluster has GPUs"
        )
    if is_one_of_several():
        raise UserError("--tool=ray starts its own workers: run it without torchrun")
    require_installed("recommend --tool=ray", "tune", ["ray"])


def _parser():
    parser = parser_of("recommend", __doc__)
    add = parser.add_argument
    add_model_and_output(add)
    add(
        "--histories",
        type=path_argument,
        metavar="FILE",
        help="a table, or - for the standard input [all users of the data set]",
    )
    add("--k", type=int, default=10, help="items per user [10]")
    add("--filter-seen", action="store_true", help="exclude the items of a user's history")
    add("--stored-events", action="store_true", help="put the events of the data set of the "
        "training before those of the histories of the same users")  # fmt: skip
    add("--strict", action="store_true", help="unknown items are an error [they are skipped]")
    add(
        "--users",
        type=path_argument,
        metavar="FILE",
        help=f"users to recommend to, in this order: {ID_FILE} [all]",
    )
    add("--items", type=path_argument, metavar="FILE", help=f"items to recommend: {ID_FILE} [all]")
    add(
        "--exclude",
        type=path_argument,
        metavar="FILE",
        help="items not to recommend, in the same form [none]",
    )
    add(
        "--candidates",
        type=path_argument,
        metavar="FILE",
        help="candidate items of each user: a table like the histories",
    )
    add("--request-time", metavar="TIME", help="date or unix seconds of the request, for models that "
        "read it [the latest event]")  # fmt: skip
    add("--batch-size", type=int, help="histories per batch [eval_batch_size of the training]")
    add("--device", help="cpu, cuda, cuda:1, ... [a GPU if there is one]")
    add("--tool", choices=["ray"], help="distribute the users among ray workers [this process]")
    add("--jobs", type=int, help="with --tool=ray: number of workers [one per GPU, or per core, of "
        "the cluster]")  # fmt: skip
    add("--data-path", metavar="FOLDER", help="folder of the data sets [that of the training]")
    add("--no-progress", action="store_true", help="no progress bar")
    add_item_options(parser)
    result = parser.add_argument_group("result")
    add = result.add_argument
    add("--titles", action="store_true", help="add the titles of the items")
    add("--pictures", action="store_true", help="add the paths of their pictures")
    add("--result-columns", default="", metavar="NAME=NEW,...", help="rename its columns")
    forms = parser.add_argument_group("how the tables are written")
    add = forms.add_argument
    add("--user-column", metavar="COLUMN", help="[user or user_id]")
    add("--item-column", metavar="COLUMN", help="[item or item_id; for lists items]")
    add("--time-column", metavar="COLUMN", help="[timestamp, if there is one]")
    add("--lists", action="store_true", help="a row is a whole history [by the type of the column]")
    add("--time-unit", choices=list(SECONDS_PER_UNIT), help="unit of numeric times [s]")
    add("--time-format", metavar="FORMAT", help="format of times, as for strptime [ISO 8601]")
    add_text_options(add)
    return parser


def _result_columns(text: str) -> dict[str, str]:
    renamed = pairs([pair for pair in text.split(",") if pair])
    if any(not (name and new) for name, new in renamed):
        raise UserError(f"--result-columns={text}: write NAME=NEW,NAME=NEW")
    return dict(renamed)


def _unix_seconds(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UserError(
            f"--request-time={text}: give unix seconds, or a date like 2024-01-31T18:00"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
