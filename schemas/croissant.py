"""``croissant.json``: the data set in MLCommons' Croissant 1.1 vocabulary (JSON-LD), for search and loaders."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from . import pair as schema
from .manifest import Manifest
from .reject import reject_schema
from .selection import selection_schema

_CR_TERMS = (
    "annotation", "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "excludes", "extract", "field",
    "fileObject", "fileProperty", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key", "md5",
    "parentField", "path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate", "separator",
    "source", "subField", "transform", "value",
)  # fmt: skip
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{term: f"cr:{term}" for term in _CR_TERMS},
}
_SCALARS = {
    "string": "sc:Text", "bool": "sc:Boolean", "int32": "cr:Int32", "float": "cr:Float32", "double": "cr:Float64",
    "binary": "sc:Text",
}  # fmt: skip


def croissant_text(manifest: Manifest, light: pa.Table) -> str:
    """The Croissant description of a data set. ``url``, ``creator`` and ``datePublished`` are the publisher's to add.

    Args:
        light: column ``license`` (and more) of every pair.
    """
    licenses = sorted(value for value in light["license"].unique().to_pylist() if value)
    tables = [
        ("pairs", "one clip of two people a row", schema.pair_schema(), "pair_id"),
        ("rejects", "what a hard gate stopped, and why", reject_schema(), None),
        ("selection", "thresholds and splits", selection_schema(), "pair_id"),
    ]
    distribution: list[dict[str, Any]] = []
    records = []
    for kind, text, arrow, key in tables:
        entries = [entry for entry in manifest.of_kind(kind) if entry.rows]
        if not entries:
            continue
        distribution += [
            {
                "@type": "cr:FileObject",
                "@id": entry.path,
                "name": entry.path,
                "contentUrl": entry.path,
                "contentSize": f"{entry.bytes} B",
                "encodingFormat": "application/vnd.apache.parquet",
                "sha256": entry.sha256,
            }
            for entry in entries
        ]
        source: dict[str, Any] = {"fileObject": {"@id": entries[0].path}}
        if len(entries) > 1:
            distribution.append(
                {
                    "@type": "cr:FileSet",
                    "@id": f"{kind}-files",
                    "name": f"{kind}-files",
                    "encodingFormat": "application/vnd.apache.parquet",
                    "includes": f"{kind}/*.parquet",
                }
            )
            source = {"fileSet": {"@id": f"{kind}-files"}}
        record = {"@type": "cr:RecordSet", "@id": kind, "name": kind, "description": text}
        if key:
            record["key"] = {"@id": f"{kind}/{key}"}  # type: ignore[assignment]
        record["field"] = [_field(kind, field, source) for field in arrow]  # type: ignore[assignment]
        records.append(record)
    document = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": "duologue-pairs",
        "description": "Clips of two people talking: both heads in one metric 3D frame, gaze, who speaks when, mixed "
        "audio, with per-frame validity and uncertainty. " + schema.CONVENTIONS.replace("\n", " "),
        "license": licenses or ["not stated by the sources"],
        "version": f"{manifest.schema_version}.0.0",
        "isLiveDataset": False,
        "rai:dataCollection": "Measured by software from videos; one row per clip with exactly two people.",
        "rai:dataAnnotationProtocol": f"duologue {manifest.code_version}, configuration {manifest.config_hash}, "
        f"head model {manifest.head_model_id or 'none'}; models and weights hashes are in the column backends.",
        "rai:personalSensitiveInformation": "Voices, and head and face motion of identifiable people; no face pixels.",
        "rai:dataLimitations": "Labels are estimates with stored uncertainty. Depth and head size share an ambiguity.",
        "distribution": distribution,
        "recordSet": records,
    }
    return json.dumps(document, indent=1) + "\n"


def _field(table: str, field: pa.Field, source: dict[str, Any]) -> dict[str, Any]:
    meta = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
    unit = f" [{meta['unit']}]" if meta.get("unit") else ""
    out: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": f"{table}/{field.name}",
        "name": f"{table}/{field.name}",
        "description": meta.get("description", field.name) + unit,
    }
    place = {"source": {**source, "extract": {"column": field.name}}}
    kind = field.type
    rank = 0
    while pa.types.is_list(kind):
        kind, rank = kind.value_type, rank + 1
    if rank:
        shape = json.loads(meta["shape"]) if "shape" in meta else [""] * rank
        out |= {"isArray": True, "arrayShape": ",".join(axis if axis.isdigit() else "-1" for axis in shape)}
    if field.name == "audio":
        return out | {"dataType": "sc:AudioObject", "samplingRate": schema.SAMPLE_RATE} | place
    if pa.types.is_struct(kind):
        out["subField"] = [
            {
                "@type": "cr:Field",
                "@id": f"{table}/{field.name}/{part.name}",
                "name": f"{table}/{field.name}/{part.name}",
                "dataType": _SCALARS[str(part.type)],
                "source": {**source, "extract": {"column": field.name}, "transform": {"jsonPath": f"$.{part.name}"}},
            }
            for part in kind
        ]
        return out
    return out | {"dataType": _SCALARS[str(kind)]} | place
