// Fused operators over ragged rows, against formulas in double.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <vector>

#include "base/half.h"
#include "base/testing.h"
#include "graph/operator.h"
#include "kernels/fused/pack_weights.h"

namespace mllm {
namespace {

constexpr int64_t kMostRows = 80;

// Three slots: a long chunk in the middle of its context, one token at the start, one late in its context.
const std::vector<Segment> kSegments = {{1, 40, 37, 0}, {0, 0, 1, 37}, {2, 95, 5, 38}};
constexpr int64_t kRows = 43;

Tensor floats(const Dims& dims, unsigned seed, DType dtype = DType::Float32) {
  Tensor t = allocate(dtype, dims);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
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

double at(const Tensor& t, int64_t i) {
  return t.dtype == DType::Float16 ? half_to_float(t.as<uint16_t>()[i]) : t.as<float>()[i];
}

// Run one operator on these operands, rows given by the segments; an output lies over `in_place` where there
// is one. Weights are parameters, so that they can be packed.
std::vector<Tensor> run_all(const char* name, const std::vector<Tensor>& operands,
                            std::map<std::string, Literal> attributes = {}, int threads = 2,
                            bool exact = true) {
  Graph graph;
  Node node{name, name, {}, {}, std::move(attributes)};
  std::vector<Tensor> tensors = operands;
  for (const Tensor& t : operands) {
    Value v;
    v.kind = Value::Kind::Parameter;
    v.type = t.type();
    v.tensor = t;
    if (t.data == nullptr) v.kind = Value::Kind::Literal;
    node.inputs.push_back(graph.add_value(v));
  }
  const Operator* op = find_operator(name);
  for (const TensorType& type : op->infer(OpArgs(graph, node))) {
    Value out;
    out.type = type;
    node.outputs.push_back(graph.add_value(out));
    tensors.push_back(op->in_place_input >= 0 ? operands[static_cast<size_t>(op->in_place_input)]
                                              : allocate(type.dtype, type.dims));
  }
  graph.nodes.push_back(node);
  ThreadPool pool(threads);
  Graph* graphs[] = {&graph};
  pack_weights(graphs, pool);
  const OpArgs args(graph, graph.nodes[0]);
  const size_t scratch_size = op->scratch_bytes ? op->scratch_bytes(args, threads) : 0;
  const Tensor scratch = allocate(DType::UInt8, {static_cast<int64_t>(scratch_size)});
  RunContext context{graph, tensors, pool, kSegments, kRows, exact, scratch.data};
  op->run(args, context);
  return {tensors.begin() + static_cast<std::ptrdiff_t>(operands.size()), tensors.end()};
}

Tensor run(const char* name, const std::vector<Tensor>& operands,
           std::map<std::string, Literal> attributes = {}, int threads = 2) {
  return run_all(name, operands, std::move(attributes), threads).at(0);
}

struct Place {
  int64_t slot, position;
};

Place place(int64_t row) {
  for (const Segment& s : kSegments) {
    if (row >= s.row0 && row < s.row0 + s.n) return {s.slot, s.position + row - s.row0};
  }
  return {0, 0};
}

TEST(attention) {
  for (const DType dtype : {DType::Float32, DType::Float16}) {
    for (const auto& [heads, kv_heads, d] :
         {std::array<int64_t, 3>{4, 2, 16}, {3, 1, 24}, {2, 2, 5}, {70, 1, 4}}) {
      const Tensor q = floats({kMostRows, heads * d}, 1);
      const Tensor k = floats({3, kv_heads, 100, d}, 2, dtype);
      const Tensor v = floats({3, kv_heads, 100, d}, 3, dtype);
      const double scale = 0.7;
      const Tensor y = run("fused.Attention", {q, k, v}, {{"scale", Literal{scale}}});
      const Tensor y1 = run("fused.Attention", {q, k, v}, {{"scale", Literal{scale}}}, 1);
      for (int64_t r = 0; r < kRows; ++r) {
        const auto [slot, position] = place(r);
        for (int64_t h = 0; h < heads; ++h) {
          const int64_t base = (slot * kv_heads + h / (heads / kv_heads)) * 100 * d;
          std::vector<double> p(static_cast<size_t>(position + 1)), expected(static_cast<size_t>(d));
          double sum = 0;
          for (int64_t j = 0; j <= position; ++j) {
            double s = 0;
            for (int64_t i = 0; i < d; ++i) s += at(q, r * heads * d + h * d + i) * at(k, base + j * d + i);
            p[static_cast<size_t>(j)] = std::exp(s * scale);
            sum += p[static_cast<size_t>(j)];
          }
          for (int64_t j = 0; j <= position; ++j) {
            for (int64_t i = 0; i < d; ++i) {
              expected[static_cast<size_t>(i)] += p[static_cast<size_t>(j)] / sum * at(v, base + j * d + i);
            }
          }
          for (int64_t i = 0; i < d; ++i) {
            CHECK_NEAR(at(y, r * heads * d + h * d + i), expected[static_cast<size_t>(i)], 1e-5);
            CHECK_EQ(at(y, r * heads * d + h * d + i), at(y1, r * heads * d + h * d + i));
          }
        }
      }
    }
  }
}

// Scores far outside of what exp takes: the running maximum keeps them in range.
TEST(attention_with_huge_scores) {
  Tensor q = floats({kMostRows, 8}, 1);
  const Tensor k = floats({3, 1, 100, 8}, 2);
  const Tensor y = run("fused.Attention", {q, k, floats({3, 1, 100, 8}, 3)}, {{"scale", Literal{1e4}}});
  for (int64_t i = 0; i < kRows * 8; ++i) CHECK(std::isfinite(at(y, i)));
}

TEST(rms_norm) {
  for (const DType dtype : {DType::Float32, DType::Float16}) {
    const int64_t n = 77;
    const Tensor x = floats({kMostRows, n}, 4);
    const Tensor gamma = floats({n}, 5, dtype);
    const Tensor y = run("fused.RmsNorm", {x, gamma}, {{"eps", Literal{0.25}}});
    for (int64_t r = 0; r < kRows; ++r) {
      double sum = 0;
      for (int64_t i = 0; i < n; ++i) sum += at(x, r * n + i) * at(x, r * n + i);
      for (int64_t i = 0; i < n; ++i) {
        CHECK_NEAR(at(y, r * n + i), at(x, r * n + i) / std::sqrt(sum / n + 0.25) * at(gamma, i), 2e-6);
      }
    }
  }
}

double silu(double x) {
  return x / (1 + std::exp(-x));
}

// The whole of a product: norm in front, several weights, biases, a residual, a gate.
TEST(linear) {
  const int64_t k = 77;
  const Tensor x = floats({kMostRows, k}, 4), gamma = floats({k}, 5, DType::Float16), none;
  const std::array<int64_t, 3> widths{40, 6, 33};
  std::vector<Tensor> weights, biases;
  for (const int64_t n : widths) {
    weights.push_back(floats({n, k}, 6 + static_cast<unsigned>(n)));
    biases.push_back(n == 6 ? none : floats({n}, 9, DType::Float16));
  }
  const auto expected = [&](int64_t r, size_t i, int64_t n, bool normed) {
    double square = 0, sum = 0;
    for (int64_t j = 0; j < k; ++j) square += at(x, r * k + j) * at(x, r * k + j);
    for (int64_t j = 0; j < k; ++j) {
      const double factor = normed ? at(gamma, j) / std::sqrt(square / k + 0.25) : 1.0;
      sum += at(x, r * k + j) * factor * at(weights[i], n * k + j);
    }
    return sum + (biases[i].data ? at(biases[i], n) : 0.0);
  };
  for (const int threads : {1, 3}) {
    const auto ys = run_all("fused.Linear",
                            {x, gamma, none, weights[0], none, none, biases[0], weights[1], none, none,
                             biases[1], weights[2], none, none, biases[2]},
                            {{"eps", Literal{0.25}}}, threads);
    CHECK_EQ(ys.size(), 3u);
    for (size_t i = 0; i < 3; ++i) {
      for (int64_t r = 0; r < kRows; ++r) {
        for (int64_t n = 0; n < widths[i]; ++n)
          CHECK_NEAR(at(ys[i], r * widths[i] + n), expected(r, i, n, true), 1e-4);
      }
    }
    const Tensor residual = floats({kMostRows, 40}, 20);
    const Tensor sum =
        run("fused.Linear", {x, none, residual, weights[0], none, none, biases[0]}, {}, threads);
    const Tensor other = floats({40, k}, 30);
    const Tensor gated =
        run("fused.Linear", {x, none, none, weights[0], none, none, biases[0], other, none, none, none},
            {{"swiglu", Literal{int64_t{1}}}}, threads);
    for (int64_t r = 0; r < kRows; ++r) {
      for (int64_t n = 0; n < 40; ++n) {
        CHECK_NEAR(at(sum, r * 40 + n), expected(r, 0, n, false) + at(residual, r * 40 + n), 1e-4);
        double up = 0;
        for (int64_t j = 0; j < k; ++j) up += at(x, r * k + j) * at(other, n * k + j);
        CHECK_NEAR(at(gated, r * 40 + n), silu(expected(r, 0, n, false)) * up, 1e-3);
      }
    }
  }
}

// int8 activations stay within the rounding of their groups; exact runs do not round.
TEST(linear_with_integer_weights) {
  const int64_t k = 200, n = 40;
  const Tensor x = floats({kMostRows, k}, 4), none;
  const Tensor weight = allocate(DType::Int8, {n, k});
  std::mt19937 random(1);
  for (int64_t i = 0; i < weight.size(); ++i)
    weight.as<int8_t>()[i] = static_cast<int8_t>(random() % 255 - 127);
  const Tensor scale = floats({n, 1}, 7);
  const std::vector<Tensor> operands{x, none, none, weight, scale, none, none};
  const Tensor exact = run_all("fused.Linear", operands, {}, 2, true).at(0);
  const Tensor fast = run_all("fused.Linear", operands, {}, 2, false).at(0);
  bool differ = false;
  for (int64_t r = 0; r < kRows; ++r) {
    double most = 0;
    for (int64_t j = 0; j < k; ++j) most = std::max(most, std::abs(at(x, r * k + j)));
    for (int64_t c = 0; c < n; ++c) {
      double sum = 0, size = 0;
      for (int64_t j = 0; j < k; ++j) {
        sum += at(x, r * k + j) * weight.as<int8_t>()[c * k + j] * at(scale, c);
        size += std::pow(weight.as<int8_t>()[c * k + j] * at(scale, c), 2);
      }
      CHECK_NEAR(at(exact, r * n + c), sum, 1e-5 * std::sqrt(size) + 1e-9);
      // Rounding errors are uniform in ±most/254 and independent: six standard deviations of their sum.
      CHECK_NEAR(at(fast, r * n + c), sum, 6 * most / 127 / std::sqrt(12.0) * std::sqrt(size) + 1e-9);
      differ |= at(fast, r * n + c) != at(exact, r * n + c);
    }
  }
  CHECK(differ);
}

// Activations on one grid: what the operator is defined as, in integers, bit for bit; a bias of integers
// joins the sums before they are scaled.
TEST(linear_with_int8_rows_on_one_grid) {
  const int64_t k = 200, n = 40;
  const float factor = 60.0f, zero = -17.0f;
  const Tensor x = floats({kMostRows, k}, 4), none;
  const Tensor weight = allocate(DType::Int8, {n, k});
  const Tensor bias = allocate(DType::Int32, {n});
  std::mt19937 random(1);
  for (int64_t i = 0; i < weight.size(); ++i) weight.as<int8_t>()[i] = static_cast<int8_t>(random());
  for (int64_t i = 0; i < n; ++i) bias.as<int32_t>()[i] = static_cast<int32_t>(random() % 2000000) - 1000000;
  const Tensor scale = floats({n}, 7);
  for (const bool has_bias : {true, false}) {
    const Tensor y = run("fused.Linear", {x, none, none, weight, scale, none, has_bias ? bias : none},
                         {{"int8_rows", Literal{int64_t{1}}},
                          {"input_factor", Literal{static_cast<double>(factor)}},
                          {"input_zero", Literal{static_cast<double>(zero)}}});
    for (int64_t r = 0; r < kRows; ++r) {
      for (int64_t c = 0; c < n; ++c) {
        int64_t sum = has_bias ? bias.as<int32_t>()[c] : 0;
        for (int64_t j = 0; j < k; ++j) {
          const float q = std::nearbyint(x.as<float>()[r * k + j] * factor + zero);
          sum += static_cast<int64_t>(std::clamp(q, -128.0f, 127.0f)) * weight.as<int8_t>()[c * k + j];
        }
        CHECK_EQ(y.as<float>()[r * n + c], static_cast<float>(sum) * scale.as<float>()[c]);
      }
    }
  }
}

// One stored weight under two names with different scales would need two packed forms under one.
TEST(a_weight_has_one_form) {
  Graph graph;
  const auto parameter = [&](const Tensor& t) {
    Value v;
    v.kind = Value::Kind::Parameter;
    v.name = "w";
    v.type = t.type();
    v.tensor = t;
    return graph.add_value(v);
  };
  const ValueId none = graph.add_value({});
  graph.value(none).kind = Value::Kind::Literal;
  const ValueId x = parameter(floats({4, 6}, 1)), w = parameter(allocate(DType::Int8, {3, 6}));
  const ValueId first = parameter(floats({3}, 2)), second = parameter(floats({3}, 3));
  for (const ValueId scale : {first, second}) {
    graph.nodes.push_back({"fused.Linear", "n", {x, none, none, w, scale, none, none}, {}, {}});
  }
  ThreadPool pool(1);
  Graph* graphs[] = {&graph};
  CHECK_THROWS(pack_weights(graphs, pool), MLLM_ERROR_FORMAT);
  graph.nodes[1].inputs[4] = first;
  graph.value(w).packed = nullptr;
  pack_weights(graphs, pool);
  CHECK(graph.value(w).packed != nullptr);
}

TEST(rotary) {
  const int64_t d = 10, heads = 3;
  const Tensor x = floats({kMostRows, heads * d}, 6);
  const Tensor cos = floats({100, d}, 7);
  const Tensor sin = floats({100, d}, 8);
  const Tensor y = run("fused.Rotary", {x, cos, sin});
  for (int64_t r = 0; r < kRows; ++r) {
    const int64_t row = place(r).position * d;
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t i = 0; i < d; ++i) {
        const int64_t base = (r * heads + h) * d;
        const double turned = i < d / 2 ? -at(x, base + i + d / 2) : at(x, base + i - d / 2);
        CHECK_NEAR(at(y, base + i), at(x, base + i) * at(cos, row + i) + turned * at(sin, row + i), 2e-6);
      }
    }
  }
}

TEST(swiglu_and_add) {
  const Tensor a = floats({kMostRows, 33}, 9);
  const Tensor b = floats({kMostRows, 33}, 10);
  const Tensor gated = run("fused.SwiGLU", {a, b});
  const Tensor sum = run("fused.Add", {a, b});
  for (int64_t i = 0; i < kRows * 33; ++i) {
    CHECK_NEAR(at(gated, i), at(a, i) / (1 + std::exp(-at(a, i))) * at(b, i), 2e-6);
    CHECK_EQ(at(sum, i), static_cast<double>(a.as<float>()[i] + b.as<float>()[i]));
  }
}

TEST(cache_write_touches_its_rows_only) {
  for (const DType dtype : {DType::Float32, DType::Float16}) {
    const int64_t heads = 2, d = 5, length = 100;
    const Tensor cache = floats({3, heads, length, d}, 11, dtype);
    std::vector<double> expected;
    for (int64_t i = 0; i < cache.size(); ++i) expected.push_back(at(cache, i));
    const Tensor x = floats({kMostRows, heads * d}, 12);
    for (int64_t r = 0; r < kRows; ++r) {
      const auto [slot, position] = place(r);
      for (int64_t h = 0; h < heads; ++h) {
        for (int64_t i = 0; i < d; ++i) {
          const float f = x.as<float>()[(r * heads + h) * d + i];
          expected[static_cast<size_t>(((slot * heads + h) * length + position) * d + i)] =
              dtype == DType::Float16 ? half_to_float(float_to_half(f)) : f;
        }
      }
    }
    run("fused.CacheWrite", {cache, x});
    for (int64_t i = 0; i < cache.size(); ++i) CHECK_EQ(at(cache, i), expected[static_cast<size_t>(i)]);
  }
}

// Keys of all sizes, zeros among them.
Tensor rows_for_caches(int64_t heads, int64_t d) {
  Tensor x = floats({kMostRows, heads * d}, 12);
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t i = 0; i < heads * d; ++i) x.as<float>()[r * heads * d + i] *= std::pow(10.0f, r % 9 - 4);
  }
  std::fill_n(x.as<float>() + 3 * heads * d, d, 0.0f);
  return x;
}

