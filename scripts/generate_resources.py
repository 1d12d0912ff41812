"""Writes kubecosm/api/data/resources.json from a Kubernetes swagger document and an aggregated discovery document.

    python scripts/generate_resources.py SWAGGER.json[.gz] AGGREGATED_V2.json

The output keeps facts only: group, version, kind, plural, verbs, short names, categories, scope and subresources.
The core group's short names and categories are not in swagger, so they stand here.
"""
import gzip
import json
import sys
from pathlib import Path

TARGET = Path(__file__).parent.parent / "kubecosm" / "api" / "data" / "resources.json"
CORE_SHORT_NAMES = {
    "componentstatuses": ["cs"], "configmaps": ["cm"], "endpoints": ["ep"], "events": ["ev"], "limitranges": ["limits"],
    "namespaces": ["ns"], "nodes": ["no"], "persistentvolumeclaims": ["pvc"], "persistentvolumes": ["pv"], "pods": ["po"],
    "replicationcontrollers": ["rc"], "resourcequotas": ["quota"], "serviceaccounts": ["sa"], "services": ["svc"],
}
CORE_IN_ALL = {"pods", "replicationcontrollers", "services"}
VERB_OF_ACTION = {"list": "list", "get": "get", "post": "create", "put": "update", "patch": "patch", "delete": "delete",
                  "deletecollection": "deletecollection", "watch": "watch", "watchlist": "watch", "connect": None}
VERB_OF_METHOD = {"get": "get", "post": "create", "put": "update", "delete": "delete", "patch": "patch"}


def load(path: str) -> dict:
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rt") as file:
        return json.load(file)


def core_rows(swagger: dict) -> list[dict]:
    """The rows of core/v1, read off the paths of the swagger document."""
    rows: dict[str, dict] = {}
    subresources: dict[str, dict[str, dict]] = {}
    for path, item in sorted(swagger["paths"].items()):
        parts = [p for p in path.split("/") if p][2:] if path.startswith("/api/v1/") else []
        if not parts or parts[0] == "watch":
            continue
        namespaced = parts[:2] == ["namespaces", "{namespace}"] and len(parts) > 2
        rest = parts[2:] if namespaced else parts
        if rest[:1] == ["namespaces"] and rest[1:2] == ["{name}"]:
            namespaced = False
        plural, sub = rest[0], (rest[2] if len(rest) > 2 else "")
        if sub.startswith("{") or len(rest) > 3:
            continue
        for method, operation in item.items():
            if method == "parameters":
                continue
            gvk = operation.get("x-kubernetes-group-version-kind", {"group": "", "version": "v1", "kind": ""})
            action = operation.get("x-kubernetes-action", method)
            verb = VERB_OF_ACTION.get(action, action)
            if sub:
                new = {"name": sub, "kind": gvk["kind"], "group": gvk["group"], "version": gvk["version"], "verbs": set()}
                entry = subresources.setdefault(plural, {}).setdefault(sub, new)
                entry["verbs"].add(verb or VERB_OF_METHOD.get(method))
                entry["verbs"].discard(None)
            else:
                new = {"group": "", "version": "v1", "kind": gvk["kind"], "plural": plural, "singular": gvk["kind"].lower(),
                       "namespaced": False, "verbs": set(), "short": [], "categories": []}
                row = rows.setdefault(plural, new)
                row["namespaced"] |= namespaced
                if verb:
                    row["verbs"].add(verb)
                    if verb == "list" and plural not in ("componentstatuses",):
                        row["verbs"].add("watch")
    out = []
    for plural, row in sorted(rows.items()):
        row["verbs"] = sorted(row["verbs"])
        row["short"] = CORE_SHORT_NAMES.get(plural, [])
        row["categories"] = ["all"] if plural in CORE_IN_ALL else []
        row["subresources"] = [s | {"verbs": sorted(s["verbs"])} for _, s in sorted(subresources.get(plural, {}).items())]
        out.append(row)
    return out


def aggregated_rows(document: dict) -> list[dict]:
    """One row per resource of an aggregated discovery document, in its order."""
    rows = []
    for item in document["items"]:
        group = item["metadata"].get("name", "")
        for version in item["versions"]:
            for r in version["resources"]:
                kind = r["responseKind"]
                rows.append({
                    "group": group, "version": version["version"], "kind": kind["kind"], "plural": r["resource"],
                    "singular": r["singularResource"], "namespaced": r["scope"] == "Namespaced", "verbs": sorted(r["verbs"]),
                    "short": r.get("shortNames", []), "categories": r.get("categories", []),
                    "subresources": [{"name": s["subresource"], "kind": s["responseKind"]["kind"],
                                      "group": s["responseKind"].get("group") or "", "version": s["responseKind"].get("version") or "",
                                      "verbs": sorted(s["verbs"])} for s in r.get("subresources", [])],
                })
    return rows


def main() -> None:
    rows = core_rows(load(sys.argv[1])) + aggregated_rows(load(sys.argv[2]))
    TARGET.write_text("[\n" + ",\n".join(json.dumps(row, sort_keys=True) for row in rows) + "\n]\n")
    print(f"{len(rows)} resources -> {TARGET}")


if __name__ == "__main__":
    main()
