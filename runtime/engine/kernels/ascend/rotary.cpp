// Rotary position embedding (Su et al., 2021): ApplyRotaryPosEmb on query and key together,
// RotaryPositionEmbedding on one tensor. Cosines and sines are full width, each frequency twice.
#include "kernels/ascend/groups.h"
#include "kernels/ascend/values.h"
#include "kernels/basic/indices.h"

namespace mllm {
namespace {

// One head: half pairs i with i + d/2, interleaved pairs 2i with 2i + 1.
template <class Cos, class Sin>
void rotate(const Tensor& x, const Tensor& y, int64_t at, int64_t width, bool interleaved, Cos&& cosine,
            Sin&& sine) {
  const int64_t half = width / 2;
  for (int64_t i = 0; i < width; ++i) {
    float partner;
    if (interleaved) {
      partner = i % 2 ? read_float(x, at + i - 1) : -read_float(x, at + i + 1);
    } else {
      partner = i < half ? -read_float(x, at + i + half) : read_float(x, at + i - half);
    }
    write_float(y, at + i, read_float(x, at + i) * cosine(i) + partner * sine(i));
  }
}

// Inputs: q, k, cos, sin, position_ids, cos_format. Formats 0 and 1 index a table by position, 2 and 3 hold
// one row per token; even formats pair halves, odd ones interleave.
struct Apply {
  bool interleaved = false;
  bool table = false;
  int64_t width = 0;
  int64_t tokens = 0;
};

Apply apply_form(const OpArgs& args) {
  for (size_t i = 0; i < 4; ++i) require_float(args, i);
  if (args.dtype(0) != args.dtype(1) || args.dtype(2) != args.dtype(3) || args.dims(2) != args.dims(3)) {
    args.unsupported("query and key, or cos and sin, of different types");
  }
  const int64_t format = args.int_at(5);
  if (format < 0 || format > 3) args.unsupported("cos_format " + std::to_string(format));
  Apply a;
  a.interleaved = format % 2 == 1;
  a.table = format < 2;
  const Dims& cos = args.dims(2);
  if (cos.empty() || cos.back() < 2 || cos.back() % 2 != 0)
    args.unsupported("cos of shape " + dims_text(cos));
  a.width = cos.back();
  for (size_t i = 0; i < 2; ++i) {
    const Dims& d = args.dims(i);
    if (d.size() < 2 || d.size() > 4 || d.back() == 0 || d.back() % a.width != 0) {
      args.invalid("operand " + std::to_string(i) + " of shape " + dims_text(d) + " with head size " +
                   std::to_string(a.width));
    }
    // Rank 4 is [B, S, N, D], everything before the heads is tokens.
    const size_t heads_from = d.size() == 4 ? 2 : d.size() - 1;
    const int64_t tokens = numel(Dims(d.begin(), d.begin() + static_cast<std::ptrdiff_t>(heads_from)));
    if (i == 1 && tokens != a.tokens) args.invalid("query and key hold different numbers of tokens");
    a.tokens = tokens;
  }
  if (a.table) {
    require_indices(args, 4);
    if (numel(args.dims(4)) != a.tokens) args.invalid("position_ids must hold one position a token");
  } else if (numel(cos) / a.width != a.tokens) {
    args.invalid("cos must hold one row a token");
  }
  return a;
}

std::vector<TensorType> infer_apply(const OpArgs& args) {
  apply_form(args);
  return {args.type(0), args.type(1)};
}

void run_apply(const OpArgs& args, const RunContext& c) {
  const Apply a = apply_form(args);
  const Node& n = args.node();
  const int64_t rows = numel(args.dims(2)) / a.width;
  for (size_t i = 0; i < 2; ++i) {
    const Tensor& x = c.in(n, i);
    const int64_t heads = a.tokens ? x.size() / a.tokens / a.width : 0;
    for (int64_t t = 0; t < a.tokens; ++t) {
      const int64_t row = a.table ? plain_index(args, index_at(c.in(n, 4), t), rows) : t;
      for (int64_t h = 0; h < heads; ++h) {
        rotate(
            x, c.out(n, i), (t * heads + h) * a.width, a.width, a.interleaved,
            [&](int64_t k) { return read_float(c.in(n, 2), row * a.width + k); },
            [&](int64_t k) { return read_float(c.in(n, 3), row * a.width + k); });
      }
    }
  }
}

// Inputs: x, cos, sin, mode (0 half, 1 interleaved); cos and sin broadcast against the 4-D x.
std::vector<TensorType> infer_embedding(const OpArgs& args) {
  for (size_t i = 0; i < 3; ++i) require_float(args, i);
  const Dims& x = args.dims(0);
  if (x.size() != 4 || args.dims(1) != args.dims(2) || x.back() < 2 || x.back() % 2 != 0)
    args.unsupported("these shapes");
  if (broadcast_dims(args, args.dims(1), x) != x || args.dims(1).empty() || args.dims(1).back() != x.back()) {
    args.invalid("cos " + dims_text(args.dims(1)) + " does not broadcast to " + dims_text(x));
  }
  const int64_t mode = args.int_at(3);
  if (mode != 0 && mode != 1) args.unsupported("mode " + std::to_string(mode));
  return {args.type(0)};
}

void run_embedding(const OpArgs& args, const RunContext& c) {
  const Node& n = args.node();
  const Tensor& x = c.in(n, 0);
  const int64_t width = x.dims.back();
  Dims rows = x.dims;
  rows.pop_back();
  Dims strides[1] = {broadcast_strides(args.dims(1), x.dims)};
  strides[0].pop_back();
  Walker<1> walk(rows, strides);
  const int64_t count = numel(rows);
  for (int64_t r = 0; r < count; ++r) {
    rotate(
        x, c.out(n, 0), r * width, width, args.int_at(3) == 1,
        [&](int64_t k) { return read_float(c.in(n, 1), walk.offset(0) + k); },
        [&](int64_t k) { return read_float(c.in(n, 2), walk.offset(0) + k); });
    walk.step();
  }
}

constexpr Operator kTable[] = {
    {"ApplyRotaryPosEmb", infer_apply, run_apply},
    {"RotaryPositionEmbedding", infer_embedding, run_embedding},
};

}  // namespace

std::span<const Operator> ascend_rotary_operators() {
  return kTable;
}

}  // namespace mllm
