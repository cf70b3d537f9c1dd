// Products with packed weights on every instruction set of this machine, against sums in double.
#include "kernels/matmul/matmul.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "base/half.h"
#include "base/huge_memory.h"
#include "base/isa.h"
#include "base/testing.h"
#include "kernels/matmul/machine_speed.h"
#include "kernels/matmul/packed_matrix.h"

namespace mllm {
namespace {

float number(const Tensor& t, int64_t i) {
  return t.dtype == DType::Float16 ? half_to_float(t.as<uint16_t>()[i]) : t.as<float>()[i];
}

Tensor floats(DType dtype, const Dims& dims, unsigned seed, float center, float size) {
  Tensor t = allocate(dtype, dims);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(center, size);
  for (int64_t i = 0; i < t.size(); ++i) {
    const float x = normal(random);
    if (dtype == DType::Float16) {
      t.as<uint16_t>()[i] = float_to_half(x);
    } else {
      t.as<float>()[i] = x;
    }
  }
  return t;
}

Tensor bytes(DType dtype, const Dims& dims, unsigned seed) {
  Tensor t = allocate(dtype, dims);
  std::mt19937 random(seed);
  for (int64_t i = 0; i < t.size(); ++i)
    t.as<uint8_t>()[i] = static_cast<uint8_t>(random());  // -128 included
  return t;
}

struct Case {
  DType weight;
  DType scale;
  int64_t n, k, group;
  std::optional<DType> zero{};  // float ones are added
};

struct Matrix {
  explicit Matrix(const Case& c) {
    if (c.weight == DType::Float32 || c.weight == DType::Float16) {
      stored.weight = floats(c.weight, {c.n, c.k}, 1, 0, 1);
    } else if (c.weight == DType::Int8) {
      stored.weight = bytes(c.weight, c.group > 0 ? Dims{c.k, c.n} : Dims{c.n, c.k}, 1);
      const int64_t groups = c.group == 0 ? 1 : (c.k + c.group - 1) / c.group;
      stored.scale = floats(c.scale, {groups, c.n}, 2, 0.01f, 0.002f);
      stored.group = c.group;
    } else {
      stored.weight = bytes(c.weight, {c.k, c.n / 2}, 1);
      const int64_t groups = c.group == 0 ? 1 : (c.k + c.group - 1) / c.group;
      stored.scale = floats(c.scale, {groups, c.n}, 2, 0.1f, 0.02f);
      stored.group = c.group;
    }
    if (c.zero) {
      stored.zero = allocate(*c.zero, stored.scale.dims);
      stored.zero_is_added = *c.zero != DType::Int8;
      const int most = c.weight == DType::Int8 ? 128 : 8;
      std::mt19937 random(4);
      for (int64_t i = 0; i < stored.scale.size(); ++i) {
        const int z = static_cast<int>(random() % static_cast<unsigned>(2 * most)) - most;
        if (*c.zero == DType::Int8) stored.zero->as<int8_t>()[i] = static_cast<int8_t>(z);
        if (*c.zero == DType::Float16) stored.zero->as<uint16_t>()[i] = float_to_half(static_cast<float>(-z));
      }
    }
    pack();
  }

  // Again, where `stored` has been changed.
  void pack() {
    packed = std::make_unique<PackedMatrix>(stored);
    ThreadPool pool(2);
    packed->pack(stored, allocate_huge(packed->bytes()), pool);
  }

