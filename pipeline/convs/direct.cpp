// Convolutions by their plain sums in bf16, with square kernels and any padding.
//
// Images are NHWC, kernels float [out][k][k][in], channels come in multiples of 16. Sums are float.
// A sum goes over the taps of a kernel and, in groups of 16, over channels. Rows of an image are
// first copied with the zeros around them, so that products meet no border.

#include "bf16.h"

#include <algorithm>
#include <vector>

namespace {

constexpr int64_t kBlock = 128 * 1024; // bytes worked on together: they stay in the L2 cache
constexpr int kBlocksAtOnce = 4; // of them for a thread, which asks ahead for what the next needs

inline int divided_up(int number, int by) { return (number + by - 1) / by; }

struct Kernel {
  int size, stride, padding;

  int taps() const { return size * size; }
};

struct Image {
  int height, width, channels;

  int64_t line() const { return int64_t(width) * channels; }
  int64_t numbers() const { return height * line(); }
  Image convolved(Kernel by, int out) const {
    auto outputs = [=](int length) { return (length + 2 * by.padding - by.size) / by.stride + 1; };
    return {outputs(height), outputs(width), out};
  }
};

// Rows and columns of an image, zeros where it has none: [channels / 16][rows][columns][16].
struct Window {
  int rows, columns;

  int64_t line() const { return int64_t(columns) * kLanes; }
  int64_t group() const { return rows * line(); }

  void copy(const BFloat16* from, Image image, int top, int left, BFloat16* to) const {
    const int first = std::clamp(-left, 0, columns);
    const int last = std::clamp(image.width - left, first, columns);
    for (int c = 0; c < image.channels; c += kLanes)
      for (int row = top; row < top + rows; ++row, to += line()) {
        bool exists = 0 <= row && row < image.height;
        int begin = exists ? first : columns, end = exists ? last : columns;
        std::fill(to, to + begin * kLanes, BFloat16(0));
        std::fill(to + end * kLanes, to + line(), BFloat16(0));
        const BFloat16* pixels = from + row * image.line() + int64_t(left) * image.channels + c;
        for (int x = begin; x < end; ++x)
          std::memcpy(to + x * kLanes, pixels + int64_t(x) * image.channels, kLanes * sizeof *to);
      }
  }
};

// One share of a sum: `place` in the kernel, and how far its input is from the output's own.
struct Tap {
  int row, column, place;
};

// The results that have the same taps: every `Sums::to_step`-th one from (row, column).
struct Phase {
  int row, column;
  std::vector<Tap> taps;
};

// Results as sums over taps: the q-th row of a phase meets the rows q * from_step + tap.row.
struct Sums {
  Image from, to;
  int from_step, to_step;
  std::vector<Phase> phases;
  int nearest = 0, farthest = 0; // tap, in rows and in columns

  static Sums of_outputs(Image x, Image y, Kernel k) {
    Sums sums{x, y, k.stride, 1, {{0, 0, {}}}};
    for (int r = 0; r < k.size; ++r)
      for (int c = 0; c < k.size; ++c)
        sums.add(sums.phases[0], {r - k.padding, c - k.padding, r * k.size + c});
    return sums;
  }

  // An input belongs to the outputs that are as far from it as a tap, counted in strides.
  static Sums of_input_gradient(Image x, Image y, Kernel k) {
    Sums sums{y, x, 1, k.stride, {}};
    for (int row = 0; row < k.stride; ++row)
      for (int column = 0; column < k.stride; ++column) {
        Phase phase{row, column, {}};
        for (int r = 0; r < k.size; ++r)
          for (int c = 0; c < k.size; ++c) {
            int down = row + k.padding - r, right = column + k.padding - c;
            if (down % k.stride == 0 && right % k.stride == 0)
              sums.add(phase, {down / k.stride, right / k.stride, r * k.size + c});
          }
        sums.phases.push_back(phase);
      }
    return sums;
  }

  void add(Phase& phase, Tap tap) {
    phase.taps.push_back(tap);
    nearest = std::min({nearest, tap.row, tap.column});
    farthest = std::max({farthest, tap.row, tap.column});
  }
};

// How the sums are computed: some rows of all phases at a time, from one window.
struct Blocks {
  Sums sums;
  int rows, columns; // of each phase
  Window window;
  std::vector<std::vector<Term>> terms; // by phase

