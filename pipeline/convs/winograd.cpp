// Convolutions of 3 x 3 with stride 1 and padding 1 by Winograd's F(2 x 4, 3 x 3), in bf16.
//
// Lavin & Gray 2015, arXiv:1509.09308. A tile of 2 x 4 outputs and the 4 x 6 inputs that it meets
// are mapped to 24 positions; there a convolution is a product of matrices over channels, with 24
// multiplications for every 72 of the plain sum. Images are NHWC, kernels float [out][3][3][in],
// channels come in multiples of 16. Tiles may reach over the end of an image, where nothing is.
// Transforms are float, what the products take is rounded to bf16, their sums are float.
//
// Down the rows the transforms are those of F(2, 3), at the points 0, 1, -1; along them those of
// F(4, 3) at 0, a, -a, b, -b. The usual 1 and 2 for a and b would make the rounding count half as
// much again.

#include "bf16.h"

#include <algorithm>
#include <vector>

namespace {

constexpr int kDown = 2, kAlong = 4; // outputs of a tile
constexpr int kPositionsAlong = kAlong + 2;
constexpr int kPositions = (kDown + 2) * kPositionsAlong; // of a transformed tile
constexpr int kTiles = 32; // whose outputs are computed together: they stay in the L2 cache
constexpr int kBlocksAtOnce = 4; // of them for a thread, which asks ahead for what the next needs
constexpr int kTilesToGradient = 64; // more, since the sums are read and written once for all

// The points of F(4, 3), their squares, and what its kernels are divided by.
constexpr float kA = 0.625f, kB = 1.5f, kA2 = kA * kA, kB2 = kB * kB;
constexpr float kScale0 = 1 / (kA2 * kB2), kScaleA = 1 / (2 * kA2 * (kA2 - kB2)),
                kScaleB = 1 / (2 * kB2 * (kB2 - kA2));

struct Images {
  int64_t count;
  int height, width;

  int tiles_across() const { return (width + kAlong - 1) / kAlong; }
  int pairs_across() const { return (tiles_across() + 1) / 2; }
  int tiles_down() const { return (height + kDown - 1) / kDown; }
  int64_t tile_rows() const { return count * tiles_down(); }
  // Of a row of tiles: the first row of its image that it covers, and of all images.
  int first_row(int64_t tiles) const { return int(tiles % tiles_down()) * kDown; }
  int64_t row_of_all(int64_t tiles) const {
    return tiles / tiles_down() * height + first_row(tiles);
  }
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

// The inputs of a row of tiles in one group of channels, tile by tile; `zeros` is a row of pixels.
class InputTiles {
public:
  InputTiles(const BFloat16* x, const BFloat16* zeros, Images images, int channels, int64_t row,
             int channel)
      : channels_(channels), left_(images.width) {
    const int64_t line = int64_t(images.width) * channels;
    const int above = images.first_row(row) - 1;
    const BFloat16* first = x + (images.row_of_all(row) - 1) * line + channel;
    for (int r = 0; r < 4; ++r)
      rows_[r] = 0 <= above + r && above + r < images.height ? first + r * line : zeros;
    c0_ = Column::zero();
    c1_ = Column::of(rows_, 0);
  }

  // Calls keep(position, value) for the positions of the next tile: B' d B.
  template <class Keep>
  void next(Keep keep) {
    if (left_ > kAlong) transform<true>(keep);
    else transform<false>(keep);
  }

private:
  template <bool kWhole, class Keep>
  void transform(Keep keep) {
    Column c2 = column<kWhole>(1), c3 = column<kWhole>(2);
    Column c4 = column<kWhole>(3), c5 = column<kWhole>(4);
    for (int r = 0; r < 4; ++r) {
      __m512 d0 = c0_.half[r], d1 = c1_.half[r], d2 = c2.half[r];
      __m512 d3 = c3.half[r], d4 = c4.half[r], d5 = c5.half[r];
      __m512 even_a = d4 - kB2 * d2, odd_a = d3 - kB2 * d1;
      __m512 even_b = d4 - kA2 * d2, odd_b = d3 - kA2 * d1;
      const int p = r * kPositionsAlong;
      keep(p, d4 - (kA2 + kB2) * d2 + kA2 * kB2 * d0);
      keep(p + 1, even_a + kA * odd_a);
      keep(p + 2, even_a - kA * odd_a);
      keep(p + 3, even_b + kB * odd_b);
      keep(p + 4, even_b - kB * odd_b);
      keep(p + 5, d5 - (kA2 + kB2) * d3 + kA2 * kB2 * d1);
    }
    c0_ = c4;
    c1_ = c5;
    left_ -= kAlong;
    for (const BFloat16*& row : rows_) row += kAlong * channels_;
  }

