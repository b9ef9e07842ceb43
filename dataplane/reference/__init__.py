"""The reference engine: what AWS would do with a packet, decided from a lab file in plain, slow Python.

It shares the model with the fast engine, and nothing else: no parser, checksum, table or translation.
"""

from dataplane.reference.balancer import InadmissibleChoiceError
from dataplane.reference.engine import ReferencePlane
from dataplane.reference.nat import InadmissiblePortError
from dataplane.reference.outcomes import Emission, Outcome

__all__ = ["Emission", "InadmissibleChoiceError", "InadmissiblePortError", "Outcome", "ReferencePlane"]
