"""Serve a page and an HTTP interface on which a trained model recommends, and says why.

    recbole-mm serve demo                                        # needs no data of your own
    recbole-mm serve bundles/Toys --pictures=dataset/Toys/images
    recbole-mm serve saved/MMM4Rec-....pth --port=8000

Choose or type the items of a history; the page shows the best next items with titles and pictures,
what each modality and the ID add to their scores, and the nearest items of the history. Modalities
can be switched off, and the items of the history excluded. The same as JSON over HTTP:

    curl localhost:7860/recommend --data '{"history": ["B0007", "B0042"], "k": 5}'

returns {"recommended": [{"item", "title", "score", "source", ...}, ...], "unknown": [...]}. Unknown
items of the history are skipped and listed; without a known one, the most popular items are
recommended (source: popular). Further keys of a request: filter_seen, times (unix seconds, one for
each item of the history), items and exclude (ids that may, or may not, be recommended), modalities,
and strict (an unknown item is an error). GET /health is for monitoring.

demo trains a UniSRec on the generated data set demo the first time, about a minute, and keeps it as
saved/serve-demo.pth. The server listens on this machine only, unless --host says otherwise, and sends
nothing to third parties.
"""

from pathlib import Path

from recbole_mm.prepare.commands.options import parser_of
from recbole_mm.recommend.listening import bound_socket
from recbole_mm.recommend.paths import require_model
from recbole_mm.tools.command_lines import path_argument, with_dashes
from recbole_mm.tools.errors import UserError
from recbole_mm.tools.extras import extra_needed, require_installed

DEMO = "demo"
DEMO_CHECKPOINT = Path("saved", "serve-demo.pth")


def main(arguments: list[str]) -> int:
    """Run the command; it ends when it is interrupted.

    Raises:
        UserError: the model or the address cannot be used, or a package is missing.
    """
    parser = parser_of("serve", __doc__)
    add = parser.add_argument
    add(
        "model",
        help="a bundle, a checkpoint, OWNER/NAME of a bundle on the Hugging Face hub, or demo",
    )
    add("--host", default="127.0.0.1", help="address to listen on [127.0.0.1]; 0.0.0.0: all")
    add("--port", type=int, default=7860, help="[7860]; 0: any free port")
    add("--pictures", type=path_argument, metavar="FOLDER", help="folder of pictures that have the names "
        "of the data set, or are named after their item [those of a checkpoint's data set]")  # fmt: skip
    add("--device", help="cpu, cuda, cuda:1, ... [a GPU if there is one]")
    add("--data-path", metavar="FOLDER", help="folder of the data sets [that of the training]")
    options = parser.parse_args(with_dashes(arguments))
    if options.model != DEMO:
        require_model(options.model)
    if options.pictures is not None and not options.pictures.is_dir():
        raise UserError(f"--pictures: {options.pictures} is not a folder")
    require_installed("serve", "serve", ["gradio"])
    bound = bound_socket(options.host, options.port)

    with extra_needed("serve", "serve"):
        from recbole_mm.recommend.web_app import serve
    from recbole_mm.recommend.recommender import Recommender
    from recbole_mm.recommend.service import Service

    path = demo_checkpoint() if options.model == DEMO else options.model
    recommender = Recommender.from_pretrained(
        path, device=options.device, data_path=options.data_path
    )
    recommender.require_multi_modal("serve")
    serve(Service(recommender, options.pictures), bound)
    return 0


def demo_checkpoint() -> Path:
    """The checkpoint of the demo model, which is trained if it does not exist."""
    if not DEMO_CHECKPOINT.exists():
        from recbole_mm.run.logs import quiet_console
        from recbole_mm.run.run import run

        print(
            f"Training a UniSRec on the generated data set demo, about a minute; it is kept as "
            f"{DEMO_CHECKPOINT}",
            flush=True,
        )
        settings = {"use_item_id": True, "tracker": "none", "show_progress": False}
        with quiet_console():
            result = run("UniSRec", DEMO, overrides=settings)
        assert result.checkpoint is not None
        Path(result.checkpoint).replace(DEMO_CHECKPOINT)
    return DEMO_CHECKPOINT
