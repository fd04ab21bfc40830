"""What only a machine with a GPU can show, measured in minutes there and written down to be sent back.

:mod:`.report` runs the parts of :mod:`.catalogue` one after the other, each in a process of its own
(:mod:`.process`, :mod:`.child`), which writes what it finds into a :mod:`.notebook`. :mod:`.pages` makes the two files
from the notebooks, and :mod:`.privacy` keeps names and paths of the user out of them.
"""
