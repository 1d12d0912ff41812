"""Kubernetes' dialect of the Common Expression Language: parser, type checker, interpreter and function libraries.

    environment = Environment({"object": DYN, "request": DYN, "authorizer": opaque("kubernetes.authorization.Authorizer")})
    program = environment.compile("object.spec.replicas <= 5")     # raises CompileError; str() is cel-go's text
    value, cost = program.evaluate({"object": {...}, ...})         # raises CelError (its text) or CostExceeded

Values are plain JSON values; times, optionals and the like are classes of `values`. Variables that are worked out when they are asked
for are `values.Fields`. `types.object_of` declares objects whose fields are checked when expressions are compiled.

It is an implementation of its own since Kubernetes asks for what the CEL runtimes for Python do not give: rules type-checked against open
schemas, lists that compare as sets, and costs, estimated beforehand and counted while evaluating. Nothing here is imported until the
first expression is compiled. Imitates google/cel-go and k8s.io/apiserver/pkg/cel.
"""
