// Numbers in bf16 and products of matrices of them, for processors with avx512_bf16.

#pragma once

#include "interleave.h"

#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

namespace {

using BFloat16 = uint16_t;

constexpr int kLanes = 16; // floats in a register, channels in a group
constexpr int kSums = 16;  // registers that a product adds to
constexpr int64_t kCacheLine = 64 / sizeof(BFloat16); // in numbers

// Memory from a line of the cache on, which holds nothing until something is put there.
template <class Number>
struct Unset {
  using value_type = Number;
  static constexpr std::align_val_t kAlignment{64};

  Number* allocate(size_t count) {
    return static_cast<Number*>(::operator new(count * sizeof(Number), kAlignment));
  }
  void deallocate(Number* numbers, size_t) { ::operator delete(numbers, kAlignment); }
  void construct(Number*) {}
  void construct(Number* place, Number value) { *place = value; }
};

template <class Number>
using Numbers = std::vector<Number, Unset<Number>>;

inline __m512 load(const BFloat16* from) {
  __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

inline void store(BFloat16* to, __m512 value) {
  __m256bh rounded = _mm512_cvtneps_pbh(value);
  std::memcpy(to, &rounded, sizeof rounded);
}

// What a product takes as one step of its sum.
inline void store_pairs(BFloat16* to, __m512 a, __m512 b) {
  store_halves_interleaved(to, (__m512i)_mm512_cvtne2ps_pbh(b, a));
}

// Asks for one of `parts` equal parts of so many numbers, ahead of their use. Products that ask for
// what the next ones take do not wait for memory; there may be nothing where they ask.
inline void prefetch(const BFloat16* from, int64_t numbers, int part, int parts) {
  for (int64_t at = numbers * part / parts; at < numbers * (part + 1) / parts; at += kCacheLine)
    __builtin_prefetch(from + at, 0, 2);
}

inline void prefetch_to_write(BFloat16* to, int64_t numbers, int part, int parts) {
  for (int64_t at = numbers * part / parts; at < numbers * (part + 1) / parts; at += kCacheLine)
    __builtin_prefetch(to + at, 1, 3);
}

// Where `steps` of a product begin, in numbers from the start of a and of b.
struct Term {
  int64_t a, b;
};

// sums[row][lanes] += a[row][step] * b[step][lanes], where a step is a pair of bf16, for the steps
// of all terms.
struct Product {
  const BFloat16* a;
  int64_t a_step;
  const BFloat16* b;
  int64_t b_step;
  const Term* terms;
  int count, steps;
  float* sums;
  int64_t sums_row;
};

// kRow: numbers from one row of a to the next, known when compiling so that no register holds it.
template <int kRow, int kWide, bool kAdd>
[[gnu::noinline]] void multiply_block(const Product& p) {
  constexpr int kRows = kSums / kWide;
  __m512 sums[kRows][kWide];
  for (int r = 0; r < kRows; ++r)
    for (int w = 0; w < kWide; ++w)
      sums[r][w] = kAdd ? _mm512_loadu_ps(p.sums + r * p.sums_row + w * kLanes)
                        : _mm512_setzero_ps();
  int term = 0;
  do { // there is a term and a step: loops that might do nothing would keep the sums in memory
    const BFloat16* a_at = p.a + p.terms[term].a;
    const BFloat16* b_at = p.b + p.terms[term].b;
    int step = 0;
    do {
      __m512bh b[kWide];
      for (int w = 0; w < kWide; ++w) std::memcpy(&b[w], b_at + w * 2 * kLanes, sizeof b[w]);
      for (int r = 0; r < kRows; ++r) {
        int32_t pair;
        std::memcpy(&pair, a_at + r * kRow, sizeof pair);
        __m512bh a = (__m512bh)_mm512_set1_epi32(pair);
        for (int w = 0; w < kWide; ++w) sums[r][w] = _mm512_dpbf16_ps(sums[r][w], b[w], a);
      }
      a_at += p.a_step;
      b_at += p.b_step;
    } while (++step < p.steps);
  } while (++term < p.count);
  for (int r = 0; r < kRows; ++r)
    for (int w = 0; w < kWide; ++w)
      _mm512_storeu_ps(p.sums + r * p.sums_row + w * kLanes, sums[r][w]);
}

// What the rows of a product come in multiples of: few rows go with many lanes.
constexpr int rows_of_product(int lanes) {
  return lanes % (4 * kLanes) == 0 ? kSums / 4 : lanes % (2 * kLanes) == 0 ? kSums / 2 : kSums;
}

// The whole product: `rows` in multiples of `rows_of_product`, `lanes` in multiples of 16.
template <int kRow, bool kAdd>
inline void multiply(const Product& whole, int rows, int lanes) {
  for (int lane = 0; lane < lanes;) {
    int wide = lanes - lane >= 4 * kLanes ? 4 : lanes - lane >= 2 * kLanes ? 2 : 1;
    for (int row = 0; row < rows; row += kSums / wide) {
      Product part = whole;
      part.a += row * kRow;
      part.b += 2 * lane;
      part.sums += row * whole.sums_row + lane;
      if (wide == 4) multiply_block<kRow, 4, kAdd>(part);
      else if (wide == 2) multiply_block<kRow, 2, kAdd>(part);
      else multiply_block<kRow, 1, kAdd>(part);
    }
    lane += wide * kLanes;
  }
}

} // namespace
