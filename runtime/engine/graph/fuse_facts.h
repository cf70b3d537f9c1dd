// How fusion understands a graph: one pass, in order, gives each value a fact that says what its elements are
// in terms of the graph's inputs and of operators already fused. Facts speak of the elements in flat
// (row-major) order, so that a Reshape never changes a fact; rules look at the dimensions where an operator
// depends on them.
//
// A rule states a fact only when it follows from the operands' facts and constants. Values without a fact are
// not an error until an output turns out to have none: then the graph is not fused.
//
// Indices below: b batch slot, t token of this call, f feature, h head, d element of a head, s position in a
// cache.
#ifndef MINDIR_LLM_GRAPH_FUSE_FACTS_H_
#define MINDIR_LLM_GRAPH_FUSE_FACTS_H_

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "graph/ir.h"

namespace mllm::fusion {

// ---- Facts. "New" values belong to the fused graph, "old" ones to the graph as imported.

struct TokenIds {};  // input_ids, (b, t)

// Element i of slot b is valid * batch_valid_length[b] + position * input_position[b] + constant[i], where
// the elements of the slots follow one another.
struct IndexVector {
  int64_t valid = 0;
  int64_t position = 0;
  std::shared_ptr<const std::vector<int64_t>>
      constant;  // shared, as facts are copied along chains of reshapes
};

// An activation of the fused graph. (b, t, f), or (b, h, t, d) with heads > 0, or, when `last`, (b, f): the
// rows of each slot's last valid token.
struct Rows {
  ValueId value = kNoValue;  // new
  int64_t features = 0;
  int64_t heads = 0;
  bool last = false;
};

struct Zeros {};  // float32

// A parameter, converted to float32, less `zero`, or plus it, and times `scale` where there are any. All old.
// int8 [N, K] has one factor per row, or, with groups, is [K, N] and has one per column and `group` rows; so
// has int4, which is stored in pairs [K, N/2] and stands for [K, N], or one per column (group 0).
struct Weight {
  ValueId parameter = kNoValue;
  ValueId scale = kNoValue;
  int64_t group = 0;
  ValueId zero = kNoValue;  // only where there is a scale
  bool zero_is_added = false;
};

// Integers of an int8 or int4 parameter less their zero points, in float32, in the order of that Weight.
struct Shifted {
  ValueId parameter = kNoValue;
  ValueId zero = kNoValue;
  int64_t group = 0;
};

// How a float graph takes pairs of 4-bit numbers apart, from bytes [K, N/2] (old parameter) to q [K, N]; see
// fuse_int4.cpp.
struct Nibbles {
  enum class Step : uint8_t { Bytes, Sixteenths, High, SixteenHigh, Low, Codes, Signed };
  ValueId parameter = kNoValue;
  Step step = Step::Bytes;
};
// Each row of the scales or zero points (old) [groups, N] `group` times; the last group may be cut off.
struct RepeatedRows {
  ValueId parameter = kNoValue;
  int64_t group = 0;
};

struct TableRows {  // (b, t, d): row `position of the token` of a float32 parameter (old)
  ValueId table = kNoValue;
};

// (b, t, s), or (b, h, t, s) with equal content for all h: 1 where s is the position of token t, else 0; or 1
// where s is greater than it.
struct Comparison {
  bool is_greater = false;
  int64_t columns = 0;
  int64_t heads = 1;
};
struct WrittenCount {  // (b, s): how many tokens go to position s
  int64_t columns = 0;
};
struct Kept {  // (b, s): 1 - WrittenCount
  int64_t columns = 0;
};
struct MaskBias {  // (b, t, s): 0 where token t may look, hugely negative elsewhere
  int64_t columns = 0;
};

// Content of a cache, (b, hkv, s, d), or each KV head `group` times in a row: (b, hkv, g, s, d).
struct Cache {
  size_t index = 0;          // of the cache input
  ValueId value = kNoValue;  // new: after this call's rows were written; kNoValue before
  int64_t group = 1;
  ValueId scale = kNoValue;  // new: float32 [hkv, d] or (b, hkv, s) that the integers were multiplied with
};
// What a call writes: rows as they are, or rounded to int8 by the reciprocals of scales [hkv, d] (old) or by
// a scale for each row of a head, a 127th of its largest magnitude; or those scales, (b, hkv, t).
struct CacheContent {
  enum class Kind : uint8_t { Rows, ChannelCodes, RowCodes, RowScales };
  Kind kind = Kind::Rows;
  Rows rows;
  ValueId scale = kNoValue;
};
struct CacheKept {  // the cache with the rows of this call zeroed
  size_t index = 0;
};
struct CacheRows {  // (b, hkv, s, d): rows of this call at their positions, zero elsewhere
  CacheContent content;
};
struct CacheSum {  // their sum in float32, before it is rounded to the cache's type
  size_t index = 0;
  CacheContent content;
};
struct ChannelScale {            // (hkv, d): the scales of channels, their reciprocals, or rounded to float16
  ValueId parameter = kNoValue;  // old
  bool is_inverse = false;
};
struct ChannelScalePair {                      // those of keys, then those of values
  ValueId keys = kNoValue, values = kNoValue;  // old
};
struct HeadMagnitude {  // (b, h, t, d): |x|, or (b, h, t): the largest of each row
  Rows x;
  bool is_row = false;
};
struct HeadScale {  // (b, h, t): a 127th of the largest
  Rows x;
};
struct CacheCodes {  // (b, h, t, d) or (b, t, h, d), on the way to int8
  enum class Step : uint8_t { Scaled, Rounded, Raised, Clipped };
  Rows x;
  ValueId scale = kNoValue;  // old, of channels; kNoValue: divided by HeadScale
  Step step = Step::Scaled;
};

struct HalfOfHead {  // (b, h, t, d/2)
  Rows x;
  bool is_second = false;
  bool is_negated = false;
};
struct RotatedHalf {  // (-second half, first half)
  Rows x;
};
struct RotaryTerm {  // x * table, or RotatedHalf(x) * table
  Rows x;
  ValueId table = kNoValue;
  bool is_rotated = false;
};

struct Scores {  // (b, h, t, s)
  Rows q;
  Cache keys;
  double scale = 1.0;
  bool is_masked = false;
};
struct Probabilities {
  Scores scores;
};

// Activations as int8: x * factor + zero rounded, within -128 … 127, or x * 127 / its row's largest magnitude
// where factor is 0, which is never beyond.
struct Int8Rows {
  enum class Step : uint8_t { Scaled, Moved, Rounded, NotBelow, Done };  // Done: maybe held in float32
  Rows x;
  double factor = 0.0;
  double zero = 0.0;
  Step step = Step::Scaled;
};
struct Magnitude {  // |x|, or the largest of each row, a last axis of 1
  Rows x;
  bool is_row = false;
};
struct RowFactor {  // 127 / the largest magnitude of each row; or a 127th of it, `is_scale`
  Rows x;
  bool is_scale = false;
};
struct IntegerBias {  // int32 parameter (old), maybe converted to float32
  ValueId parameter = kNoValue;
};
struct Int8Product {  // of such rows and int8 weights [N, K] (old), in float32, not yet scaled
  Int8Rows rows;
  ValueId weight = kNoValue;
  bool has_row_scale = false;
  ValueId bias = kNoValue;  // int32 (old)
};

struct Square {
  Rows x;
};
struct MeanSquare {  // one element per row, plus eps
  Rows x;
  double eps = 0.0;
};
struct InverseRms {
  Rows x;
  double eps = 0.0;
};
struct Normalized {
  Rows x;
  double eps = 0.0;
};

struct PairWithZero {  // (b, t, f, 2): gate, 0
  Rows gate;
};
struct SigmoidPair {  // softmax of those pairs
  Rows gate;
};
struct Sigmoid {
  Rows gate;
};
struct Silu {
  Rows gate;
};
struct GateAndUp {  // side by side
  Rows gate, up;
};

using Fact = std::variant<std::monostate, Zeros, TokenIds, IndexVector, Rows, Weight, Shifted, Nibbles,
                          RepeatedRows, TableRows, Comparison, WrittenCount, Kept, MaskBias, Cache, CacheKept,
                          CacheRows, CacheSum, ChannelScale, ChannelScalePair, HeadMagnitude, HeadScale,
                          CacheCodes, Int8Rows, Magnitude, RowFactor, IntegerBias, Int8Product, HalfOfHead,
                          RotatedHalf, RotaryTerm, Scores, Probabilities, Square, MeanSquare, InverseRms,
                          Normalized, PairWithZero, SigmoidPair, Sigmoid, Silu, GateAndUp>;

// ---- The pass.

class Fuser {
 public:
  // False when the inputs are not those of a language-model graph.
  bool start(const Graph& graph);
  bool run();      // false when some output has no suitable fact
  Graph finish();  // the fused graph, without nodes that no output needs