TEST(int8_cache_write_with_scales_of_channels) {
  const int64_t heads = 2, d = 7, length = 100;
  const Tensor x = rows_for_caches(heads, d);
  const Tensor cache = allocate(DType::Int8, {3, heads, length, d});
  std::fill_n(cache.as<int8_t>(), cache.size(), int8_t{99});
  const Tensor scale = floats({heads, d}, 13);
  for (int64_t i = 0; i < scale.size(); ++i) scale.as<float>()[i] = 0.01f + std::abs(scale.as<float>()[i]);
  std::vector<int> expected(static_cast<size_t>(cache.size()), 99);
  int saturated = 0;
  for (int64_t r = 0; r < kRows; ++r) {
    const auto [slot, position] = place(r);
    for (int64_t i = 0; i < heads * d; ++i) {
      const float code = x.as<float>()[r * heads * d + i] * (1.0f / scale.as<float>()[i]);
      const double clipped = std::clamp(std::nearbyint(static_cast<double>(code)), -128.0, 127.0);
      saturated += clipped == -128 || clipped == 127;
      expected[static_cast<size_t>(((slot * heads + i / d) * length + position) * d + i % d)] =
          static_cast<int>(clipped);
    }
  }
  CHECK(saturated > 10);
  run("fused.CacheWrite", {cache, x, scale});
  for (int64_t i = 0; i < cache.size(); ++i)
    CHECK_EQ(int{cache.as<int8_t>()[i]}, expected[static_cast<size_t>(i)]);
}

