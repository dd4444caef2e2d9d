// What halves and bfloats have in common.
#pragma once
#include "halves.h"

#define SHORT_OPERATOR(TYPE, PAIR, SIGN)                                                                              \
    inline TYPE operator SIGN(TYPE a, TYPE b) { return TYPE(float(a) SIGN float(b)); }                                 \
    inline TYPE &operator SIGN##=(TYPE &a, TYPE b) { return a = a SIGN b; }                                            \
    inline PAIR operator SIGN(PAIR a, PAIR b) { return {a.x SIGN b.x, a.y SIGN b.y}; }

/// A type that is rounded to and widened from, and two of them.
#define SHORT_FLOATS(TYPE, PAIR, ROUND, WIDEN)                                                                         \
    struct TYPE {                                                                                                      \
        uint16_t bits = 0;                                                                                             \
        TYPE() = default;                                                                                              \
        TYPE(float value) : bits(ROUND(value)) {}                                                                      \
        TYPE(double value) : bits(ROUND(float(value))) {}                                                              \
        TYPE(int value) : bits(ROUND(float(value))) {}                                                                 \
        TYPE(unsigned value) : bits(ROUND(float(value))) {}                                                            \
        operator float() const { return WIDEN(bits); }                                                                 \
    };                                                                                                                 \
    struct PAIR {                                                                                                      \
        TYPE x, y;                                                                                                     \
    };                                                                                                                 \
    SHORT_OPERATOR(TYPE, PAIR, +)                                                                                      \
    SHORT_OPERATOR(TYPE, PAIR, -)                                                                                      \
    SHORT_OPERATOR(TYPE, PAIR, *)                                                                                      \
    SHORT_OPERATOR(TYPE, PAIR, /)                                                                                      \
    inline TYPE operator-(TYPE a) { return TYPE(-float(a)); }                                                          \
    inline bool operator<(TYPE a, TYPE b) { return float(a) < float(b); }                                              \
    inline bool operator>(TYPE a, TYPE b) { return float(a) > float(b); }                                              \
    inline bool operator<=(TYPE a, TYPE b) { return float(a) <= float(b); }                                            \
    inline bool operator>=(TYPE a, TYPE b) { return float(a) >= float(b); }                                            \
    inline bool operator==(TYPE a, TYPE b) { return float(a) == float(b); }                                            \
    inline bool operator!=(TYPE a, TYPE b) { return float(a) != float(b); }                                            \
    inline TYPE __hmax(TYPE a, TYPE b) { return float(a) < float(b) ? b : a; }                                         \
    inline TYPE __hmin(TYPE a, TYPE b) { return float(b) < float(a) ? b : a; }                                         \
    inline PAIR __hmax2(PAIR a, PAIR b) { return {__hmax(a.x, b.x), __hmax(a.y, b.y)}; }                               \
    inline PAIR __hmin2(PAIR a, PAIR b) { return {__hmin(a.x, b.x), __hmin(a.y, b.y)}; }
