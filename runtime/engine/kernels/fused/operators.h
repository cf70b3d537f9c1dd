// The fused operators, one file each; table.cpp lists them.
#ifndef MINDIR_LLM_KERNELS_FUSED_OPERATORS_H_
#define MINDIR_LLM_KERNELS_FUSED_OPERATORS_H_

#include "graph/operator.h"

namespace mllm::fused {

// (table f16|f32 [V, F], ids int32) -> [rows, F]. Row r has the token ids[r]: the tokens of all segments
// stand one after another, without padding. An id outside of the table is INVALID_ARGUMENT.
Operator embedding_operator();

// (x, gamma f16|f32 [F]) -> like x; attribute eps.
Operator rms_norm_operator();

// (x [rows, K], weight f32|f16|int8 [N, K], scale|None, bias|None) -> [rows, N]. scale, with int8 only, and
// bias have N elements, f16|f32. int8 weights are exact: float32 activations times the stored integers, then
// the scale.
Operator linear_operator();

// (x [rows, heads*D], cos, sin f32 [positions, D]) -> like x. Rotates pairs i, i + D/2 of every head by the
// table row of its position.
Operator rotary_operator();

// (cache f16|f32|int8 [B, Hkv, S, D], x [rows, Hkv*D], scale f32 [Hkv, D]|None) -> the cache, in place, with
// each row at its slot and position. int8 holds x * (1 / scale), rounded; without a scale each row of a head
// is divided by a 127th of its largest magnitude, or is 0 where that is not finite.
Operator cache_write_operator();

// (scales f32 [B, Hkv, S, 1], x [rows, Hkv*D]) -> the scales, in place: at the position of each row a 127th
// of the largest magnitude of each head, or NaN where that is not finite.
Operator cache_scale_operator();

// (q [rows, H*D], key cache, value cache [B, Hkv, S, D], and of int8 caches key scale and value scale, f32
// [Hkv, D] or [B, Hkv, S, 1]) -> like q; attribute scale. Each row sees the
// positions of its slot up to its own. Query head h reads KV head h / (H/Hkv).
Operator attention_operator();

// (gate, up) -> silu(gate) * up.
Operator swiglu_operator();

// (a, b) -> a + b, of equal types.
Operator add_operator();

// (x [rows, F], order int32 [F]) -> like x: feature i is feature order[i] of x.
Operator reorder_operator();

// (x) -> the last row of each segment that wants logits, in segment order; attribute batch: the most there
// are.
Operator select_last_operator();

}  // namespace mllm::fused

#endif  // MINDIR_LLM_KERNELS_FUSED_OPERATORS_H_