  // Room for a new index vector; a hostile graph could ask for any amount.
  bool spend_index_elements(int64_t count) { return (index_elements_left_ -= count) >= 0; }

  // Sizes of the graph's signature.
  int64_t batch = 0;
  int64_t tokens = 0;
  int64_t rows() const { return batch * tokens; }

  // The old graph.
  const Graph& old() const { return *old_; }
  const Dims& dims(ValueId v) const { return old_->value(v).type.dims; }
  DType dtype(ValueId v) const { return old_->value(v).type.dtype; }
  bool is_tensor(ValueId v) const;
  bool is_parameter(ValueId v) const { return old_->value(v).kind == Value::Kind::Parameter; }
  bool is_none(ValueId v) const;
  std::optional<int64_t> integer(ValueId v) const;  // a literal or a constant of one element
  std::optional<double> number(ValueId v) const;
  std::optional<double> stored_number(ValueId v) const;           // of a float parameter with one element
  std::optional<std::vector<int64_t>> integers(ValueId v) const;  // a literal tuple or an integer constant
  bool is_axis(ValueId v, int64_t axis, size_t rank) const;       // the one axis, negative spelling allowed
  const std::vector<ValueId>* elements(ValueId v) const;          // of a tuple, else null

  template <class F>
  const F* fact(ValueId v) const {
    return std::get_if<F>(&facts_[static_cast<size_t>(v)]);
  }
  const Fact& any_fact(ValueId v) const { return facts_[static_cast<size_t>(v)]; }
  void state(ValueId v, Fact fact) { facts_[static_cast<size_t>(v)] = std::move(fact); }

