#include "kernels/fused/operators.h"
#include "kernels/fused/rows.h"
#include "kernels/fused/vector.h"

namespace mllm::fused {
namespace {

// Some 2 microseconds, as much as handing out a piece may cost.
constexpr int64_t kSwigluGrain = 8192;
constexpr int64_t kAddGrain = 65536;

std::vector<TensorType> infer(const OpArgs& args) {
  const TensorType& a = activation(args, 0);
  if (!(activation(args, 1) == a)) args.invalid("operands must have one shape");
  return {a};
}

// The rows that exist stand one after another, so elementwise work sees one long vector.
template <class Body>
void for_pieces(const OpArgs& args, const RunContext& context, int64_t grain, const Body& body) {
  const Node& node = args.node();
  const auto* a = context.in(node, 0).as<const float>();
  const auto* b = context.in(node, 1).as<const float>();
  auto* y = context.out(node, 0).as<float>();
  const int64_t count = rows_now(args, context) * context.out(node, 0).dims[1];
  context.pool.parallel_for(
      count, grain, [&](int64_t begin, int64_t end) { body(a + begin, b + begin, y + begin, end - begin); });
}

void run_swiglu(const OpArgs& args, const RunContext& context) {
  for_pieces(args, context, kSwigluGrain, vector_kernels().swiglu);
}

void run_add(const OpArgs& args, const RunContext& context) {
  for_pieces(args, context, kAddGrain, [](const float* a, const float* b, float* y, int64_t size) {
    for (int64_t i = 0; i < size; ++i) y[i] = a[i] + b[i];
  });
}

}  // namespace

Operator swiglu_operator() {
  return {"fused.SwiGLU", infer, run_swiglu};
}

Operator add_operator() {
  return {"fused.Add", infer, run_add};
}

}  // namespace mllm::fused
