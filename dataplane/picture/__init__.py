"""Pictures of a network: what there is, what is inside of what, and which route leads where.

    Topology --draw--> Picture --mermaid, dot--> text
                              \\--to_json--> JSON

A picture is a tree of *places* (Region, VPC, Availability Zone, subnet, and what is in them) and *links* between them.
It is made of the topology alone, in the order of the lab file, so the same file gives the same text.
"""

from dataplane.picture.drawing import draw
from dataplane.picture.places import Link, Mark, Picture, Place
from dataplane.picture.texts import dot, mermaid
from dataplane.picture.ways import Ways

__all__ = ["Link", "Mark", "Picture", "Place", "Ways", "dot", "draw", "mermaid"]
