// Convolutions of 3 x 3 with stride 1 and padding 1 by Winograd's F(2 x 2, 3 x 3), in bf16.
//
// Lavin & Gray 2015, arXiv:1509.09308. A tile of 2 x 2 outputs and the 4 x 4 inputs that it meets are
// mapped to 16 positions; there a convolution is a product of matrices over channels, with 16
// multiplications for every 36 of the plain sum. Images are NHWC with rows in multiples of 2 and
// columns in multiples of 4, kernels are float [out][3][3][in], channels come in multiples of 16.
// Transforms are float, what the products take is rounded to bf16, their sums are float.

#include "bf16.h"

#include <algorithm>
#include <vector>

namespace {

constexpr int kPositions = 16; // of a transformed tile
constexpr int kTiles = 32;     // whose outputs are computed together: they stay in the L2 cache
constexpr int kTilesToGradient = 64; // more, since the sums are read and written once for all

struct Images {
  int64_t count;
  int height, width;

  int tiles_across() const { return width / 2; }
  int64_t tile_rows() const { return count * (height / 2); }
};

// Pixels of one row of tiles: its first output and, to each side, whether there is a row.
struct TileRow {
  const BFloat16* first;
  bool has_above, has_below;

  TileRow(const BFloat16* all, Images images, int channels, int64_t row)
      : first(all + row * 2 * images.width * channels), has_above(row % (images.height / 2) != 0),
        has_below((row + 1) % (images.height / 2) != 0) {}
};

// B' d of a column of 4 pixels, in one group of channels.
struct Column {
  __m512 half[4];

