"""Ensembles that nnU-Net made of models that read images differently, which it does not notice itself."""

from pathlib import Path

from .runs import reader_in


def turned_ensembles(results: Path) -> list[str]:
    """Notes on ensembles in a dataset's results whose members' probabilities may be turned against each other.

    ``nnUNetv2_find_best_configuration`` averages the arrays of two models voxel by voxel. Those of a model that turns
    images to RAS and those of one that reads them as they are stored belong to other voxels, although their shapes are
    often the same.

    Args:
        results: nnU-Net's folder of the dataset's results.
    """
    notes = []
    for folder in sorted((results / "ensembles").glob("ensemble___*")):
        readers = {model: reader_in(results / model) for model in folder.name.split("___")[1:-1]}
        if len(set(readers.values()) - {""}) > 1:
            shown = ", ".join(f"{model} with {reader}" for model, reader in readers.items())
            notes.append(
                f"nnU-Net's {folder.name} averages models that read images differently ({shown}). Unless all images "
                "are stored as RAS, their arrays were turned against each other: do not use this ensemble."
            )
    return notes