TEST(int8_cache_write_with_scales_of_rows) {
  const int64_t heads = 2, d = 7, length = 100;
  Tensor x = rows_for_caches(heads, d);
  const float infinity = std::numeric_limits<float>::infinity();
  x.as<float>()[5 * heads * d + 2] = infinity;
  x.as<float>()[6 * heads * d + d] = std::numeric_limits<float>::quiet_NaN();
  const Tensor cache = allocate(DType::Int8, {3, heads, length, d});
  std::fill_n(cache.as<int8_t>(), cache.size(), int8_t{99});
  const Tensor scales = floats({3, heads, length, 1}, 14);
  const std::vector<float> before(scales.as<float>(), scales.as<float>() + scales.size());
  run("fused.CacheWrite", {cache, x});
  run("fused.CacheScale", {scales, x});
  std::vector<bool> is_written(before.size(), false);
  for (int64_t r = 0; r < kRows; ++r) {
    const auto [slot, position] = place(r);
    for (int64_t h = 0; h < heads; ++h) {
      const float* row = x.as<float>() + (r * heads + h) * d;
      const int64_t at_row = (slot * heads + h) * length + position;
      is_written[static_cast<size_t>(at_row)] = true;
      const float scale = scales.as<float>()[at_row];
      float most = 0;
      bool is_finite = true;
      for (int64_t i = 0; i < d; ++i) {
        is_finite &= std::isfinite(row[i]);
        most = std::max(most, std::abs(row[i]));
      }
      CHECK(is_finite ? scale == most / 127 : std::isnan(scale));
      for (int64_t i = 0; i < d; ++i) {
        const int code = cache.as<int8_t>()[at_row * d + i];
        const bool has_code = is_finite && most > 0;
        CHECK_EQ(code, has_code ? static_cast<int>(std::nearbyint(row[i] / scale)) : 0);
        CHECK(std::abs(code) <= 127);
      }
    }
  }
  for (size_t i = 0; i < before.size(); ++i) {
    if (is_written[i]) continue;
    CHECK_EQ(scales.as<float>()[i], before[i]);
    for (size_t j = 0; j < static_cast<size_t>(d); ++j)
      CHECK_EQ(int{cache.as<int8_t>()[i * static_cast<size_t>(d) + j]}, 99);
  }
}

