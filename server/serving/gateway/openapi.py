"""What the endpoint takes and says, as OpenAPI tells it: with the columns, and the example, of what is served."""

from __future__ import annotations

import html
import json
from typing import Any

from pipeline.language.protocol import own_version
from server.serving.gateway.tensors import input_kinds
from server.serving.version import ServedModel

_REFUSED = {
    "400": "Not JSON, or cut off.",
    "401": "No key, where one is asked for.",
    "403": "A key that is for something else.",
    "404": "No such version is served.",
    "408": "It did not arrive in time.",
    "413": "Too many rows, or bytes.",
    "415": "An encoding that is not read.",
    "422": "It says what is wrong with which row and column.",
    "429": "Too many questions in a minute; `Retry-After` says when.",
    "503": "No version answers yet.",
}


def document(model: ServedModel | None, max_rows: int) -> dict[str, Any]:
    """OpenAPI 3.1. model: that answers most; None: nothing does yet."""
    row: dict[str, Any] = {"type": "object"}
    answer: dict[str, Any] = {"type": "object"}
    example: dict[str, Any] = {}
    tensors: dict[str, Any] = {}
    if model:
        properties = {name: _nullable(column.json_schema) for name, column in model.spec.columns.items()}
        row = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
        answer = model.spec.task.answer_schema
        example = {"example": {"rows": [model.example]}}
        inputs = [
            {"name": name, "datatype": kind, "shape": [1, 1], "data": [model.example[name]]}
            for name, kind in input_kinds(model).items()
        ]
        tensors = {"example": {"inputs": inputs}}
    question = {
        "type": "object",
        "required": ["rows"],
        "additionalProperties": False,
        "properties": {
            "rows": {"type": "array", "minItems": 1, "maxItems": max_rows, "items": row},
            "version": {
                "type": ["string", "integer", "null"],
                "description": "Who is to answer: a version's number, or champion. Left out: whose share it is.",
            },
            "subject": {
                "type": ["string", "null"],
                "maxLength": 256,
                "description": "Whom it is about: the same subject is answered by the same version.",
            },
            "explain": {
                "type": "boolean",
                "description": "Also tell what each column adds to the answer: `contributions` of an additive version.",
            },
        },
    }
    reply = {
        "type": "object",
        "required": ["model", "version", "id", "predictions"],
        "properties": {
            "model": {"type": "string"},
            "version": {"type": "integer"},
            "id": {"type": "string", "description": "Of this prediction; nobody else can make one."},
            "predictions": {"type": "array", "items": answer},
        },
    }
    told = {"200": _said("The rows' predictions, in their order.", reply), **_refusals(_REFUSED)}
    card = _refusals({code: _REFUSED[code] for code in ("401", "403", "404", "503")})
    version = {"name": "version", "in": "path", "required": True, "schema": {"type": "string"}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": model.registered.name if model else "Sottovoce",
            "version": own_version(),
            "description": str(model.description["privacy"]["text"]) if model else "No version answers yet.",
        },
        "paths": {
            "/predict": {
                "post": {
                    "summary": "Predict rows of named raw columns.",
                    "requestBody": {
                        "required": True,
                        "content": {"application/json": {"schema": question, **example}},
                    },
                    "responses": told,
                }
            },
            "/feedback": {
                "post": {
                    "summary": "Say what became of a prediction, or of several; late, repeated or out of order.",
                    "requestBody": {
                        "required": True,
                        "content": {"application/json": {"schema": {"anyOf": [_OUTCOME, _OUTCOMES]}}},
                    },
                    "responses": {
                        "200": _said("How many outcomes were new, changed, or known.", _TAKEN),
                        **_refusals({**_REFUSED, "404": "An id that was not made here.", "503": "Not now."}),
                    },
                }
            },
            "/models": {"get": _get("What is served, and the champion's card.")},
            "/models/{version}": {
                "parameters": [version],
                "get": {"summary": "A version's card.", "responses": {"200": _said("The card."), **card}},
            },
            "/healthz": {"get": _get("Whether the process answers.")},
            "/readyz": {"get": _get("Whether a version answers, and which.", "503")},
            "/metrics": {"get": {"summary": "Measurements, as Prometheus reads them.", "responses": {"200": _TEXT}}},
            "/v2/models/{name}/infer": {
                "parameters": [{**version, "name": "name"}],
                "post": {
                    "summary": "The Open Inference Protocol, version 2: one tensor for each raw column.",
                    "requestBody": {
                        "required": True,
                        "content": {"application/json": {"schema": {"type": "object"}, **tensors}},
                    },
                    "responses": {"200": _said("One tensor for each part of an answer."), **_refusals(_REFUSED)},
                },
            },
        },
    }


