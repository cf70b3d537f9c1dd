// Attention on every instruction set that this machine runs, against formulas in double.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "base/half.h"
#include "base/isa.h"
#include "base/tensor.h"
#include "base/testing.h"
#include "kernels/fused/attention_schedule.h"

namespace mllm::fused {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

template <class F>
void for_each_isa(const F& body) {
  for (const Isa isa : {Isa::Generic, Isa::Avx2, Isa::Avx512, Isa::Neon, Isa::Vfpv4}) {
    if (isa_supported(isa)) body(vector_kernels(isa));
  }
}

enum class Scales { None, Channels, Rows };

// Queries and caches with `rows` rows of random numbers; int8 caches have scales.
struct Setup {
  AttentionShape shape;
  Tensor q, keys, values;
  float scale;
  Scales scales = Scales::None;
  Tensor key_scales, value_scales;

  Setup(int64_t rows, int64_t heads, int64_t kv_heads, int64_t d, int64_t slots, int64_t length, DType dtype)
      : shape{rows, heads, kv_heads, length, d},
        q(allocate(DType::Float32, {rows, heads * d})),
        keys(allocate(dtype, {slots, kv_heads, length, d})),
        values(allocate(dtype, {slots, kv_heads, length, d})),
        scale(1 / std::sqrt(static_cast<float>(d))) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (const Tensor& t : {q, keys, values}) {
      for (int64_t i = 0; i < t.size(); ++i) set(t, i, normal(random));
    }
  }

  // int8 caches
  Setup(int64_t rows, int64_t heads, int64_t kv_heads, int64_t d, int64_t slots, int64_t length, Scales kind)
      : Setup(rows, heads, kv_heads, d, slots, length, DType::Int8) {
    scales = kind;
    std::mt19937 random(2);
    std::uniform_real_distribution<float> uniform(0.005f, 0.04f);
    for (Tensor* t : {&key_scales, &value_scales}) {
      *t = allocate(DType::Float32, {kind == Scales::Rows ? slots * kv_heads * length : kv_heads * d});
      for (int64_t i = 0; i < t->size(); ++i) t->as<float>()[i] = uniform(random);
    }
  }

  static void set(const Tensor& t, int64_t i, float x) {
    if (t.dtype == DType::Float16) {
      t.as<uint16_t>()[i] = float_to_half(x);
    } else if (t.dtype == DType::Int8) {
      t.as<int8_t>()[i] = static_cast<int8_t>(std::clamp(std::rint(x * 50), -128.0f, 127.0f));
    } else {
      t.as<float>()[i] = x;
    }
  }
  static double get(const Tensor& t, int64_t i) {
    if (t.dtype == DType::Int8) return t.as<int8_t>()[i];
    return t.dtype == DType::Float16 ? half_to_float(t.as<uint16_t>()[i]) : t.as<float>()[i];
  }
  // Number i of a cache, scaled.
  double content(const Tensor& t, int64_t i) const {
    const Tensor& s = t.data == keys.data ? key_scales : value_scales;
    if (scales == Scales::None) return get(t, i);
    const int64_t d = shape.d;
    const int64_t at = scales == Scales::Rows ? i / d : i / d / shape.length % shape.kv_heads * d + i % d;
    return get(t, i) * s.as<float>()[at];
  }
  CacheScales given(const Tensor& t) const {
    const auto* data = scales == Scales::None ? nullptr : t.as<const float>();
    return scales == Scales::Rows ? CacheScales{nullptr, data} : CacheScales{data, nullptr};
  }
  int64_t at(int64_t slot, int64_t kv_head, int64_t position) const {
    return ((slot * shape.kv_heads + kv_head) * shape.length + position) * shape.d;
  }

