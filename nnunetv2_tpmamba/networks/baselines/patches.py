"""Which patches a network can take, and what to say of the others."""


def check_multiples(
    patch_size: tuple[int, ...], multiple: int | tuple[int, ...], smallest: int = 1, cube: bool = False
) -> None:
    """Raise ``ValueError``, with a size that is good, unless every side is a multiple of ``multiple`` voxels.

    Args:
        patch_size: voxels, ``(D, H, W)``.
        multiple: of every side, in voxels; or one for each.
        smallest: voxels that every side must have at least.
        cube: all sides must be equal.
    """
    multiples = (multiple,) * len(patch_size) if isinstance(multiple, int) else multiple
    good = tuple(max(round(side / of) * of, of, smallest) for side, of in zip(patch_size, multiples, strict=True))
    good = (max(good),) * len(good) if cube else good
    if tuple(patch_size) != good:
        has_least = smallest > max(multiples)
        needed = ["equal"] * cube + [f"multiples of {multiple}"] + [f"at least {smallest}"] * has_least
        raise ValueError(
            f"patch size {tuple(patch_size)}: the sides must be {' and '.join(needed)}; set patch_size to e.g. {good}"
        )