_OUTCOME: dict[str, Any] = {
    "type": "object",
    "required": ["id"],
    "oneOf": [{"required": ["outcome"]}, {"required": ["outcomes"]}],
    "additionalProperties": False,
    "properties": {
        "id": {"type": "string", "description": "Of the prediction."},
        "outcome": {"type": ["string", "number", "boolean"], "description": "Of a prediction of one row."},
        "outcomes": {
            "type": "array",
            "items": {"type": ["string", "number", "boolean", "null"]},
            "description": "One for each row; null where it is not known yet.",
        },
        "at": {"type": "string", "format": "date-time", "description": "When it was observed: the latest counts."},
    },
}
_OUTCOMES = {"type": "array", "minItems": 1, "items": _OUTCOME}
_TAKEN = {
    "type": "object",
    "properties": {name: {"type": "integer"} for name in ("accepted", "changed", "repeated")},
}
_TEXT = {"description": "Text.", "content": {"text/plain": {"schema": {"type": "string"}}}}


def page(document: dict[str, Any], base: str) -> str:
    """The same for people, in one page that loads nothing from anywhere. base: where it was asked for."""
    parts, info = [], document["info"]
    for path, methods in document["paths"].items():
        for method, told in methods.items():
            if method in ("get", "post"):
                body = told.get("requestBody", {}).get("content", {}).get("application/json", {})
                example = json.dumps(body["example"]) if "example" in body else ""
                filled = path.replace("{version}", "champion").replace("{name}", info["title"])
                ask = f"curl -s {base.rstrip('/')}{filled}" + (f" -d '{example}'" if example else "")
                parts.append(
                    f"<section><h2><code>{method.upper()} {html.escape(path)}</code></h2>"
                    f"<p>{html.escape(told['summary'])}</p><pre>{html.escape(ask)}</pre></section>"
                )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(info['title'])}</title><style>:root{{color-scheme:light dark}}body{{font:16px/1.5 "
        "system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem}pre{padding:.7rem;white-space:pre-wrap;"
        "overflow-wrap:anywhere;border:1px solid;border-radius:.4rem}h2{font-size:1.1rem}</style>"
        f"<h1>{html.escape(info['title'])}</h1><p>{html.escape(info['description'])}</p>"
        f'{"".join(parts)}<p><a href="openapi.json">openapi.json</a></p></html>'
    )


def _nullable(schema: dict[str, object]) -> dict[str, object]:
    """A value may be missing, and a name that is not declared is one like any other that is not."""
    loose = {name: value for name, value in schema.items() if name not in ("enum", "minimum", "maximum", "format")}
    hints = {"examples": schema["enum"]} if "enum" in schema else {}
    return {**loose, **hints, "type": [schema["type"], "null"]}


def _said(description: str, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema or {"type": "object"}}}}


def _get(summary: str, *codes: str) -> dict[str, Any]:
    return {
        "summary": summary,
        "responses": {"200": _said(summary), **_refusals({code: _REFUSED[code] for code in codes})},
    }


def _refusals(codes: dict[str, str]) -> dict[str, Any]:
    return {code: _said(told) for code, told in codes.items()}
