"""Where a scan's states are kept: the one agreement between forward, backward and all implementations."""

from torch import Tensor

CHUNK = 16
"""Steps from one kept state to the next: the keeping then takes ``N / CHUNK`` of the input's memory, as much as ``u``
for the usual 16 states, and what is computed again for one chunk fits in a CPU's cache and a GPU's registers."""


def new_states(u: Tensor, A: Tensor) -> Tensor:
    """An uninitialised tensor for the state before each chunk of steps, the first of which is zero.

    Shape:
        ``u`` ``(batch, L, E)``, ``A`` ``(E, N)``, result ``(batch, ceil(L / CHUNK), E, N)``.
    """
    batch, L, _ = u.shape
    return A.new_empty(batch, (L + CHUNK - 1) // CHUNK, *A.shape)
