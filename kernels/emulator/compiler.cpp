// CUDA's run-time compiler (libnvrtc) for the device of driver.cpp: a kernel's source becomes a program by way of the C++ compiler,
// as EMULATOR_COMPILE says, and its "PTX" is the path of that program. Programs are kept by what they are made from.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <sys/time.h>
#include <unistd.h>
#include <vector>

namespace {

enum Result { SUCCESS = 0, FAILED = 6 };

struct Program {
    std::string source, path, log;
};

std::string setting(const char *name) {
    const char *value = std::getenv(name);
    if (!value) std::fprintf(stderr, "%s is not set: see kernels/emulator/build\n", name), std::exit(1);
    return value;
}

/// What stands in parentheses, `kind` before each, of a list such as `"=f"(x), "=f"(y)`.
std::string operands(const std::string &list, const char *kind) {
    std::string names;
    for (size_t at = 0; (at = list.find('(', at)) != std::string::npos;) {
        size_t end = list.find(')', at);
        std::string name = list.substr(at + 1, end - at - 1);
        names += (names.empty() ? "" : ", ") + (kind + name) + ")";
        at = end;
    }
    return "{" + names + "}";
}

/// Where `sign` comes next, and not in quotes.
size_t next(const std::string &text, char sign, size_t at) {
    for (bool quoted = false; at < text.size() && (quoted || text[at] != sign); at++) quoted ^= text[at] == '"';
    return at;
}

/// Inline assembly becomes a call that names the instruction, what it writes and what it reads.
void translate_assembly(std::string &text) {
    const std::string START = "asm volatile(";
    for (size_t at = 0; (at = text.find(START, at)) != std::string::npos;) {
        size_t end = next(text, ';', at);
        std::string body = text.substr(at + START.size(), end - 1 - at - START.size());
        size_t written = next(body, ':', 0), read = next(body, ':', written + 1);
        std::string call = "emulated::instruct(" + body.substr(0, written) + ", " +
                           operands(body.substr(written, read - written), "(uint32_t *)&(") + ", " +
                           operands(body.substr(read), "emulated::word(") + ")";
        text.replace(at, end - at, call);
        at += call.size();
    }
}

/// The name of the kernel, which follows its qualifiers.
std::string kernel_name(const std::string &text) {
    size_t bounds = text.find("__launch_bounds__(", text.find("__global__"));
    size_t start = text.find(')', bounds) + 1, end = text.find('(', start);
    std::string name = text.substr(start, end - start);
    name.erase(0, name.find_first_not_of(" \n"));
    name.erase(name.find_last_not_of(" \n") + 1);
    return name;
}

std::string translated(std::string text) {
    std::string name = kernel_name(text);
    translate_assembly(text);
    // It is a function of the emulator's.
    size_t shared = text.find("extern __shared__");
    if (shared != std::string::npos) text.erase(shared, text.find(';', shared) + 1 - shared);
    return text + "\nEMULATE(" + name + ")\n";
}

std::string hashed(const std::string &text) {
    uint64_t hash = 0xcbf29ce484222325;
    for (unsigned char c : text) hash = (hash ^ c) * 0x100000001b3;
    char digits[17];
    std::snprintf(digits, sizeof digits, "%016llx", (unsigned long long)hash);
    return digits;
}

std::string contents(const std::string &path) {
    std::stringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
}

bool compile(Program &program) {
    std::string text = translated(program.source), command = setting("EMULATOR_COMPILE");
    std::string folder = setting("EMULATOR_PROGRAMS") + "/";
    program.path = folder + kernel_name(program.source).substr(0, 100) + "-" + hashed(text);
    // For NVIDIA's compiler, see kernels/tests/nvrtc.py.
    std::ofstream(program.path + ".cu") << program.source;
    // Whoever clears up sees that it is in use.
    if (utimes(program.path.c_str(), nullptr) == 0) return true;
    std::string own = program.path + "." + std::to_string(getpid());
    std::ofstream(own + ".cpp") << text;
    int failed = std::system(("'" + command + "' '" + own + "' '" + own + ".cpp' 2>'" + own + ".log'").c_str());
    program.log = contents(own + ".log");
    std::rename((own + ".cpp").c_str(), (program.path + ".cpp").c_str());
    std::remove((own + ".log").c_str());
    // Another process may have made the same meanwhile.
    return !failed && !std::rename(own.c_str(), program.path.c_str());
}

} // namespace

extern "C" {

Result nvrtcVersion(int *major, int *minor) { return *major = 13, *minor = 0, SUCCESS; }

Result nvrtcCreateProgram(Program **program, const char *source, const char *, int, const char **, const char **) {
    return *program = new Program{source, "", ""}, SUCCESS;
}
Result nvrtcDestroyProgram(Program **program) { return delete *program, *program = nullptr, SUCCESS; }
Result nvrtcCompileProgram(Program *program, int, const char **) { return compile(*program) ? SUCCESS : FAILED; }
Result nvrtcGetPTXSize(Program *program, size_t *bytes) { return *bytes = program->path.size() + 1, SUCCESS; }
Result nvrtcGetPTX(Program *program, char *to) { return std::strcpy(to, program->path.c_str()), SUCCESS; }
Result nvrtcGetProgramLogSize(Program *program, size_t *bytes) { return *bytes = program->log.size() + 1, SUCCESS; }
Result nvrtcGetProgramLog(Program *program, char *to) { return std::strcpy(to, program->log.c_str()), SUCCESS; }
const char *nvrtcGetErrorString(Result) { return "the C++ compiler refused it"; }
}
