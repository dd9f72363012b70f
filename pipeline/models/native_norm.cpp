// Batch norm in training, with a sum and a ReLU behind it, on NHWC images seen as rows of channels.
//
// The floor of such a layer is memory traffic. Each function here reads its inputs once for the sums
// and once for the result; activations are T (float or bfloat16), everything per channel is float.
// Sums of a block of rows are float, sums of blocks double, so that rounding does not grow with N.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

constexpr int kWide = 64;       // lanes of a row where channels divide it: known when compiling
constexpr int64_t kBlock = 512; // rows whose sums are float

struct BFloat16 {
  uint16_t bits;
};

inline float read(float value) { return value; }

inline float read(BFloat16 value) {
  uint32_t bits = uint32_t(value.bits) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}

inline void write(float& place, float value) { place = value; }

inline void write(BFloat16& place, float value) { // to nearest, ties to even
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  uint16_t rounded = uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
  place.bits = std::isnan(value) ? uint16_t(0x7fc0) : rounded;
}

// std::max would make the floor of a NaN, which then no loss shows, and keep the sign of a zero.
template <class Number>
inline Number at_least(Number floor, Number value) {
  return value <= floor ? floor : value;
}

// One value per lane of a row: those of the channels, repeated.
std::vector<float> spread(const float* channels, int count, int lanes) {
  std::vector<float> result(lanes);
  for (int lane = 0; lane < lanes; ++lane) result[lane] = channels[lane % count];
  return result;
}

// Lanes of a row, and how many rows there are.
struct Rows {
  int64_t count;
  int channels, lanes, threads;

  Rows(int64_t pixels, int channels, int threads) : channels(channels), threads(threads) {
    bool wide = kWide % channels == 0 && pixels * channels % kWide == 0;
    lanes = wide ? kWide : channels;
    count = pixels * channels / lanes;
  }

  // Calls body(row) for every row, with the number of lanes known when compiling if it is kWide.
  template <class Body>
  void each(Body body) const {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < count; ++row) {
      if (lanes == kWide) body(row * kWide, kWide);
      else body(row * lanes, lanes);
    }
  }

  // Two sums per channel of what body(row, lanes, first, second) adds to its lanes.
  template <class Body>
  void sums(Body body, double* first, double* second) const {
    std::vector<double> parts(size_t(threads) * 2 * channels, 0.0);
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int thread = 0; thread < threads; ++thread) {
      double* part = &parts[size_t(thread) * 2 * channels];
      std::vector<float> lane_sums(2 * lanes);
      int64_t end = count * (thread + 1) / threads;
      for (int64_t begin = count * thread / threads; begin < end; begin += kBlock) {
        block(body, begin, std::min(begin + kBlock, end), lane_sums.data());
        for (int lane = 0; lane < lanes; ++lane) {
          part[lane % channels] += lane_sums[lane];
          part[channels + lane % channels] += lane_sums[lanes + lane];
        }
      }
    }
    for (int channel = 0; channel < channels; ++channel) {
      first[channel] = second[channel] = 0;
      for (int thread = 0; thread < threads; ++thread) {
        first[channel] += parts[size_t(thread) * 2 * channels + channel];
        second[channel] += parts[(size_t(thread) * 2 + 1) * channels + channel];
      }
    }
  }

private:
  template <class Body>
  void block(Body& body, int64_t begin, int64_t end, float* lane_sums) const {
    if (lanes == kWide) {
      float first[kWide] = {}, second[kWide] = {};
      for (int64_t row = begin; row < end; ++row) body(row * kWide, kWide, first, second);
      std::copy(first, first + kWide, lane_sums);
      std::copy(second, second + kWide, lane_sums + kWide);
    } else {
      std::fill(lane_sums, lane_sums + 2 * lanes, 0.0f);
      for (int64_t row = begin; row < end; ++row)
        body(row * lanes, lanes, lane_sums, lane_sums + lanes);
    }
  }
};