  template <bool kWhole>
  Column column(int pixel) const {
    return kWhole || pixel < left_ ? Column::of(rows_, pixel * channels_) : Column::zero();
  }

  const BFloat16* rows_[4];
  Column c0_, c1_;
  int64_t channels_;
  int left_; // columns
};

// The outputs of a tile that exist.
struct Extent {
  int rows, columns;

  Extent(Images images, int64_t row, int tile)
      : rows(std::min(kDown, images.height - images.first_row(row))),
        columns(std::min(kAlong, images.width - tile * kAlong)) {}

  bool is_whole() const { return rows == kDown && columns == kAlong; }
};

// Calls keep(position, value) for A g A' of the pixels of a tile, in one group of channels.
template <bool kWhole, class Keep>
inline void each_gradient(const BFloat16* first, int64_t line, int64_t channels, Extent extent,
                          Keep keep) {
  __m512 half[4][kAlong], none = _mm512_setzero_ps();
  for (int c = 0; c < kAlong; ++c) {
    const BFloat16* pixel = first + c * channels;
    bool exists = kWhole || c < extent.columns, has_both = kWhole || extent.rows == kDown;
    __m512 top = exists ? load(pixel) : none;
    __m512 bottom = exists && has_both ? load(pixel + line) : none;
    half[0][c] = top;
    half[1][c] = top + bottom;
    half[2][c] = top - bottom;
    half[3][c] = none - bottom;
  }
  for (int r = 0; r < 4; ++r) {
    const __m512* g = half[r];
    __m512 even_a = g[0] + kA2 * g[2], odd_a = g[1] + kA2 * g[3];
    __m512 even_b = g[0] + kB2 * g[2], odd_b = g[1] + kB2 * g[3];
    const int p = r * kPositionsAlong;
    keep(p, g[0]);
    keep(p + 1, even_a + kA * odd_a);
    keep(p + 2, even_a - kA * odd_a);
    keep(p + 3, even_b + kB * odd_b);
    keep(p + 4, even_b - kB * odd_b);
    keep(p + 5, g[3]);
  }
}

// G g G' of a kernel, in one group of input channels; turned by 180 degrees for the way back.
inline void kernel_positions(const float* kernel, int64_t tap, bool turned,
                             __m512 out[kPositions]) {
  __m512 half[4][3];
  auto at = [&](int r, int c) {
    int place = turned ? 8 - (3 * r + c) : 3 * r + c;
    return _mm512_loadu_ps(kernel + place * tap);
  };
  for (int c = 0; c < 3; ++c) {
    __m512 top = at(0, c), middle = at(1, c), bottom = at(2, c), ends = top + bottom;
    half[0][c] = top;
    half[1][c] = 0.5f * (ends + middle);
    half[2][c] = 0.5f * (ends - middle);
    half[3][c] = bottom;
  }
  for (int r = 0; r < 4; ++r) {
    const __m512* g = half[r];
    __m512 even_a = kScaleA * (g[0] + kA2 * g[2]), odd_a = kScaleA * kA * g[1];
    __m512 even_b = kScaleB * (g[0] + kB2 * g[2]), odd_b = kScaleB * kB * g[1];
    __m512* to = out + r * kPositionsAlong;
    to[0] = kScale0 * g[0];
    to[1] = even_a + odd_a;
    to[2] = even_a - odd_a;
    to[3] = even_b + odd_b;
    to[4] = even_b - odd_b;
    to[5] = g[2];
  }
}

// Kernels in pairs of the channels that are summed over: [position][in / 2][out][2].
void transform_kernels(const float* kernels, BFloat16* to, int out, int in, int threads) {
  int64_t position = int64_t(in) * out;
#pragma omp parallel for num_threads(threads)
  for (int o = 0; o < out; ++o)
    for (int i = 0; i < in; i += kLanes) {
      __m512 values[kPositions];
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
void transform_turned_kernels(const float* kernels, BFloat16* to, int out, int in, int threads) {
  int64_t position = int64_t(in) * out;
#pragma omp parallel for num_threads(threads)
  for (int o = 0; o < out; o += 2)
    for (int i = 0; i < in; i += kLanes) {
      __m512 first[kPositions], second[kPositions];
      kernel_positions(kernels + int64_t(o) * 9 * in + i, in, true, first);
      kernel_positions(kernels + int64_t(o + 1) * 9 * in + i, in, true, second);
      for (int p = 0; p < kPositions; ++p)
        store_pairs(to + p * position + (int64_t(o) / 2 * in + i) * 2, first[p], second[p]);
    }
}

// A' m A: from the positions of a tile to its 2 x 4 outputs.
inline void store_outputs(const float* m, int64_t position, BFloat16* first, int64_t line,
                          int64_t channels, Extent extent) {
  __m512 half[kDown][kPositionsAlong];
  for (int c = 0; c < kPositionsAlong; ++c) {
    auto at = [&](int r) { return _mm512_loadu_ps(m + (r * kPositionsAlong + c) * position); };
    __m512 both = at(1) + at(2), difference = at(1) - at(2);
    half[0][c] = at(0) + both;
    half[1][c] = difference - at(3);
  }
  for (int r = 0; r < extent.rows; ++r) {
    const __m512* h = half[r];
    __m512 even_a = h[1] + h[2], odd_a = kA * (h[1] - h[2]);
    __m512 even_b = h[3] + h[4], odd_b = kB * (h[3] - h[4]);
    BFloat16* to = first + r * line;
    store(to, h[0] + even_a + even_b);
    if (extent.columns > 1) store(to + channels, odd_a + odd_b);
    if (extent.columns > 2) store(to + 2 * channels, kA2 * even_a + kB2 * even_b);
    if (extent.columns > 3) store(to + 3 * channels, kA2 * odd_a + kB2 * odd_b + h[5]);
  }
}

// The rows of tiles that go through the matrix products together, and where their numbers stand.
struct Blocks {
  Images images;
  int rows, tiles; // `tiles` in multiples of 16
  int64_t count;

  // `across`: tiles of a row, or more where some room is left empty.
  Blocks(Images images, int across, int wanted) : images(images) {
    rows = std::max(1, wanted / across);
    tiles = (rows * across + kSums - 1) / kSums * kSums;
    count = (images.tile_rows() + rows - 1) / rows;
  }

  // From one position to the next; a line of the cache more, or powers of two would collide there.
  template <class Number>
  int64_t position(int channels) const {
    return int64_t(tiles) * channels + 64 / sizeof(Number);
  }

  int rows_of(int64_t block) const {
    return int(std::min<int64_t>(rows, images.tile_rows() - block * rows));
  }
};

struct Scratch {
  Numbers<BFloat16> a, b, zeros;
  Numbers<float> sums;
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
      InputTiles tiles(x, s.zeros.data(), images, in, begin + row, i);
      BFloat16* to = &s.a[i / kLanes * group + row * across * kLanes];
      for (int tile = 0; tile < across; ++tile, to += kLanes)
        tiles.next([=](int position, __m512 value) { store(to + position * a_position, value); });
    }
  std::vector<Term> terms;
  for (int i = 0; i < in; i += kLanes) terms.push_back({i / kLanes * group, int64_t(i) * out});
  const int64_t x_line = int64_t(images.width) * in, first = images.row_of_all(begin);
  for (int p = 0; p < kPositions; ++p) {
    prefetch(x + first * x_line, count * kDown * x_line, kPositions + p, kPositions);
    prefetch_to_write(y + first * line, count * kDown * line, p, kPositions);
    Product product{&s.a[p * a_position], 2, kernels + p * int64_t(in) * out, 2 * out,
                    terms.data(), int(terms.size()), kLanes / 2, &s.sums[p * sums_position], out};
    multiply<kLanes, false>(product, blocks.tiles, out);
  }
  for (int row = 0; row < count; ++row) {
    BFloat16* to = y + images.row_of_all(begin + row) * line;
    for (int tile = 0; tile < across; ++tile) {
      const Extent extent(images, begin + row, tile);
      for (int o = 0; o < out; o += kLanes)
        store_outputs(&s.sums[int64_t(row * across + tile) * out + o], sums_position,
                      to + kAlong * int64_t(tile) * out + o, line, out, extent);
    }
  }
}

void convolve(const BFloat16* x, const BFloat16* kernels, BFloat16* y, Images images, int in,
              int out, int threads) {
  Blocks blocks(images, images.tiles_across(), kTiles);
#pragma omp parallel num_threads(threads)
  {
    Scratch s;
    s.a.resize(kPositions * blocks.position<BFloat16>(in));
    s.sums.resize(kPositions * blocks.position<float>(out));
    s.zeros.resize(int64_t(images.width) * in, 0);
#pragma omp for schedule(dynamic, kBlocksAtOnce)
    for (int64_t block = 0; block < blocks.count; ++block)
      convolve_block(x, kernels, y, blocks, in, out, block * blocks.rows, blocks.rows_of(block), s);
  }
}

// Stores the positions of tiles in pairs, zeros behind an odd one; make(tile, keep) has to call
// keep(position, value).
template <class Make>
inline void each_pair(int tiles, BFloat16* to, int64_t pair, int64_t position, Make make) {
  for (int tile = 0; tile < tiles; tile += 2, to += pair) {
    __m512 first[kPositions];
    make(tile, [&](int p, __m512 value) { first[p] = value; });
    if (tile + 1 < tiles) {
      make(tile + 1, [&](int p, __m512 value) { store_pairs(to + p * position, first[p], value); });
    } else {
      for (int p = 0; p < kPositions; ++p)
        store_pairs(to + p * position, first[p], _mm512_setzero_ps());
    }
  }
}

// Adds the tiles' products to s.sums, [position][out][in].
void kernel_gradient_block(const BFloat16* x, const BFloat16* grad, const Blocks& blocks, int in,
                           int out, int64_t begin, int count, Scratch& s) {
  const Images& images = blocks.images;
  const int across = images.tiles_across(), pairs = images.pairs_across();
  const int64_t line = int64_t(images.width) * out;
  const int64_t x_position = blocks.position<BFloat16>(in);
  const int64_t grad_position = blocks.position<BFloat16>(out);
  for (int row = 0; row < count; ++row) {
    for (int i = 0; i < in; i += kLanes) {
      InputTiles tiles(x, s.zeros.data(), images, in, begin + row, i);
      BFloat16* to = &s.b[int64_t(row) * pairs * 2 * in + 2 * i];
      each_pair(across, to, 2 * in, x_position, [&](int, auto keep) { tiles.next(keep); });
    }
    const BFloat16* from = grad + images.row_of_all(begin + row) * line;
    for (int o = 0; o < out; o += kLanes) {
      BFloat16* to = &s.a[int64_t(row) * pairs * 2 * out + 2 * o];
      each_pair(across, to, 2 * out, grad_position, [&](int tile, auto keep) {
        const Extent extent(images, begin + row, tile);
        const BFloat16* pixels = from + kAlong * int64_t(tile) * out + o;
        if (extent.is_whole()) each_gradient<true>(pixels, line, out, extent, keep);
        else each_gradient<false>(pixels, line, out, extent, keep);
      });
    }
  }
  const Term whole{0, 0};
  const int64_t x_line = int64_t(images.width) * in, first = images.row_of_all(begin);
  for (int p = 0; p < kPositions; ++p) {
    prefetch(x + first * x_line, count * kDown * x_line, kPositions + p, kPositions);
    prefetch(grad + first * line, count * kDown * line, kPositions + p, kPositions);
    Product product{&s.a[p * grad_position], 2 * out, &s.b[p * x_position], 2 * in, &whole, 1,
                    count * pairs, &s.sums[p * int64_t(in) * out], in};
    multiply<2, true>(product, out, in);
  }
}

// G' u G: from the sums at the positions to the gradient of a kernel.
inline void store_kernel_gradient(const __m512 u[kPositions], float* to, int64_t tap) {
  __m512 half[3][kPositionsAlong];
  for (int c = 0; c < kPositionsAlong; ++c) {
    auto at = [&](int r) { return u[r * kPositionsAlong + c]; };
    __m512 both = 0.5f * (at(1) + at(2)), difference = 0.5f * (at(1) - at(2));
    half[0][c] = at(0) + both;
    half[1][c] = difference;
    half[2][c] = both + at(3);
  }
  for (int r = 0; r < 3; ++r) {
    const __m512* h = half[r];
    __m512 even_a = kScaleA * (h[1] + h[2]), odd_a = kScaleA * (h[1] - h[2]);
    __m512 even_b = kScaleB * (h[3] + h[4]), odd_b = kScaleB * (h[3] - h[4]);
    _mm512_storeu_ps(to + (3 * r) * tap, kScale0 * h[0] + even_a + even_b);
    _mm512_storeu_ps(to + (3 * r + 1) * tap, kA * odd_a + kB * odd_b);
    _mm512_storeu_ps(to + (3 * r + 2) * tap, kA2 * even_a + kB2 * even_b + h[5]);
  }
}

void kernel_gradient(const BFloat16* x, const BFloat16* grad, float* to, Images images, int in,
                     int out, int threads) {
  Blocks blocks(images, 2 * images.pairs_across(), kTilesToGradient);
  std::vector<Scratch> scratch(threads);
  const int64_t position = int64_t(in) * out;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int thread = 0; thread < threads; ++thread) { // in equal parts: the same sums every time
    Scratch& s = scratch[thread];
    s.a.resize(kPositions * blocks.position<BFloat16>(out));
    s.b.resize(kPositions * blocks.position<BFloat16>(in));
    s.sums.resize(kPositions * position, 0);
    s.zeros.resize(int64_t(images.width) * in, 0);
    const int64_t end = blocks.count * (thread + 1) / threads;
    for (int64_t block = blocks.count * thread / threads; block < end; ++block)
      kernel_gradient_block(x, grad, blocks, in, out, block * blocks.rows, blocks.rows_of(block),
                            s);
  }
#pragma omp parallel for num_threads(threads)
  for (int o = 0; o < out; ++o)
    for (int i = 0; i < in; i += kLanes) {
      __m512 u[kPositions];
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
  Numbers<BFloat16> transformed(int64_t(kPositions) * in * out);
  transform_kernels(kernels, transformed.data(), out, in, threads);
  convolve(x, transformed.data(), y, {count, height, width}, in, out, threads);
}

extern "C" void winograd_input_gradient(const BFloat16* grad, const float* kernels, BFloat16* to,
                                        int64_t count, int height, int width, int in, int out,
                                        int threads) {
  Numbers<BFloat16> transformed(int64_t(kPositions) * in * out);
  transform_turned_kernels(kernels, transformed.data(), out, in, threads);
  convolve(grad, transformed.data(), to, {count, height, width}, out, in, threads);
}

extern "C" void winograd_kernel_gradient(const BFloat16* x, const BFloat16* grad, float* to,
                                         int64_t count, int height, int width, int in, int out,
                                         int threads) {
  kernel_gradient(x, grad, to, {count, height, width}, in, out, threads);
}