  // Weight of output n and input k, without the scale of a column.
  double integer(int64_t n, int64_t k) const {
    const Tensor& w = stored.weight;
    if (w.dtype == DType::Int8)
      return w.as<int8_t>()[stored.group > 0 ? k * w.dims[1] + n : n * w.dims[1] + k];
    const int pair = w.as<uint8_t>()[k * w.dims[1] + n / 2];
    const int nibble = n % 2 == 0 ? pair & 15 : pair >> 4;
    if (w.dtype == DType::UInt8) return nibble - 8;
    return nibble < 8 ? nibble : nibble - 16;
  }
  int64_t place(int64_t n, int64_t k) const {
    return stored.group == 0 ? n : k / stored.group * stored.columns() + n;
  }
  double scale(int64_t n, int64_t k) const { return number(stored.scale, place(n, k)); }
  double zero(int64_t n, int64_t k) const {
    if (!stored.zero) return 0;
    const int64_t at = place(n, k);
    return stored.zero_is_added ? -number(*stored.zero, at) : stored.zero->as<int8_t>()[at];
  }
  double weight(int64_t n, int64_t k) const {
    if (stored.weight.dtype == DType::Float32 || stored.weight.dtype == DType::Float16) {
      return number(stored.weight, n * stored.inputs() + k);
    }
    return (integer(n, k) - zero(n, k)) * scale(n, k);
  }
  // All of them, [columns, inputs]: sums go over each many times.
  std::vector<double> weights() const {
    std::vector<double> out;
    for (int64_t n = 0; n < packed->columns(); ++n)
      for (int64_t k = 0; k < packed->view().k; ++k) out.push_back(weight(n, k));
    return out;
  }