  static Column of(const BFloat16* const rows[4], int64_t at) {
    __m512 d0 = load(rows[0] + at), d1 = load(rows[1] + at);
    __m512 d2 = load(rows[2] + at), d3 = load(rows[3] + at);
    return {{d0 - d2, d1 + d2, d2 - d1, d1 - d3}};
  }
  static Column zero() {
    __m512 none = _mm512_setzero_ps();
    return {{none, none, none, none}};
  }
};

// B' d B of four columns: the positions p to p + 3, p being 4 r.
inline void input_positions(__m512 c0, __m512 c1, __m512 c2, __m512 c3, __m512 out[4]) {
  out[0] = c0 - c2;
  out[1] = c1 + c2;
  out[2] = c2 - c1;
  out[3] = c1 - c3;
}

// Calls keep(tile, position, value, value of the next tile) for the pairs of tiles in a row of
// them, in one group of channels; `zeros` is a row of pixels.
template <class Keep>
inline void each_input(const BFloat16* x, const BFloat16* zeros, Images images, int channels,
                       int64_t row, int channel, Keep keep) {
  TileRow tiles(x, images, channels, row);
  const int64_t line = int64_t(images.width) * channels;
  const BFloat16* first = tiles.first + channel;
  const BFloat16* rows[4] = {tiles.has_above ? first - line : zeros, first, first + line,
                             tiles.has_below ? first + 2 * line : zeros};
  Column c0 = Column::zero(), c1 = Column::of(rows, 0);
  for (int tile = 0; tile < images.tiles_across(); tile += 2) {
    int64_t at = (2 * int64_t(tile) + 1) * channels;
    bool is_last = tile + 2 == images.tiles_across();
    Column c2 = Column::of(rows, at), c3 = Column::of(rows, at + channels);
    Column c4 = Column::of(rows, at + 2 * channels);
    Column c5 = is_last ? Column::zero() : Column::of(rows, at + 3 * channels);
    for (int r = 0; r < 4; ++r) {
      __m512 a[4], b[4];
      input_positions(c0.half[r], c1.half[r], c2.half[r], c3.half[r], a);
      input_positions(c2.half[r], c3.half[r], c4.half[r], c5.half[r], b);
      for (int c = 0; c < 4; ++c) keep(tile, 4 * r + c, a[c], b[c]);
    }
    c0 = c4;
    c1 = c5;
  }
}

// A g A' of the 2 x 2 pixels of a tile, in one group of channels.
inline void gradient_positions(const BFloat16* first, int64_t line, int channels, __m512 out[16]) {
  __m512 half[8];
  for (int c = 0; c < 2; ++c) {
    __m512 top = load(first + c * channels), bottom = load(first + c * channels + line);
    half[c] = top;
    half[2 + c] = top + bottom;
    half[4 + c] = top - bottom;
    half[6 + c] = _mm512_setzero_ps() - bottom;
  }
  for (int r = 0; r < 4; ++r) {
    __m512 left = half[2 * r], right = half[2 * r + 1];
    out[4 * r] = left;
    out[4 * r + 1] = left + right;
    out[4 * r + 2] = left - right;
    out[4 * r + 3] = _mm512_setzero_ps() - right;
  }
}

// G g G' of a kernel, in one group of input channels; turned by 180 degrees for the way back.
inline void kernel_positions(const float* kernel, int64_t tap, bool turned, __m512 out[16]) {
  __m512 half[12], a_half = _mm512_set1_ps(0.5f);
  auto at = [&](int r, int c) {
    int place = turned ? 8 - (3 * r + c) : 3 * r + c;
    return _mm512_loadu_ps(kernel + place * tap);
  };
  for (int c = 0; c < 3; ++c) {
    __m512 top = at(0, c), middle = at(1, c), bottom = at(2, c), ends = top + bottom;
    half[c] = top;
    half[3 + c] = (ends + middle) * a_half;
    half[6 + c] = (ends - middle) * a_half;
    half[9 + c] = bottom;
  }
  for (int r = 0; r < 4; ++r) {
    __m512 left = half[3 * r], middle = half[3 * r + 1], right = half[3 * r + 2];
    out[4 * r] = left;
    out[4 * r + 1] = (left + right + middle) * a_half;
    out[4 * r + 2] = (left + right - middle) * a_half;
    out[4 * r + 3] = right;
  }
}

// Kernels in pairs of the channels that are summed over: [position][in / 2][out][2].
void transform_kernels(const float* kernels, BFloat16* to, int out, int in) {
  int64_t position = int64_t(in) * out;
  for (int o = 0; o < out; ++o)
    for (int i = 0; i < in; i += kLanes) {
      __m512 values[16];
      kernel_positions(kernels + int64_t(o) * 9 * in + i, in, false, values);
      for (int p = 0; p < kPositions; ++p) {
        BFloat16 row[kLanes];
        store(row, values[p]);
        for (int lane = 0; lane < kLanes; lane += 2)
          std::memcpy(to + p * position + ((i + lane) / 2 * int64_t(out) + o) * 2, row + lane, 4);
      }
    }
}

// The same for the gradient of the input: turned, [position][out / 2][in][2].
void transform_turned_kernels(const float* kernels, BFloat16* to, int out, int in) {
  int64_t position = int64_t(in) * out;
  for (int o = 0; o < out; o += 2)
    for (int i = 0; i < in; i += kLanes) {
      __m512 first[16], second[16];
      kernel_positions(kernels + int64_t(o) * 9 * in + i, in, true, first);
      kernel_positions(kernels + int64_t(o + 1) * 9 * in + i, in, true, second);
      for (int p = 0; p < kPositions; ++p)
        store_pairs(to + p * position + (int64_t(o) / 2 * in + i) * 2, first[p], second[p]);
    }
}

// A' m A: from the 16 positions of a tile to its 2 x 2 outputs.
inline void store_outputs(const float* m, int64_t position, BFloat16* first, int64_t line,
                          int channels) {
  __m512 half[8];
  for (int c = 0; c < 4; ++c) {
    auto at = [&](int r) { return _mm512_loadu_ps(m + (4 * r + c) * position); };
    __m512 both = at(1) + at(2), difference = at(1) - at(2);
    half[c] = at(0) + both;
    half[4 + c] = difference - at(3);
  }
  for (int r = 0; r < 2; ++r) {
    const __m512* h = half + 4 * r;
    store(first + r * line, h[0] + (h[1] + h[2]));
    store(first + r * line + channels, (h[1] - h[2]) - h[3]);
  }
}

// The rows of tiles that go through the matrix products together, and where their numbers stand.
struct Blocks {
  Images images;
  int rows, tiles; // `tiles` in multiples of 16
  int64_t count;

  Blocks(Images images, int wanted) : images(images) {
    int across = images.tiles_across();
    rows = std::max(1, wanted / across);
    tiles = (rows * across + kSums - 1) / kSums * kSums;
    count = (images.tile_rows() + rows - 1) / rows;
  }

  // From one position to the next; a line of the cache more, or powers of two would collide there.
  template <class Number>
  int64_t position(int channels) const {
    return int64_t(tiles) * channels + 64 / sizeof(Number);
  }