  explicit Blocks(const Sums& all) : sums(all) {
    const int reach = sums.farthest - sums.nearest, channels = sums.from.channels;
    const int group = rows_of_product(sums.to.channels);
    columns = divided_up(divided_up(sums.to.width, sums.to_step), group) * group;
    window.columns = (columns - 1) * sums.from_step + reach + 1;
    const int64_t line_bytes = int64_t(window.columns) * channels * sizeof(BFloat16);
    rows = std::clamp(int(kBlock / line_bytes - reach) / sums.from_step, 1, phase_rows());
    window.rows = (rows - 1) * sums.from_step + reach + 1;
    for (const Phase& phase : sums.phases) {
      terms.emplace_back();
      for (const Tap& tap : phase.taps)
        for (int c = 0; c < channels; c += kLanes)
          terms.back().push_back({c / kLanes * window.group() +
                                      (tap.row - sums.nearest) * window.line() +
                                      (tap.column - sums.nearest) * kLanes,
                                  (int64_t(tap.place) * channels + c) * sums.to.channels});
    }
  }

  int phase_rows() const { return divided_up(sums.to.height, sums.to_step); }
  int of_an_image() const { return divided_up(phase_rows(), rows); }
};

struct Scratch {
  Numbers<BFloat16> a, b;
  Numbers<float> sums;
};

// A row of a phase; `a` is the row of the window that its first tap may have.
void sum_row(const Blocks& blocks, size_t phase, const BFloat16* a, const BFloat16* kernels,
             BFloat16* to, Scratch& s) {
  const Sums& sums = blocks.sums;
  const std::vector<Term>& terms = blocks.terms[phase];
  const int out = sums.to.channels;
  Product product{a, 2, kernels, 2 * out, terms.data(), int(terms.size()), kLanes / 2,
                  s.sums.data(), out};
  if (terms.empty()) std::fill(s.sums.begin(), s.sums.end(), 0.0f);
  else if (sums.from_step == 1) multiply<kLanes, false>(product, blocks.columns, out);
  else multiply<2 * kLanes, false>(product, blocks.columns, out);
  int x = sums.phases[phase].column;
  for (int q = 0; x < sums.to.width; ++q, x += sums.to_step)
    for (int c = 0; c < out; c += kLanes)
      store(to + int64_t(x) * out + c, _mm512_loadu_ps(&s.sums[int64_t(q) * out + c]));
}

// The results from row `first` of each phase on, of one image.
void sum_block(const Blocks& blocks, const BFloat16* image, const BFloat16* kernels, BFloat16* to,
               int first, Scratch& s) {
  const Sums& sums = blocks.sums;
  const int top = first * sums.from_step + sums.nearest;
  blocks.window.copy(image, sums.from, top, sums.nearest, s.a.data());
  const int64_t from_lines = sums.from_step * sums.from.line();
  const int64_t to_lines = sums.to_step * sums.to.line();
  for (int row = 0; row < blocks.rows; ++row) {
    prefetch(image + first * from_lines, blocks.rows * from_lines, blocks.rows + row, blocks.rows);
    prefetch_to_write(to + first * to_lines, blocks.rows * to_lines, row + 1, blocks.rows);
    for (size_t phase = 0; phase < sums.phases.size(); ++phase) {
      int y = (first + row) * sums.to_step + sums.phases[phase].row;
      if (y < sums.to.height)
        sum_row(blocks, phase, &s.a[row * sums.from_step * blocks.window.line()], kernels,
                to + y * sums.to.line(), s);
    }
  }
}

void sum_all(const Sums& sums, const BFloat16* images, const BFloat16* kernels, BFloat16* to,
             int64_t count, int threads) {
  const Blocks blocks(sums);
  const int64_t each = blocks.of_an_image();
#pragma omp parallel num_threads(threads)
  {
    Scratch s;
    s.a.resize(blocks.window.group() * (sums.from.channels / kLanes));
    s.sums.resize(int64_t(blocks.columns) * sums.to.channels);
#pragma omp for schedule(dynamic, kBlocksAtOnce)
    for (int64_t b = 0; b < count * each; ++b)
      sum_block(blocks, images + b / each * sums.from.numbers(), kernels,
                to + b / each * sums.to.numbers(), int(b % each) * blocks.rows, s);
  }
}

// Kernels in pairs of the channels that are summed over: [tap][in / 2][out][2].
Numbers<BFloat16> pair_inputs(const float* kernels, int taps, int out, int in) {
  Numbers<BFloat16> paired(int64_t(taps) * in * out);
  for (int o = 0; o < out; ++o)
    for (int tap = 0; tap < taps; ++tap)
      for (int i = 0; i < in; i += kLanes) {
        BFloat16 row[kLanes];
        store(row, _mm512_loadu_ps(kernels + (int64_t(o) * taps + tap) * in + i));
        for (int lane = 0; lane < kLanes; lane += 2)
          std::memcpy(&paired[(int64_t(tap) * in + i + lane) * out + 2 * o], row + lane, 4);
      }
  return paired;
}

// The same for the gradient of the input: [tap][out / 2][in][2].
Numbers<BFloat16> pair_outputs(const float* kernels, int taps, int out, int in) {
  Numbers<BFloat16> paired(int64_t(taps) * in * out);
  for (int o = 0; o < out; o += 2)
    for (int tap = 0; tap < taps; ++tap)
      for (int i = 0; i < in; i += kLanes) {
        const float* first = kernels + (int64_t(o) * taps + tap) * in + i;
        store_pairs(&paired[(int64_t(tap) * out + o) * in + 2 * i], _mm512_loadu_ps(first),
                    _mm512_loadu_ps(first + int64_t(taps) * in));
      }
  return paired;
}

// So many pixels, `step` apart from `column` on, in pairs: [pair][channels][2]; zeros where there is
// none. Behind the last of an odd number comes a zero, too: what is no number there would spread.
void pair_pixels(const BFloat16* line, Image image, int column, int step, int pixels,
                 BFloat16* to) {
  const int end = std::min(image.width, column + pixels * step);
  auto load = [=](int x, int c) {
    if (!line || x < 0 || x >= end) return _mm256_setzero_si256();
    const BFloat16* pixel = line + int64_t(x) * image.channels + c;
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(pixel));
  };
  for (int pixel = 0; pixel < pixels; pixel += 2, column += 2 * step)
    for (int c = 0; c < image.channels; c += kLanes, to += 2 * kLanes) {
      __m512i first = _mm512_castsi256_si512(load(column, c));
      store_halves_interleaved(to, _mm512_inserti64x4(first, load(column + step, c), 1));
    }
}

