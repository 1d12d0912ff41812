"""Writes services/apiserver/authz/bootstrap.json from the bootstrap RBAC policy of Kubernetes.

    python scripts/generate_rbac.py DIRECTORY

DIRECTORY holds the YAML lists of plugin/pkg/auth/authorizer/rbac/bootstrappolicy/testdata, which kube-apiserver's own tests check.
One object a line, facts only: kind, name, namespace, labels, rules, subjects, aggregation.
"""

import json
import sys
from pathlib import Path

import yaml

TARGET = Path(__file__).parent.parent / "services" / "apiserver" / "authz" / "bootstrap.json"
FILES = (
    "cluster-roles", "controller-roles", "namespace-roles", "cluster-role-bindings", "controller-role-bindings", "namespace-role-bindings",
)


def main() -> None:
    rows = []
    for name in FILES:
        document = yaml.safe_load((Path(sys.argv[1]) / f"{name}.yaml").read_text())
        for item in document["items"]:
            meta = item["metadata"]
            row = {"kind": item["kind"], "name": meta["name"]}
            if meta.get("namespace"):
                row["namespace"] = meta["namespace"]
            labels = {k: v for k, v in (meta.get("labels") or {}).items() if k != "kubernetes.io/bootstrapping"}
            if labels:
                row["labels"] = labels
            for field in ("rules", "aggregationRule", "subjects", "roleRef"):
                if item.get(field):
                    row[field] = item[field]
            rows.append(row)
    TARGET.write_text("[\n" + ",\n".join(json.dumps(row, sort_keys=True, separators=(",", ":")) for row in rows) + "\n]\n")
    print(f"{len(rows)} objects -> {TARGET}")


if __name__ == "__main__":
    main()
