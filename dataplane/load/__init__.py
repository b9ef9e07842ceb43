"""Reading lab files: YAML text -> the model's dataclasses, with the place of everything.

::

    text --source--> str --compose--> nodes with marks --reading, by shapes--> LabFile --topology.build--> Topology
                                          |                                                     |
                                          +------------- marks: dotted path -> line:column <----+

A person who made five mistakes hears of five: each stage collects what it finds. When parts of a file cannot be
read, the checks of the topology still run on the parts that have nothing to do with them; `soundness` says which, and
what was wrong comes with a list of the parts that were left out.
"""

from dataplane.load.file import LoadedFile, load, load_topology
from dataplane.load.marks import Marks

__all__ = ["LoadedFile", "Marks", "load", "load_topology"]
