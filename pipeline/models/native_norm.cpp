// Batch norm in training, with a sum and a ReLU behind it, on NHWC images seen as rows of channels.
//
// The floor of such a layer is memory traffic. Each function here reads its inputs once for the sums
// and once for the result; activations are T (float or bfloat16), everything per channel is float.
// Sums of a block of rows are float, sums of blocks double, so that rounding does not grow with N.
// Rows are worked on 32 numbers at a time: as many pixels as fill them with whole channels.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <type_traits>
#include <vector>

#ifdef __AVX512BF16__
#include "../convs/interleave.h"
#endif

namespace {

constexpr int kHalf = 16;
constexpr int kLanes = 2 * kHalf;
constexpr int64_t kBlock = 16 * 1024; // numbers whose sums are float

using Floats = float __attribute__((vector_size(4 * kHalf)));
using Bits = uint32_t __attribute__((vector_size(4 * kHalf)));

struct BFloat16 {
  uint16_t bits;
};

// The numbers worked on together. Of floats `a` is the first half; of bf16 the numbers at even
// places, `b` those between them: each is half of a word, taken without moving it to another lane.
struct Lanes {
  Floats a, b;
};

inline Lanes operator+(Lanes x, Lanes y) { return {x.a + y.a, x.b + y.b}; }
inline Lanes operator-(Lanes x, Lanes y) { return {x.a - y.a, x.b - y.b}; }
inline Lanes operator*(Lanes x, Lanes y) { return {x.a * y.a, x.b * y.b}; }

template <class To, class From>
inline To same_bits(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

template <class To>
inline To load(const void* from) {
  To to;
  std::memcpy(&to, from, sizeof to);
  return to;
}

inline Lanes read(const float* from) { return load<Lanes>(from); }

inline Lanes read(const BFloat16* from) {
  Bits words = load<Bits>(from);
  return {same_bits<Floats>(words << 16), same_bits<Floats>(words & 0xffff0000u)};
}

inline float value_of(float number) { return number; }
inline float value_of(BFloat16 number) { return same_bits<float>(uint32_t(number.bits) << 16); }

inline void write(float* to, Lanes value) { std::memcpy(to, &value, sizeof value); }

#ifdef __AVX512BF16__
inline void write(BFloat16* to, Lanes value) {
  store_halves_interleaved(to, (__m512i)_mm512_cvtne2ps_pbh((__m512)value.b, (__m512)value.a));
}
#else
inline Bits rounded(Floats value) { // to nearest, ties to even, in the upper half of each word
  Bits bits = same_bits<Bits>(value);
  Bits nearest = bits + 0x7fffu + ((bits >> 16) & 1u);
  return value == value ? nearest : Bits{} + 0x7fc00000u;
}

inline void write(BFloat16* to, Lanes value) {
  Bits words = (rounded(value.a) >> 16) | (rounded(value.b) & 0xffff0000u);
  std::memcpy(to, &words, sizeof words);
}
#endif

// Which number of a row the lanes hold at `place`.
template <class T>
inline int number_at(int place) {
  if (std::is_same_v<T, float>) return place;
  int base = place / kLanes * kLanes, lane = place % kLanes;
  return base + (lane < kHalf ? 2 * lane : 2 * (lane - kHalf) + 1);
}

// The value, or zero; where `where` is no number the value passes, as in torch.
inline Lanes zero_where_not_above(Lanes where, Lanes value) {
  return {where.a <= 0 ? Floats{} : value.a, where.b <= 0 ? Floats{} : value.b};
}

// A maximum would make the floor of a NaN, which then no loss shows, and keep the sign of a zero.
template <class Number>
inline Number at_least(Number floor, Number value) {
  return value <= floor ? floor : value;
}

inline Lanes at_least(Lanes floor, Lanes value) {
  return {at_least(floor.a, value.a), at_least(floor.b, value.b)};
}

// Numbers of a row, whole channels of whole pixels, and how many rows there are.
template <class T>
struct Rows {
  int64_t count;
  int channels, lanes, threads;

  Rows(int64_t pixels, int channels, int threads)
      : channels(channels), lanes(std::lcm(channels, kLanes)), threads(threads) {
    count = pixels * channels / lanes;
  }

  int channel(int place) const { return number_at<T>(place) % channels; }

  // One value per place of a row.
  std::vector<float> spread(const float* values) const {
    std::vector<float> result(lanes);
    for (int place = 0; place < lanes; ++place) result[place] = values[channel(place)];
    return result;
  }

  // Calls make(group)(where) for each group of lanes of each row; what `make` loads stays in
  // registers for the rows of a block.
  template <class Make>
  void each(Make make) const {
    shared([=](int, int64_t begin, int64_t end) {
      for (int group = 0; group < lanes; group += kLanes) {
        auto body = make(group);
        for (int64_t row = begin; row < end; ++row) body(row * lanes + group);
      }
    });
  }

  // Two sums per channel of what make(group)(where, first, second) adds to them.
  template <class Make>
  void sums(Make make, double* first, double* second) const {
    std::vector<double> parts(size_t(threads) * 2 * channels, 0.0);
    shared([&](int thread, int64_t begin, int64_t end) {
      double* part = &parts[size_t(thread) * 2 * channels];
      for (int group = 0; group < lanes; group += kLanes) {
        auto body = make(group);
        Lanes a{}, b{};
        for (int64_t row = begin; row < end; ++row) body(row * lanes + group, a, b);
        for (int lane = 0; lane < kLanes; ++lane) {
          part[channel(group + lane)] += lane < kHalf ? a.a[lane] : a.b[lane - kHalf];
          part[channels + channel(group + lane)] += lane < kHalf ? b.a[lane] : b.b[lane - kHalf];
        }
      }
    });
    for (int channel = 0; channel < channels; ++channel) {
      first[channel] = second[channel] = 0;
      for (int thread = 0; thread < threads; ++thread) {
        first[channel] += parts[size_t(thread) * 2 * channels + channel];
        second[channel] += parts[(size_t(thread) * 2 + 1) * channels + channel];
      }
    }
  }

private:
  // Calls block(thread, first row, row behind the last) for all rows.
  template <class Block>
  void shared(Block block) const {
    const int64_t rows = std::max<int64_t>(1, kBlock / lanes);
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int thread = 0; thread < threads; ++thread) {
      int64_t end = count * (thread + 1) / threads;
      for (int64_t begin = count * thread / threads; begin < end; begin += rows)
        block(thread, begin, std::min(begin + rows, end));
    }
  }
};

// y = scale * x + shift, per channel.
struct Line {
  std::vector<float> scale, shift;