TEST(select_last) {
  const Tensor x = floats({kMostRows, 4}, 13);
  const Tensor y = run("fused.SelectLast", {x}, {{"batch", Literal{int64_t{3}}}});
  for (size_t s = 0; s < kSegments.size(); ++s) {
    const int64_t row = kSegments[s].row0 + kSegments[s].n - 1;
    for (int64_t i = 0; i < 4; ++i) CHECK_EQ(at(y, static_cast<int64_t>(s) * 4 + i), at(x, row * 4 + i));
  }
}

TEST(reorder) {
  const Tensor x = floats({kMostRows, 4}, 13);
  const auto order_of = [](std::initializer_list<int32_t> values) {
    Tensor t = allocate(DType::Int32, {static_cast<int64_t>(values.size())});
    std::ranges::copy(values, t.as<int32_t>());
    return t;
  };
  const int32_t order[] = {2, 0, 3, 1};
  const Tensor y = run("fused.Reorder", {x, order_of({2, 0, 3, 1})});
  const Segment& end = kSegments.back();
  for (int64_t r = 0; r < end.row0 + end.n; ++r) {
    for (int64_t i = 0; i < 4; ++i) CHECK_EQ(at(y, r * 4 + i), at(x, r * 4 + order[i]));
  }
  CHECK_THROWS(run("fused.Reorder", {x, order_of({0, 1, 2, 4})}), MLLM_ERROR_FORMAT);
  CHECK_THROWS(run("fused.Reorder", {x, order_of({0, -1, 2, 3})}), MLLM_ERROR_FORMAT);
  CHECK_THROWS(run("fused.Reorder", {x, order_of({0, 1, 2})}), MLLM_ERROR_FORMAT);
}

