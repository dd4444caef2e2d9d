// Halves: each operation is done in floats, and rounded.
#pragma once
#include "cuda_runtime.h"
#include "short_floats.h"

SHORT_FLOATS(__half, __half2, emulated::to_half, emulated::from_half)
using half = __half;
