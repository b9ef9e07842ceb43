"""Topology: a lab file with every reference resolved and every default filled in, checked as a whole.

::

    LabFile --placing--> subnets, interfaces, hosts, public addresses --check--> all problems, or a Topology
    Topology --lower--> dataplane.program.Program
"""

from dataplane.model._placed import PlacedHost, PlacedInterface, PlacedSubnet
from dataplane.topology.build import build
from dataplane.topology.resolved import Topology

__all__ = ["PlacedHost", "PlacedInterface", "PlacedSubnet", "Topology", "build"]