// Sums over pixels, one product for each tap. Pairs of pixels of some rows, of one image or of
// several whole ones, are summed together.
struct KernelGradient {
  Image x, y;
  Kernel kernel;
  int pairs, rows, images;

  KernelGradient(Image x, Image y, Kernel kernel) : x(x), y(y), kernel(kernel) {
    pairs = divided_up(y.width, 2);
    int64_t bytes = sizeof(BFloat16) * (y_line() + kernel.size * kernel.stride * x_line());
    rows = int(std::clamp<int64_t>(kBlock / bytes, 1, y.height));
    images = rows < y.height ? 1 : int(std::max<int64_t>(1, kBlock / (bytes * rows)));
  }

  int x_rows() const { return (rows - 1) * kernel.stride + kernel.size; }
  int64_t y_line() const { return 2 * int64_t(pairs) * y.channels; }
  int64_t x_line() const { return 2 * int64_t(pairs) * x.channels; }
  int64_t x_column() const { return images * x_rows() * x_line(); } // of taps: the lines it meets
  int64_t numbers() const { return int64_t(kernel.taps()) * x.channels * y.channels; }
};

void pair_rows(const KernelGradient& g, const BFloat16* x, const BFloat16* grad, int image,
               int first, int last, Scratch& s) {
  for (int row = first; row < last; ++row)
    pair_pixels(grad + row * g.y.line(), g.y, 0, 1, g.y.width,
                &s.a[(image * g.rows + row - first) * g.y_line()]);
  for (int r = 0; r < (last - first - 1) * g.kernel.stride + g.kernel.size; ++r) {
    int row = first * g.kernel.stride - g.kernel.padding + r;
    const BFloat16* line = 0 <= row && row < g.x.height ? x + row * g.x.line() : nullptr;
    for (int c = 0; c < g.kernel.size; ++c)
      pair_pixels(line, g.x, c - g.kernel.padding, g.kernel.stride, g.y.width,
                  &s.b[c * g.x_column() + (image * g.x_rows() + r) * g.x_line()]);
  }
}

