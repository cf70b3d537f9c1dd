#include <vector>

#include "kernels/basic/groups.h"
#include "kernels/tables.h"

namespace mllm {

std::span<const Operator> basic_operators() {
  static const std::vector<Operator> all = [] {
    std::vector<Operator> list;
    for (const auto group : {binary_operators(), unary_operators(), movement_operators(), slice_operators(),
                             gather_operators(), scatter_operators(), reduce_operators(), softmax_operators(),
                             matmul_operators(), sort_operators(), create_operators()}) {
      list.insert(list.end(), group.begin(), group.end());
    }
    return list;
  }();
  return all;
}

}  // namespace mllm