  // The operands of a node with two inputs whose facts are A and B, in either order.
  template <class A, class B>
  struct Pair {
    const A* a = nullptr;
    const B* b = nullptr;
    ValueId a_id = kNoValue, b_id = kNoValue;
    explicit operator bool() const { return a != nullptr; }
  };
  template <class A, class B>
  Pair<A, B> pair(const Node& node) const {
    if (node.inputs.size() < 2) return {};
    for (const auto& [x, y] : {std::pair{node.inputs[0], node.inputs[1]}, {node.inputs[1], node.inputs[0]}}) {
      if (const A* a = fact<A>(x)) {
        if (const B* b = fact<B>(y)) return {a, b, x, y};
      }
    }
    return {};
  }
  // A value with fact A beside a constant of one element.
  template <class A>
  struct WithNumber {
    const A* a = nullptr;
    ValueId a_id = kNoValue;
    double number = 0;
    explicit operator bool() const { return a != nullptr; }
  };
  template <class A>
  WithNumber<A> with_number(const Node& node) const {
    if (node.inputs.size() < 2) return {};
    for (const auto& [x, y] : {std::pair{node.inputs[0], node.inputs[1]}, {node.inputs[1], node.inputs[0]}}) {
      if (const A* a = fact<A>(x)) {
        if (const auto n = number(y)) return {a, x, *n};
      }
    }
    return {};
  }

  // Cache inputs, in graph order.
  const Dims& cache_dims(size_t index) const { return dims(cache_inputs_[index]); }
  DType cache_dtype(size_t index) const { return dtype(cache_inputs_[index]); }
  bool is_written(size_t index) const { return written_[index]; }