  // Rows of y outside of the segments stay 0.
  std::vector<float> run(const VectorKernels& kernels, const std::vector<Segment>& segments,
                         int threads) const {
    return run(kernels, attention_scratch_bytes(shape, threads), segments, threads);
  }
  std::vector<float> run(const MatrixKernels& kernels, const std::vector<Segment>& segments,
                         int threads) const {
    return run(kernels, attention_scratch_bytes(kernels, shape, threads), segments, threads);
  }
  template <class Kernels>
  std::vector<float> run(const Kernels& kernels, size_t scratch_bytes, const std::vector<Segment>& segments,
                         int threads) const {
    std::vector<float> y(static_cast<size_t>(q.size()));
    ThreadPool pool(threads);
    const auto bytes = static_cast<int64_t>(scratch_bytes);
    const Tensor scratch = allocate(DType::UInt8, {bytes});
    std::memset(scratch.data, 0xff, static_cast<size_t>(bytes));  // NaN
    const CacheType type = keys.dtype == DType::Int8      ? CacheType::Int8
                           : keys.dtype == DType::Float16 ? CacheType::Float16
                                                          : CacheType::Float32;
    const AttentionCall call{shape,    q.as<const float>(), keys.data,          values.data, type, scale,
                             y.data(), given(key_scales),   given(value_scales)};
    attend(kernels, call, segments, pool, scratch.data);
    return y;
  }

  // The scores of the positions that a query vector sees, from queries that are scaled and from keys as
  // given.
  std::vector<double> scores(const std::vector<double>& queries, const std::vector<double>& all_keys,
                             int64_t row, int64_t head, int64_t slot, int64_t position) const {
    const double* query = &queries[static_cast<size_t>((row * shape.heads + head) * shape.d)];
    const double* key = &all_keys[static_cast<size_t>(at(slot, head / (shape.heads / shape.kv_heads), 0))];
    std::vector<double> p;
    for (int64_t j = 0; j <= position; ++j, key += shape.d) {
      double sum = 0;
      for (int64_t i = 0; i < shape.d; ++i) sum += query[i] * key[i];
      p.push_back(sum);
    }
    return p;
  }

  template <class F>
  static std::vector<double> each(const Tensor& t, const F& number) {
    std::vector<double> out;
    for (int64_t i = 0; i < t.size(); ++i) out.push_back(number(i));
    return out;
  }