  // Calls body(thread, first row of tiles, how many).
  template <class Body>
  void each(int threads, Body body) const {
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int thread = 0; thread < threads; ++thread)
      for (int64_t b = count * thread / threads; b < count * (thread + 1) / threads; ++b)
        body(thread, b * rows, int(std::min<int64_t>(rows, images.tile_rows() - b * rows)));
  }
};

struct Scratch {
  std::vector<BFloat16> a, b, zeros;
  std::vector<float> sums;
};

// Outputs of `count` rows of tiles from `begin`; `kernels` are transformed.
void convolve_block(const BFloat16* x, const BFloat16* kernels, BFloat16* y, const Blocks& blocks,
                    int in, int out, int64_t begin, int count, Scratch& s) {
  const Images& images = blocks.images;
  const int across = images.tiles_across();
  const int64_t a_position = blocks.position<BFloat16>(in), line = int64_t(images.width) * out;
  const int64_t sums_position = blocks.position<float>(out), group = blocks.tiles * kLanes;
  for (int row = 0; row < count; ++row)
    for (int i = 0; i < in; i += kLanes) {
      BFloat16* to = &s.a[i / kLanes * group + row * across * kLanes];
      each_input(x, s.zeros.data(), images, in, begin + row, i,
                 [=](int tile, int position, __m512 value, __m512 next) {
                   store(to + position * a_position + tile * kLanes, value);
                   store(to + position * a_position + (tile + 1) * kLanes, next);
                 });
    }
  std::vector<Term> terms;
  for (int i = 0; i < in; i += kLanes) terms.push_back({i / kLanes * group, int64_t(i) * out});
  const int64_t x_line = int64_t(images.width) * in;
  for (int p = 0; p < kPositions; ++p) {
    prefetch(x + begin * 2 * x_line, count * 2 * x_line, kPositions + p, kPositions);
    prefetch_to_write(y + begin * 2 * line, count * 2 * line, p, kPositions);
    Product product{&s.a[p * a_position], 2, kernels + p * int64_t(in) * out, 2 * out,
                    terms.data(), int(terms.size()), kLanes / 2, &s.sums[p * sums_position], out};
    multiply<kLanes, false>(product, blocks.tiles, out);
  }
  for (int row = 0; row < count; ++row) {
    BFloat16* to = y + (begin + row) * 2 * line;
    for (int tile = 0; tile < across; ++tile)
      for (int o = 0; o < out; o += kLanes)
        store_outputs(&s.sums[int64_t(row * across + tile) * out + o], sums_position,
                      to + 2 * int64_t(tile) * out + o, line, out);
  }
}

void convolve(const BFloat16* x, const BFloat16* kernels, BFloat16* y, Images images, int in,
              int out, int threads) {
  Blocks blocks(images, kTiles);
  std::vector<Scratch> scratch(threads);
  for (Scratch& s : scratch) {
    s.a.resize(kPositions * blocks.position<BFloat16>(in));
    s.sums.resize(kPositions * blocks.position<float>(out));
    s.zeros.resize(size_t(images.width) * in);
  }
  blocks.each(threads, [&](int thread, int64_t begin, int count) {
    convolve_block(x, kernels, y, blocks, in, out, begin, count, scratch[thread]);
  });
}

// Adds the tiles' products to s.sums, [position][out][in].
void kernel_gradient_block(const BFloat16* x, const BFloat16* grad, const Blocks& blocks, int in,
                           int out, int64_t begin, int count, Scratch& s) {
  const Images& images = blocks.images;
  const int across = images.tiles_across();
  const int64_t line = int64_t(images.width) * out;
  const int64_t x_position = blocks.position<BFloat16>(in);
  const int64_t grad_position = blocks.position<BFloat16>(out);
  for (int row = 0; row < count; ++row) {
    for (int i = 0; i < in; i += kLanes) {
      BFloat16* to = &s.b[int64_t(row) * across * in + 2 * i];
      each_input(x, s.zeros.data(), images, in, begin + row, i,
                 [=](int tile, int position, __m512 value, __m512 next) {
                   store_pairs(to + position * x_position + int64_t(tile) * in, value, next);
                 });
    }
    const BFloat16* from = grad + (begin + row) * 2 * line;
    for (int tile = 0; tile < across; tile += 2)
      for (int o = 0; o < out; o += kLanes) {
        __m512 a[16], b[16];
        gradient_positions(from + 2 * int64_t(tile) * out + o, line, out, a);
        gradient_positions(from + 2 * int64_t(tile + 1) * out + o, line, out, b);
        BFloat16* to = &s.a[int64_t(row * across + tile) * out + 2 * o];
        for (int p = 0; p < kPositions; ++p) store_pairs(to + p * grad_position, a[p], b[p]);
      }
  }
  const Term whole{0, 0};
  const int64_t x_line = int64_t(images.width) * in;
  for (int p = 0; p < kPositions; ++p) {
    prefetch(x + begin * 2 * x_line, count * 2 * x_line, kPositions + p, kPositions);
    prefetch(grad + begin * 2 * line, count * 2 * line, kPositions + p, kPositions);
    Product product{&s.a[p * grad_position], 2 * out, &s.b[p * x_position], 2 * in, &whole, 1,
                    count * across / 2, &s.sums[p * int64_t(in) * out], in};
    multiply<2, true>(product, out, in);
  }
}

