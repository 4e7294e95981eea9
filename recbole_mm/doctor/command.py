"""Check the installation: versions, device, extras, and whether all patches of RecBole apply.

    recbole-mm doctor
    recbole-mm doctor --json > doctor.json     # for a bug report; without file names and paths

Exit status: 0 if everything that is needed is installed, 1 if something is missing or has a wrong
version, or a patch does not apply.
"""

import json
from collections.abc import Iterator

from recbole_mm.tools.command_lines import CommandParser
from recbole_mm.tools.errors import UserError

OK, PROBLEMS = 0, 1


def main(arguments: list[str]) -> int:
    parser = CommandParser(prog="recbole-mm doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON, for a bug report")
    args = parser.parse_args(arguments)
    try:
        from recbole_mm.doctor.examination import examine
    except ModuleNotFoundError as error:
        raise UserError(f"doctor needs {error.name}: pip install {error.name}") from error

    found = examine()
    if args.json:
        print(json.dumps(found.to_plain(), indent=2))
    else:
        print("\n".join(_lines(found)))
    return PROBLEMS if found.problems else OK


def _lines(found) -> Iterator[str]:
    yield f"recbole-mm   {found.recbole_mm}"
    yield f"Python       {found.python}, {found.system}"
    yield f"device       {found.device}"
    yield f"ssd_backend  {found.ssd_backend}"
    yield f"threads      {found.threads}"
    yield "\nneeded"
    width = max(len(package.name) for package in found.packages)
    for package in found.packages:
        yield f"  {package.name:{width}}  {package.version or 'not installed'}"
    yield "\nextras" if found.extras else "\nextras: unknown, recbole_mm is not installed with pip"
    for extra in found.extras:
        state = f"missing {', '.join(extra.problems)}: {extra.install}" if extra.problems else "ok"
        yield f"  {extra.name:{width}}  {state}"
    yield f"\npatches of RecBole: {_patches(found.patches)}"
    for problem in found.problems:
        yield f"\nproblem: {problem}"
    if not found.problems:
        yield "\nno problems"


def _patches(patches) -> str:
    if patches is None:
        return "not checked, RecBole or torch cannot be imported"
    return f"{sum(patch.problem is None for patch in patches)} of {len(patches)} apply"
