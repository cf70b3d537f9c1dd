#include <array>

#include "kernels/fused/operators.h"
#include "kernels/tables.h"

namespace mllm {

std::span<const Operator> fused_operators() {
  using namespace fused;
  static const std::array kOperators = {
      embedding_operator(),   rms_norm_operator(),    linear_operator(),  rotary_operator(),
      cache_write_operator(), attention_operator(),   swiglu_operator(),  add_operator(),
      select_last_operator(), cache_scale_operator(), reorder_operator(),
  };
  return kOperators;
}

}  // namespace mllm
