// Matrix units: see cuda_runtime.h.
