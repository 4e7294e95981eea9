"""Join prepared data sets, the domains, into one data set for pre-training.

    recbole-mm mix FHCKM Food Home CDs Kindle Movies

This writes dataset/NAME/NAME.inter, in which users and items carry the name of their domain
(Food:B00004W4UP), and NAME.yaml, which lists the domains. Features are not copied: those of
Food:B00004W4UP are in row B00004W4UP of dataset/Food/Food.<modality>.npz.
"""

from recbole_mm.prepare.commands.options import add_fields, add_output, command_line, parser_of
from recbole_mm.prepare.folders import (
    refuse_unusable_name,
    require_finished,
    require_writable_folders,
)
from recbole_mm.tools.counts import counted


def main(arguments: list[str]) -> None:
    parser = parser_of("mix", __doc__)
    parser.add_argument("name", help="name of the mixture")
    parser.add_argument("domains", nargs="+", help="names of prepared data sets")
    add_output(parser)
    add_fields(parser)
    args = parser.parse_args(arguments)
    refuse_unusable_name(args.name)
    for domain in args.domains:
        require_finished(args.output, domain)
    require_writable_folders(args.output, args.name)
    from recbole_mm.prepare.making import made_whole
    from recbole_mm.prepare.mix import mix
    from recbole_mm.prepare.prepared import PreparedDataset

    domains = [PreparedDataset(args.output, domain, vars(args)) for domain in args.domains]
    with made_whole(args.output, args.name, command_line("mix", arguments)):
        dataset = mix(domains, args.output, args.name)
    print(f"{counted(len(domains), 'domain', 'domains')}, {dataset.summary()}")
