"""Version, packages and requirements of recbole_mm; all other metadata is in pyproject.toml."""

from setuptools import find_packages, setup

VERSION = "0.1.0"
DOCS = ["sphinx>=8.1"]
ARROW = "pyarrow>=21"  # several packages read tables with it; 26 refuses numpy 1
EXCEL = [ARROW, "fastexcel>=0.12"]
FEATURES = [
    "sentence-transformers>=6",
    "transformers>=5.18",  # reads pictures without torchvision
]
ONNX = ["faiss-cpu>=1.8", "onnx>=1.20", "onnxruntime>=1.23", "onnxscript>=0.7"]
REPORT = ["jinja2>=3.1.2", "matplotlib>=3.8"]
SERVE = ["gradio>=6.22"]
TRACK = [
    "alembic>=1.13",
    "mlflow-skinny>=3.11.1",
    "sqlalchemy>=2.0.31",
    "trackio>=0.20",
    "wandb>=0.26",
]
TUNE = [
    *REPORT,
    ARROW,
    "hyperopt>=0.3",
    "optuna>=5",
    "plotly>=6",  # RecBole's HyperTuning draws its trials
    "ray[tune]>=2.44",
]
TUNE_ENCODER = [ARROW, "accelerate>=1.10", "datasets>=4", "peft>=0.20"]

# RecBole 1.2.1 requires ray <= 2.6.3, which has no wheels for Python 3.12 and later. It is therefore
# installed by `pip install --no-deps recbole==1.2.1`, and what its modules import is required here.
RECBOLE_IMPORTS = [
    "colorama>=0.4.4",
    "colorlog>=4.7.2",
    "psutil>=5.9",
    "scipy>=1.11.1",
    "tensorboard>=2.18",  # earlier ones end a run with numpy 2
    "texttable>=1.6.2",
    "thop>=0.1.1.post2207130030",
]

setup(
    version=VERSION,
    # The property files stay at the top of the repository, where a RecBole user looks for them,
    # and are installed inside the package.
    package_dir={"recbole_mm.properties": "properties"},
    packages=[*find_packages(include=["recbole_mm", "recbole_mm.*"]), "recbole_mm.properties"],
    package_data={
        "recbole_mm": ["py.typed"],
        "recbole_mm.properties": ["*.yaml", "*/*.yaml", "tuning/*"],
        "recbole_mm.compare": ["templates/*"],
        "recbole_mm.reporting": ["templates/*"],
        "recbole_mm.transfer_report": ["templates/*"],
        "recbole_mm.prepare": ["mirrors.yaml"],
        "recbole_mm.tuning": ["templates/*"],
    },
    install_requires=[
        *RECBOLE_IMPORTS,
        "torch>=2.10",  # earlier ones cannot write all models as ONNX, and can hang at the end of torchrun
        "huggingface_hub>=1.31",  # bundles
        "numpy>=1.26",
        "packaging>=24.2",  # the requirements that doctor looks at
        "pandas>=2.1",
        "pillow>=10.1",  # the demo set draws its pictures
        "polars>=1.36.1",  # the tables of data preparation and of comparisons
        "pyyaml>=6.0",
        "requests>=2.32.2",
        "safetensors>=0.8",
        "scikit-learn>=1.3",
        "tqdm>=4.66.3",
        "urllib3>=2.2",
    ],
    extras_require={
        # the tests run every command and search, and build small encoders
        "dev": [
            *DOCS,
            *EXCEL,
            *FEATURES,
            *ONNX,
            *REPORT,
            *SERVE,
            *TRACK,
            *TUNE,
            *TUNE_ENCODER,
            "build>=1.0",
            "hypothesis>=6.100",
            "mypy>=1.15",
            "playwright>=1.40",
            "pytest>=8",
            "pytest-cov>=6",
            "pytest-xdist>=3.5",
            "ruff>=0.6",
            "types-pyyaml>=6.0",
            "types-requests>=2.31",
            "types-tqdm>=4.65",
            "wheel>=0.40",
        ],
        "docs": DOCS,
        "excel": EXCEL,
        "features": FEATURES,
        "gpu": ["causal-conv1d>=1.4", "mamba-ssm>=2.2"],
        "onnx": ONNX,
        "report": REPORT,
        "serve": SERVE,
        "track": TRACK,
        "tune": TUNE,
        "tune-encoder": [*FEATURES, *TUNE_ENCODER],
    },
)