  // Emit operators of the fused graph.
  Rows embedding(ValueId table, const std::string& name);  // of input_ids
  Rows norm(const Rows& x, ValueId gamma, double eps, const std::string& name);
  Rows linear(const Rows& x, const Weight& weight, ValueId bias, const std::string& name);
  Rows int8_linear(const Int8Rows& x, const Weight& weight, ValueId int_bias, const std::string& name);
  std::optional<Rows> add_bias(const Rows& x,
                               ValueId bias);  // when x comes straight from a linear without bias
  Rows rotary(const Rows& x, ValueId cos, ValueId sin, const std::string& name);
  Cache write_cache(size_t index, const CacheContent& content, const std::string& name);
  Cache scaled_cache(const Cache& cache, ValueId channels);  // old, [hkv, d]
  Rows attention(const Rows& q, const Cache& keys, const Cache& values, double scale,
                 const std::string& name);
  Rows swiglu(const Rows& gate, const Rows& up, const std::string& name);
  Rows add(const Rows& a, const Rows& b, const std::string& name);
  Rows select_last(const Rows& x, const std::string& name);
  Rows reorder(const Rows& x, ValueId order, const std::string& name);  // old, int32 [features]

 private:
  struct Reordered {
    ValueId x = kNoValue;
    std::vector<uint8_t> order;
    Rows rows;
  };
  Rows linear(const Rows& x, const Weight& weight, ValueId bias, std::map<std::string, Literal> attributes,
              const std::string& name);
  ValueId keep(ValueId old);  // the same input or parameter in the fused graph
  ValueId none();
  ValueId emit(const char* op, const std::string& name, std::vector<ValueId> inputs,
               std::map<std::string, Literal> attributes, bool last = false);

  const Graph* old_ = nullptr;
  int64_t index_elements_left_ = 1 << 24;
  Graph new_;
  std::vector<Fact> facts_;
  std::map<ValueId, ValueId> kept_;
  std::vector<Reordered> reordered_;
  ValueId none_ = kNoValue;
  std::vector<ValueId> cache_inputs_;
  std::vector<bool> written_;
};

// A rule looks at one node of the old graph and states facts of its outputs. Returns false when it does not
// apply.
using Rule = bool (*)(Fuser&, const Node&);
struct NamedRule {
  const char* op;
  Rule rule;
};

// Per family, in the order in which they are tried.
std::span<const NamedRule> shape_rules();
std::span<const NamedRule> index_rules();
std::span<const NamedRule> linear_rules();
std::span<const NamedRule> int4_rules();
std::span<const NamedRule> dequantize_rules();
std::span<const NamedRule> int8_rules();
std::span<const NamedRule> norm_rules();
std::span<const NamedRule> rotary_rules();
std::span<const NamedRule> cache_rules();
std::span<const NamedRule> int8_cache_rules();
std::span<const NamedRule> attention_rules();
std::span<const NamedRule> activation_rules();

// ---- Small helpers of the rules.

// x[..., begin:end] and everything of the other axes, with step 1; nullopt for any other slice.
std::optional<std::pair<int64_t, int64_t>> last_axis_slice(const Fuser& fuser, const Node& node);
// x[:count] along the first axis and everything of the others.
bool slices_first_rows(const Fuser& fuser, const Node& node, int64_t count);
bool is_zero(const Fuser& fuser, ValueId v);  // float32 zeros
bool same_rows(const Rows& a, const Rows& b);
bool is_positions(const Fuser& fuser, const IndexVector& index);  // (b, t): the token's position
// (b, t, f) with the features on the last axis.
bool has_feature_axis(const Fuser& fuser, ValueId v, const Rows& rows);
// What a value is as rows to be written into a cache; nullopt if it is none.
std::optional<CacheContent> cache_content(const Fuser& fuser, ValueId v);
bool is_channel_scale(const Fuser& fuser, ValueId parameter);  // float32 [heads, d], not a quantized weight
// (b, h, t, d) as four axes.
bool has_head_axes(const Fuser& fuser, ValueId v, const Rows& rows);

}  // namespace mllm::fusion

#endif  // MINDIR_LLM_GRAPH_FUSE_FACTS_H_
