#include "graph/fuse.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/testing.h"
#include "graph/fuse_test_graph.h"
#include "graph/plan.h"
#include "kernels/fused/pack_weights.h"

namespace mllm {
namespace {

using testing::TestGraph;
using testing::TestShape;

constexpr TestShape kShapes[] = {
    {},
    {.half = true},
    {.int8 = true},
    {.half = true, .int8 = true},
    {.tokens = 1},
    {.batch = 1, .tokens = 1},
    {.batch = 1, .tokens = 4, .heads = 3, .kv_heads = 1, .d = 6},
    {.batch = 3, .heads = 2, .kv_heads = 2, .d = 20, .hidden = 33, .inner = 70},
    {.vocab = 10, .int4 = true},
    {.hidden = 40, .inner = 70, .vocab = 10, .half = true, .int4 = true},
    {.hidden = 64, .inner = 128, .vocab = 10, .int4 = true, .group = 64},
    {.hidden = 40, .inner = 70, .vocab = 10, .int4 = true, .group = 0},
    {.int8_rows = true},
    {.hidden = 300, .inner = 70, .half = true, .int8_rows = true},
    {.grid = true},
    {.hidden = 300, .inner = 70, .half = true, .grid = true},
    {.int8 = true, .zero = true},
    {.d = 10, .hidden = 40, .inner = 70, .half = true, .int8 = true, .int8_group = 32},
    {.d = 20, .hidden = 72, .inner = 140, .int8 = true, .int8_group = 64, .zero = true},
    {.hidden = 40, .inner = 70, .vocab = 10, .half = true, .int4 = true, .zero = true},
    {.hidden = 40, .inner = 70, .vocab = 10, .int4 = true, .group = 0, .zero = true},
    {.kv_channels = true},
    {.batch = 1, .tokens = 4, .heads = 3, .kv_heads = 1, .d = 6, .half = true, .kv_channels = true},
    {.kv_rows = true},
    {.batch = 3, .heads = 2, .kv_heads = 2, .d = 20, .half = true, .kv_rows = true},
};

bool has_int8_caches(const TestShape& shape) {
  return shape.kv_channels || shape.kv_rows;
}

// Products whose activations are rounded inside of the graph: which way may depend on the last bit.
bool rounds_activations(const TestShape& shape) {
  return shape.int8_rows || shape.grid || shape.mixed;
}

Tensor ints(const Dims& dims, const std::vector<int32_t>& values) {
  Tensor t = allocate(DType::Int32, dims);
  std::ranges::copy(values, t.as<int32_t>());
  return t;
}

// Caches with content, the same for every call.
Tensor cache(const Graph& graph, size_t input) {
  const TensorType& type = graph.value(graph.inputs[input]).type;
  Tensor t = allocate(type.dtype, type.dims);
  std::mt19937 random(static_cast<unsigned>(input));
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < t.size(); ++i) {
    const float x = normal(random);
    if (type.dtype == DType::Float16) {
      t.as<uint16_t>()[i] = float_to_half(x);
    } else if (type.dtype == DType::Int8) {
      t.as<int8_t>()[i] = static_cast<int8_t>(random());
    } else {
      t.as<float>()[i] = type.dims[3] == 1 ? 0.01f * std::abs(x) : x;
    }
  }
  return t;
}

float element(const Tensor& t, int64_t i) {
  if (t.dtype == DType::Int8) return t.as<int8_t>()[i];
  return t.dtype == DType::Float16 ? half_to_float(t.as<uint16_t>()[i]) : t.as<float>()[i];
}

void pack(Graph& graph, ThreadPool& pool) {
  Graph* graphs[] = {&graph};
  pack_weights(graphs, pool);
}

TEST(every_operator_becomes_a_fused_one) {
  for (const TestShape& shape : kShapes) {
    Graph graph = TestGraph(shape).graph;
    CHECK(fuse(graph));
    std::map<std::string, int> counts;
    for (const Node& node : graph.nodes) ++counts[node.op];
    std::map<std::string, int> expected = {{"fused.Embedding", 1}, {"fused.Linear", 5},
                                           {"fused.Rotary", 2},    {"fused.CacheWrite", 2},
                                           {"fused.Attention", 1}, {"fused.SelectLast", 1}};
    if (shape.kv_rows) expected["fused.CacheScale"] = 2;
    CHECK(counts == expected);
    // Norms, gate and residuals are parts of the products now.
    int norms = 0, gates = 0, residuals = 0;
    size_t outputs = 0;
    for (const Node& node : graph.nodes) {
      if (node.op != "fused.Linear") continue;
      norms += graph.value(node.inputs[1]).kind == Value::Kind::Parameter;
      residuals += graph.value(node.inputs[2]).kind == Value::Kind::Computed;
      gates += node.attributes.contains("swiglu");
      outputs = std::max(outputs, node.outputs.size());
    }
    CHECK_EQ(norms, 3);
    CHECK_EQ(residuals, 2);
    CHECK_EQ(gates, 1);
    CHECK_EQ(outputs, 3u);
    CHECK_EQ(graph.inputs.size(), shape.kv_rows ? 7u : 5u);
    CHECK_EQ(graph.output_names.at(0), "logits");
  }
}

// The padded graph as written and the fused one over valid rows only give the same logits and caches.
void check_results(const TestShape& shape) {
  ThreadPool pool(2);
  const Graph written = TestGraph(shape).graph;
  Graph fused = written;
  CHECK(fuse(fused));
  pack(fused, pool);
  Plan slow(written, pool);
  Plan fast(fused, pool, true);
  for (int64_t n = 1; n <= shape.tokens; ++n) {
    std::vector<int32_t> padded, compact, positions, lengths;
    std::vector<Segment> segments;
    for (int64_t b = 0; b < shape.batch; ++b) {
      const auto valid = static_cast<int32_t>(b % 2 == 0 ? n : 1);
      const auto position = static_cast<int32_t>(std::min(b, shape.length - shape.tokens));
      segments.push_back({static_cast<int32_t>(b), position, valid, static_cast<int32_t>(compact.size())});
      positions.push_back(position);
      lengths.push_back(position + valid);
      for (int32_t t = 0; t < shape.tokens; ++t) {
        const auto token = static_cast<int32_t>((3 * b + 2 * t + n) % shape.vocab);
        padded.push_back(t < valid ? token : 0);
        if (t < valid) compact.push_back(token);
      }
    }
    compact.resize(padded.size(), -1);  // never read
    const Dims ids{shape.batch, shape.tokens}, per_slot{shape.batch};
    std::vector<Tensor> a{ints(ids, padded), ints(per_slot, positions), ints(per_slot, lengths)};
    std::vector<Tensor> b{ints(ids, compact), ints(per_slot, positions), ints(per_slot, lengths)};
    for (size_t c = 3; c < written.inputs.size(); ++c) {
      a.push_back(cache(written, c));
      b.push_back(cache(written, c));
    }
    const std::vector<Tensor> expected = slow.run(a);
    const std::vector<Tensor> got = fast.run(b, segments);
    // Rounding of a cache, or of an activation to int8, may fall the other way.
    const double tolerance = rounds_activations(shape)              ? 0.1
                             : shape.half || has_int8_caches(shape) ? 0.02
                                                                    : 2e-5;
    for (int64_t i = 0; i < expected[0].size(); ++i)
      CHECK_NEAR(element(got[0], i), element(expected[0], i), tolerance);
    for (size_t c = 1; c < got.size(); ++c) {
      CHECK(got[c].data == b[c + 2].data);
      int64_t steps = 0;
      for (int64_t i = 0; i < got[c].size(); ++i) {
        const int64_t d = got[c].dims[3];
        const int64_t row = i / d % shape.length;
        const int64_t slot = i / d / shape.length / shape.kv_heads;
        const Segment& s = segments[static_cast<size_t>(slot)];
        // The graph writes padded rows too; they are never seen.
        if (row >= s.position + s.n && row < s.position + shape.tokens) continue;
        if (got[c].dtype == DType::Int8) {
          CHECK_NEAR(element(got[c], i), element(expected[c], i), 1);
          steps += element(got[c], i) != element(expected[c], i);
        } else {
          CHECK_NEAR(element(got[c], i), element(expected[c], i), d == 1 ? 2e-6 : tolerance);
        }
      }
      CHECK(steps <= 1);
    }
  }
}

TEST(results_are_those_of_the_graph) {
  for (const TestShape& shape : kShapes) check_results(shape);
}

// Layers beside each other that are quantized each in its own way stay products of their own; what surrounds
// them is found all the same.
TEST(layers_of_different_kinds) {
  const TestShape shape{.d = 10, .hidden = 40, .inner = 72, .vocab = 10, .mixed = true};
  Graph graph = TestGraph(shape).graph;
  CHECK(fuse(graph));
  std::map<std::string, int> counts;
  for (const Node& node : graph.nodes) ++counts[node.op];
  CHECK_EQ(counts["fused.Linear"], 8);
  CHECK_EQ(counts["fused.SwiGLU"], 1);
  CHECK_EQ(counts["fused.RmsNorm"], 2);  // the last one is part of the head
  check_results(shape);
}

// Products of the same order share its operator, and are combined as without one; others are not.
TEST(layers_that_take_inputs_in_another_order) {
  const TestShape shape{
      .hidden = 40, .inner = 70, .vocab = 10, .half = true, .int4 = true, .reordered = true};
  Graph graph = TestGraph(shape).graph;
  CHECK(fuse(graph));
  std::map<std::string, int> counts;
  for (const Node& node : graph.nodes) ++counts[node.op];
  CHECK_EQ(counts["fused.Reorder"], 6);  // q and v, k, o, gate and up, down, head
  CHECK_EQ(counts["fused.Linear"], 6);
  CHECK_EQ(counts["fused.Add"] + counts["fused.SwiGLU"], 0);
  CHECK_EQ(counts["fused.RmsNorm"], 3);
  check_results(shape);
}

// Grids that are none, and zero points whose groups are not those of the scales.
TEST(damaged_schemes_are_not_fused) {
  const auto with = [](const char* name, float number) {
    Graph graph = TestGraph({.grid = true}).graph;
    int found = 0;
    for (Value& value : graph.values) {
      if (value.kind != Value::Kind::Parameter || value.name != name) continue;
      *value.tensor.as<float>() = number;
      ++found;
    }
    CHECK_EQ(found, 1);
    return graph;
  };
  for (const float factor : {0.0f, -30.0f, NAN, INFINITY}) {
    Graph graph = with("o.factor", factor);
    CHECK(!fuse(graph));
  }
  for (const float zero : {0.5f, 128.0f, -129.0f, NAN}) {
    Graph graph = with("o.input_zero", zero);
    CHECK(!fuse(graph));
  }
  // Another grid of one of three siblings, which are one product otherwise.
  Graph other = with("k.factor", 31.0f);
  CHECK(fuse(other));
  CHECK_EQ(std::ranges::count(other.nodes, "fused.Linear", &Node::op), 6);

  const TestShape equal{.d = 20, .hidden = 80, .inner = 96, .vocab = 10, .int4 = true, .zero = true};
  Graph graph = TestGraph(equal).graph;
  CHECK(fuse(graph));
  for (const int64_t group : {0, 64, 48}) {
    TestShape shape = equal;
    shape.zero_group = group;
    Graph unequal = TestGraph(shape).graph;
    CHECK(!fuse(unequal));
  }
}

// Segments that want no logits have none, and what they compute beside that stays the same.
TEST(logits_only_where_wanted) {
  ThreadPool pool(1);
  Graph graph = TestGraph({}).graph;
  CHECK(fuse(graph));
  pack(graph, pool);
  Plan plan(graph, pool);
  std::vector<Tensor> inputs{ints({2, 3}, {1, 2, 3, 4, 5, 6}), ints({2}, {0, 0}), ints({2}, {0, 0}),
                             cache(graph, 3), cache(graph, 4)};
  const Segment both[] = {{0, 0, 3, 0}, {1, 2, 2, 3}};
  const auto all = plan.run(inputs, both);
  const std::vector<float> second(all[0].as<float>() + 9, all[0].as<float>() + 18);
  const Segment one[] = {{0, 0, 3, 0, false}, {1, 2, 2, 3}};
  const auto some = plan.run(inputs, one);
  for (int64_t i = 0; i < 9; ++i) CHECK_EQ(some[0].as<float>()[i], second[static_cast<size_t>(i)]);
}

TEST(a_token_outside_of_the_vocabulary_is_named) {
  ThreadPool pool(1);
  Graph graph = TestGraph({}).graph;
  CHECK(fuse(graph));
  pack(graph, pool);
  Plan plan(graph, pool);
  for (const int32_t token : {-1, 9}) {
    const std::vector<Tensor> inputs{ints({2, 3}, {token, 0, 0, 0, 0, 0}), ints({2}, {0, 0}),
                                     ints({2}, {0, 0}), cache(graph, 3), cache(graph, 4)};
    const Segment s{0, 0, 1, 0};
    CHECK_THROWS(plan.run(inputs, {&s, 1}), MLLM_ERROR_INVALID_ARGUMENT);
  }
}

// Whether tuple v is the `end` of a slice and its element k already is the end of that axis.
bool last_dim_end(const Graph& graph, size_t v, size_t k) {
  for (const Node& node : graph.nodes) {
    if (node.op != "StridedSlice" || node.inputs[2] != static_cast<ValueId>(v)) continue;
    const auto& end = std::get<LiteralTuple>(graph.values[v].literal.value);
    return std::get<int64_t>(end[k].value) >= graph.value(node.inputs[0]).type.dims[k];
  }
  return false;
}

bool is_slice_mask(const Graph& graph, size_t v) {
  return std::ranges::any_of(graph.nodes, [&](const Node& node) {
    return node.op == "StridedSlice" &&
           (node.inputs[4] == static_cast<ValueId>(v) || node.inputs[5] == static_cast<ValueId>(v));
  });
}

bool is_unchanged(const Graph& a, const Graph& b) {
  return a.nodes.size() == b.nodes.size() && a.values.size() == b.values.size() &&
         std::ranges::equal(a.nodes, b.nodes, {}, &Node::op, &Node::op);
}

// Any constant but a free number of the network, changed by one, makes the graph something else: it must stay
// as it is.
void check_changed_constants(const Graph& original) {
  int tried = 0;
  for (size_t v = 0; v < original.values.size(); ++v) {
    const Value& value = original.values[v];
    std::set<std::string> readers;
    for (const Node& node : original.nodes) {
      for (const ValueId in : node.inputs) {
        const Value& operand = original.value(in);
        if (in == static_cast<ValueId>(v) ||
            std::ranges::count(operand.elements, static_cast<ValueId>(v)) > 0) {
          readers.insert(node.op);
        }
      }
    }
    const auto expect_refusal = [&](Graph graph, const std::string& what) {
      ++tried;
      const Graph before = graph;
      const bool fused = fuse(graph);
      if (fused) mllm::testing::report(__FILE__, __LINE__, "fused in spite of a changed " + what);
      CHECK(fused || is_unchanged(graph, before));
    };
    const std::string place = readers.empty() ? "?" : *readers.begin();
    if (value.kind == Value::Kind::Literal) {
      if (readers.contains("Reshape") || readers.contains("BroadcastTo") || readers.contains("Cast")) {
        continue;  // the types of the values say the same and are what counts
      }
      if (const auto* n = std::get_if<int64_t>(&value.literal.value)) {
        if (is_slice_mask(original, v)) continue;  // bit 0: an axis that is taken whole anyway
        Graph graph = original;
        graph.values[v].literal.value = *n + 1;
        expect_refusal(std::move(graph), "integer of " + place);
      } else if (const auto* flag = std::get_if<bool>(&value.literal.value)) {
        if (readers.contains("ReduceMean") || readers.contains("ReduceSum") || readers.contains("ReduceMax"))
          continue;  // kept axes show in the types
        Graph graph = original;
        graph.values[v].literal.value = !*flag;
        expect_refusal(std::move(graph), "flag of " + place);
      } else if (const auto* items = std::get_if<LiteralTuple>(&value.literal.value)) {
        for (size_t k = 0; k < items->size(); ++k) {
          Graph graph = original;
          auto& item = std::get<LiteralTuple>(graph.values[v].literal.value)[k];
          item.value = std::get<int64_t>(item.value) + 1;
          // A slice that ends behind the end is the same slice.
          if (readers.contains("StridedSlice") && last_dim_end(original, v, k)) continue;
          expect_refusal(std::move(graph), "tuple of " + place);
        }
      }
    } else if (value.kind == Value::Kind::Constant) {
      // Epsilon, score scale and the size of the mask are free; 1 - count, the zeros of the sigmoid and the
      // largest int8 are not.
      const bool is_free = value.type.dtype == DType::Float32 && value.type.dims.empty() &&
                           !readers.contains("Sub") && !readers.contains("RealDiv") &&
                           !readers.contains("Maximum") && !readers.contains("Minimum");
      for (int64_t k = 0; k < value.tensor.size() && !is_free; ++k) {
        Graph graph = original;
        Tensor copy = allocate(value.type.dtype, value.type.dims);
        std::memcpy(copy.data, value.tensor.data, copy.bytes());
        if (value.type.dtype == DType::Float32) {
          copy.as<float>()[k] += 1;
        } else {
          copy.as<int32_t>()[k] += 1;
        }
        graph.values[v].tensor = copy;
        expect_refusal(std::move(graph), "constant of " + place);
      }
    }
  }
  CHECK(tried > 60);
}

TEST(a_changed_constant_is_not_fused) {
  check_changed_constants(TestGraph({}).graph);
  check_changed_constants(TestGraph({.hidden = 40, .vocab = 10, .int4 = true}).graph);
  check_changed_constants(TestGraph({.hidden = 40, .vocab = 10, .int4 = true, .zero = true}).graph);
  check_changed_constants(
      TestGraph({.d = 10, .hidden = 40, .inner = 70, .int8 = true, .int8_group = 32}).graph);
  check_changed_constants(TestGraph({.int8_rows = true}).graph);
  check_changed_constants(TestGraph({.kv_channels = true}).graph);
  check_changed_constants(TestGraph({.kv_rows = true}).graph);
  check_changed_constants(TestGraph({.grid = true}).graph);
}

// Two operands of one node swapped, where that matters.
void check_swapped_operands(const Graph& original) {
  const std::set<std::string> symmetric = {"Add", "Mul", "Equal", "Maximum", "Minimum"};
  for (size_t n = 0; n < original.nodes.size(); ++n) {
    const Node& node = original.nodes[n];
    Graph graph = original;
    auto& inputs = graph.nodes[n].inputs;
    if (node.op == "Concat") {
      std::ranges::reverse(graph.value(inputs[0]).elements);
    } else if (inputs.size() >= 2) {
      std::swap(inputs[0], inputs[1]);
    } else {
      continue;
    }
    if (inputs[0] == inputs[1]) continue;
    const bool fused = fuse(graph);
    if (fused != symmetric.contains(node.op)) {
      mllm::testing::report(__FILE__, __LINE__,
                            node.name + " with swapped operands: fused is " + std::to_string(fused));
    }
  }
}

TEST(swapped_operands_are_not_fused) {
  check_swapped_operands(TestGraph({}).graph);
  check_swapped_operands(TestGraph({.hidden = 40, .vocab = 10, .int4 = true}).graph);
  check_swapped_operands(TestGraph({.hidden = 40, .vocab = 10, .int4 = true, .zero = true}).graph);
  check_swapped_operands(TestGraph({.int8 = true, .zero = true}).graph);
  check_swapped_operands(TestGraph({.int8_rows = true}).graph);
  check_swapped_operands(TestGraph({.kv_channels = true}).graph);
  check_swapped_operands(TestGraph({.kv_rows = true}).graph);
  check_swapped_operands(TestGraph({.grid = true}).graph);
}

// A node that reads another value of the same type: wrong residual, wrong table, wrong cache, wrong head
// order.
TEST(rewired_operands_never_crash_and_outputs_must_match) {
  const Graph original = TestGraph({.hidden = 16, .inner = 16}).graph;
  int refused = 0;
  for (size_t n = 0; n < original.nodes.size(); ++n) {
    for (size_t k = 0; k < original.nodes[n].inputs.size(); ++k) {
      const ValueId from = original.nodes[n].inputs[k];
      for (size_t v = 0; v < original.values.size(); ++v) {
        const Value& other = original.values[v];
        const bool is_tensor = other.kind != Value::Kind::Literal && other.kind != Value::Kind::Tuple;
        if (!is_tensor || static_cast<ValueId>(v) == from || other.type != original.value(from).type)
          continue;
        if (other.kind == Value::Kind::Computed && other.producer >= static_cast<int32_t>(n)) continue;
        Graph graph = original;
        graph.nodes[n].inputs[k] = static_cast<ValueId>(v);
        if (!fuse(graph)) ++refused;
      }
    }
  }
  CHECK(refused > 50);
  Graph swapped = original;
  std::swap(swapped.outputs[1], swapped.outputs[2]);
  CHECK(!fuse(swapped));
  Graph unwritten = original;
  unwritten.outputs[1] = unwritten.inputs[3];
  CHECK(!fuse(unwritten));
  Graph renamed = original;
  renamed.value(renamed.inputs[1]).name = "position";
  CHECK(!fuse(renamed));
}

// int8 caches that are rounded or read by less than the whole pattern.
TEST(int8_caches_are_fused_as_a_whole_or_not_at_all) {
  for (const TestShape& shape : {TestShape{.kv_channels = true}, TestShape{.kv_rows = true}}) {
    const Graph original = TestGraph(shape).graph;
    const Dims cache{shape.batch, shape.kv_heads, shape.length, shape.d};
    int tried = 0;
    for (size_t n = 0; n < original.nodes.size(); ++n) {
      const Node& node = original.nodes[n];
      const ValueId out = node.outputs[0];
      // Rounding, clipping, scaling and clearing. (A row of zeros divided by zero may as well be zeros: the
      // guard against it is free.)
      const bool is_guard = node.op == "Maximum" && original.value(out).type.dims[3] == 1;
      const bool matters = node.op == "Round" || node.op == "Maximum" || node.op == "Minimum" ||
                           node.op == "Abs" || (node.op == "Mul" && original.value(out).type.dims == cache);
      if (!matters || is_guard) continue;
      for (const ValueId in : node.inputs) {
        if (original.value(in).type != original.value(out).type) continue;
        Graph graph = original;
        for (Node& user : graph.nodes) std::ranges::replace(user.inputs, out, in);
        ++tried;
        if (fuse(graph)) mllm::testing::report(__FILE__, __LINE__, "fused without " + node.name);
      }
    }
    CHECK(tried >= 8);
  }
  // Scales that are written but belong to another cache's numbers of heads, or that nobody writes.
  Graph graph = TestGraph({.kv_rows = true}).graph;
  std::swap(graph.outputs[3], graph.outputs[4]);
  CHECK(!fuse(graph));
  graph = TestGraph({.kv_rows = true}).graph;
  graph.outputs[3] = graph.inputs[5];
  CHECK(!fuse(graph));
}

// A second write to a cache, even one whose result nobody reads, has an effect that fusion would lose.
TEST(unknown_effects_are_not_fused) {
  Graph graph = TestGraph({}).graph;
  Value value;
  value.kind = Value::Kind::Computed;
  value.type = graph.value(graph.inputs[3]).type;
  value.alias_of = graph.inputs[3];
  const ValueId out = graph.add_value(value);
  graph.nodes.push_back({"ScatterUpdate", "effect", {graph.inputs[3]}, {out}, {}});
  CHECK(!fuse(graph));
}

}  // namespace
}  // namespace mllm

TEST_MAIN()