  // What a matrix unit multiplies: scales of channels are part of the query, log2(e) too.
  static double bfloat16(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof(bits));
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;  // to nearest even
    std::memcpy(&x, &bits, sizeof(bits));
    return x;
  }
  double rounded_query(int64_t i, int64_t channel) const {
    constexpr float kLog2e = 0x1.715476p0f;
    float x = q.as<const float>()[i] * (scale * kLog2e);
    if (scales == Scales::Channels) x *= key_scales.as<const float>()[channel];
    return bfloat16(x) / 0x1.71547652b82fep0;
  }
  double rounded_key(int64_t i) const {
    const double x = bfloat16(static_cast<float>(get(keys, i)));
    return scales == Scales::Rows ? x * key_scales.as<const float>()[i / shape.d] : x;
  }
  double rounded_value(int64_t i) const {
    const double factor = scales == Scales::None ? 1 : content(values, i) / get(values, i);
    return get(values, i) == 0 ? 0 : bfloat16(static_cast<float>(get(values, i))) * factor;
  }

  // Against the same formula with rounded numbers: what is left is the rounding of weights, half of a last
  // place each, that of float sums, and of the exponential.
  void check_rounded(const std::vector<float>& y, const std::vector<Segment>& segments) const {
    const auto queries = each(q, [&](int64_t i) {
      const int64_t head = i / shape.d % shape.heads;
      return rounded_query(i, head / (shape.heads / shape.kv_heads) * shape.d + i % shape.d);
    });
    const auto all_keys = each(keys, [&](int64_t i) { return rounded_key(i); });
    const auto all_values = each(values, [&](int64_t i) { return rounded_value(i); });
    for (const Segment& s : segments) {
      for (int64_t r = 0; r < s.n; ++r) {
        for (int64_t h = 0; h < shape.heads; ++h) {
          std::vector<double> p = scores(queries, all_keys, s.row0 + r, h, s.slot, s.position + r);
          const double maximum = *std::max_element(p.begin(), p.end());
          double total = 0;
          for (double& x : p) total += x = std::exp(x - maximum);
          for (int64_t i = 0; i < shape.d; ++i) {
            const auto first = static_cast<size_t>(at(s.slot, h / (shape.heads / shape.kv_heads), 0) + i);
            double sum = 0, size = 0;
            for (size_t j = 0; j < p.size(); ++j) {
              const double v = p[j] * all_values[first + j * static_cast<size_t>(shape.d)];
              sum += v;
              size += std::abs(v);
            }
            CHECK_NEAR(y[static_cast<size_t>(((s.row0 + r) * shape.heads + h) * shape.d + i)], sum / total,
                       size / total * (1.0 / 256 + 2e-5) + 1e-30);
          }
        }
      }
    }
  }

  // Computed once, whatever number of kernel sets is compared with it.
  const std::vector<double>& expected(int64_t row, int64_t head, int64_t slot, int64_t position) const {
    if (plain_queries_.empty()) {
      plain_queries_ = each(q, [&](int64_t i) { return get(q, i) * double{scale}; });
      plain_keys_ = each(keys, [&](int64_t i) { return content(keys, i); });
      plain_values_ = each(values, [&](int64_t i) { return content(values, i); });
    }
    std::vector<double>& known = known_[{row, head, slot, position}];
    if (known.empty()) known = compute(row, head, slot, position);
    return known;
  }
  std::vector<double> compute(int64_t row, int64_t head, int64_t slot, int64_t position) const {
    const int64_t d = shape.d;
    std::vector<double> p = scores(plain_queries_, plain_keys_, row, head, slot, position);
    const double maximum = *std::max_element(p.begin(), p.end());
    double total = 0;
    for (double& x : p) total += x = std::exp(x - maximum);
    std::vector<double> y(static_cast<size_t>(d));
    const double* value =
        &plain_values_[static_cast<size_t>(at(slot, head / (shape.heads / shape.kv_heads), 0))];
    for (int64_t j = 0; j <= position; ++j, value += d) {
      const double weight = p[static_cast<size_t>(j)] / total;
      for (int64_t i = 0; i < d; ++i) y[static_cast<size_t>(i)] += weight * value[i];
    }
    return y;
  }

  void check(const std::vector<float>& y, const Segment& s) const {
    for (int64_t r = 0; r < s.n; ++r) {
      for (int64_t h = 0; h < shape.heads; ++h) {
        const auto& want = expected(s.row0 + r, h, s.slot, s.position + r);
        for (int64_t i = 0; i < shape.d; ++i) {
          CHECK_NEAR(y[static_cast<size_t>(((s.row0 + r) * shape.heads + h) * shape.d + i)],
                     want[static_cast<size_t>(i)], scales == Scales::None ? 2e-6 : 5e-6);
        }
      }
    }
  }

 private:
  mutable std::map<std::array<int64_t, 4>, std::vector<double>> known_;
  mutable std::vector<double> plain_queries_, plain_keys_, plain_values_;
};

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// heads, KV heads, d
constexpr std::array<std::array<int64_t, 3>, 9> kShapes = {{{8, 1, 64},
                                                            {2, 2, 128},
                                                            {6, 2, 16},
                                                            {7, 1, 80},
                                                            {3, 3, 5},
                                                            {2, 1, 33},
                                                            {4, 4, 256},
                                                            {70, 1, 8},
                                                            {100, 2, 1}}};

TEST(matches_double) {
  for (const auto& [heads, kv_heads, d] : kShapes) {
    for (const Setup& setup : {Setup(9, heads, kv_heads, d, 2, 530, DType::Float32),
                               Setup(9, heads, kv_heads, d, 2, 530, DType::Float16),
                               Setup(9, heads, kv_heads, d, 2, 530, Scales::Channels),
                               Setup(9, heads, kv_heads, d, 2, 530, Scales::Rows)}) {
      for_each_isa([&](const VectorKernels& kernels) {
        // Around the borders of vectors, steps and pieces.
        for (const int32_t position : {0, 14, 60, 250, 508, 521}) {
          const Segment s{1, position, 9, 0};
          setup.check(setup.run(kernels, {s}, 2), s);
        }
        const std::vector<Segment> several = {{1, 255, 1, 0}, {0, 0, 5, 1}, {1, 511, 3, 6}};
        const auto y = setup.run(kernels, several, 4);
        for (const Segment& s : several) setup.check(y, s);
      });
    }
  }
}

