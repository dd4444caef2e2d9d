// The first half of a float: each operation is done in floats, and rounded.
#pragma once
#include "cuda_runtime.h"
#include "short_floats.h"

struct __nv_bfloat16 {
    uint16_t bits = 0;
    __nv_bfloat16() = default;
    SHORT_FLOAT(__nv_bfloat16, emulated::to_bfloat, emulated::from_bfloat)
};
SHORT_FLOATS(__nv_bfloat16, __nv_bfloat162)