  StoredWeights stored;
  std::unique_ptr<PackedMatrix> packed;
};

// y [rows, n] as fused.Linear computes it, with guard bytes around what the kernels may write. row_factor:
// whole rows have one scale, their own when it is 0.
std::vector<float> multiply(const Matrix& m, const MatmulKernels& kernels, const std::vector<float>& x,
                            int64_t rows, bool integers, std::optional<float> row_factor = std::nullopt,
                            float row_zero = 0, const int32_t* int_bias = nullptr) {
  const WeightView& w = m.packed->view();
  const int64_t whole = (rows + 15) / 16 * 16;
  std::vector<float> row_scales(static_cast<size_t>(whole));
  const auto aligned = [](int64_t size) { return allocate(DType::UInt8, {size + 64}); };
  const Tensor values = aligned(whole * w.k_padded * 4), scales = aligned(whole * w.spans * 4),
               corrections = aligned(whole * w.groups * 4),
               sums = aligned(m.packed->panels() * whole * kPanelColumns * 4),
               scratch = aligned(panel_scratch_bytes(w));
  for (int64_t r = 0, size = 0; r < rows; r += size) {
    size = tile_size(kernels.tile_rows, rows - r);
    const int64_t at = r * (integers ? w.k_padded : w.k * 4);
    kernels.arrange({.x = x.data() + r * w.k,
                     .x_stride = w.k,
                     .rows = std::min(size, rows - r),
                     .weights = &w,
                     .floats = integers ? nullptr : reinterpret_cast<float*>(values.as<uint8_t>() + at),
                     .values = values.as<int8_t>() + at,
                     .scales = row_factor ? nullptr : scales.as<float>() + r * w.spans,
                     .corrections = corrections.as<int32_t>() + r * w.groups,
                     .row_scales = row_factor ? row_scales.data() + r : nullptr,
                     .factor = row_factor.value_or(0.0f),
                     .zero = row_zero});
  }
  const ActivationView a{.rows = rows,
                         .floats = values.as<float>(),
                         .values = values.as<int8_t>(),
                         .scales = row_factor ? nullptr : scales.as<float>(),
                         .corrections = corrections.as<int32_t>(),
                         .has_lowest = row_factor.value_or(0.0f) > 0};
  const int64_t n = m.packed->columns();
  std::vector<float> y(static_cast<size_t>(rows * n), -1e30f);
  const int64_t panels = m.packed->panels();
  const int64_t stride = whole * kPanelColumns;
  const PanelProduct product{&w, 0, &a, sums.as<float>(), scratch.data, panels, stride};
  integers ? kernels.int_panels(product) : kernels.float_panels(product);
  for (int64_t p = 0; p < panels; ++p) {
    kernels.finish(
        {.sums = sums.as<float>() + p * stride,
         .rows = rows,
         .columns = std::min(kPanelColumns, n - p * kPanelColumns),
         .row_scale = row_factor ? row_scales.data() : nullptr,
         .scale = m.packed->column_scale() ? m.packed->column_scale() + p * kPanelColumns : nullptr,
         .bias = nullptr,
         .residual = nullptr,
         .y = y.data() + p * kPanelColumns,
         .y_stride = n,
         .int_bias = int_bias ? int_bias + p * kPanelColumns : nullptr});
  }
  return y;
}

std::vector<float> activations(int64_t rows, int64_t k) {
  const Tensor t = floats(DType::Float32, {rows, k}, 5, 0.1f, 1);
  std::vector<float> x(t.as<float>(), t.as<float>() + t.size());
  x[static_cast<size_t>(k / 2)] = 40;  // an outlier: its group alone becomes coarser
  return x;
}

std::vector<Case> cases(bool integers) {
  std::vector<Case> out;
  for (const auto& [n, k] :
       {std::pair<int64_t, int64_t>{2, 1}, {32, 64}, {46, 172}, {100, 300}, {64, 1200}}) {
    if (!integers) {
      out.push_back({DType::Float32, DType::Float32, n, k, 0});
      out.push_back({DType::Float16, DType::Float32, n, k, 0});
    }
    out.push_back({DType::Int8, DType::Float32, n, k, 0});
    out.push_back({DType::Int8, DType::Float16, n, k, 0});
    for (const int64_t group : {0, 32, 64, 128}) {
      if (group >= k) continue;  // as fused.Linear reads it: one group is none
      out.push_back({DType::QInt4x2, DType::Float16, n, k, group});
      out.push_back({DType::UInt8, DType::Float32, n, k, group});
    }
  }
  return out;
}

// Groups of int8, and zero points.
std::vector<Case> more_cases() {
  std::vector<Case> out;
  for (const auto& [n, k] :
       {std::pair<int64_t, int64_t>{2, 1}, {32, 64}, {46, 172}, {100, 300}, {64, 1200}}) {
    out.push_back({DType::Int8, DType::Float32, n, k, 0, DType::Int8});
    out.push_back({DType::Int8, DType::Float16, n, k, 0, DType::Float16});
    for (const int64_t group : {0, 32, 64, 128}) {
      if (group >= k) continue;
      if (group > 0) {
        out.push_back({DType::Int8, DType::Float16, n, k, group});
        out.push_back({DType::Int8, DType::Float32, n, k, group, DType::Int8});
      }
      out.push_back({DType::QInt4x2, DType::Float16, n, k, group, DType::Float16});
      out.push_back({DType::UInt8, DType::Float32, n, k, group, DType::Int8});
    }
  }
  return out;
}

std::vector<Case> all_cases(bool integers) {
  std::vector<Case> out = cases(integers);
  const std::vector<Case> more = more_cases();
  out.insert(out.end(), more.begin(), more.end());
  return out;
}

bool rounds_twice(Isa isa) {
  return isa == Isa::Generic && !testing::kGenericIsFused;
}

struct Range {
  double value, tolerance;
};

constexpr int64_t kRowCounts[] = {1, 2, 5, 12, 13, 16, 17, 40};

TEST(float_products) {
  for (const Case& c : all_cases(false)) {
    const Matrix m(c);
    const auto x = activations(40, c.k);
    const std::vector<double> weights = m.weights();
    std::vector<Range> expected;
    for (int64_t r = 0; r < 40; ++r) {
      for (int64_t n = 0; n < c.n; ++n) {
        double sum = 0, size = 0;
        for (int64_t k = 0; k < c.k; ++k) {
          const double product =
              double{x[static_cast<size_t>(r * c.k + k)]} * weights[static_cast<size_t>(n * c.k + k)];
          sum += product;
          size += product * product;
        }
        // Rounding errors of about 128 + k/128 additions of random sign.
        expected.push_back({sum, 2e-6 * std::sqrt(size) + 1e-12});
      }
    }
    for (const Isa isa : kAllIsas) {
      if (!isa_supported(isa)) continue;
      std::vector<float> alone;
      for (int64_t r = 0; r < 40; ++r) {
        const std::vector<float> row(x.begin() + r * c.k, x.begin() + (r + 1) * c.k);
        const auto y = multiply(m, matmul_kernels(isa, 1, false), row, 1, false);
        alone.insert(alone.end(), y.begin(), y.end());
      }
      for (size_t i = 0; i < alone.size(); ++i)
        CHECK_NEAR(alone[i], expected[i].value, expected[i].tolerance);
      // Exactly the same whatever rows are beside it.
      for (const int64_t rows : kRowCounts) {
        const auto y = multiply(m, matmul_kernels(isa, rows, false), x, rows, false);
        CHECK(std::equal(y.begin(), y.end(), alone.begin()));
      }
    }
  }
}

// Activations as integers times the scale of their span.
std::vector<double> rounded_row(const float* x, int64_t k, int64_t span) {
  std::vector<double> values(static_cast<size_t>(k));
  for (int64_t begin = 0; begin < k; begin += span) {
    const int64_t end = std::min(k, begin + span);
    float most = 0;
    for (int64_t i = begin; i < end; ++i) most = std::max(most, std::abs(x[i]));
    for (int64_t i = begin; i < end; ++i) {
      const float q = x[i] * (most > 0 ? 127.0f / most : 0.0f);
      values[static_cast<size_t>(i)] = std::nearbyint(q) * double{most / 127.0f};
    }
  }
  return values;
}

// What products with wide spans are defined as, [rows][columns]. Integers are multiplied as they are; of int4
// groups, which become int8, each column of a span is rounded by half a step at most, in which the largest
// possible weight of the span is 127.
std::vector<Range> defined_wide(const Matrix& m, const std::vector<float>& x, int64_t rows) {
  const int64_t k_count = m.packed->view().k, columns = m.packed->columns();
  const bool is_int8 = m.packed->view().format == WeightFormat::Int8;
  const bool has_column_scale = m.packed->column_scale() != nullptr;
  // Of each column: weights without what is multiplied at the end, and the step of each span.
  const int64_t spans = (k_count + kWideSpan - 1) / kWideSpan;
  std::vector<double> weights, steps(static_cast<size_t>(columns * spans));
  for (int64_t n = 0; n < columns; ++n) {
    for (int64_t k = 0; k < k_count; ++k) {
      const double scale = has_column_scale ? 1.0 : m.scale(n, k);
      const double zero = m.zero(n, k);
      weights.push_back((m.integer(n, k) - zero) * scale);
      double& step = steps[static_cast<size_t>(n * spans + k / kWideSpan)];
      step = std::max(step, std::max(std::abs(-8 - zero), std::abs(7 - zero)) * scale / 127);
    }
  }
  std::vector<Range> out;
  for (int64_t r = 0; r < rows; ++r) {
    const std::vector<double> values = rounded_row(&x[static_cast<size_t>(r * k_count)], k_count, kWideSpan);
    std::vector<double> squares(static_cast<size_t>(spans));
    for (int64_t k = 0; k < k_count; ++k)
      squares[static_cast<size_t>(k / kWideSpan)] += std::pow(values[static_cast<size_t>(k)], 2);
    for (int64_t n = 0; n < columns; ++n) {
      double sum = 0, roundings = 0, size = 0;
      for (int64_t k = 0; k < k_count; ++k) {
        const double product = values[static_cast<size_t>(k)] * weights[static_cast<size_t>(n * k_count + k)];
        sum += product;
        size += std::abs(product);
      }
      for (int64_t i = 0; i < spans; ++i)
        roundings +=
            squares[static_cast<size_t>(i)] * std::pow(steps[static_cast<size_t>(n * spans + i)], 2) / 12;
      if (is_int8 || has_column_scale) roundings = 0;
      const double column = has_column_scale ? m.scale(n, 0) : 1.0;
      out.push_back({sum * column, column * (6 * std::sqrt(roundings) + 1e-6 * size) + 1e-12});
    }
  }
  return out;
}

TEST(wide_products) {
  constexpr int64_t kMostRows = 40;
  for (const Case& c : all_cases(true)) {
    const Matrix m(c);
    const bool is_grouped_int8 = c.weight == DType::Int8 && c.group > 0;
    const auto x = activations(kMostRows, c.k);
    const std::vector<Range> expected = defined_wide(m, x, kMostRows);
    std::vector<float> reference;
    for (const Isa isa : kAllIsas) {
      if (!isa_supported(isa)) continue;
      const MatmulKernels* kernels = wide_kernels(isa, m.packed->view());
      CHECK_EQ(kernels != nullptr, !is_grouped_int8 || isa != Isa::Amx);
      if (kernels == nullptr) continue;
      const auto y = multiply(m, *kernels, x, kMostRows, true);
      for (size_t i = 0; i < y.size(); ++i) CHECK_NEAR(y[i], expected[i].value, expected[i].tolerance);
      // Exactly the same whatever rows are beside it.
      for (const int64_t rows : {1, 2, 5, 16, 17, 33}) {
        const auto fewer = multiply(m, *kernels, x, rows, true);
        CHECK(std::equal(fewer.begin(), fewer.end(), y.begin()));
      }
      // And on every instruction set that has fused multiply-add.
      if (rounds_twice(isa)) continue;
      if (reference.empty()) reference = y;
      CHECK(y == reference);
    }
  }
}

// Zero points as far away as they can be, and scales of nothing.
TEST(wide_products_of_extreme_groups) {
  Matrix m({DType::QInt4x2, DType::Float16, 64, 320, 32, DType::Int8});
  for (int64_t i = 0; i < m.stored.zero->size(); ++i)
    m.stored.zero->as<int8_t>()[i] = static_cast<int8_t>(i % 3 == 0 ? 127 : i % 3 == 1 ? -128 : 0);
  for (int64_t i = 0; i < m.stored.scale.size(); ++i)
    m.stored.scale.as<uint16_t>()[i] = float_to_half(i % 64 < 4 ? 0.0f : 0.01f);
  m.pack();
  std::vector<float> x(40 * 320);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(static_cast<int>(i * 7 % 255) - 127);
  const std::vector<double> weights = m.weights();
  std::vector<Range> expected;
  for (int64_t r = 0; r < 40; ++r) {
    for (int64_t n = 0; n < 64; ++n) {
      double sum = 0, squares = 0;
      for (int64_t k = 0; k < 320; ++k) {
        const double a = x[static_cast<size_t>(r * 320 + k)];
        sum += a * weights[static_cast<size_t>(n * 320 + k)];
        squares += a * a;
      }
      const double step = 135 * 0.01 / 127;
      expected.push_back({sum, n < 4 ? 0 : 6 * step * std::sqrt(squares / 12) + 1e-6 * std::abs(sum)});
    }
  }
  for (const Isa isa : kAllIsas) {
    if (!isa_supported(isa)) continue;
    const auto y = multiply(m, *wide_kernels(isa, m.packed->view()), x, 40, true);
    for (size_t i = 0; i < y.size(); ++i) CHECK_NEAR(y[i], expected[i].value, expected[i].tolerance);
  }
}

// int8 as far from its zero points as it can be, in sums of whole spans: exact to the last one.
TEST(wide_products_of_extreme_zero_points) {
  Matrix m({DType::Int8, DType::Float32, 64, kWideSpan, 0, DType::Int8});
  for (int64_t i = 0; i < m.stored.weight.size(); ++i)
    m.stored.weight.as<int8_t>()[i] = i / kWideSpan % 2 == 0 ? 127 : -128;
  for (int64_t i = 0; i < m.stored.zero->size(); ++i) {
    m.stored.zero->as<int8_t>()[i] = i % 2 == 0 ? -128 : 127;
    m.stored.scale.as<float>()[i] = 1.0f;
  }
  m.pack();
  const std::vector<float> x(40 * kWideSpan, 127.0f);  // a scale of one
  for (const Isa isa : kAllIsas) {
    if (!isa_supported(isa)) continue;
    const auto y = multiply(m, *wide_kernels(isa, m.packed->view()), x, 40, true);
    for (size_t i = 0; i < y.size(); ++i) CHECK_EQ(y[i], (i % 2 == 0 ? 1.0f : -1.0f) * 127 * 255 * kWideSpan);
  }
}

// What the integer products are defined as: activations rounded to -127 … 127 per span of a row.
std::vector<double> defined(const Matrix& m, const std::vector<float>& x, int64_t rows) {
  const WeightView& w = m.packed->view();
  const std::vector<double> weights = m.weights();
  std::vector<double> out;
  for (int64_t r = 0; r < rows; ++r) {
    const std::vector<double> values = rounded_row(&x[static_cast<size_t>(r * w.k)], w.k, w.span);
    for (int64_t n = 0; n < m.packed->columns(); ++n) {
      double sum = 0;
      for (int64_t k = 0; k < w.k; ++k)
        sum += values[static_cast<size_t>(k)] * weights[static_cast<size_t>(n * w.k + k)];
      out.push_back(sum);
    }
  }
  return out;
}

// Integer sums are exact and every group is added with one rounding, in order: all instruction sets with
// fused multiply-add give one result, bit for bit, for any number of rows. Those without it round twice.
TEST(integer_products) {
  for (const Case& c : all_cases(true)) {
    const Matrix m(c);
    const auto x = activations(40, c.k);
    const auto expected = defined(m, x, 40);
    double size = 0;
    for (const double e : expected) size = std::max(size, std::abs(e));
    std::optional<std::vector<float>> reference;
    for (const Isa isa : kAllIsas) {
      if (!isa_supported(isa)) continue;
      if (!rounds_twice(isa) && !reference) {
        reference = multiply(m, matmul_kernels(isa, 40, true), x, 40, true);
        for (size_t i = 0; i < expected.size(); ++i) {
          CHECK_NEAR((*reference)[i], expected[i],
                     std::min(1e-6 * size, 1e-5 * std::abs(expected[i]) + 1e-4));
        }
      }
      for (const int64_t rows : kRowCounts) {
        const auto y = multiply(m, matmul_kernels(isa, rows, true), x, rows, true);
        if (rounds_twice(isa)) {
          for (size_t i = 0; i < y.size(); ++i) {
            CHECK_NEAR(y[i], expected[i], std::min(1e-6 * size, 1e-5 * std::abs(expected[i]) + 1e-4));
          }
        } else if (!std::equal(y.begin(), y.end(), reference->begin())) {
          mllm::testing::report(__FILE__, __LINE__,
                                std::string(isa_name(isa)) + " differs for " + std::to_string(rows) +
                                    " rows of " + std::to_string(c.n) + " x " + std::to_string(c.k));
        }
      }
    }
  }
}

// All machines, not only the instruction sets of this one: numbers that no library computes, and hashes of
// the results that were the same on x86-64 and on 64-bit ARM.
uint32_t hash_of(const std::vector<Case>& cases) {
  uint32_t hash = 2166136261u;
  for (const Case& c : cases) {
    Case exact = c;
    exact.scale = DType::Float32;
    Matrix m(exact);
    std::mt19937 random(3);
    const auto number = [&] { return std::ldexp(static_cast<float>(random() >> 8), -23) - 1.0f; };
    for (int64_t i = 0; i < m.stored.scale.size(); ++i) m.stored.scale.as<float>()[i] = number();
    m.pack();
    std::vector<float> x(static_cast<size_t>(13 * c.k));
    for (float& f : x) f = number();
    for (const int64_t rows : {1, 13}) {
      for (const float y : multiply(m, matmul_kernels(current_isa(), rows, true), x, rows, true)) {
        hash = (hash ^ std::bit_cast<uint32_t>(y)) * 16777619u;
      }
    }
  }
  return hash;
}

TEST(integer_products_are_the_same_on_every_machine) {
  if (rounds_twice(current_isa())) return;
  CHECK_EQ(hash_of(cases(true)), 2439125523u);
  CHECK_EQ(hash_of(more_cases()), 119534204u);
}

// int8 activations by definition: integers, whose exact sum, plus a bias of integers, becomes a float, is
// scaled by the row's factor and then by the column's, each with one rounding. The same bits everywhere.
TEST(products_of_int8_rows) {
  for (const auto& [n, k] : {std::pair<int64_t, int64_t>{2, 1}, {46, 172}, {64, 1200}}) {
    const Matrix m({DType::Int8, DType::Float32, n, k, 0});
    auto x = activations(40, k);
    std::fill_n(x.begin() + 3 * k, k, 0.0f);
    std::vector<int32_t> bias(static_cast<size_t>((n + 31) / 32 * 32));
    std::mt19937 random(8);
    for (int32_t& b : bias) b = static_cast<int32_t>(random()) / 4;
    for (const auto& [factor, zero, has_bias] : {std::tuple{0.0f, 0.0f, false},
                                                 {0.0f, 0.0f, true},
                                                 {50.0f, 0.0f, false},
                                                 {50.0f, -31.0f, true},
                                                 {300.0f, 127.0f, true}}) {
      std::vector<float> expected;
      for (int64_t r = 0; r < 40; ++r) {
        const float* row = x.data() + r * k;
        float top = 0;
        for (int64_t i = 0; i < k; ++i) top = std::max(top, std::abs(row[i]));
        const float times = factor > 0 ? factor : top > 0 ? 127.0f / top : 0.0f;
        const float scale = factor > 0 ? 1.0f : top / 127.0f;
        std::vector<int64_t> values;
        for (int64_t i = 0; i < k; ++i) {
          const float moved = row[i] * times;
          values.push_back(static_cast<int64_t>(std::clamp(std::nearbyint(moved + zero), -128.0f, 127.0f)));
        }
        for (int64_t c = 0; c < n; ++c) {
          int64_t sum = has_bias ? bias[static_cast<size_t>(c)] : 0;
          for (int64_t i = 0; i < k; ++i)
            sum += values[static_cast<size_t>(i)] * m.stored.weight.as<int8_t>()[c * k + i];
          expected.push_back(static_cast<float>(static_cast<int32_t>(sum)) * scale *
                             static_cast<float>(m.scale(c, 0)));
        }
      }
      for (const Isa isa : kAllIsas) {
        if (!isa_supported(isa)) continue;
        for (const int64_t rows : kRowCounts) {
          const auto y = multiply(m, matmul_kernels(isa, rows, true), x, rows, true, factor, zero,
                                  has_bias ? bias.data() : nullptr);
          if (!std::equal(y.begin(), y.end(), expected.begin())) {
            mllm::testing::report(__FILE__, __LINE__,
                                  std::string(isa_name(isa)) + " differs for " + std::to_string(rows) +
                                      " rows of " + std::to_string(n) + " x " + std::to_string(k));
          }
        }
      }
    }
  }
}

// Sums of bytes far beyond 2^24, where a float no longer holds every integer, and the largest products there
// are: -128 times -128.
TEST(products_of_int8_rows_of_extremes) {
  const int64_t k = 2049;
  for (const int8_t weight : {int8_t{-128}, int8_t{127}, int8_t{-1}}) {
    Matrix m({DType::Int8, DType::Float32, 32, k, 0});
    std::fill_n(m.stored.weight.as<int8_t>(), m.stored.weight.size(), weight);
    std::fill_n(m.stored.scale.as<float>(), 32, 1.0f);
    m.pack();
    for (const float value : {-200.0f, 200.0f}) {
      std::vector<float> x(static_cast<size_t>(20 * k), value);
      for (int64_t r = 0; r < 20; ++r) x[static_cast<size_t>(r * k)] = 3;
      const int32_t q = value < 0 ? -128 : 127;
      const auto expected = static_cast<float>((q * static_cast<int32_t>(k - 1) + 3) * weight);
      for (const Isa isa : kAllIsas) {
        if (!isa_supported(isa)) continue;
        for (const int64_t rows : {1, 3, 20}) {
          for (const float y : multiply(m, matmul_kernels(isa, rows, true), x, rows, true, 1.0f))
            CHECK_EQ(y, expected);
        }
      }
    }
  }
}

// Extremes: the largest weights and activations do not overflow anything on the way.
TEST(integer_products_of_extremes) {
  for (const int8_t extreme : {int8_t{-128}, int8_t{127}}) {
    Matrix m({DType::Int8, DType::Float32, 32, 640, 0});
    std::fill_n(m.stored.weight.as<int8_t>(), m.stored.weight.size(), extreme);
    std::fill_n(m.stored.scale.as<float>(), 32, 1.0f);
    m.pack();
    for (const float sign : {1.0f, -1.0f}) {
      const std::vector<float> x(20 * 640, 127.0f * sign);
      for (const Isa isa : kAllIsas) {
        if (!isa_supported(isa)) continue;
        for (const int64_t rows : {1, 3, 20}) {
          for (const float y : multiply(m, matmul_kernels(isa, rows, true), x, rows, true)) {
            CHECK_EQ(y, 640.0f * 127.0f * sign * extreme);
          }
        }
      }
    }
  }
}

// A NaN or infinity in a row must show, not become a number; other rows do not see it.
TEST(integer_products_of_what_is_no_number) {
  const Matrix m({DType::Int8, DType::Float32, 32, 200, 0});
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    auto x = activations(20, 200);
    const auto good = x;
    x[3 * 200 + 150] = bad;
    for (const Isa isa : kAllIsas) {
      if (!isa_supported(isa)) continue;
      const auto& kernels = matmul_kernels(isa, 20, true);
      const auto y = multiply(m, kernels, x, 20, true);
      const auto expected = multiply(m, kernels, good, 20, true);
      for (size_t i = 0; i < y.size(); ++i) {
        if (i / 32 == 3) {
          CHECK(std::isnan(y[i]));
        } else {
          CHECK_EQ(y[i], expected[i]);
        }
      }
    }
  }
}

TEST(finish_adds_scale_bias_and_residual) {
  for (const Isa isa : kAllIsas) {
    if (!isa_supported(isa)) continue;
    for (const int64_t columns : {1, 7, 16, 31, 32}) {
      const int64_t rows = 3, stride = 40;
      std::vector<float> sums(16 * 32), scale(32), bias(32), residual(rows * stride), y(rows * stride, -5.0f);
      for (size_t i = 0; i < sums.size(); ++i) sums[i] = static_cast<float>(i);
      for (size_t i = 0; i < 32; ++i) {
        scale[i] = static_cast<float>(i + 1);
        bias[i] = static_cast<float>(100 * i);
      }
      for (size_t i = 0; i < residual.size(); ++i) residual[i] = static_cast<float>(1000 * i);
      matmul_kernels(isa, rows, false)
          .finish({.sums = sums.data(),
                   .rows = rows,
                   .columns = columns,
                   .row_scale = nullptr,
                   .scale = scale.data(),
                   .bias = bias.data(),
                   .residual = residual.data(),
                   .y = y.data(),
                   .y_stride = stride});
      for (int64_t i = 0; i < rows * stride; ++i) {
        const int64_t r = i / stride, c = i % stride;
        const auto at = static_cast<size_t>(i);
        const float expected = c < columns
                                   ? sums[static_cast<size_t>(r * 32 + c)] * scale[static_cast<size_t>(c)] +
                                         bias[static_cast<size_t>(c)] + residual[at]
                                   : -5.0f;
        CHECK_EQ(y[at], expected);
      }
    }
  }
}

TEST(the_machine_is_measured) {
  const MachineSpeed speed = measure_machine(1);
  CHECK(speed.read_bandwidth > 1e8);
  CHECK(speed.int8_macs > 1e8);
  CHECK(speed.matrix_macs >= 0);
}

}  // namespace
}  // namespace mllm

TEST_MAIN()