template <class F>
void with_matrix_unit(const F& body) {
  for (const Isa isa : kAllIsas) {
    if (const MatrixKernels* kernels = isa_supported(isa) ? matrix_attention(isa) : nullptr) body(*kernels);
  }
}

TEST(matrix_unit_matches_double) {
  with_matrix_unit([](const MatrixKernels& kernels) {
    for (const auto& [heads, kv_heads, d] : kShapes) {
      for (const Setup& setup : {Setup(40, heads, kv_heads, d, 2, 330, DType::Float32),
                                 Setup(40, heads, kv_heads, d, 2, 330, DType::Float16),
                                 Setup(40, heads, kv_heads, d, 2, 330, Scales::Channels),
                                 Setup(40, heads, kv_heads, d, 2, 330, Scales::Rows)}) {
        const std::vector<Segment> several = {{1, 255, 1, 0}, {0, 0, 17, 1}, {1, 290, 22, 18}};
        const auto y = setup.run(kernels, several, 2);
        setup.check_rounded(y, several);
      }
    }
  });
}

TEST(matrix_unit_does_not_depend_on_chunks_or_threads) {
  with_matrix_unit([](const MatrixKernels& kernels) {
    for (const auto& [heads, kv_heads, d] : kShapes) {
      const int32_t rows = 330;
      const Setup setup(rows, heads, kv_heads, d, 2, rows, heads % 2 == 0 ? Scales::Rows : Scales::Channels);
      const auto whole = setup.run(kernels, {{1, 0, rows, 0}}, 1);
      CHECK(same(whole, setup.run(kernels, {{1, 0, rows, 0}}, 3)));
      for (const auto& [begin, end] :
           {std::pair{0, 1}, {0, 70}, {15, 16}, {63, 64}, {64, 129}, {100, 103}, {7, 330}, {329, 330}}) {
        const auto part = setup.run(kernels, {{1, begin, end - begin, begin}}, 2);
        const auto first = static_cast<size_t>(begin * heads * d);
        CHECK(std::memcmp(&part[first], &whole[first],
                          static_cast<size_t>((end - begin) * heads * d) * sizeof(float)) == 0);
      }
    }
  });
}

TEST(matrix_unit_and_scores_that_are_not_finite) {
  with_matrix_unit([](const MatrixKernels& kernels) {
    Setup setup(1, 1, 1, 1, 1, 600, DType::Float32);
    setup.q.as<float>()[0] = 1;
    setup.scale = 1;
    const auto run = [&](int32_t position) { return setup.run(kernels, {{0, position, 1, 0}}, 2)[0]; };
    std::fill_n(setup.keys.as<float>(), 600, -kInfinity);
    CHECK(std::isnan(run(599)));
    // Whole blocks without weight, before and behind one that has some.
    setup.keys.as<float>()[300] = -7;
    CHECK(std::isnan(run(299)));
    CHECK_NEAR(run(599), Setup::bfloat16(setup.values.as<float>()[300]), 1e-6);
    setup.keys.as<float>()[7] = kInfinity;
    CHECK(std::isnan(run(599)));
    setup.keys.as<float>()[7] = std::numeric_limits<float>::quiet_NaN();
    CHECK(std::isnan(run(599)));
  });
}

