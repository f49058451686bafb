"""Name and remove what neither image uses of the packages that torch and pyarrow install.

    python prune.py names                                   # packages, for pip uninstall
    python prune.py files /venv/lib/python3.11/site-packages

`tests/compose/commands.py` runs the commands of both images without these parts.
"""

import shutil
import subprocess
import sys
from pathlib import Path

# torch requires them, and imports them for torch.compile, torch.export and C++ extensions only
PACKAGES = ("sympy", "mpmath", "networkx", "setuptools")

UNUSED = (
    # torch: headers, tools and tests, the compiler behind torch.compile, ONNX
    "torch/include",
    "torch/bin/test_*",
    "torch/bin/*Test",
    "torch/bin/protoc*",
    "torch/lib/*_test.so",
    "torch/lib/libaoti_custom_ops.so",
    "torch/lib/libbackend_with_compiler.so",
    "torch/test",
    "torch/_inductor",
    "torch/onnx",
    # pyarrow: the protocol Flight, its own reader of S3, tests, headers, copies of libraries
    "pyarrow/_flight.*",
    "pyarrow/flight.py",
    "pyarrow/libarrow_flight.*",
    "pyarrow/libarrow_python_flight.*",
    "pyarrow/_s3fs.*",
    "pyarrow/libarrow_s3.*",
    "pyarrow/_pyarrow_cpp_tests.*",
    "pyarrow/tests",
    "pyarrow/include",
    "pyarrow/includes",
    "pyarrow/*.p[xy][dix]",
    "pyarrow/libarrow_python.so",
    "pyarrow/libarrow_python.so.*.*",
    # numpy: tests, headers, static libraries
    "numpy/**/tests",
    "numpy/_core/include",
    "numpy/**/*.a",
)

# A debugger reads their table of local functions, and nothing else does. A library that auditwheel
# has edited is left alone: strip may damage it.
STRIPPED = ("torch/lib/libtorch_cpu.so", "torch/lib/libtorch_python.so")


def prune(packages: Path) -> None:
    """Remove the unused files below this folder, and print how much is left."""
    before = _bytes_of(packages)
    for pattern in UNUSED:
        for path in list(packages.glob(pattern)):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
    subprocess.run(
        ["strip", "--strip-unneeded", *(packages / name for name in STRIPPED)], check=True
    )
    megabytes = [f"{size / 1e6:,.0f} MB" for size in (before, _bytes_of(packages))]
    sys.stdout.write(f"{megabytes[0]} of packages, {megabytes[1]} without what is not used\n")


def _bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    if sys.argv[1] == "names":
        sys.stdout.write(" ".join(PACKAGES) + "\n")
    else:
        prune(Path(sys.argv[2]))
