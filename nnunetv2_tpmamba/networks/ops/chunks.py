"""Which states of a scan are kept, on which forward, backward and all implementations agree."""

from torch import Tensor

CHUNK = 16
"""Steps from one kept state to the next. The kept states take ``N / CHUNK`` times the memory of ``u``, which is
as much as ``u`` for the usual 16 states. The states of one chunk fit in a CPU's cache and in a GPU's registers."""


def new_states(u: Tensor, A: Tensor) -> Tensor:
    """Allocate, without values, the tensor of the states before each chunk of steps.

    Shape:
        ``u`` ``(batch, L, E)``, ``A`` ``(E, N)``, result ``(batch, ceil(L / CHUNK), E, N)``.
    """
    batch, L, _ = u.shape
    return A.new_empty(batch, (L + CHUNK - 1) // CHUNK, *A.shape)