// G' u G: from the sums at the 16 positions to the gradient of a kernel.
inline void store_kernel_gradient(const __m512 u[16], float* to, int64_t tap) {
  __m512 half[12], a_half = _mm512_set1_ps(0.5f);
  for (int c = 0; c < 4; ++c) {
    __m512 both = (u[4 + c] + u[8 + c]) * a_half, difference = (u[4 + c] - u[8 + c]) * a_half;
    half[c] = u[c] + both;
    half[4 + c] = difference;
    half[8 + c] = both + u[12 + c];
  }
  for (int r = 0; r < 3; ++r) {
    const __m512* h = half + 4 * r;
    __m512 both = (h[1] + h[2]) * a_half;
    _mm512_storeu_ps(to + (3 * r) * tap, h[0] + both);
    _mm512_storeu_ps(to + (3 * r + 1) * tap, (h[1] - h[2]) * a_half);
    _mm512_storeu_ps(to + (3 * r + 2) * tap, both + h[3]);
  }
}

void kernel_gradient(const BFloat16* x, const BFloat16* grad, float* to, Images images, int in,
                     int out, int threads) {
  Blocks blocks(images, kTilesToGradient);
  std::vector<Scratch> scratch(threads);
  const int64_t position = int64_t(in) * out;
  for (Scratch& s : scratch) {
    s.a.resize(kPositions * blocks.position<BFloat16>(out));
    s.b.resize(kPositions * blocks.position<BFloat16>(in));
    s.sums.resize(kPositions * position);
    s.zeros.resize(size_t(images.width) * in);
  }
  blocks.each(threads, [&](int thread, int64_t begin, int count) {
    kernel_gradient_block(x, grad, blocks, in, out, begin, count, scratch[thread]);
  });
  for (int o = 0; o < out; ++o)
    for (int i = 0; i < in; i += kLanes) {
      __m512 u[16];
      for (int p = 0; p < kPositions; ++p) {
        u[p] = _mm512_setzero_ps();
        for (const Scratch& s : scratch)
          u[p] += _mm512_loadu_ps(&s.sums[p * position + int64_t(o) * in + i]);
      }
      store_kernel_gradient(u, to + int64_t(o) * 9 * in + i, in);
    }
}

} // namespace

// y [count][height][width][out] of x [count][height][width][in].
extern "C" void winograd_forward(const BFloat16* x, const float* kernels, BFloat16* y,
                                 int64_t count, int height, int width, int in, int out,
                                 int threads) {
  std::vector<BFloat16> transformed(size_t(kPositions) * in * out);
  transform_kernels(kernels, transformed.data(), out, in);
  convolve(x, transformed.data(), y, {count, height, width}, in, out, threads);
}

extern "C" void winograd_input_gradient(const BFloat16* grad, const float* kernels, BFloat16* to,
                                        int64_t count, int height, int width, int in, int out,
                                        int threads) {
  std::vector<BFloat16> transformed(size_t(kPositions) * in * out);
  transform_turned_kernels(kernels, transformed.data(), out, in);
  convolve(grad, transformed.data(), to, {count, height, width}, out, in, threads);
}

extern "C" void winograd_kernel_gradient(const BFloat16* x, const BFloat16* grad, float* to,
                                         int64_t count, int height, int width, int in, int out,
                                         int threads) {
  kernel_gradient(x, grad, to, {count, height, width}, in, out, threads);
}
