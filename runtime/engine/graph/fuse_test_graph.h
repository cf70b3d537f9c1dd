// For tests: a one-layer language-model graph of the `cpu` op set, built as the importer would leave it.
#ifndef MINDIR_LLM_GRAPH_FUSE_TEST_GRAPH_H_
#define MINDIR_LLM_GRAPH_FUSE_TEST_GRAPH_H_

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/half.h"
#include "graph/ir.h"
#include "graph/operator.h"

namespace mllm::testing {

struct TestShape {
  int64_t batch = 2, tokens = 3, length = 8, heads = 4, kv_heads = 2, d = 4, hidden = 12, inner = 10,
          vocab = 9;
  bool half = false;         // float16 caches and weights
  bool kv_channels = false;  // int8 caches with scales of channels
  bool kv_rows = false;      // int8 caches with scales of rows, in caches of their own
  bool int8 = false;         // int8 linear weights, in groups of int8_group or per row where that is 0
  bool int8_rows = false;    // int8 activations too
  bool grid = false;         // int8 activations on one grid
  bool int4 = false;         // int4 linear weights, in groups of `group` or per column where that is 0
  int64_t group = 32;
  int64_t int8_group = 0;
  bool zero = false;        // zero points of weights
  int64_t zero_group = -1;  // where their groups are not those of the scales
  bool mixed = false;       // each linear layer another way
  bool reordered = false;   // linear layers take their inputs backwards, k rotated by one
};

class TestGraph {
 public:
  explicit TestGraph(const TestShape& shape) : s(shape) { build(); }

  Graph graph;

 private:
  using Id = ValueId;
  TestShape s;
  std::mt19937 random_{7};

  Id add(Value::Kind kind, const std::string& name, const TensorType& type) {
    Value v;
    v.kind = kind;
    v.name = name;
    v.type = type;
    if (kind == Value::Kind::Parameter || kind == Value::Kind::Constant)
      v.tensor = allocate(type.dtype, type.dims);
    return graph.add_value(std::move(v));
  }
  Id input(const std::string& name, DType dtype, Dims dims) {
    graph.inputs.push_back(add(Value::Kind::Input, name, {dtype, std::move(dims)}));
    return graph.inputs.back();
  }
  Id parameter(const std::string& name, DType dtype, Dims dims, float size, float center = 0) {
    const Id id = add(Value::Kind::Parameter, name, {dtype, std::move(dims)});
    const Tensor& t = graph.value(id).tensor;
    std::normal_distribution<float> normal(center, size);
    for (int64_t i = 0; i < t.size(); ++i) {
      const float x = normal(random_);
      if (dtype == DType::Float32) t.as<float>()[i] = x;
      if (dtype == DType::Float16) t.as<uint16_t>()[i] = float_to_half(x);
      if (dtype == DType::UInt8) t.as<uint8_t>()[i] = static_cast<uint8_t>(random_());
      if (dtype == DType::Int8) t.as<int8_t>()[i] = static_cast<int8_t>(std::fmod(x * 100, 127));
      if (dtype == DType::Int32) t.as<int32_t>()[i] = static_cast<int32_t>(x);
    }
    return id;
  }
  template <class T>
  Id literal(T x) {
    const Id id = graph.add_value({});
    graph.value(id).kind = Value::Kind::Literal;
    graph.value(id).literal.value = std::move(x);
    return id;
  }
  Id i(int64_t x) { return literal(x); }
  Id b(bool x) { return literal(x); }
  Id ints(const std::vector<int64_t>& xs) {
    LiteralTuple t(xs.size());
    for (size_t k = 0; k < xs.size(); ++k) t[k].value = xs[k];
    return literal(std::move(t));
  }
  Id number(float x) {
    const Id id = add(Value::Kind::Constant, "", {DType::Float32, {}});
    *graph.value(id).tensor.as<float>() = x;
    return id;
  }
  Id int_tensor(Dims dims, const std::vector<int32_t>& xs) {
    const Id id = add(Value::Kind::Constant, "", {DType::Int32, std::move(dims)});
    std::memcpy(graph.value(id).tensor.data, xs.data(), xs.size() * sizeof(int32_t));
    return id;
  }
  std::vector<int32_t> range(int64_t n, int64_t step = 1) {
    std::vector<int32_t> xs;
    for (int64_t k = 0; k < n; ++k) xs.push_back(static_cast<int32_t>(k * step));
    return xs;
  }
  Id op(const std::string& name, std::vector<Id> inputs) {
    Node node{name, name + "." + std::to_string(graph.nodes.size()), std::move(inputs), {}, {}};
    const TensorType type = find_operator(name)->infer(OpArgs(graph, node)).at(0);
    const Id out = add(Value::Kind::Computed, node.name, type);
    graph.value(out).producer = static_cast<int32_t>(graph.nodes.size());
    node.outputs = {out};
    graph.nodes.push_back(std::move(node));
    return out;
  }
  Id tuple(std::vector<Id> elements) {
    Value v;
    v.kind = Value::Kind::Tuple;
    v.elements = std::move(elements);
    return graph.add_value(std::move(v));
  }
  Id reshape(Id x, const std::vector<int64_t>& dims) { return op("Reshape", {x, ints(dims)}); }
  Id cast(Id x, DType to) {
    if (graph.value(x).type.dtype == to) return x;
    return op("Cast", {x, i(to == DType::Float32 ? 43 : to == DType::Int8 ? 32 : 42)});
  }
  Id f32(Id x) { return cast(x, DType::Float32); }
  Id slice_last(Id x, int64_t begin, int64_t end) {
    const size_t rank = graph.value(x).type.dims.size();
    std::vector<int64_t> from(rank, 0), to = graph.value(x).type.dims, step(rank, 1);
    from.back() = begin;
    to.back() = end;
    return op("StridedSlice", {x, ints(from), ints(to), ints(step), i(0), i(0), i(0), i(0), i(0)});
  }

