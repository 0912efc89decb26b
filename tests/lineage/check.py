"""Holds OpenLineage events (one JSON object per line) against the standard's JSON schemas, facets included.

check.py EVENTS SPEC_FOLDER
"""

import json
import sys
from pathlib import Path

import jsonschema
from referencing import Registry, Resource


def main():
    events, spec = Path(sys.argv[1]), Path(sys.argv[2])
    schemas = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(spec.glob("*.json"))]
    registry = Registry().with_resources((schema["$id"], Resource.from_contents(schema)) for schema in schemas)
    known = {schema["$id"] for schema in schemas}
    faults, facets = [], 0

    def hold(what, value, reference):
        validator = jsonschema.Draft202012Validator({"$ref": reference}, registry=registry, format_checker=jsonschema.FormatChecker())
        faults.extend(f"{what}: {error.json_path}: {error.message}" for error in validator.iter_errors(value))

    def facets_of(what, holder):
        nonlocal facets
        for name, facet in holder.items():
            reference = facet["_schemaURL"]
            file = reference.split("#")[0]
            if file not in known:
                faults.append(f"{what}.{name}: no schema {file}")
                continue
            facets += 1
            hold(f"{what}.{name}", facet, reference)

    lines = events.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        event = json.loads(line)
        hold(f"event {number}", event, event["schemaURL"])
        facets_of("run", event["run"]["facets"])
        facets_of("job", event["job"]["facets"])
        for dataset in event["inputs"] + event["outputs"]:
            for key in ("facets", "inputFacets", "outputFacets"):
                facets_of(dataset["name"], dataset.get(key, {}))
    for fault in faults[:40]:
        print(fault)
    if faults:
        sys.exit(f"{len(faults)} faults")
    print(f"{len(lines)} events, {facets} facets: as the standard says")


if __name__ == "__main__":
    main()
