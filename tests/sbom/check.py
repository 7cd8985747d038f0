"""Checks bills of materials by the schema of CycloneDX 1.5, and what no schema can say of them:

    check.py FILE…

Every problem goes to stderr, one a line; the exit status is 1 where there is one."""

import json
import sys
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.spdx import is_expression
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

# Strict: a key that the schema does not know is an error, not an extension.
SCHEMA = JsonStrictValidator(SchemaVersion.V1_5)


def by_schema(text):
    for error in SCHEMA.validate_str(text, all_errors=True) or ():
        yield f"{error.data.json_path}: {error.data.message[:300]}"


def component(part):
    """Licences and addresses are strings to the schema; SPDX and the purl specification say which."""
    for expression in [one["expression"] for one in part.get("licenses", []) if "expression" in one]:
        if not is_expression(expression):
            yield f"{part['name']}: {expression!r} is no SPDX expression"
    try:
        canonical = PackageURL.from_string(part["purl"]).to_string()
    except ValueError as error:
        yield f"{part['name']}: {error}"
    else:
        if canonical != part["purl"]:
            yield f"{part['name']}: {part['purl']} is written {canonical}"


def references(bill):
    """What `dependencies` names has to be there, and everything that is there has a line."""
    known = {part["bom-ref"] for part in [bill["metadata"]["component"], *bill["components"]]}
    lines = {line["ref"] for line in bill["dependencies"]}
    named = {ref for line in bill["dependencies"] for ref in line.get("dependsOn", [])}
    for ref in sorted((lines | named) - known):
        yield f"dependencies: {ref} is no component"
    for ref in sorted(known - lines):
        yield f"dependencies: nothing is said of {ref}"


def problems(text):
    found = list(by_schema(text))
    if found:
        return found
    bill = json.loads(text)
    for part in [bill["metadata"]["component"], *bill["components"]]:
        found += component(part)
    return found + list(references(bill))


def main(files):
    if not files:
        sys.exit(__doc__)
    found = [f"{file}: {problem}" for file in files for problem in problems(Path(file).read_text())]
    print("\n".join(found), file=sys.stderr, end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
