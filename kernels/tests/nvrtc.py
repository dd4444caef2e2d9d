#!/usr/bin/env python3
"""Compiles the CUDA source of every kernel with NVRTC, for machines without a GPU.

    mkdir sources
    LATEWOOD_CUDA_SOURCES=$PWD/sources cargo test -p latewood-kernels --features cuda --lib source
    pip install 'nvidia-cuda-nvrtc==13.0.*' 'nvidia-cuda-runtime==13.0.*' 'nvidia-cuda-crt==13.0.*'
    python3 kernels/tests/nvrtc.py sources [more folders]

The packages of CUDA 12 (nvidia-cuda-nvrtc-cu12, nvidia-cuda-runtime-cu12) do as well, but may lack what the kernel
for matrix units includes. With --ptx FOLDER the compiled
kernels are kept.
"""

import argparse
import ctypes
import pathlib
import site
import sys
import time

ARCHITECTURES = ("sm_80", "sm_90a")


def installed():
    """The folders that pip unpacked NVIDIA's packages into."""
    folders = site.getsitepackages() + [site.getusersitepackages()]
    return [folder / "nvidia" for folder in map(pathlib.Path, folders) if (folder / "nvidia").is_dir()]


def find(pattern):
    found = sorted(path for folder in installed() for path in folder.glob(pattern) if ".alt." not in path.name)
    if not found:
        sys.exit(f"no {pattern}: pip install NVIDIA's packages first, see --help")
    return found[-1]


class Nvrtc:
    def __init__(self):
        library = find("**/libnvrtc.so.*")
        # NVRTC looks for this one by its bare name.
        for builtins in library.parent.glob("libnvrtc-builtins.so.*"):
            ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
        self.library = ctypes.CDLL(str(library))
        major, minor = ctypes.c_int(), ctypes.c_int()
        self.library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
        self.version = f"{major.value}.{minor.value}"

    def text(self, program, what):
        """What NVRTC has written: the log or the PTX."""
        size = ctypes.c_size_t()
        getattr(self.library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        text = ctypes.create_string_buffer(max(size.value, 1))
        getattr(self.library, f"nvrtcGet{what}")(program, text)
        return text.value.decode()

    def compile(self, source, name, options):
        """The PTX, or an error, and the log."""
        program = ctypes.c_void_p()
        created = self.library.nvrtcCreateProgram(
            ctypes.byref(program), source.encode(), name.encode(), 0, None, None
        )
        if created != 0:
            sys.exit(f"NVRTC creates no program: error {created}")
        encoded = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        error = self.library.nvrtcCompileProgram(program, len(options), encoded)
        log, ptx = self.text(program, "ProgramLog"), "" if error else self.text(program, "PTX")
        self.library.nvrtcDestroyProgram(ctypes.byref(program))
        return error, ptx, log


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=pathlib.Path, metavar="folder")
    parser.add_argument("--ptx", type=pathlib.Path)
    arguments = parser.parse_args()
    sources = sorted(path for folder in arguments.folders for path in folder.glob("*.cu"))
    if not sources:
        sys.exit("no kernels to compile")
    nvrtc = Nvrtc()
    headers = find("**/include/cuda_runtime.h").parent
    print(f"NVRTC {nvrtc.version}, headers in {headers}")
    failed = 0
    for path in sources:
        for architecture in ARCHITECTURES:
            start = time.monotonic()
            options = [f"--gpu-architecture={architecture}", f"--include-path={headers}"]
            error, ptx, log = nvrtc.compile(path.read_text(), path.name, options)
            failed += error != 0
            took = time.monotonic() - start
            print(f"{path.stem:14} {architecture:7} {'FAILED' if error else 'ok'} {took:.2f} s {len(ptx)} bytes of PTX")
            if error:
                print(log)
            elif arguments.ptx:
                (arguments.ptx / f"{path.stem}.{architecture}.ptx").write_text(ptx)
    if failed:
        sys.exit(f"{failed} of {len(sources) * len(ARCHITECTURES)} compilations failed")


main()
