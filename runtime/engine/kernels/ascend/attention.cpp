// PromptFlashAttention and IncreFlashAttention as plain attention: softmax(scale q kᵀ, masked) v in float32.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/ascend/groups.h"
#include "kernels/ascend/values.h"
#include "kernels/basic/indices.h"

namespace mllm {
namespace {

constexpr int64_t kLayoutBsh = 0;
constexpr int64_t kLayoutBnsd = 1;

// Both operators after their different operand orders are read.
struct Attention {
  ValueId key = kNoValue, value = kNoValue;
  size_t mask = 0;     // operand
  size_t lengths = 0;  // operand: valid key rows per batch item
  size_t scales = 0;   // operand: of int8 keys, then of values, per channel; 0 where there is none
  int64_t layout = 0, heads = 0, kv_heads = 0, sparse_mode = 0;
  int64_t pre = 0, next = 0;  // band of mode 0
  double scale = 1;
  int64_t batch = 0, queries = 0, rows = 0, width = 0;
};

void read_shapes(const OpArgs& args, Attention& a) {
  if (a.layout != kLayoutBsh && a.layout != kLayoutBnsd)
    args.unsupported("input layout " + std::to_string(a.layout));
  if (a.kv_heads == 0) a.kv_heads = a.heads;
  if (a.heads < 1 || a.kv_heads < 1 || a.heads % a.kv_heads != 0) {
    args.invalid(std::to_string(a.heads) + " heads over " + std::to_string(a.kv_heads) + " key heads");
  }
  require_float(args, 0);
  const Graph& g = args.graph();
  const Dims& q = args.dims(0);
  const TensorType& k = g.value(a.key).type;
  const TensorType& v = g.value(a.value).type;
  const DType stored = a.scales != 0 ? DType::Int8 : args.dtype(0);
  if (k.dtype != stored || !(v == k)) args.unsupported("query, key and value of different types");
  const size_t rank = a.layout == kLayoutBsh ? 3 : 4;
  if (q.size() != rank || k.dims.size() != rank)
    args.invalid("query and key must have rank " + std::to_string(rank));
  a.batch = q[0];
  if (a.layout == kLayoutBsh) {
    a.queries = q[1];
    a.rows = k.dims[1];
    if (q[2] % a.heads != 0)
      args.invalid("hidden size " + std::to_string(q[2]) + " is not a multiple of the heads");
    a.width = q[2] / a.heads;
    if (k.dims[0] != a.batch || k.dims[2] != a.width * a.kv_heads)
      args.invalid("key " + dims_text(k.dims) + " does not match the query " + dims_text(q));
  } else {
    a.queries = q[2];
    a.rows = k.dims[2];
    a.width = q[3];
    if (q[1] != a.heads || k.dims[0] != a.batch || k.dims[1] != a.kv_heads || k.dims[3] != a.width) {
      args.invalid("key " + dims_text(k.dims) + " does not match the query " + dims_text(q));
    }
  }
  if (a.scales != 0) {
    const Dims wanted =
        a.layout == kLayoutBsh ? Dims{2, a.kv_heads * a.width} : Dims{2, a.kv_heads, 1, a.width};
    if (args.dtype(a.scales) != args.dtype(0) || args.dims(a.scales) != wanted) {
      args.invalid("antiquant scale " + dims_text(args.dims(a.scales)) + ", expected " + dims_text(wanted) +
                   " of the query's type");
    }
  }
  if (!args.is_none(a.mask)) {
    const DType d = args.dtype(a.mask);
    if (d != DType::Bool && d != DType::Int8 && d != DType::UInt8)
      args.unsupported("a mask that is not bool, int8 or uint8");
    const Dims& m = args.dims(a.mask);
    const int64_t plane = a.queries * a.rows;
    if (numel(m) != plane && numel(m) != a.batch * plane) args.invalid("mask " + dims_text(m));
  }
  if (!args.is_none(a.lengths)) {
    require_indices(args, a.lengths);
    if (numel(args.dims(a.lengths)) != a.batch) args.invalid("lengths must hold one number per batch item");
  }
}

void require_none(const OpArgs& args, size_t first, size_t last, const char* what) {
  for (size_t i = first; i <= last; ++i) {
    if (!args.is_none(i)) args.unsupported(what);
  }
}

// q, k, v, mask, len_q, len_kv, pse, deq1, q1, deq2, q2, qoff2, heads, scale, pre, next, layout, kv_heads,
// sparse, inner
Attention prompt_form(const OpArgs& args) {
  if (args.count() < 20) args.invalid("operands are missing");
  args.type(1);
  args.type(2);
  Attention a;
  a.key = args.node().inputs[1];
  a.value = args.node().inputs[2];
  a.mask = 3;
  a.lengths = 5;
  require_none(args, 4, 4, "query lengths");
  require_none(args, 6, 11, "position shift or quantization");
  a.heads = args.int_at(12);
  a.scale = args.float_at(13);
  a.pre = args.int_at(14);
  a.next = args.int_at(15);
  a.layout = args.int_at(16);
  a.kv_heads = args.int_at(17);
  a.sparse_mode = args.int_at(18);
  if (a.sparse_mode < 0 || a.sparse_mode > 3)
    args.unsupported("sparse mode " + std::to_string(a.sparse_mode));
  read_shapes(args, a);
  if (a.sparse_mode < 2 && a.sparse_mode == 1 && args.is_none(3)) args.invalid("sparse mode 1 needs a mask");
  return a;
}

// q, (k), (v), mask, len_kv, pse, deq1, q1, deq2, q2, qoff2, aq_scale, aq_offset, block_table, kv_padding,
// heads, layout, scale, kv_heads, block_size, inner_precise
Attention incremental_form(const OpArgs& args) {
  if (args.count() < 21) args.invalid("operands are missing");
  Attention a;
  const auto keys = args.tuple(1);
  const auto values = args.tuple(2);
  if (keys.size() != 1 || values.size() != 1) args.unsupported("several key or value tensors");
  a.key = keys[0];
  a.value = values[0];
  a.mask = 3;
  a.lengths = 4;
  require_none(args, 5, 10, "position shift or quantization");
  require_none(args, 12, 14, "an antiquant offset, paging or padding");
  if (!args.is_none(11)) a.scales = 11;
  a.heads = args.int_at(15);
  a.layout = args.int_at(16);
  a.scale = args.float_at(17);
  a.kv_heads = args.int_at(18);
  a.pre = a.next = std::numeric_limits<int32_t>::max();
  read_shapes(args, a);
  if (a.queries != 1) args.invalid("the query must hold one token");
  return a;
}

bool visible(const Attention& a, const OpArgs& args, const RunContext& c, int64_t b, int64_t i, int64_t j) {
  if (!args.is_none(a.lengths) && j >= index_at(c.in(args.node(), a.lengths), b)) return false;
  if (a.sparse_mode == 2) return j <= i;
  if (a.sparse_mode == 3) return j <= i + a.rows - a.queries;
  if (args.is_none(a.mask)) return true;  // without a mask the band is ignored
  const int64_t plane = a.queries * a.rows;
  const Tensor& mask = c.in(args.node(), a.mask);
  if (mask.as<const uint8_t>()[(mask.size() == plane ? 0 : b * plane) + i * a.rows + j] != 0) return false;
  return a.sparse_mode == 1 || (j <= i + a.next && j >= i - a.pre);
}

// A row of a head of keys or values as float32.
void read_row(const Tensor& t, int64_t at, const float* scales, std::vector<float>& row) {
  for (size_t d = 0; d < row.size(); ++d) {
    const int64_t i = at + static_cast<int64_t>(d);
    row[d] = scales ? static_cast<float>(t.as<const int8_t>()[i]) * scales[d] : read_float(t, i);
  }
}

void run_attention(const OpArgs& args, const RunContext& c, const Attention& a) {
  const Tensor& q = c.in(args.node(), 0);
  const Tensor& k = c.tensors[static_cast<size_t>(a.key)];
  const Tensor& v = c.tensors[static_cast<size_t>(a.value)];
  const Tensor& y = c.out(args.node(), 0);
  const auto at = [&](int64_t b, int64_t h, int64_t s, int64_t heads, int64_t length) {
    return a.layout == kLayoutBsh ? ((b * length + s) * heads + h) * a.width
                                  : ((b * heads + h) * length + s) * a.width;
  };
  const std::vector<float> scales =
      a.scales != 0 ? read_floats(c.in(args.node(), a.scales)) : std::vector<float>();
  // Of keys (0) or values (1) of a KV head, or null.
  const auto scales_of = [&](int64_t which, int64_t kv) {
    return scales.empty() ? nullptr : scales.data() + (which * a.kv_heads + kv) * a.width;
  };
  c.pool.parallel_for(a.batch * a.heads, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> p(static_cast<size_t>(a.rows));
    std::vector<double> out(static_cast<size_t>(a.width));
    std::vector<float> row(static_cast<size_t>(a.width));
    for (int64_t bh = begin; bh < end; ++bh) {
      const int64_t b = bh / a.heads;
      const int64_t h = bh % a.heads;
      const int64_t kv = h / (a.heads / a.kv_heads);
      for (int64_t i = 0; i < a.queries; ++i) {
        const int64_t query = at(b, h, i, a.heads, a.queries);
        float top = -std::numeric_limits<float>::infinity();
        for (int64_t j = 0; j < a.rows; ++j) {
          float& score = p[static_cast<size_t>(j)];
          score = -std::numeric_limits<float>::infinity();
          if (!visible(a, args, c, b, i, j)) continue;
          const int64_t key = at(b, kv, j, a.kv_heads, a.rows);
          read_row(k, key, scales_of(0, kv), row);
          double dot = 0;
          for (int64_t d = 0; d < a.width; ++d)
            dot += static_cast<double>(read_float(q, query + d)) * row[static_cast<size_t>(d)];
          score = static_cast<float>(dot * a.scale);
          top = std::max(top, score);
        }
        std::fill(out.begin(), out.end(), 0.0);
        double sum = 0;
        for (int64_t j = 0; j < a.rows; ++j) {
          const float score = p[static_cast<size_t>(j)];
          if (score == -std::numeric_limits<float>::infinity()) continue;
          const double weight = std::exp(static_cast<double>(score) - top);
          sum += weight;
          const int64_t value = at(b, kv, j, a.kv_heads, a.rows);
          read_row(v, value, scales_of(1, kv), row);
          for (size_t d = 0; d < row.size(); ++d) out[d] += weight * row[d];
        }
        // A row that sees nothing is zero.
        for (int64_t d = 0; d < a.width; ++d) {
          write_float(y, query + d, sum > 0 ? static_cast<float>(out[static_cast<size_t>(d)] / sum) : 0.0f);
        }
      }
    }
  });
}

std::vector<TensorType> infer_prompt(const OpArgs& args) {
  prompt_form(args);
  return {args.type(0)};
}
void run_prompt(const OpArgs& args, const RunContext& c) {
  run_attention(args, c, prompt_form(args));
}

std::vector<TensorType> infer_incremental(const OpArgs& args) {
  incremental_form(args);
  return {args.type(0)};
}
void run_incremental(const OpArgs& args, const RunContext& c) {
  run_attention(args, c, incremental_form(args));
}

constexpr Operator kTable[] = {
    {"PromptFlashAttention", infer_prompt, run_prompt},
    {"IncreFlashAttention", infer_incremental, run_incremental},
};

}  // namespace

std::span<const Operator> ascend_attention_operators() {
  return kTable;
}

}  // namespace mllm