  Line(const float* weight, const float* bias, const float* mean, const float* inverse,
       int channels)
      : scale(channels), shift(channels) {
    for (int c = 0; c < channels; ++c) {
      scale[c] = weight[c] * inverse[c];
      shift[c] = bias[c] - mean[c] * scale[c];
    }
  }
};

template <class T>
void forward(const T* x, const T* residual, const float* weight, const float* bias, T* y,
             float* mean, float* inverse, float* running_mean, float* running_variance,
             int64_t pixels, int channels, float eps, float momentum, bool relu, int threads) {
  Rows<T> rows(pixels, channels, threads);
  std::vector<float> first(channels);
  // Sums of distances from the first pixel: those of a nearly constant channel do not cancel.
  for (int c = 0; c < channels; ++c) first[c] = value_of(x[c]);
  std::vector<float> origins = rows.spread(first.data());
  std::vector<double> sum(channels), squares(channels);
  rows.sums(
      [&](int group) {
        return [x, origin = read(&origins[group])](int64_t at, Lanes& a, Lanes& b) {
          Lanes distance = read(x + at) - origin;
          a = a + distance;
          b = b + distance * distance;
        };
      },
      sum.data(), squares.data());
  for (int c = 0; c < channels; ++c) {
    double distance = sum[c] / pixels;
    double variance = at_least(0.0, squares[c] / pixels - distance * distance);
    double unbiased = variance * pixels / std::max<int64_t>(1, pixels - 1);
    mean[c] = float(first[c] + distance);
    inverse[c] = float(1 / std::sqrt(variance + eps));
    running_mean[c] += momentum * (mean[c] - running_mean[c]);
    running_variance[c] += momentum * (float(unbiased) - running_variance[c]);
  }
  const Line line(weight, bias, mean, inverse, channels);
  std::vector<float> scales = rows.spread(line.scale.data());
  std::vector<float> shifts = rows.spread(line.shift.data());
  const Floats lowest = Floats{} + (relu ? 0.0f : -INFINITY);
  const Lanes floor{lowest, lowest};
  rows.each([&](int group) {
    return [=, s = read(&scales[group]), t = read(&shifts[group])](int64_t at) {
      Lanes value = read(x + at) * s + t;
      if (residual) value = value + read(residual + at);
      write(y + at, at_least(floor, value));
    };
  });
}

// With a ReLU and a sum, `grad_residual` receives the gradient ahead of the ReLU, which `y` tells of.
// Without a sum there is no `y`: x is at hand anyway. Without a ReLU the residual's gradient is
// `grad` itself.
template <class T>
void backward(const T* grad, const T* x, const T* y, const float* weight, const float* bias,
              const float* mean, const float* inverse, T* grad_x, T* grad_residual,
              float* grad_weight, float* grad_bias, int64_t pixels, int channels, bool relu,
              int threads) {
  Rows<T> rows(pixels, channels, threads);
  const Line line(weight, bias, mean, inverse, channels);
  std::vector<float> means = rows.spread(mean), scales = rows.spread(line.scale.data());
  std::vector<float> shifts = rows.spread(line.shift.data());
  const bool by_x = relu && !y;
  std::vector<double> sum(channels), product(channels);
  rows.sums(
      [&](int group) {
        return [=, m = read(&means[group]), s = read(&scales[group]),
                t = read(&shifts[group])](int64_t at, Lanes& a, Lanes& b) {
          Lanes g = read(grad + at), value = read(x + at);
          if (by_x) g = zero_where_not_above(value * s + t, g);
          if (y) {
            g = zero_where_not_above(read(y + at), g);
            write(grad_residual + at, g);
          }
          a = a + g;
          b = b + g * (value - m);
        };
      },
      sum.data(), product.data());
  if (y) grad = grad_residual;
  // scale * (g - mean(g) - x_hat * mean(g * x_hat)) as multiples of g, of x, and of 1.
  std::vector<float> slope(channels), constant(channels);
  for (int c = 0; c < channels; ++c) {
    grad_bias[c] = float(sum[c]);
    grad_weight[c] = float(product[c] * inverse[c]);
    slope[c] = float(-line.scale[c] * inverse[c] * grad_weight[c] / double(pixels));
    constant[c] = float(-line.scale[c] * sum[c] / pixels - double(slope[c]) * mean[c]);
  }
  std::vector<float> slopes = rows.spread(slope.data()), constants = rows.spread(constant.data());
  rows.each([&](int group) {
    return [=, s = read(&scales[group]), t = read(&shifts[group]), k = read(&slopes[group]),
            c = read(&constants[group])](int64_t at) {
      Lanes g = read(grad + at), value = read(x + at);
      if (by_x) g = zero_where_not_above(value * s + t, g);
      write(grad_x + at, g * s + (value * k + c));
    };
  });
}

} // namespace

#define NORM_FUNCTIONS(NAME, T)                                                                    \
  extern "C" void norm_forward_##NAME(                                                             \
      const T* x, const T* residual, const float* weight, const float* bias, T* y, float* mean,    \
      float* inverse, float* running_mean, float* running_variance, int64_t pixels, int channels,  \
      float eps, float momentum, int relu, int threads) {                                          \
    forward(x, residual, weight, bias, y, mean, inverse, running_mean, running_variance, pixels,   \
            channels, eps, momentum, relu != 0, threads);                                          \
  }                                                                                                \
  extern "C" void norm_backward_##NAME(                                                            \
      const T* grad, const T* x, const T* y, const float* weight, const float* bias,               \
      const float* mean, const float* inverse, T* grad_x, T* grad_residual, float* grad_weight,    \
      float* grad_bias, int64_t pixels, int channels, int relu, int threads) {                     \
    backward(grad, x, y, weight, bias, mean, inverse, grad_x, grad_residual, grad_weight,          \
             grad_bias, pixels, channels, relu != 0, threads);                                     \
  }

NORM_FUNCTIONS(float32, float)
NORM_FUNCTIONS(bfloat16, BFloat16)