  DType stored() const { return s.half ? DType::Float16 : DType::Float32; }
  DType kv_stored() const { return s.kv_channels || s.kv_rows ? DType::Int8 : stored(); }

  // Rows [groups, n] once per input of their group.
  Id spread(Id rows, int64_t k, int64_t n, int64_t group) {
    if (group == 0) return rows;
    const int64_t groups = (k + group - 1) / group;
    const Id wide = op("BroadcastTo", {reshape(rows, {groups, 1, n}), ints({groups, group, n})});
    const Id all = reshape(wide, {groups * group, n});
    if (groups * group == k) return all;
    return op("StridedSlice", {all, ints({0}), ints({k}), ints({1}), i(0), i(0), i(0), i(0), i(0)});
  }
  // Integers [k, n] less zero points, times scales.
  Id dequantized(const TestShape& f, Id q, int64_t k, int64_t n, int64_t group, const std::string& name,
                 float zeros, float scale) {
    const auto groups = [&](int64_t size) { return size == 0 ? 1 : (k + size - 1) / size; };
    if (f.zero) {
      const int64_t of_zeros = f.zero_group < 0 ? group : f.zero_group;
      const Id z = parameter(name + ".zero", DType::Int8, {groups(of_zeros), n}, zeros);
      q = op("Sub", {q, spread(f32(z), k, n, of_zeros)});
    }
    const Id s = f32(parameter(name + ".scale", stored(), {groups(group), n}, 0.2f * scale, scale));
    return op("Mul", {q, spread(s, k, n, group)});
  }
  // Integers of int4 weights [k, n] from bytes [k, n/2], in float arithmetic.
  Id int4_integers(int64_t k, int64_t n, const std::string& name) {
    const Id bytes = f32(parameter(name, DType::UInt8, {k, n / 2}, 1));
    const Id high = op("Floor", {op("Mul", {bytes, number(0.0625f)})});
    const Id low = op("Sub", {bytes, op("Mul", {high, number(16)})});
    const Id pairs =
        op("Concat", {tuple({reshape(low, {k, n / 2, 1}), reshape(high, {k, n / 2, 1})}), i(-1)});
    return op("Sub", {reshape(pairs, {k, n}), number(8)});
  }
  Id stored_number(const std::string& name, float x) {
    const Id id = parameter(name, DType::Float32, {1}, 1);
    *graph.value(id).tensor.as<float>() = x;
    return id;
  }
  TestShape shape_of(const std::string& name) const {
    if (!s.mixed) return s;
    if (name == "q") return {.int4 = true, .zero = true};
    if (name == "k" || name == "up") return {.int8 = true, .zero = true};
    if (name == "o") return {.int8_rows = true};
    if (name == "gate") return {.grid = true};
    if (name == "down") return {.int8 = true, .int8_group = 32};
    return {};
  }
  Id backwards(Id x, const std::string& name) {
    const int64_t k = graph.value(x).type.dims.back();
    const Id order = add(Value::Kind::Parameter, name + ".order", {DType::Int32, {k}});
    for (int64_t j = 0; j < k; ++j)
      graph.value(order).tensor.as<int32_t>()[j] =
          static_cast<int32_t>(name == "k" ? (j + 1) % k : k - 1 - j);
    return op("Gather", {x, order, i(1), i(0)});
  }
  Id linear(Id x, int64_t n, bool has_bias, const std::string& name) {
    if (s.reordered) x = backwards(x, name);
    const int64_t k = graph.value(x).type.dims[1];
    const TestShape f = shape_of(name);
    Id w;
    if (f.int4 || (f.int8 && f.int8_group != 0)) {
      const Id all = f.int4 ? dequantized(f, int4_integers(k, n, name), k, n, f.group, name, 0.03f, 0.05f)
                            : dequantized(f, f32(parameter(name, DType::Int8, {k, n}, 0.4f)), k, n,
                                          f.int8_group, name, 0.4f, 0.005f);
      const Id y = op("MatMul", {x, all, b(false), b(false)});
      return has_bias ? op("Add", {y, f32(parameter(name + ".bias", stored(), {n}, 0.3f))}) : y;
    }
    if (f.grid) {
      const Id moved = op("Add", {op("Mul", {x, stored_number(name + ".factor", 30)}),
                                  stored_number(name + ".input_zero", -5)});
      const Id q = op("Minimum", {op("Maximum", {op("Round", {moved}), number(-128)}), number(127)});
      const Id sums = op("MatMul", {q, f32(parameter(name, DType::Int8, {n, k}, 0.4f)), b(false), b(true)});
      const Id all = op("Add", {sums, f32(parameter(name + ".bias", DType::Int32, {n}, 2000))});
      return op("Mul", {all, parameter(name + ".scale", DType::Float32, {n}, 3e-5f, 1.5e-4f)});
    }
    if (f.int8_rows) {
      const Id largest =
          op("Maximum", {op("ReduceMax", {op("Abs", {x}), ints({-1}), b(true)}), number(1e-30f)});
      const Id rounded = op("Round", {op("Mul", {x, op("RealDiv", {number(127), largest})})});
      const Id sums =
          op("MatMul", {rounded, f32(parameter(name, DType::Int8, {n, k}, 0.4f)), b(false), b(true)});
      const Id y = op("Mul", {op("Mul", {sums, op("RealDiv", {largest, number(127)})}),
                              parameter(name + ".scale", DType::Float32, {n}, 0.001f, 0.005f)});
      return has_bias ? op("Add", {y, f32(parameter(name + ".bias", stored(), {n}, 0.3f))}) : y;
    }
    if (f.int8) {
      Id q = f32(parameter(name, DType::Int8, {n, k}, 0.4f));
      if (f.zero) q = op("Sub", {q, f32(parameter(name + ".zero", DType::Int8, {n, 1}, 0.4f))});
      w = op("Mul", {q, f32(parameter(name + ".scale", stored(), {n, 1}, 0.001f, 0.005f))});
    } else {
      w = f32(parameter(name, stored(), {n, k}, 0.3f));
    }
    const Id y = op("MatMul", {x, w, b(false), b(true)});
    return has_bias ? op("Add", {y, f32(parameter(name + ".bias", stored(), {n}, 0.3f))}) : y;
  }
  Id norm(Id x, const std::string& name) {
    const int64_t n = graph.value(x).type.dims.back();
    const Id mean = op("ReduceMean", {op("Mul", {x, x}), ints({-1}), b(true)});
    const Id factor = op("Rsqrt", {op("Add", {mean, number(1e-5f)})});
    return op("Mul", {op("Mul", {x, factor}), f32(parameter(name, stored(), {n}, 0.2f, 1))});
  }
  Id split(Id x, int64_t heads) {
    return op("Transpose", {reshape(x, {s.batch, s.tokens, heads, s.d}), ints({0, 2, 1, 3})});
  }
  Id rotate(Id x, Id cos, Id sin) {
    const Id turned =
        op("Concat", {tuple({op("Neg", {slice_last(x, s.d / 2, s.d)}), slice_last(x, 0, s.d / 2)}), i(-1)});
    return op("Add", {op("Mul", {x, cos}), op("Mul", {turned, sin})});
  }

