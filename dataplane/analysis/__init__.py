"""What a lab file means for packets: checks and who reaches whom, decided by the oracle, and how both are told.

::

    Check --resolve--> Resolved --oracle (frames made here)----> Course --judge--> Result --> table, JUnit XML, JSON
                           |                                       ^
                           +------> lab.checking (real packets) ---+

A `Course` is what became of one probe, put together from what an engine says of each frame; both engines say it in the
same words, so the same judge stands behind ``vpclab check`` and ``vpclab check --static``.
"""
