"""Packaging of recbole_mm; tool settings are in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = "0.1.0"
FEATURES = ["transformers>=4.40"]
REPORT = ["jinja2>=3.1", "matplotlib>=3.8"]
TUNE = ["hyperopt==0.2.5", "ray[tune]==2.6.3"]  # later hyperopt fails in RecBole's grid

setup(
    name="recbole_mm",
    version=VERSION,
    description="Multi-modal sequential recommenders (MMM4Rec, MISSRec) as a plugin for RecBole 1.x",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    # RecBole 1.2 requires ray <= 2.6.3, which has wheels for Python 3.10 and 3.11 only. Python 3.12
    # needs a RecBole release without that bound (or `pip install --no-deps recbole` and the other
    # dependencies by hand: of our own commands only `tune --tool=ray` imports ray).
    python_requires=">=3.10,<3.12",
    # The property files stay at the top of the repository, where a RecBole user looks for them,
    # and are installed inside the package.
    package_dir={"recbole_mm.properties": "properties"},
    packages=[*find_packages(include=["recbole_mm", "recbole_mm.*"]), "recbole_mm.properties"],
    package_data={
        "recbole_mm.properties": ["*.yaml", "*/*.yaml", "tuning/*"],
        "recbole_mm.compare": ["templates/*"],
        "recbole_mm.prepare": ["mirrors.yaml"],
    },
    install_requires=[
        "recbole==1.2.*",
        "torch>=2.6",  # loads checkpoints without executing pickled code
        "numpy>=1.26",
        "pandas>=2.0,<3",  # pandas 3: RecBole's chained fillna(inplace=True) does nothing
        "pillow>=10",  # the demo set draws its pictures
        "polars>=1.0",  # the tables of dataset_scripts and of comparisons
        "pyyaml>=6.0",
        "scikit-learn>=1.3",
        "setuptools<81",  # ray 2.6.3 imports pkg_resources, which later releases dropped
        "texttable>=1.6",
        "tqdm>=4.65",
    ],
    extras_require={
        # the tests run every script and search, and build small encoders
        "dev": [
            *FEATURES,
            *REPORT,
            *TUNE,
            "build>=1.0",
            "pytest>=8",
            "pytest-xdist>=3.5",
            "ruff>=0.6",
            "wheel",
        ],
        "features": FEATURES,
        "gpu": ["causal-conv1d>=1.4", "mamba-ssm>=2.2"],
        "report": REPORT,
        "tune": TUNE,
    },
    entry_points={"console_scripts": ["recbole-mm=recbole_mm.cli:main"]},
    classifiers=[
        "License :: OSI Approved :: MIT License",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
    ],
)