  void build() {
    graph.file = "test";
    const Id ids = input("input_ids", DType::Int32, {s.batch, s.tokens});
    const Id first = input("input_position", DType::Int32, {s.batch});
    const Id valid = input("batch_valid_length", DType::Int32, {s.batch});
    const Dims cache_dims{s.batch, s.kv_heads, s.length, s.d};
    const Id key_cache = input("key_cache.0", kv_stored(), cache_dims);
    const Id value_cache = input("value_cache.0", kv_stored(), cache_dims);
    const Dims scale_dims{s.batch, s.kv_heads, s.length, 1};
    const Id key_scales = s.kv_rows ? input("key_cache_scale.0", DType::Float32, scale_dims) : kNoValue;
    const Id value_scales = s.kv_rows ? input("value_cache_scale.0", DType::Float32, scale_dims) : kNoValue;

    const Id positions =
        op("Add", {reshape(first, {s.batch, 1}), int_tensor({1, s.tokens}, range(s.tokens))});
    const Id flat = reshape(positions, {-1});
    const auto table = [&](const char* name) {
      const Id rows =
          op("Gather", {parameter(name, DType::Float32, {s.length + s.tokens, s.d}, 0.7f), flat, i(0), i(0)});
      return reshape(rows, {s.batch, 1, s.tokens, s.d});
    };
    const Id cos = table("cos"), sin = table("sin");
    const Id rows = reshape(positions, {s.batch, s.tokens, 1});
    const Id columns = int_tensor({1, 1, s.length}, range(s.length));
    const Id one_hot = f32(op("Equal", {columns, rows}));
    const Id count = op("ReduceSum", {one_hot, ints({1}), b(false), b(false)});
    const Id kept = reshape(op("Sub", {number(1), count}), {s.batch, 1, s.length, 1});
    const Id written = op("BroadcastTo", {reshape(one_hot, {s.batch, 1, s.tokens, s.length}),
                                          ints({s.batch, s.kv_heads, s.tokens, s.length})});
    const Id mask = reshape(op("Mul", {f32(op("Greater", {columns, rows})), number(-1e9f)}),
                            {s.batch, 1, s.tokens, s.length});

    Id x = f32(op("Gather", {parameter("embedding", stored(), {s.vocab, s.hidden}, 1), reshape(ids, {-1}),
                             i(0), i(0)}));
    const Id h = norm(x, "norm1");
    const Id q = rotate(split(linear(h, s.heads * s.d, true, "q"), s.heads), cos, sin);
    const Id k = rotate(split(linear(h, s.kv_heads * s.d, false, "k"), s.kv_heads), cos, sin);
    const Id v = split(linear(h, s.kv_heads * s.d, false, "v"), s.kv_heads);
    const auto write = [&](Id cache, Id fresh, DType type) {
      const Id added = op("BatchMatMul", {written, fresh, b(true), b(false)});
      return cast(op("Add", {op("Mul", {f32(cache), kept}), added}), type);
    };
    // An updated cache, its updated scales if it has any, and what both stand for in float32.
    struct Updated {
      Id cache, scales, content;
    };
    const auto update = [&](Id cache, Id scales, Id fresh, const char* name) -> Updated {
      if (s.kv_channels) {
        const Id scale = reshape(parameter(name, DType::Float32, {s.kv_heads, s.d}, 0.002f, 0.03f),
                                 {1, s.kv_heads, 1, s.d});
        const Id rounded = op("Round", {op("Mul", {fresh, op("RealDiv", {number(1), scale})})});
        const Id codes = op("Minimum", {op("Maximum", {rounded, number(-128)}), number(127)});
        const Id y = write(cache, codes, DType::Int8);
        return {y, kNoValue, op("Mul", {f32(y), scale})};
      }
      if (s.kv_rows) {
        const Id largest =
            op("Maximum", {op("ReduceMax", {op("Abs", {fresh}), ints({-1}), b(true)}), number(1e-30f)});
        const Id scale = op("RealDiv", {largest, number(127)});
        const Id y = write(cache, op("Round", {op("RealDiv", {fresh, scale})}), DType::Int8);
        const Id y_scales = write(scales, scale, DType::Float32);
        return {y, y_scales, op("Mul", {f32(y), y_scales})};
      }
      const Id y = write(cache, fresh, stored());
      return {y, kNoValue, f32(y)};
    };
    const auto [keys, new_key_scales, key_content] = update(key_cache, key_scales, k, "key_scale");
    const auto [values, new_value_scales, value_content] =
        update(value_cache, value_scales, v, "value_scale");
    const auto repeat = [&](Id content) {
      const int64_t group = s.heads / s.kv_heads;
      const Id one = reshape(content, {s.batch * s.kv_heads, 1, s.length, s.d});
      const Id wide = op("BroadcastTo", {one, ints({s.batch * s.kv_heads, group, s.length, s.d})});
      return reshape(wide, {s.batch, s.heads, s.length, s.d});
    };
    const Id scores =
        op("Mul", {op("BatchMatMul", {q, repeat(key_content), b(false), b(true)}), number(0.5f)});
    const Id p = op("Softmax", {op("Add", {scores, mask}), ints({-1})});
    const Id context = op(
        "Transpose", {op("BatchMatMul", {p, repeat(value_content), b(false), b(false)}), ints({0, 2, 1, 3})});
    x = op("Add", {x, linear(reshape(context, {-1, s.heads * s.d}), s.hidden, false, "o")});

    const Id g = norm(x, "norm2");
    const Id gate = linear(g, s.inner, false, "gate");
    const int64_t count_of_gates = s.batch * s.tokens * s.inner;
    const Id zeros = add(Value::Kind::Constant, "", {DType::Float32, {count_of_gates, 1}});
    const Id pairs =
        op("Softmax", {op("Concat", {tuple({reshape(gate, {-1, 1}), zeros}), i(-1)}), ints({-1})});
    const Id sigmoid = reshape(slice_last(pairs, 0, 1), {s.batch * s.tokens, s.inner});
    const Id gated = op("Mul", {op("Mul", {gate, sigmoid}), linear(g, s.inner, false, "up")});
    x = op("Add", {x, linear(gated, s.hidden, false, "down")});

    const Id last = op("Add", {op("Sub", {op("Sub", {valid, int_tensor({}, {1})}), first}),
                               int_tensor({s.batch}, range(s.batch, s.tokens))});
    const Id y = norm(op("Gather", {x, last, i(0), i(0)}), "norm3");
    graph.outputs = {linear(y, s.vocab, false, "head"), keys, values};
    graph.output_names = {"logits", "key_cache.0", "value_cache.0"};
    if (s.kv_rows) {
      graph.outputs.insert(graph.outputs.end(), {new_key_scales, new_value_scales});
      graph.output_names.insert(graph.output_names.end(), {"key_cache_scale.0", "value_cache_scale.0"});
    }
  }
};

}  // namespace mllm::testing

#endif  // MINDIR_LLM_GRAPH_FUSE_TEST_GRAPH_H_
