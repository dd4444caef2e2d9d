// Whether the emulated device finds what is wrong with a kernel, and nothing wrong with one that is right.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

extern "C" {
int cuInit(unsigned);
int cuMemAlloc_v2(unsigned long *, size_t);
int cuModuleLoadData(void **, const char *);
int cuModuleGetFunction(void **, void *, const char *);
int cuLaunchKernel(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **);
int nvrtcCreateProgram(void **, const char *, const char *, int, const char **, const char **);
int nvrtcCompileProgram(void *, int, const char **);
int nvrtcGetPTXSize(void *, size_t *);
int nvrtcGetPTX(void *, char *);
}

struct Case {
    const char *what, *body;
    /// What the device says of it; nothing if it is right.
    const char *says;
};

// Two cubes of 64 units each, and 256 bytes of shared memory.
const Case CASES[] = {
    {"a barrier between", "own[u] = u; __syncthreads(); to[g] = own[63 - u];", ""},
    {"no barrier between", "own[u] = u; to[g] = own[63 - u];", "reads what nobody has written"},
    {"no barrier before the next", "own[u] = u; __syncthreads(); to[g] = own[0]; if (u == 0) own[0] = 1;", "writes what another unit has just read"},
    {"a barrier of the plane", "own[u] = u; __syncwarp(); to[g] = own[u ^ 1];", ""},
    {"one of the plane for another plane", "own[u] = 0; __syncthreads(); own[u] = u; __syncwarp(); to[g] = own[u ^ 32];",
     "reads what another unit has just written"},
    {"exchange orders nothing", "own[u] = 0; __syncthreads(); own[u] = u; __shfl_xor_sync(~0u, u, 1u); to[g] = own[u ^ 1];",
     "reads what another unit has just written"},
    {"two cubes write", "to[u] = g;", "writes what another unit has just written"},
    {"two cubes write the same", "to[u] = 7;", ""},
    {"two cubes add", "atomicAdd(&to[0], 1u);", ""},
    {"one adds and one reads", "if (g == 0) atomicAdd(&to[0], 1u); if (g == 100) to[g] = to[0];", "reads what another unit has just written"},
    {"beyond shared memory", "own[64] = 1;", "units failed"},
    {"not aligned", "to[g] = *(uint32 *)((uint8 *)to + 1);", "is not aligned"},
    {"some stay away from a barrier", "if (u < 32) __syncthreads(); to[g] = 1;", "units wait for others"},
};

/// Exits with 0 if the kernel has run.
[[noreturn]] void run(const Case &test) {
    std::string source = std::string("#include <cuda_runtime.h>\ntypedef unsigned char uint8;\ntypedef unsigned int uint32;\n"
                                     "extern \"C\" __global__ void __launch_bounds__(64)tried(uint32 *to) {\n"
                                     "extern __shared__ uint8 dynamic_shared_mem[];\n"
                                     "volatile uint32 *own = (volatile uint32 *)&dynamic_shared_mem[0];\n"
                                     "const uint32 u = threadIdx.x, g = blockIdx.x * 64 + u;\n") +
                         test.body + "\n}\n";
    void *program, *module, *kernel;
    size_t bytes;
    unsigned long to;
    if (cuInit(0) || cuMemAlloc_v2(&to, 512) || nvrtcCreateProgram(&program, source.c_str(), "", 0, nullptr, nullptr) ||
        nvrtcCompileProgram(program, 0, nullptr) || nvrtcGetPTXSize(program, &bytes))
        std::exit(2);
    std::vector<char> code(bytes);
    void *parameters[] = {&to};
    if (nvrtcGetPTX(program, code.data()) || cuModuleLoadData(&module, code.data()) ||
        cuModuleGetFunction(&kernel, module, "tried"))
        std::exit(2);
    std::exit(cuLaunchKernel(kernel, 2, 1, 1, 64, 1, 1, 256, nullptr, parameters, nullptr) ? 1 : 0);
}

int main() {
    int wrong = 0;
    for (const Case &test : CASES) {
        int ends[2], status;
        if (pipe(ends)) return 2;
        std::fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            dup2(ends[1], 2);
            close(ends[0]);
            run(test);
        }
        close(ends[1]);
        std::string said;
        char buffer[4096];
        for (ssize_t n; (n = read(ends[0], buffer, sizeof buffer)) > 0;) said.append(buffer, size_t(n));
        close(ends[0]);
        waitpid(child, &status, 0);
        int expected = *test.says ? 1 : 0;
        if (WEXITSTATUS(status) == expected && said.find(test.says) != std::string::npos) continue;
        std::printf("%s: %d, not %d: %s\n", test.what, WEXITSTATUS(status), expected, said.c_str());
        wrong++;
    }
    std::printf("the emulated device: %d of %zu cases wrong\n", wrong, sizeof CASES / sizeof CASES[0]);
    return wrong != 0;
}
