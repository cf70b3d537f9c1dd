#include <vector>

#include "kernels/ascend/groups.h"
#include "kernels/tables.h"

namespace mllm {

std::span<const Operator> ascend_operators() {
  static const std::vector<Operator> all = [] {
    std::vector<Operator> list;
    for (const auto group :
         {ascend_norm_operators(), ascend_matmul_operators(), ascend_quantize_operators(),
          ascend_rotary_operators(), ascend_cache_operators(), ascend_attention_operators()}) {
      list.insert(list.end(), group.begin(), group.end());
    }
    return list;
  }();
  return all;
}

}  // namespace mllm
