#include "graph/fuse.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/half.h"
#include "graph/combine.h"
#include "graph/fuse_facts.h"
#include "graph/operator.h"

namespace mllm {
namespace fusion {
namespace {

constexpr size_t kFirstCache = 3;  // inputs before the caches
constexpr int64_t kMostRows = 1 << 20;

bool has_type(const Value& value, const char* name, const Dims& dims) {
  return value.name == name && value.type == TensorType{DType::Int32, dims};
}

bool is_cache_type(const TensorType& type, int64_t batch) {
  return (type.dtype == DType::Float32 || type.dtype == DType::Float16 || type.dtype == DType::Int8) &&
         type.dims.size() == 4 && type.dims[0] == batch &&
         std::ranges::all_of(type.dims, [](int64_t d) { return d >= 1; });
}

// Kernels read elements through pointers of their type.
bool is_aligned(const Tensor& tensor) {
  return reinterpret_cast<uintptr_t>(tensor.data) % dtype_size(tensor.dtype) == 0;
}

const std::vector<std::span<const NamedRule>>& families() {
  static const std::vector<std::span<const NamedRule>> all = {
      shape_rules(), index_rules(),  int4_rules(),  dequantize_rules(), int8_rules(),      linear_rules(),
      norm_rules(),  rotary_rules(), cache_rules(), int8_cache_rules(), attention_rules(), activation_rules(),
  };
  return all;
}

// The rules for each primitive, looked up once.
const std::map<std::string, std::vector<Rule>, std::less<>>& rules() {
  static const auto all = [] {
    std::map<std::string, std::vector<Rule>, std::less<>> map;
    for (const auto family : families()) {
      for (const NamedRule& rule : family) map[rule.op].push_back(rule.rule);
    }
    return map;
  }();
  return all;
}

}  // namespace

bool Fuser::start(const Graph& graph) {
  old_ = &graph;
  if (graph.inputs.size() <= kFirstCache || graph.outputs.size() != graph.inputs.size() - kFirstCache + 1)
    return false;
  const Value& ids = graph.value(graph.inputs[0]);
  if (ids.type.dims.size() != 2) return false;
  batch = ids.type.dims[0];
  tokens = ids.type.dims[1];
  if (batch < 1 || tokens < 1 || batch > kMostRows || tokens > kMostRows || rows() > kMostRows) return false;
  if (!has_type(ids, "input_ids", {batch, tokens}) ||
      !has_type(graph.value(graph.inputs[1]), "input_position", {batch}) ||
      !has_type(graph.value(graph.inputs[2]), "batch_valid_length", {batch})) {
    return false;
  }
  new_.file = graph.file;
  new_.output_names = graph.output_names;
  new_.operator_counts = graph.operator_counts;
  facts_.resize(graph.values.size());
  for (const ValueId v : graph.inputs) new_.inputs.push_back(keep(v));
  const auto zeros = std::make_shared<const std::vector<int64_t>>(static_cast<size_t>(batch), 0);
  state(graph.inputs[0], TokenIds{});
  state(graph.inputs[1], IndexVector{0, 1, zeros});
  state(graph.inputs[2], IndexVector{1, 0, zeros});
  for (size_t i = kFirstCache; i < graph.inputs.size(); ++i) {
    if (!is_cache_type(graph.value(graph.inputs[i]).type, batch)) return false;
    state(graph.inputs[i], Cache{i - kFirstCache, kNoValue, 1, kNoValue});
    cache_inputs_.push_back(graph.inputs[i]);
  }
  written_.assign(cache_inputs_.size(), false);
  for (size_t v = 0; v < graph.values.size(); ++v) {
    const Value& value = graph.values[v];
    if (value.kind != Value::Kind::Parameter || !is_aligned(value.tensor)) continue;
    if (value.type.dtype == DType::Float32 || value.type.dtype == DType::Float16 ||
        value.type.dtype == DType::Int8) {
      state(static_cast<ValueId>(v), Weight{static_cast<ValueId>(v), kNoValue});
    } else if (value.type.dtype == DType::Int32 && value.type.dims.size() == 1) {
      state(static_cast<ValueId>(v), IntegerBias{static_cast<ValueId>(v)});
    } else if ((value.type.dtype == DType::UInt8 || value.type.dtype == DType::QInt4x2) &&
               value.type.dims.size() == 2) {
      state(static_cast<ValueId>(v), Nibbles{static_cast<ValueId>(v)});
    }
  }
  return true;
}

bool Fuser::run() {
  for (const Node& node : old_->nodes) {
    const auto found = rules().find(node.op);
    if (found == rules().end() || node.inputs.empty() || node.outputs.empty()) continue;
    for (const Rule rule : found->second) {
      if (rule(*this, node)) break;
    }
  }
  // Whatever the graph overwrites in place must be a cache write that was understood: an effect has no output
  // that would miss it.
  for (size_t v = 0; v < old_->values.size(); ++v) {
    if (old_->values[v].alias_of == kNoValue) continue;
    const auto* cache = fact<Cache>(static_cast<ValueId>(v));
    if (!cache || cache->value == kNoValue) return false;
  }
  const Rows* logits = fact<Rows>(old_->outputs[0]);
  const TensorType& type = old_->value(old_->outputs[0]).type;
  if (!logits || !logits->last || type != TensorType{DType::Float32, {batch, logits->features}}) return false;
  new_.outputs.push_back(logits->value);
  for (size_t i = 0; i < cache_inputs_.size(); ++i) {
    const ValueId output = old_->outputs[i + 1];
    const auto* cache = fact<Cache>(output);
    if (!cache || cache->index != i || cache->value == kNoValue || cache->group != 1) return false;
    if (old_->value(output).type != old_->value(cache_inputs_[i]).type) return false;
    new_.outputs.push_back(cache->value);
  }
  return true;
}

Graph Fuser::finish() {
  std::vector<bool> needed(new_.values.size(), false);
  for (const ValueId v : new_.inputs) needed[static_cast<size_t>(v)] = true;
  for (const ValueId v : new_.outputs) needed[static_cast<size_t>(v)] = true;
  std::vector<bool> runs(new_.nodes.size(), false);
  for (size_t n = new_.nodes.size(); n-- > 0;) {
    const Node& node = new_.nodes[n];
    runs[n] = std::ranges::any_of(node.outputs, [&](ValueId v) { return needed[static_cast<size_t>(v)]; });
    if (!runs[n]) continue;
    for (const ValueId v : node.inputs) needed[static_cast<size_t>(v)] = true;
  }
  std::vector<ValueId> renamed(new_.values.size(), kNoValue);
  Graph graph;
  for (size_t v = 0; v < new_.values.size(); ++v) {
    if (needed[v]) renamed[v] = graph.add_value(std::move(new_.values[v]));
  }
  const auto rename = [&](ValueId& v) {
    if (v != kNoValue) v = renamed[static_cast<size_t>(v)];
  };
  for (size_t n = 0; n < new_.nodes.size(); ++n) {
    if (!runs[n]) continue;
    Node& node = graph.nodes.emplace_back(std::move(new_.nodes[n]));
    std::ranges::for_each(node.inputs, rename);
    std::ranges::for_each(node.outputs, rename);
    for (const ValueId v : node.outputs)
      graph.value(v).producer = static_cast<int32_t>(graph.nodes.size() - 1);
  }
  for (Value& value : graph.values) rename(value.alias_of);
  graph.file = std::move(new_.file);
  graph.inputs = std::move(new_.inputs);
  graph.outputs = std::move(new_.outputs);
  std::ranges::for_each(graph.inputs, rename);
  std::ranges::for_each(graph.outputs, rename);
  graph.output_names = std::move(new_.output_names);
  graph.operator_counts = std::move(new_.operator_counts);
  return graph;
}

// ---- Reading the old graph.

bool Fuser::is_tensor(ValueId v) const {
  const Value::Kind kind = old_->value(v).kind;
  return kind != Value::Kind::Literal && kind != Value::Kind::Tuple;
}

bool Fuser::is_none(ValueId v) const {
  const Value& value = old_->value(v);
  return value.kind == Value::Kind::Literal && std::holds_alternative<std::monostate>(value.literal.value);
}

std::optional<int64_t> Fuser::integer(ValueId v) const {
  const Value& value = old_->value(v);
  if (value.kind == Value::Kind::Literal) {
    if (const auto* n = std::get_if<int64_t>(&value.literal.value)) return *n;
    if (const auto* b = std::get_if<bool>(&value.literal.value)) return *b;
    return std::nullopt;
  }
  if (value.kind == Value::Kind::Constant && value.tensor.size() != 1) return std::nullopt;
  const auto all = integers(v);
  return all && all->size() == 1 ? std::optional(all->front()) : std::nullopt;
}

std::optional<double> Fuser::number(ValueId v) const {
  const Value& value = old_->value(v);
  if (value.kind == Value::Kind::Literal) {
    if (const auto* d = std::get_if<double>(&value.literal.value)) return *d;
  }
  if (value.kind == Value::Kind::Constant && value.type.dtype == DType::Float32 && value.tensor.size() == 1) {
    return *value.tensor.as<const float>();
  }
  if (const auto n = integer(v)) return static_cast<double>(*n);
  return std::nullopt;
}

std::optional<double> Fuser::stored_number(ValueId v) const {
  const auto* w = fact<Weight>(v);
  if (!w || w->scale != kNoValue) return std::nullopt;
  const Value& value = old_->value(w->parameter);
  if (value.tensor.data == nullptr || numel(value.type.dims) != 1) return std::nullopt;
  if (value.type.dtype == DType::Float32) return *value.tensor.as<const float>();
  if (value.type.dtype == DType::Float16) return half_to_float(*value.tensor.as<const uint16_t>());
  return std::nullopt;
}

std::optional<std::vector<int64_t>> Fuser::integers(ValueId v) const {
  const Value& value = old_->value(v);
  if (value.kind == Value::Kind::Constant) {
    const auto count = static_cast<size_t>(value.tensor.size());
    if (value.type.dtype == DType::Int32) {
      const auto* p = value.tensor.as<const int32_t>();
      return std::vector<int64_t>(p, p + count);
    }
    if (value.type.dtype == DType::Int64) {
      const auto* p = value.tensor.as<const int64_t>();
      return std::vector<int64_t>(p, p + count);
    }
    return std::nullopt;
  }
  if (value.kind != Value::Kind::Literal) return std::nullopt;
  if (const auto* n = std::get_if<int64_t>(&value.literal.value)) return std::vector{*n};
  const auto* tuple = std::get_if<LiteralTuple>(&value.literal.value);
  if (!tuple) return std::nullopt;
  std::vector<int64_t> out;
  for (const Literal& item : *tuple) {
    const auto* n = std::get_if<int64_t>(&item.value);
    if (!n) return std::nullopt;
    out.push_back(*n);
  }
  return out;
}

bool Fuser::is_axis(ValueId v, int64_t axis, size_t rank) const {
  const Value& value = old_->value(v);
  if (value.kind == Value::Kind::Constant && value.tensor.size() != 1) return false;
  const auto all = integers(v);
  if (!all || all->size() != 1) return false;
  const auto wrap = [&](int64_t i) { return i < 0 ? i + static_cast<int64_t>(rank) : i; };
  return wrap(all->front()) == wrap(axis);
}

const std::vector<ValueId>* Fuser::elements(ValueId v) const {
  const Value& value = old_->value(v);
  return value.kind == Value::Kind::Tuple ? &value.elements : nullptr;
}

// ---- Writing the new graph.

ValueId Fuser::keep(ValueId old) {
  const auto [it, is_new] = kept_.try_emplace(old, kNoValue);
  if (is_new) it->second = new_.add_value(old_->value(old));
  return it->second;
}

ValueId Fuser::none() {
  if (none_ == kNoValue) {
    Value value;
    value.kind = Value::Kind::Literal;
    none_ = new_.add_value(std::move(value));
  }
  return none_;
}

ValueId Fuser::emit(const char* op, const std::string& name, std::vector<ValueId> inputs,
                    std::map<std::string, Literal> attributes, bool last) {
  const Operator* found = find_operator(op);
  if (found == nullptr) fail_internal(std::string("the engine has no operator ") + op);
  if (last) attributes["last"] = Literal{int64_t{1}};
  Node node{op, name, std::move(inputs), {}, std::move(attributes)};
  Value value;
  value.name = name;
  value.type = found->infer(OpArgs(new_, node)).at(0);
  value.producer = static_cast<int32_t>(new_.nodes.size());
  if (found->in_place_input >= 0) value.alias_of = node.inputs[static_cast<size_t>(found->in_place_input)];
  const ValueId out = new_.add_value(std::move(value));
  node.outputs = {out};
  new_.nodes.push_back(std::move(node));
  return out;
}

Rows Fuser::embedding(ValueId table, const std::string& name) {
  return {emit("fused.Embedding", name, {keep(table), new_.inputs[0]}, {}), dims(table)[1], 0, false};
}

Rows Fuser::norm(const Rows& x, ValueId gamma, double eps, const std::string& name) {
  Rows y = x;
  y.value = emit("fused.RmsNorm", name, {x.value, keep(gamma)}, {{"eps", Literal{eps}}}, x.last);
  return y;
}

Rows Fuser::linear(const Rows& x, const Weight& weight, ValueId bias, const std::string& name) {
  std::map<std::string, Literal> attributes;
  if (weight.group != 0) attributes["group"] = Literal{weight.group};
  if (weight.zero_is_added) attributes["zero_is_added"] = Literal{int64_t{1}};
  return linear(x, weight, bias, std::move(attributes), name);
}

Rows Fuser::int8_linear(const Int8Rows& x, const Weight& weight, ValueId int_bias, const std::string& name) {
  std::map<std::string, Literal> attributes = {{"int8_rows", Literal{int64_t{1}}}};
  if (x.factor != 0.0) {
    attributes["input_factor"] = Literal{x.factor};
    attributes["input_zero"] = Literal{x.zero};
  }
  return linear(x.x, weight, int_bias, std::move(attributes), name);
}

Rows Fuser::linear(const Rows& x, const Weight& weight, ValueId bias,
                   std::map<std::string, Literal> attributes, const std::string& name) {
  const auto keep_or_none = [&](ValueId v) { return v == kNoValue ? none() : keep(v); };
  Rows y = x;
  y.value = emit("fused.Linear", name,
                 {x.value, none(), none(), keep(weight.parameter), keep_or_none(weight.scale),
                  keep_or_none(weight.zero), keep_or_none(bias)},
                 std::move(attributes), x.last);
  y.features = new_.value(y.value).type.dims[1];
  return y;
}

std::optional<Rows> Fuser::add_bias(const Rows& x, ValueId bias) {
  constexpr size_t kBias = 6;
  const int32_t producer = new_.value(x.value).producer;
  if (producer < 0) return std::nullopt;
  const Node linear = new_.nodes[static_cast<size_t>(producer)];
  if (linear.op != "fused.Linear" || linear.inputs[kBias] != none()) return std::nullopt;
  std::vector<ValueId> inputs = linear.inputs;
  inputs[kBias] = keep(bias);
  Rows y = x;
  y.value = emit("fused.Linear", linear.name, std::move(inputs), linear.attributes, x.last);
  return y;
}

Rows Fuser::rotary(const Rows& x, ValueId cos, ValueId sin, const std::string& name) {
  Rows y = x;
  y.value = emit("fused.Rotary", name, {x.value, keep(cos), keep(sin)}, {});
  return y;
}

Cache Fuser::write_cache(size_t index, const CacheContent& content, const std::string& name) {
  written_[index] = true;
  std::vector<ValueId> inputs = {keep(cache_inputs_[index]), content.rows.value};
  if (content.kind == CacheContent::Kind::ChannelCodes) inputs.push_back(keep(content.scale));
  const char* op = content.kind == CacheContent::Kind::RowScales ? "fused.CacheScale" : "fused.CacheWrite";
  return {index, emit(op, name, std::move(inputs), {}), 1, kNoValue};
}

Cache Fuser::scaled_cache(const Cache& cache, ValueId channels) {
  Cache y = cache;
  y.scale = keep(channels);
  return y;
}

Rows Fuser::attention(const Rows& q, const Cache& keys, const Cache& values, double scale,
                      const std::string& name) {
  Rows y = q;
  std::vector<ValueId> inputs = {q.value, keys.value, values.value};
  if (keys.scale != kNoValue) inputs.insert(inputs.end(), {keys.scale, values.scale});
  y.value = emit("fused.Attention", name, std::move(inputs), {{"scale", Literal{scale}}});
  return y;
}

Rows Fuser::swiglu(const Rows& gate, const Rows& up, const std::string& name) {
  Rows y = gate;
  y.value = emit("fused.SwiGLU", name, {gate.value, up.value}, {}, gate.last);
  return y;
}

Rows Fuser::add(const Rows& a, const Rows& b, const std::string& name) {
  Rows y = a;
  y.value = emit("fused.Add", name, {a.value, b.value}, {}, a.last);
  return y;
}

Rows Fuser::select_last(const Rows& x, const std::string& name) {
  Rows y = x;
  y.last = true;
  y.value = emit("fused.SelectLast", name, {x.value}, {{"batch", Literal{batch}}});
  return y;
}

// Layers that read the same activations often have the same order, each in a parameter of its own; with one
// operator for all of them they can be multiplied together.
Rows Fuser::reorder(const Rows& x, ValueId order, const std::string& name) {
  std::vector<uint8_t> bytes;
  if (const Tensor& tensor = old_->value(order).tensor; tensor.data != nullptr) {
    bytes.resize(tensor.bytes());
    if (const auto file = MappedFile::file_of(tensor.data, tensor.bytes())) {
      file->copy(tensor.data, bytes.size(), bytes.data());
    } else {
      std::memcpy(bytes.data(), tensor.data, bytes.size());
    }
    for (const Reordered& other : reordered_) {
      if (other.x == x.value && other.order == bytes) return other.rows;
    }
  }
  Rows y = x;
  y.value = emit("fused.Reorder", name, {x.value, keep(order)}, {}, x.last);
  if (!bytes.empty()) reordered_.push_back({x.value, std::move(bytes), y});
  return y;
}

}  // namespace fusion

bool fuse(Graph& graph) {
  fusion::Fuser fuser;
  if (!fuser.start(graph) || !fuser.run()) return false;
  graph = fuser.finish();
  combine(graph);
  return true;
}

}  // namespace mllm