// Rows of a prompt one by one, in chunks and all at once, by any number of threads: the same bits.
TEST(does_not_depend_on_chunks_or_threads) {
  for (size_t i = 0; i < 2 * kShapes.size(); ++i) {
    // Emulated, a shape has floats or int8, the next one the other.
    if (testing::is_emulated() && i / 2 % 2 != i % 2) continue;
    const auto& [heads, kv_heads, d] = kShapes[i / 2];
    const int32_t rows = 530;
    const Setup setup =
        i % 2 == 0
            ? Setup(rows, heads, kv_heads, d, 2, rows, heads % 2 == 0 ? DType::Float16 : DType::Float32)
            : Setup(rows, heads, kv_heads, d, 2, rows, heads % 2 == 0 ? Scales::Rows : Scales::Channels);
    for_each_isa([&](const VectorKernels& kernels) {
      const auto whole = setup.run(kernels, {{1, 0, rows, 0}}, 1);
      CHECK(same(whole, setup.run(kernels, {{1, 0, rows, 0}}, 2)));
      const auto compare = [&](const std::vector<Segment>& segments, int threads) {
        const auto part = setup.run(kernels, segments, threads);
        for (const Segment& s : segments) {
          const auto begin = static_cast<size_t>(s.row0 * heads * d);
          const auto size = static_cast<size_t>(s.n * heads * d) * sizeof(float);
          CHECK(std::memcmp(&part[begin], &whole[begin], size) == 0);
        }
      };
      for (int32_t begin = 0; begin < rows; begin += 61)
        compare({{1, begin, std::min(61, rows - begin), begin}}, 2);
      compare({{1, 200, 128, 200}}, 3);
      for (const int32_t p : {0, 15, 16, 63, 64, 254, 255, 256, 257, 511, 512, 529}) {
        for (const int threads : {1, 2, 4}) compare({{1, p, 1, p}}, threads);
      }
      compare({{1, 300, 3, 300}, {1, 512, 7, 512}, {1, 40, 1, 40}}, 4);
    });
  }
}

// Nothing of what a row does not see reaches it, whatever its tile computes.
TEST(later_positions_may_hold_anything) {
  for (const int64_t kv_heads : {1, 4}) {
    for (const float poison : {kInfinity, std::numeric_limits<float>::quiet_NaN()}) {
      Setup setup(80, 4, kv_heads, 16, 1, 300, DType::Float32);
      for_each_isa([&](const VectorKernels& kernels) {
        const Segment s{0, 200, 80, 0};
        const auto clean = setup.run(kernels, {s}, 2);
        for (const Tensor& t : {setup.keys, setup.values}) {
          const int64_t at = setup.at(0, kv_heads - 1, 230) + 3;
          const auto before = static_cast<float>(Setup::get(t, at));
          Setup::set(t, at, poison);
          const auto y = setup.run(kernels, {s}, 2);
          Setup::set(t, at, before);
          CHECK(std::memcmp(y.data(), clean.data(), 30 * 64 * sizeof(float)) == 0);
          // An infinite key may as well have made the score -infinity.
          const bool hits = t.data == setup.values.data || std::isnan(poison);
          CHECK(!hits || !std::isfinite(y[30 * 64 + 3 * 16 + 3]));
        }
      });
    }
  }
}

TEST(infinite_scores) {
  Setup setup(1, 1, 1, 1, 1, 600, DType::Float32);
  setup.q.as<float>()[0] = 1;
  setup.scale = 1;
  for_each_isa([&](const VectorKernels& kernels) {
    const auto run = [&](int32_t position) { return setup.run(kernels, {{0, position, 1, 0}}, 2)[0]; };
    std::fill_n(setup.keys.as<float>(), 600, -kInfinity);
    CHECK(std::isnan(run(0)));
    CHECK(std::isnan(run(599)));
    // A whole piece without weight, before and behind one that has some.
    setup.keys.as<float>()[300] = -7;
    CHECK(std::isnan(run(299)));
    CHECK_NEAR(run(599), setup.values.as<float>()[300], 1e-7);
    setup.keys.as<float>()[300] = 1e30f;
    setup.keys.as<float>()[5] = -1e30f;
    CHECK_NEAR(run(599), setup.values.as<float>()[300], 1e-7);
    setup.keys.as<float>()[7] = kInfinity;
    CHECK(std::isnan(run(599)));
    setup.keys.as<float>()[7] = std::numeric_limits<float>::quiet_NaN();
    CHECK(std::isnan(run(599)));
  });
}

TEST(scratch_is_small) {
  // TinyLlama, Llama-2-7B; a prompt of 512 and a token.
  for (const auto& [heads, kv_heads, d, length] :
       {std::array<int64_t, 4>{32, 4, 64, 2048}, std::array<int64_t, 4>{32, 32, 128, 4096}}) {
    CHECK(attention_scratch_bytes({512, heads, kv_heads, length, d}, 4) +
              attention_scratch_bytes({1, heads, kv_heads, length, d}, 4) <
          (size_t{2} << 20));
  }
}

}  // namespace
}  // namespace mllm::fused

TEST_MAIN()
