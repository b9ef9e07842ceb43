"""Ten broken labs to learn from: what is wrong, how to see it, and what puts it right.

A lesson is two lab files that differ in a few lines, one of them broken, and the words around them. The files stand in
`examples/broken` of a source tree, and beside this package where it is installed.
"""

from vpclab.learn.lesson import Lesson, Task
from vpclab.learn.lessons import LESSONS

__all__ = ["LESSONS", "Lesson", "Task"]