TEST(operands_are_checked) {
  const Tensor x = floats({4, 6}, 1);
  const Tensor none;
  const auto linear = [&](const Tensor& w, const Tensor& scale, const Tensor& bias) {
    return run("fused.Linear", {x, none, none, w, scale, none, bias});
  };
  CHECK_THROWS(linear(floats({3, 5}, 1), none, none), MLLM_ERROR_FORMAT);
  CHECK_THROWS(linear(allocate(DType::Int8, {3, 6}), none, none), MLLM_ERROR_FORMAT);
  CHECK_THROWS(linear(allocate(DType::Int8, {3, 6}), floats({2}, 1), none), MLLM_ERROR_FORMAT);
  CHECK_THROWS(linear(allocate(DType::UInt8, {5, 2}), floats({4}, 1), none), MLLM_ERROR_FORMAT);
  CHECK_THROWS(linear(floats({3, 6}, 1), none, floats({2}, 1)), MLLM_ERROR_FORMAT);
  CHECK_THROWS(run("fused.Linear", {x, floats({5}, 1), none, floats({3, 6}, 1), none, none, none},
                   {{"eps", Literal{1e-5}}}),
               MLLM_ERROR_FORMAT);
  CHECK_THROWS(run("fused.Linear", {x, none, x, floats({3, 6}, 1), none, none, none}), MLLM_ERROR_FORMAT);
  // Zero points: as many as scales, of integers only; groups of int8 weights are smaller than the inputs.
  const auto with_zero = [&](const Tensor& w, const Tensor& scale, const Tensor& zero, int64_t group) {
    return run("fused.Linear", {x, none, none, w, scale, zero, none}, {{"group", Literal{group}}});
  };
  const Tensor int8 = allocate(DType::Int8, {3, 6});
  CHECK_THROWS(with_zero(floats({3, 6}, 1), none, floats({3}, 1), 0), MLLM_ERROR_FORMAT);
  CHECK_THROWS(with_zero(int8, floats({3}, 1), allocate(DType::Int8, {2}), 0), MLLM_ERROR_FORMAT);
  CHECK_THROWS(with_zero(int8, floats({3}, 1), allocate(DType::Int32, {3}), 0), MLLM_ERROR_FORMAT);
  CHECK_THROWS(with_zero(int8, floats({3}, 1), none, 48), MLLM_ERROR_FORMAT);
  // Half a step and what does not fit int8 are no zero points.
  for (const float zero : {0.5f, 128.0f, -129.0f, NAN, INFINITY}) {
    const Tensor zeros = allocate(DType::Float32, {3});
    zeros.as<float>()[1] = zero;
    CHECK_THROWS(with_zero(int8, floats({3}, 1), zeros, 0), MLLM_ERROR_FORMAT);
  }
  // int8 activations: integer weights of one scale per output only.
  const std::map<std::string, Literal> rows = {{"int8_rows", Literal{int64_t{1}}}};
  CHECK_THROWS(run("fused.Linear", {x, none, none, floats({3, 6}, 1), none, none, none}, rows),
               MLLM_ERROR_FORMAT);
  CHECK_THROWS(
      run("fused.Linear", {x, none, none, int8, floats({3}, 1), allocate(DType::Int8, {3}), none}, rows),
      MLLM_ERROR_FORMAT);
  CHECK_THROWS(
      run("fused.Linear", {x, none, none, int8, floats({3}, 1), none, allocate(DType::Int32, {2})}, rows),
      MLLM_ERROR_FORMAT);
  CHECK_THROWS(run("fused.Linear", {x, none, none, int8, floats({3}, 1), none, allocate(DType::Int32, {3})}),
               MLLM_ERROR_FORMAT);
  CHECK_THROWS(run("fused.RmsNorm", {x, floats({5}, 1)}, {{"eps", Literal{1e-5}}}), MLLM_ERROR_FORMAT);
  CHECK_THROWS(run("fused.Rotary", {x, floats({9, 4}, 1), floats({9, 4}, 1)}), MLLM_ERROR_FORMAT);
  CHECK_THROWS(run("fused.CacheWrite", {floats({1, 2, 9, 4}, 1), x}), MLLM_ERROR_FORMAT);
  CHECK_THROWS(run("fused.Attention", {x, floats({1, 2, 9, 2}, 1), floats({1, 2, 9, 2}, 1)},
                   {{"scale", Literal{1.0}}}),
               MLLM_ERROR_FORMAT);
  const Tensor codes = allocate(DType::Int8, {1, 2, 9, 3});
  CHECK_THROWS(run("fused.CacheWrite", {codes, x, floats({3, 2}, 1)}), MLLM_ERROR_FORMAT);
  CHECK_THROWS(run("fused.CacheWrite", {floats({1, 2, 9, 3}, 1), x, floats({2, 3}, 1)}), MLLM_ERROR_FORMAT);
  CHECK_THROWS(run("fused.CacheScale", {floats({1, 2, 9, 3}, 1), x}), MLLM_ERROR_FORMAT);
  CHECK_THROWS(run("fused.CacheScale", {floats({1, 4, 9, 1}, 1), x}), MLLM_ERROR_FORMAT);
  const auto attention = [&](std::vector<Tensor> operands) {
    return run("fused.Attention", operands, {{"scale", Literal{1.0}}});
  };
  const Tensor good = floats({2, 3}, 1);
  CHECK_THROWS(attention({x, codes, codes}), MLLM_ERROR_FORMAT);
  CHECK_THROWS(attention({x, codes, codes, good}), MLLM_ERROR_FORMAT);
  CHECK_THROWS(attention({x, codes, codes, good, floats({3, 2}, 1)}), MLLM_ERROR_FORMAT);
  CHECK_THROWS(attention({x, codes, codes, floats({1, 2, 8, 1}, 1), good}), MLLM_ERROR_FORMAT);
  CHECK_THROWS(attention({x, floats({1, 2, 9, 3}, 1), floats({1, 2, 9, 3}, 1), good, good}),
               MLLM_ERROR_FORMAT);
  // Segments that do not fit the cache or the table are a bug of the caller, and no write out of bounds.
  CHECK_THROWS(run("fused.CacheWrite", {floats({3, 1, 99, 4}, 1), floats({kMostRows, 4}, 1)}),
               MLLM_ERROR_INTERNAL);
  CHECK_THROWS(run("fused.Rotary", {floats({kMostRows, 4}, 1), floats({99, 4}, 1), floats({99, 4}, 1)}),
               MLLM_ERROR_INTERNAL);
}

}  // namespace
}  // namespace mllm

TEST_MAIN()