// Adds the products of rows `first` to `last` of some images to s.sums, [tap][out][in].
void add_block(const KernelGradient& g, const BFloat16* x, const BFloat16* grad, int count,
               int first, int last, Scratch& s) {
  std::vector<Term> terms;
  for (int image = 0; image < count; ++image) {
    pair_rows(g, x + image * g.x.numbers(), grad + image * g.y.numbers(), image, first, last, s);
    for (int row = 0; row < last - first; ++row)
      terms.push_back({(image * g.rows + row) * g.y_line(),
                       (image * g.x_rows() + row * g.kernel.stride) * g.x_line()});
  }
  const int taps = g.kernel.taps();
  const int64_t y_numbers = int64_t(count) * (last - first) * g.y.line();
  const int64_t x_numbers = int64_t(count) * (last - first) * g.kernel.stride * g.x.line();
  for (int tap = 0; tap < taps; ++tap) {
    prefetch(grad + first * g.y.line(), y_numbers, taps + tap, taps);
    prefetch(x + first * g.kernel.stride * g.x.line(), x_numbers, taps + tap, taps);
    int r = tap / g.kernel.size, c = tap % g.kernel.size;
    Product product{s.a.data(), 2 * g.y.channels, &s.b[c * g.x_column() + r * g.x_line()],
                    2 * g.x.channels, terms.data(), int(terms.size()), g.pairs,
                    &s.sums[int64_t(tap) * g.y.channels * g.x.channels], g.x.channels};
    multiply<2, true>(product, g.y.channels, g.x.channels);
  }
}

void kernel_gradient(const KernelGradient& g, const BFloat16* x, const BFloat16* grad, float* to,
                     int64_t count, int threads) {
  std::vector<Scratch> scratch(threads);
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int thread = 0; thread < threads; ++thread) { // in equal parts: the same sums every time
    Scratch& s = scratch[thread];
    s.a.resize(g.images * g.rows * g.y_line());
    s.b.resize(g.kernel.size * g.x_column());
    s.sums.resize(g.numbers(), 0);
    const int64_t end = count * (thread + 1) / threads;
    for (int64_t image = count * thread / threads; image < end; image += g.images)
      for (int row = 0; row < g.y.height; row += g.rows)
        add_block(g, x + image * g.x.numbers(), grad + image * g.y.numbers(),
                  int(std::min<int64_t>(g.images, end - image)), row,
                  std::min(row + g.rows, g.y.height), s);
  }
  const int taps = g.kernel.taps(), in = g.x.channels, out = g.y.channels;
  for (int o = 0; o < out; ++o)
    for (int tap = 0; tap < taps; ++tap)
      for (int i = 0; i < in; i += kLanes) {
        __m512 sum = _mm512_setzero_ps();
        for (const Scratch& s : scratch)
          sum += _mm512_loadu_ps(&s.sums[(int64_t(tap) * out + o) * in + i]);
        _mm512_storeu_ps(to + (int64_t(o) * taps + tap) * in + i, sum);
      }
}

} // namespace

// y [count][H'][W'][out] of x [count][height][width][in].
extern "C" void direct_forward(const BFloat16* x, const float* kernels, BFloat16* y, int64_t count,
                               int height, int width, int in, int out, int size, int stride,
                               int padding, int threads) {
  Image image{height, width, in};
  Kernel kernel{size, stride, padding};
  auto paired = pair_inputs(kernels, kernel.taps(), out, in);
  sum_all(Sums::of_outputs(image, image.convolved(kernel, out), kernel), x, paired.data(), y, count,
          threads);
}

extern "C" void direct_input_gradient(const BFloat16* grad, const float* kernels, BFloat16* to,
                                      int64_t count, int height, int width, int in, int out,
                                      int size, int stride, int padding, int threads) {
  Image image{height, width, in};
  Kernel kernel{size, stride, padding};
  auto paired = pair_outputs(kernels, kernel.taps(), out, in);
  sum_all(Sums::of_input_gradient(image, image.convolved(kernel, out), kernel), grad, paired.data(),
          to, count, threads);
}

extern "C" void direct_kernel_gradient(const BFloat16* x, const BFloat16* grad, float* to,
                                       int64_t count, int height, int width, int in, int out,
                                       int size, int stride, int padding, int threads) {
  Image image{height, width, in};
  Kernel kernel{size, stride, padding};
  kernel_gradient({image, image.convolved(kernel, out), kernel}, x, grad, to, count, threads);
}
