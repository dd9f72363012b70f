// Two halves of 32 numbers in bf16, one number of each in turn.

#pragma once

#include <immintrin.h>

namespace {

// a0 b0 a1 b1 ... from a0 a1 ... b0 b1 ...
inline void store_halves_interleaved(void* to, __m512i halves) {
  __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23,
                                   7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  _mm512_storeu_si512(to, _mm512_permutexvar_epi16(order, halves));
}

} // namespace
