// The first half of a float: each operation is done in floats, and rounded.
#pragma once
#include "cuda_runtime.h"
#include "short_floats.h"

SHORT_FLOATS(__nv_bfloat16, __nv_bfloat162, emulated::to_bfloat, emulated::from_bfloat)
