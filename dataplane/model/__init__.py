"""The model: AWS constructs and what surrounds them, as frozen dataclasses.

One file for each construct, with what it is, its AWS page and where it deviates; its fields, as a lab file writes them;
`check`, which yields everything AWS would refuse; and `lower`, which adds its part to a `dataplane.program.Program`.
Constructs know neither their own name nor each other: the topology (`dataplane.topology`) does. `lab_file` is the root.

To add a construct: its file here, a field where it is declared, a test module of the same name, and, when it can be the
target of routes, a subclass of `RouteTarget`.
"""
