#!/usr/bin/env python3
"""Compiles the CUDA source of every kernel with NVRTC, for machines without a GPU.

    kernels/emulator/build emulator
    cargo test -p latewood-kernels --features cuda --no-run     # tells the test's path
    emulator/run PATH
    pip install 'nvidia-cuda-nvrtc==13.0.*' 'nvidia-cuda-runtime==13.0.*' 'nvidia-cuda-crt==13.0.*'
    python3 kernels/tests/nvrtc.py emulator/programs-* [more folders]

The packages of CUDA 12 (nvidia-cuda-nvrtc-cu12, nvidia-cuda-runtime-cu12) do as well, but may lack what the kernel
for matrix units includes. With --ptx FOLDER the compiled kernels are kept.

With --loops (and pip install nvidia-cuda-nvdisasm) the innermost loops of each kernel follow: how many instructions a
plane of 32 units goes through in a turn, and of which kinds. On a GPU that keeps its units busy they are what a kernel
that computes costs, so that a change can be weighed where there is none.
"""

import argparse
import collections
import ctypes
import pathlib
import re
import site
import subprocess
import sys
import tempfile
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

    def written(self, program, what):
        """What NVRTC has written: the log, the PTX or the code of the device itself."""
        size = ctypes.c_size_t()
        getattr(self.library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        text = ctypes.create_string_buffer(max(size.value, 1))
        getattr(self.library, f"nvrtcGet{what}")(program, text)
        return text.raw

    def compile(self, source, name, options):
        """An error or none, the PTX, the code and the log."""
        program = ctypes.c_void_p()
        created = self.library.nvrtcCreateProgram(
            ctypes.byref(program), source.encode(), name.encode(), 0, None, None
        )
        if created != 0:
            sys.exit(f"NVRTC creates no program: error {created}")
        encoded = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        error = self.library.nvrtcCompileProgram(program, len(options), encoded)
        log = self.written(program, "ProgramLog").rstrip(b"\0").decode()
        ptx, code = (b"", b"") if error else (self.written(program, what) for what in ("PTX", "CUBIN"))
        self.library.nvrtcDestroyProgram(ctypes.byref(program))
        return error, ptx.rstrip(b"\0").decode(), code, log


def loops(code):
    """The registers a unit takes, its instructions, and those of each innermost loop, as the device's code has them."""
    program = find("**/bin/nvdisasm")
    program.chmod(0o755)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(code)
        file.flush()
        text = subprocess.run([program, "-c", file.name], check=True, capture_output=True, text=True).stdout
    instructions, labels = [], {}
    for line in text.splitlines():
        if label := re.match(r"\.(L_x_\d+):", line.strip()):
            labels[label[1]] = len(instructions)
        elif instruction := re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(.*?);", line):
            instructions.append(instruction[1].strip())
    found = []
    for end, instruction in enumerate(instructions):
        to = re.search(r"BRA\b.*`\(\.(L_x_\d+)\)", instruction)
        if to and labels.get(to[1], end) < end:
            found.append((labels[to[1]], end))
    inner = [(a, b) for a, b in found if not any(a <= c and d <= b and (a, b) != (c, d) for c, d in found)]
    kinds = [re.sub(r"^@!?U?P\d+ ", "", i).split()[0].split(".")[0] for i in instructions]
    registers = 1 + max((int(r) for i in instructions for r in re.findall(r"\bR(\d+)\b", i)), default=0)
    return registers, len(kinds), [collections.Counter(kinds[a : b + 1]) for a, b in inner]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=pathlib.Path, metavar="folder")
    parser.add_argument("--ptx", type=pathlib.Path)
    parser.add_argument("--loops", action="store_true")
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
            error, ptx, code, log = nvrtc.compile(path.read_text(), path.name, options)
            failed += error != 0
            took = time.monotonic() - start
            print(f"{path.stem:14} {architecture:7} {'FAILED' if error else 'ok'} {took:.2f} s {len(ptx)} bytes of PTX")
            if error:
                print(log)
                continue
            if arguments.ptx:
                (arguments.ptx / f"{path.stem}.{architecture}.ptx").write_text(ptx)
            if arguments.loops:
                registers, whole, inner = loops(code)
                print(f"    {registers} registers, {whole} instructions")
                for kinds in inner:
                    print(f"    loop of {kinds.total():4}: {', '.join(f'{n} {kind}' for kind, n in kinds.most_common(9))}")
    if failed:
        sys.exit(f"{failed} of {len(sources) * len(ARCHITECTURES)} compilations failed")


main()