template <class T>
void forward(const T* x, const T* residual, const float* weight, const float* bias, T* y,
             float* mean, float* inverse, float* running_mean, float* running_variance,
             int64_t pixels, int channels, float eps, float momentum, bool relu, int threads) {
  Rows rows(pixels, channels, threads);
  std::vector<float> first(channels), scale(channels), shift(channels);
  // Sums of distances from the first pixel: those of a nearly constant channel do not cancel.
  for (int c = 0; c < channels; ++c) first[c] = read(x[c]);
  std::vector<float> origin = spread(first.data(), channels, rows.lanes);
  std::vector<double> sum(channels), squares(channels);
  const float* o = origin.data();
  rows.sums(
      [=](int64_t at, int lanes, float* __restrict__ a, float* __restrict__ b) {
#pragma GCC ivdep
        for (int i = 0; i < lanes; ++i) {
          float distance = read(x[at + i]) - o[i];
          a[i] += distance;
          b[i] += distance * distance;
        }
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
    scale[c] = weight[c] * inverse[c];
    shift[c] = bias[c] - mean[c] * scale[c];
  }
  std::vector<float> scales = spread(scale.data(), channels, rows.lanes);
  std::vector<float> shifts = spread(shift.data(), channels, rows.lanes);
  const float *s = scales.data(), *t = shifts.data();
  float floor = relu ? 0.0f : -INFINITY;
  if (residual) {
    rows.each([=](int64_t at, int lanes) {
#pragma GCC ivdep
      for (int i = 0; i < lanes; ++i)
        write(y[at + i], at_least(floor, read(x[at + i]) * s[i] + t[i] + read(residual[at + i])));
    });
  } else {
    rows.each([=](int64_t at, int lanes) {
#pragma GCC ivdep
      for (int i = 0; i < lanes; ++i)
        write(y[at + i], at_least(floor, read(x[at + i]) * s[i] + t[i]));
    });
  }
}

// With a ReLU, `grad_residual` receives the gradient ahead of it, which is the residual's; it may be
// the same memory as `grad_x`. Without one the residual's gradient is `grad` itself.
template <class T>
void backward(const T* grad, const T* x, const T* y, const float* weight, const float* mean,
              const float* inverse, T* grad_x, T* grad_residual, float* grad_weight,
              float* grad_bias, int64_t pixels, int channels, bool relu, int threads) {
  Rows rows(pixels, channels, threads);
  std::vector<float> means = spread(mean, channels, rows.lanes);
  std::vector<double> sum(channels), product(channels);
  const float* m = means.data();
  if (relu) {
    rows.sums(
        [=](int64_t at, int lanes, float* __restrict__ a, float* __restrict__ b) {
#pragma GCC ivdep
          for (int i = 0; i < lanes; ++i) {
            float behind = read(grad[at + i]);
            float g = read(y[at + i]) <= 0 ? 0.0f : behind; // a NaN lets it through, as in torch
            write(grad_residual[at + i], g);
            a[i] += g;
            b[i] += g * (read(x[at + i]) - m[i]);
          }
        },
        sum.data(), product.data());
    grad = grad_residual;
  } else {
    rows.sums(
        [=](int64_t at, int lanes, float* __restrict__ a, float* __restrict__ b) {
#pragma GCC ivdep
          for (int i = 0; i < lanes; ++i) {
            float g = read(grad[at + i]);
            a[i] += g;
            b[i] += g * (read(x[at + i]) - m[i]);
          }
        },
        sum.data(), product.data());
  }
  // scale * (g - mean(g) - x_hat * mean(g * x_hat)) as multiples of g, of x, and of 1.
  std::vector<float> scale(channels), slope(channels), constant(channels);
  for (int c = 0; c < channels; ++c) {
    grad_bias[c] = float(sum[c]);
    grad_weight[c] = float(product[c] * inverse[c]);
    scale[c] = weight[c] * inverse[c];
    slope[c] = float(-scale[c] * inverse[c] * grad_weight[c] / double(pixels));
    constant[c] = float(-scale[c] * sum[c] / pixels - double(slope[c]) * mean[c]);
  }
  std::vector<float> scales = spread(scale.data(), channels, rows.lanes);
  std::vector<float> slopes = spread(slope.data(), channels, rows.lanes);
  std::vector<float> constants = spread(constant.data(), channels, rows.lanes);
  const float *s = scales.data(), *k = slopes.data(), *t = constants.data();
  rows.each([=](int64_t at, int lanes) {
#pragma GCC ivdep
    for (int i = 0; i < lanes; ++i)
      write(grad_x[at + i], read(grad[at + i]) * s[i] + (read(x[at + i]) * k[i] + t[i]));
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
      const T* grad, const T* x, const T* y, const float* weight, const float* mean,               \
      const float* inverse, T* grad_x, T* grad_residual, float* grad_weight, float* grad_bias,     \
      int64_t pixels, int channels, int relu, int threads) {                                       \
    backward(grad, x, y, weight, mean, inverse, grad_x, grad_residual, grad_weight, grad_bias,     \
             pixels, channels, relu != 0, threads);                                                \
  }

NORM_FUNCTIONS(float32, float)
NORM_FUNCTIONS(bfloat16, BFloat16)
